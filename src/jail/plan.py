"""
How a policy will be kept on a host: a flat list of ops, and the guarantees that they keep.

Pure: the same policy, host, view and filter give the same plan, byte for byte. Each guarantee gets the
strongest mechanism that this host has; where there is none, and the caller has not waived it, there is no
plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from .confine import REFUSALS, landlock_ops, refusal_op, scope_ops
from .errors import UnsupportedError
from .guarantee import Guarantee
from .host import Host
from .layout import inside_ids, tmpfs_size, tree_ops
from .limits import Bounds, Keeper, Keepers, bounds_of, choose_keepers, limit_ops, rlimit_ops, watch_op
from .netns import name_files, network_ops
from .notify import is_brokered, notify_op
from .ops import AMBIENT, AMBIENT_TO_LISTEN, NAMESPACES, Clone, Op, OpKind
from .policy import Policy
from .promises import decide
from .tier import LANDLOCK_SCOPES, LANDLOCK_USABLE, Tier, choose_tier
from .view import View

__all__ = ["Plan", "choose_filter", "compile_plan", "keepers_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Everything that will be done, and what it guarantees.

    Args:
        tier: what it stands on.
        clone_flags: ``CLONE_NEW*`` for clone(2).
        ambient: capabilities kept for the set-up, one bit each.
        setup: ops that `jail-init` carries out once, in this order.
        each_exec: ops that each program carries out before it is executed.
        each_last: the same, but after those of its own.
        guarantees: one for each that was asked for, waived ones included.
        keepers: who keeps the limits.
        bounds: what one program may have.
    """

    tier: Tier
    clone_flags: int
    ambient: int
    setup: tuple[Op, ...]
    each_exec: tuple[Op, ...]
    each_last: tuple[Op, ...]
    guarantees: tuple[Guarantee, ...]
    keepers: Keepers
    bounds: Bounds


def keepers_of(policy: Policy, host: Host) -> Keepers:
    """
    Who keeps the limits of this policy here.
    """
    return choose_keepers(policy, host, userns=choose_tier(host) is Tier.NAMESPACES)


def choose_filter(policy: Policy, host: Host) -> str:
    """
    The name of the built-in seccomp filter for this policy here; see ``profiles/syscalls.toml``.
    """
    if choose_tier(host) is not Tier.LANDLOCK:
        return "namespaces+clone3" if host.has("cgroup") else "namespaces"
    name = "no-namespaces"
    if "filesystem.metadata" in policy.waive:
        name += "+metadata"
    if policy.network == "host" or is_brokered(policy, host):
        name += "+network"
    return name


def compile_plan(policy: Policy, host: Host, view: View, seccomp_filter: bytes) -> Plan:
    """
    Decide how every guarantee is kept, and write it down.

    Args:
        policy: what must hold.
        host: what this kernel can do.
        view: what the policy's paths mean now.
        seccomp_filter: the compiled filter that `choose_filter` names, with the policy's changes.

    Raises:
        UnsupportedError: a guarantee cannot be kept here and is not waived.
    """
    tier = choose_tier(host)
    _refuse_sockets(view, host, tier)
    if tier is not Tier.NAMESPACES and (policy.uid, policy.gid) != (None, None):
        raise UnsupportedError(
            "uid" if policy.uid is not None else "gid",
            needs="a user namespace, to map it",
            found=host.found("userns"),
            cure=host.cures.get("userns"),
        )
    keepers = keepers_of(policy, host)
    guarantees = decide(policy, host, view, tier, keepers)
    load = Op(OpKind.SECCOMP, data=seccomp_filter)
    last = _refusal(policy, host, keepers)
    if tier is Tier.LANDLOCK:
        setup, each_exec = _on_landlock(policy, host, view, load, keepers)
        return Plan(tier, 0, 0, setup, each_exec, last, guarantees, keepers, bounds_of(policy))
    setup, each_exec = _on_namespaces(policy, host, view, tier, load, keepers)
    listens = isinstance(policy.network, tuple)
    ambient = (AMBIENT_TO_LISTEN if listens else AMBIENT) if tier is Tier.NAMESPACES else 0
    bounds = bounds_of(policy, tmpfs_size(policy))
    return Plan(
        tier, _clone_flags(policy, host, tier), ambient, setup, each_exec, last, guarantees, keepers, bounds
    )


def _refuse_sockets(view: View, host: Host, tier: Tier) -> None:
    """
    Landlock cannot tell one unix socket from another, so where it stands alone none can be made at all.
    """
    named = [tree.path for tree in view.trees if tree.inode is not None]
    if named and tier is Tier.LANDLOCK:
        raise UnsupportedError(
            "sockets",
            needs=f"a mount namespace, to show {named[0]} and no other socket",
            found=host.found("userns"),
            cure=host.cures.get("userns"),
        )


def _clone_flags(policy: Policy, host: Host, tier: Tier) -> int:
    """
    The namespaces. None for cgroups where programs get some of their own: clone3(2) does not enter what
    cannot be seen (ENOENT), and what can be seen from a new namespace is jail-init's own.
    """
    flags = NAMESPACES
    if tier is Tier.PRIVILEGED:
        flags &= ~Clone.USER
    if policy.network == "host":
        flags &= ~Clone.NET
    if host.has("cgroup"):
        flags &= ~Clone.CGROUP
    return int(flags)


def _refusal(policy: Policy, host: Host, keepers: Keepers) -> tuple[Op, ...]:
    """
    What would undo a limit. It comes last: a program that may have fewer processors has yet to take those.
    """
    if policy.cpus is None or keepers.cpus is not Keeper.AFFINITY:
        return ()
    return (_refuse(host, "sched_setaffinity"),)


def _refuse(host: Host, name: str) -> Op:
    return refusal_op(host.arch, {name: REFUSALS[name]})


def _on_namespaces(
    policy: Policy, host: Host, view: View, tier: Tier, load: Op, keepers: Keepers
) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """
    The order is the argument: who we are, then what is there, then what may be done with it, and last what
    can be called at all. Everything binds `jail-init` too, so a program starts with it at no further cost;
    but for Landlock where /proc is masked: then the only one to look at is the host's, out of the tree.
    """
    ops: list[Op] = []
    restrict: list[Op] = []
    if tier is Tier.NAMESPACES:
        uid, gid = inside_ids(policy, host)
        ops.append(Op(OpKind.USERNS_MAP, args=(uid, host.uid, gid, host.gid)))
    if host.has("keyring"):
        ops.append(Op(OpKind.KEYRING))  # before seccomp takes keyctl(2)
    before_pivot = (*name_files(policy, view), watch_op(policy, host, keepers, tree=True))
    ops += tree_ops(policy, host, view, *before_pivot)
    ops += limit_ops(policy, keepers)
    ops += network_ops(policy)
    ops.append(Op(OpKind.HOSTNAME, data=policy.hostname.encode()))
    ops.append(Op(OpKind.NO_NEW_PRIVS))  # landlock_restrict_self(2) and seccomp(2) ask for it
    if host.landlock_abi >= LANDLOCK_USABLE:
        ops += landlock_ops(policy, view, host.landlock_abi, mounts=True, is_one=host.has("proc"))
        restrict.append(Op(OpKind.LANDLOCK_RESTRICT))
    if host.has("proc"):
        ops += restrict
        restrict = []
    setup = (*ops, Op(OpKind.CAPABILITIES), Op(OpKind.UNDUMPABLE), load)
    # What `jail-init` needs to start them in their cgroups, programs are refused beside the built-in filter.
    refusals = [_refuse(host, "clone3")] if host.has("cgroup") else []
    return setup, (*rlimit_ops(policy, host, keepers), *restrict, *refusals)


def _on_landlock(
    policy: Policy, host: Host, view: View, load: Op, keepers: Keepers
) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """
    `jail-init` stays outside of the programs' domain, which is what keeps them from killing it: Landlock lets
    no signal out. It stands in a wider domain of its own, which keeps its kill(-1) from the host.
    """
    contained = host.landlock_abi >= LANDLOCK_SCOPES
    setup = (
        Op(OpKind.NO_NEW_PRIVS),
        *(scope_ops(host.landlock_abi) if contained else ()),
        Op(OpKind.SUBREAPER, args=(int(contained),)),
        watch_op(policy, host, keepers, tree=False),
        *limit_ops(policy, keepers),
        *landlock_ops(policy, view, host.landlock_abi, mounts=False),
        Op(OpKind.CAPABILITIES),
        Op(OpKind.UNDUMPABLE),
        *((notify_op(host.arch),) if is_brokered(policy, host) else ()),
    )
    return setup, (*rlimit_ops(policy, host, keepers), Op(OpKind.LANDLOCK_RESTRICT), load)
