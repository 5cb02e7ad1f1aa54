"""
From a policy to the plan for this host at this moment, and to what one program has less of: what is read meets what is
computed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from .plan import Plan, choose_filter, compile_plan
from .policy import Policy
from .probe import probe_with
from .resolve import resolve
from .seccomp import compile_filter, load_filter
from .tier import Tier, choose_tier
from .tighten import Tightening, compile_tightening, refuse_wider, tighter_filter, tighter_policy
from .view import View

__all__ = ["make_plan", "tighten_plan"]


@functools.lru_cache(maxsize=32)
def _filter(variant: str, arch: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> bytes:
    if allow or deny:
        return compile_filter(variant, arch, allow=allow, deny=deny)
    return load_filter(variant, arch)


def _plan(policy: Policy, view: View) -> Plan:
    host = probe_with(policy.cgroup)
    variant = choose_filter(policy, host)
    code = _filter(variant, host.arch, policy.allow_syscalls, policy.deny_syscalls)
    return compile_plan(policy, host, view, code)


# `compile_plan` is pure, so the same view means the same plan.
_cached_plan = functools.lru_cache(maxsize=64)(_plan)


def make_plan(policy: Policy, *, scratch: str | None = None) -> tuple[Plan, View]:
    """
    The plan for a policy on this host, at this moment, and what of the host it shows. Starts nothing.

    Args:
        policy: what must hold.
        scratch: a directory of the host's for tmp and home, where there are no mounts to make one.

    Raises:
        PolicyError: a path is missing.
        UnsupportedError: this host cannot keep a guarantee, and the policy does not waive it.
    """
    host = probe_with(policy.cgroup)
    view = resolve(policy, host, siblings=choose_tier(host) is Tier.LANDLOCK)
    if scratch is not None:  # a directory that no other sandbox has
        view = dataclasses.replace(view, scratch=scratch)
        return _plan(policy, view), view
    return _cached_plan(policy, view), view


def tighten_plan(policy: Policy, view: View, plan: Plan, fields: Mapping[str, Any]) -> Tightening:
    """
    What one program has less of than a sandbox of this policy and view.
    """
    host = probe_with(policy.cgroup)
    asked = tighter_policy(policy, fields)
    fewer_files = bool({"write", "deny", "workspace_access"} & fields.keys())
    views = (view, view)
    if "write" in fields:  # before what is denied is looked for in there
        refuse_wider(view, resolve(asked.replace(deny=()), host))
    if fewer_files:
        views = (view, dataclasses.replace(resolve(asked, host, siblings=True), scratch=view.scratch))
    name = tighter_filter(policy, asked, host, fewer_files=fewer_files)
    code = _filter(name, host.arch, asked.allow_syscalls, asked.deny_syscalls) if name else None
    return compile_tightening(policy, asked, host, views, plan.keepers, seccomp_filter=code)
