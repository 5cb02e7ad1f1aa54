"""
A live sandbox, as far as nobody waits: what `Sandbox` and the one of `jail.aio` have in common.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .asker import Askers
from .calls import Calls
from .cgroup import Group, Leaf
from .command import Command, Defaults, Exec, parse_exec
from .denial import Ask, Denials
from .egress import Wishes, make_broker, make_gateway, sockets_of
from .environment import build_environment
from .errors import JailError, SetupError
from .exchange import Exchange
from .guarantee import Guarantee
from .host import Host
from .limits import UNBOUNDED, Bounds, Keeper
from .plan import Plan
from .planning import make_plan, tighten_plan
from .policy import Policy
from .probe import probe_with
from .profile import load_policy
from .resolve import disks_of
from .result import Result
from .scratch import Scratch
from .spawn import Init, spawn_init
from .stock import Stock
from .streams import refuse_closed
from .tier import Tier, choose_tier
from .tighten import (
    Tightening,
    TighterFields,
)
from .usage import Ledger, Usage
from .view import View

if TYPE_CHECKING:
    from .dial import LookUp

__all__ = ["Session", "patience_seconds"]

# How long jail-init may take to report an end that it has brought about, before it is given up.
_REPORT_SECONDS = 15.0


def _make_group(policy: Policy, host: Host, view: View, at_end: ExitStack) -> Group | None:
    """
    The sandbox's cgroups, where there is a place for them.

    Raises:
        SetupError: they cannot be made.
    """
    if not host.has("cgroup"):
        return None
    devices = disks_of(view) if policy.io is not None and "io" in host.cgroup.controllers else ()
    try:
        group = Group(host.cgroup, policy, devices)
    except OSError as exc:
        raise SetupError(
            f"cgroup in {host.cgroup.path}",
            syscall="mkdir(2), write(2)",
            errno=exc.errno or 0,
            path=exc.filename,
            hint=exc.strerror,
        ) from exc
    at_end.callback(group.close)
    return group


def _bounds(sandbox: Bounds, own: Bounds) -> Bounds:
    """
    What a program may have: its own limits, and otherwise those of the sandbox.
    """
    if own is UNBOUNDED:
        return sandbox
    given = {name: value for name, value in dataclasses.asdict(own).items() if value is not None}
    return dataclasses.replace(sandbox, **given)


def _kept_by(plan: Plan, own: Bounds, keeper: Keeper) -> Bounds:
    """
    Those of a program's own limits that this one keeps.
    """
    if own is UNBOUNDED:
        return own
    kept = {
        name: getattr(own, name)
        for name in ("memory", "processes", "cpus")
        if getattr(plan.keepers, name) is keeper
    }
    return Bounds(**kept)


class Session(Calls):
    """
    One sandbox, from its making to its end. Ends when it is collected, at the latest; `at_end` is closed then.

    Args:
        policy: a `Policy`, or the name or path of a profile.
        fields: fields of `Policy` in addition.
        look: who is asked for the addresses of a name that is allowed; None for the host's own resolver.
        ask: who is asked about what no rule is about; None for nobody.
        peers: other sandboxes of this harness, by names that the policy allows.

    Raises:
        PolicyError, UnsupportedError, SetupError: as `Sandbox` has them.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str],
        fields: Mapping[str, Any],
        look: LookUp | None = None,
        ask: Ask | None = None,
        peers: Mapping[str, Session] | None = None,
    ) -> None:
        base = policy if isinstance(policy, Policy) else load_policy(policy)
        self.policy = base.extend(**fields) if fields else base
        self._ids = itertools.count(1)
        self._ledger = Ledger()
        self._began = began = time.monotonic()
        with ExitStack() as at_end:
            host = probe_with(self.policy.cgroup)
            scratch = None
            if choose_tier(host) is Tier.LANDLOCK:
                scratch = Scratch()
                at_end.callback(scratch.close)
            self.plan, self.view = make_plan(self.policy, scratch=scratch.path if scratch else None)
            planned = time.monotonic()
            self.group = _make_group(self.policy, host, self.view, at_end)
            grouped = time.monotonic()
            self.stock = Stock(*sockets_of(self))
            at_end.callback(self.stock.close)
            self._peers = dict(peers or {})  # which live as long as this
            self.denials = Denials()
            wishes = Wishes(look, ask, self._peers)
            self.gateway = make_gateway(self.policy, self.plan, self.denials, wishes, at_end)
            self._way_out = self.gateway or make_broker(self.policy, host, self.denials, wishes, at_end)
            proxy_url = self._way_out.proxy_url if self._way_out else None
            self.env = build_environment(self.policy, host, self.view, os.environ, proxy_url)
            self.init = self._spawn()
            self.at_end = at_end.pop_all()
        self.init.setup |= {"plan": planned - began} | ({"cgroup": grouped - planned} if self.group else {})
        self._finalizer = weakref.finalize(self, _end, self.init, self.plan.tier, self.at_end)
        if self.gateway:
            self.gateway.askers = Askers(self.init.pid, self.init.ended)
            self.gateway.welcome(self.stock)

    def _spawn(self) -> Init:
        plan = self.plan
        fd = self.group.init_fd if self.group else -1
        way_out = self._way_out if isinstance(self.policy.network, tuple) else None
        with way_out.open() if way_out else contextlib.nullcontext() as sockets:
            init = spawn_init(
                plan.clone_flags,
                plan.ambient,
                plan.setup,
                plan.each_exec,
                cgroup_fd=fd,
                sockets_fd=sockets.fileno() if sockets else -1,
            )
        if self.group:
            self.group.entered()
        return init

    def prepare(
        self,
        cmd: Command,
        fields: Mapping[str, Any],
        *,
        text: bool = False,
        background: bool = False,
        last: bool = False,
    ) -> Exec:
        """
        What `run` and `popen` will start, for these arguments. Starts nothing.

        Args:
            cmd: the program and its arguments.
            fields: `ExecFields`.
            text: the caller wants text.
            background: as `popen` starts it.
            last: the sandbox ends with it.

        Raises:
            PolicyError, TypeError: the arguments make no sense.
        """
        given = dict(fields)
        tighter = {key: given.pop(key) for key in TighterFields.__annotations__ if key in given}
        less = tighten_plan(self.policy, self.view, self.plan, tighter) if tighter else Tightening()
        defaults: Defaults = {
            "env": self.env,
            "directory": self.directory,
            "timeout": self.policy.timeout,
            "grace": self.policy.grace,
            "ops": (*less.ops, *self.plan.each_last),
            "guarantees": self._guarantees(less),
            "bounds": _bounds(self.plan.bounds, less.own),
            "watched": _kept_by(self.plan, less.own, Keeper.WATCH),
            "grouped": _kept_by(self.plan, less.own, Keeper.CGROUP),
        }
        return parse_exec(cmd, given, defaults, text=text, background=background, last=last)

    def _guarantees(self, less: Tightening) -> tuple[Guarantee, ...]:
        if not less.guarantees:
            return self.plan.guarantees
        others = {guarantee.name: guarantee for guarantee in less.guarantees}
        kept = [others.pop(guarantee.name, guarantee) for guarantee in self.plan.guarantees]
        return (*kept, *others.values())

    def next_id(self) -> int:
        """
        A number for the next exec.

        Raises:
            JailError: as `refuse_ended`.
        """
        self.refuse_ended()
        return next(self._ids)

    def refuse_ended(self) -> None:
        """
        Raises:
            JailError: the sandbox is closed, lost, or another process's.
        """
        if self.is_closed:
            raise JailError("the sandbox is closed")
        self.refuse_in_child()
        if self.init.pidfd < 0:
            raise self.init.lost()

    def open(self, what: Exec) -> Exchange:
        """
        Ask for a program to be started.

        Raises:
            JailError: the sandbox is closed, or was killed from outside.
            PolicyError: an argument cannot be passed on.
            OSError: a descriptor is not open.
        """
        exec_id = self.next_id()
        refuse_closed(what)
        exchange = Exchange(self.init, exec_id, what, self._leaf(exec_id, what))
        exchange.on_usage = self._ledger.add  # and no method of ours: whoever drives it keeps nobody alive
        if self._way_out:
            exchange.meanwhile = self._way_out.from_now()
        return exchange

    def _leaf(self, exec_id: int, what: Exec) -> Leaf | None:
        if self.group is None:
            return None
        try:
            return self.group.leaf(exec_id, what.grouped)
        except OSError as exc:
            if self.init.ended():
                raise self.init.gone() from exc
            raise SetupError(
                "cgroup of the program", syscall="mkdir(2), write(2)", errno=exc.errno or 0, path=exc.filename
            ) from exc

    def refuse_in_child(self) -> None:
        """
        Raises:
            JailError: this process was forked from the one that the sandbox belongs to.
        """
        self.init.refuse_in_child()

    def give_up(self, exchange: Exchange) -> None:
        """
        End the sandbox: jail-init has not reported what it was to bring about.
        """
        self.init.kill()
        msg = f"jail-init reported no end within {_REPORT_SECONDS:g} seconds of a timeout"
        exchange.fail(JailError(msg))

    def result_of(self, exchange: Exchange) -> Result[Any]:
        """
        What came of a program that is over; the first has the building of the sandbox among what it cost.

        Raises:
            JailError: it was lost; or what a caller's own function raised.
        """
        if exchange.error is not None:
            raise exchange.error
        if exchange.id == 1:
            self.init.await_ready()
            exchange.execution.setup = self.init.setup
        return exchange.execution.result()

    def usage(self) -> Usage:
        """
        What all that has run here has cost so far.
        """
        figures = self.group.usage() if self.group and not self.is_closed else {}
        if self.gateway:
            figures = {**figures, "network_bytes": (sum(self.gateway.moved), "what the relay has moved")}
        return self._ledger.total(time.monotonic() - self._began, figures)

    @property
    def directory(self) -> str:
        """
        Where programs start.
        """
        if self.view.scratch and self.view.directory == self.view.home:
            return f"{self.view.scratch}/home"
        return self.view.directory

    @property
    def is_closed(self) -> bool:
        """
        Whether it was ended.
        """
        return not self._finalizer.alive

    def hang_up(self) -> None:
        """
        Have everything inside end, and do not wait for it.
        """
        self.init.hang_up(kill=self.plan.tier is not Tier.LANDLOCK)

    def close(self) -> None:
        """
        End everything inside and wait until it is gone. May be called again.
        """
        self._finalizer()


def patience_seconds(what: Exec) -> float | None:
    """
    How long to wait for the end of a program that jail-init ends in time; None for ever.
    """
    return None if what.timeout is None else what.timeout + what.grace + _REPORT_SECONDS


def _end(init: Init, tier: Tier, at_end: ExitStack) -> None:
    with at_end:
        init.hang_up(kill=tier is not Tier.LANDLOCK)
        init.close()
