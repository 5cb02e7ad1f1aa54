"""
One program that is to have less than its sandbox: what that means, and the ops that make it so.

Pure. The ops come after those that every program carries out, in a process that is already confined, so they
can take away and never give back; what asks for more is refused before it gets that far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from .confine import REFUSALS, landlock_ops, landlock_ops_of_less, refusal_op
from .errors import PolicyError, UnsupportedError
from .fields import PolicyPath
from .guarantee import Guarantee, Strength
from .host import Host
from .limits import UNBOUNDED, Bounds, Keeper, Keepers, bounds_of, rlimit_ops
from .ops import Op, OpKind
from .plan import keepers_of
from .policy import Policy, SupportsFspath
from .tier import LANDLOCK_USABLE, Tier, choose_tier, unsupported
from .view import View

__all__ = [
    "Tightening",
    "TighterFields",
    "compile_tightening",
    "refuse_wider",
    "tighter_filter",
    "tighter_policy",
]

_LIMITS = ("memory", "cpus", "cpu_seconds", "processes", "open_files", "file_size", "output")
_LISTS = ("write", "deny", "deny_syscalls")
_NEEDS = "a cgroup with its controller"


class TighterFields(TypedDict, total=False):
    """
    What one program may have less of than its sandbox, in the words of `Policy`.

    write: of the host's files that the sandbox may write, the only ones that this program may. The rest stay
        readable. A directory of the sandbox's own that holds what is taken, such as /tmp or the home, can be
        read and not written then.
    deny: not to be read. Directories above what it may see cannot be listed then, and one of the sandbox's own
        that holds what is denied cannot be used at all.
    workspace_access: "read" takes the workspace from what it may write.
    network: "none".
    memory, cpus, cpu_seconds, processes, open_files, file_size, output: lower limits.
    deny_syscalls: system calls that are EPERM beside those of the sandbox.
    """

    write: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    deny: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    workspace_access: Literal["read"]
    network: Literal["none"]
    memory: int | str
    cpus: float | str
    cpu_seconds: float | str
    processes: int
    open_files: int
    file_size: int | str
    output: int | str
    deny_syscalls: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tightening:
    """
    What a program carries out beside the plan's ops, the guarantees that are other than the sandbox's, and the
    limits that are this program's own.
    """

    ops: tuple[Op, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()
    own: Bounds = UNBOUNDED


def tighter_policy(policy: Policy, fields: Mapping[str, Any]) -> Policy:
    """
    The policy of one program: its sandbox's, with less.

    Args:
        policy: the sandbox's.
        fields: `TighterFields`.

    Raises:
        PolicyError: a field that does not exist, makes no sense, or asks for more.
    """
    given = Policy(**fields)  # what they mean by themselves
    for key in _LIMITS:
        now, then = getattr(given, key), getattr(policy, key)
        if key in fields and (now is None or (then is not None and now > then)):
            msg = f"{now} is more than the {then} of the sandbox; a program can only have less"
            raise PolicyError(msg, key=key)
    if "network" in fields and given.network not in ("none", policy.network):
        msg = "a program can have the network of its sandbox, or none"
        raise PolicyError(msg, key="network")
    access = given.workspace_access, policy.workspace_access
    if "workspace_access" in fields and access == ("write", "read"):
        raise PolicyError("the workspace of this sandbox is read-only", key="workspace_access")
    changes: dict[str, Any] = {key: getattr(given, key) for key in fields if key not in _LISTS}
    if given.network == "none" and "network" in fields:
        changes["proxy_variables"] = False  # it has them, and they lead nowhere
    changes["deny_syscalls"] = tuple(dict.fromkeys((*policy.deny_syscalls, *given.deny_syscalls)))
    changes["allow_syscalls"] = tuple(
        name for name in policy.allow_syscalls if name not in given.deny_syscalls
    )
    return policy.replace(**{**changes, **_tighter_paths(policy, given, fields)})


def _tighter_paths(policy: Policy, given: Policy, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    What is written no more is read, and what is denied is neither.
    """
    denied = {path.spelling for path in given.deny}
    write = given.write if "write" in fields else policy.write
    kept = {path.spelling for path in write} | denied
    lists: dict[str, Any] = {
        "read": tuple(path for path in (*policy.read, *policy.write) if path.spelling not in kept),
        "write": tuple(path for path in write if path.spelling not in denied),
        "deny": tuple({path.spelling: path for path in (*policy.deny, *given.deny)}.values()),
    }
    if "write" in fields and "workspace_access" not in fields:
        lists["workspace_access"] = "read"
    return lists


def tighter_filter(policy: Policy, asked: Policy, host: Host, *, fewer_files: bool) -> str | None:
    """
    The name of the built-in seccomp filter to load on top; None where there is nothing to take.
    """
    without_metadata = fewer_files and "filesystem.metadata" not in policy.waive
    without_network = asked.network == "none" != policy.network
    if choose_tier(host) is not Tier.LANDLOCK:
        name = "namespaces" + "-metadata" * without_metadata + "-network" * without_network
        needed = without_metadata or without_network
    else:
        name = "no-namespaces" + "+metadata" * ("filesystem.metadata" in policy.waive)
        name += "+network" * (asked.network != "none")
        needed = without_network
    return name if needed or asked.deny_syscalls != policy.deny_syscalls else None


def compile_tightening(
    policy: Policy,
    asked: Policy,
    host: Host,
    views: tuple[View, View],
    keepers: Keepers,
    *,
    seccomp_filter: bytes | None,
) -> Tightening:
    """
    The ops that take from a program what its sandbox has and it is not to have.

    Args:
        policy: the sandbox's.
        asked: the program's, as `tighter_policy` gives it.
        host: what this kernel can do.
        views: what the paths of the sandbox meant when it was made, and what the program's mean now.
        keepers: who keeps the limits of the sandbox.
        seccomp_filter: the compiled filter that `tighter_filter` names, if it names one.

    Raises:
        PolicyError: a path to be written that the sandbox does not let be written.
        UnsupportedError: fewer files, and no Landlock to hide them with.
    """
    before, after = views
    kept = keepers_of(asked, host)
    ops = [op for op in rlimit_ops(asked, host, kept) if op not in set(rlimit_ops(policy, host, keepers))]
    guarantees = [*_limits(policy, asked, host, kept)]
    if asked.cpus != policy.cpus and kept.cpus is Keeper.AFFINITY:
        ops.append(Op(OpKind.PROCESSORS, args=(int(asked.cpus or 0),)))
        if policy.cpus is None or keepers.cpus is not Keeper.AFFINITY:  # or the plan refuses it at the end
            ops.append(refusal_op(host.arch, {"sched_setaffinity": REFUSALS["sched_setaffinity"]}))
    if before is not after:
        refuse_wider(before, after)
        ops += _fewer_files(asked, host, before, after)
        guarantees += _walls(policy, host, before, after)
    if asked.network == "none" != policy.network:
        promise = "no IPv4, IPv6 or netlink socket can be made by this program"
        guarantees.append(Guarantee("network", "seccomp", Strength.KERNEL, promise))
    if seccomp_filter is not None:
        ops.append(Op(OpKind.SECCOMP, data=seccomp_filter))
    return Tightening(tuple(ops), tuple(guarantees), _own_bounds(policy, asked))


def _own_bounds(policy: Policy, asked: Policy) -> Bounds:
    """
    The limits of one program that are other than its sandbox's.
    """
    then, now = bounds_of(policy), bounds_of(asked)
    names = ("memory", "processes", "cpus", "cpu_seconds", "output")
    changed = {name: getattr(now, name) for name in names if getattr(now, name) != getattr(then, name)}
    return Bounds(**changed)


def _limits(policy: Policy, asked: Policy, host: Host, keepers: Keepers) -> Iterator[Guarantee]:
    """
    The guarantees of limits that are this program's own.

    Raises:
        UnsupportedError: nobody can keep one here, and it is not waived.
    """
    limits: tuple[tuple[str, str, Keeper | None, str], ...] = (
        ("memory", "memory", keepers.memory, "it and all that it starts have at most {} bytes"),
        ("cpus", "cpu", keepers.cpus, "it and all that it starts use at most {:g} processors"),
        ("processes", "pids", keepers.processes, "it makes no process or thread beyond {}"),
    )
    for name, guarantee, keeper, promise in limits:
        value = getattr(asked, name)
        if value == getattr(policy, name):
            continue
        if keeper is None and guarantee not in policy.waive:
            raise unsupported(host, guarantee, _NEEDS, "cgroup")
        if keeper is None:
            yield Guarantee(guarantee, "", Strength.NONE, f"waived: needs {_NEEDS}")
            continue
        yield Guarantee(guarantee, str(keeper), keeper.strength, promise.format(value))
    if asked.file_size != policy.file_size:
        promise = f"no file grows beyond {asked.file_size} bytes by this program"
        yield Guarantee("disk", "RLIMIT_FSIZE", Strength.KERNEL, promise)


def _walls(policy: Policy, host: Host, before: View, after: View) -> Iterator[Guarantee]:
    walls = f"Landlock ABI {host.landlock_abi}"
    writable = [tree.path for tree in after.trees if tree.writable]
    where = ", ".join(writable) if writable else "nothing of the host"
    promise = f"{where} can be written by this program, and the sandbox's own files"
    yield Guarantee("filesystem.write", walls, Strength.KERNEL, promise)
    if choose_tier(host) is not Tier.LANDLOCK and "filesystem.metadata" not in policy.waive:
        promise = "chmod(2), chown(2), utime(2), setxattr(2) and their kin are EPERM for this program"
        yield Guarantee("filesystem.metadata", "seccomp", Strength.KERNEL, promise)
    if unread := _unread(before, after):
        promise = f"as in the sandbox, without {', '.join(sorted(unread))}"
        yield Guarantee("filesystem.read", walls, Strength.KERNEL, promise)


def _unread(before: View, after: View) -> frozenset[str]:
    """
    The hidden paths and the trees that only the sandbox may read.
    """
    gone = {tree.path for tree in before.trees} - {tree.path for tree in after.trees}
    hidden = {*after.hidden} - {*before.hidden}
    return frozenset(hidden | {path for path in gone if after.tree_of(path) is None})


def _unwritten(before: View, after: View) -> frozenset[str]:
    """
    The trees that only the sandbox may write.
    """
    kept = {tree.path for tree in after.trees if tree.writable}
    return frozenset(tree.path for tree in before.trees if tree.writable and tree.path not in kept)


def refuse_wider(before: View, after: View) -> None:
    """
    Raises:
        PolicyError: something is to be written that the sandbox does not let be written.
    """
    for tree in after.trees:
        around = before.tree_of(tree.path)
        if tree.writable and not (around and around.writable):
            raise PolicyError(f"{tree.path} cannot be written in this sandbox by anything", key="write")
    for path in _unwritten(before, after):
        above = after.tree_of(path.rpartition("/")[0] or "/")
        if above and above.writable:
            msg = (
                f"{path} lies in {above.path}, which this program may write: name what is below that instead"
            )
            raise PolicyError(msg, key="write")


def _fewer_files(asked: Policy, host: Host, before: View, after: View) -> list[Op]:
    if host.landlock_abi < LANDLOCK_USABLE:
        raise UnsupportedError(
            "filesystem.write",
            needs="Landlock ABI 2 of Linux 5.19, to take files from one program",
            found=host.found("landlock"),
            cure=host.cures.get("landlock"),
        )
    if choose_tier(host) is Tier.LANDLOCK:
        rules = landlock_ops(asked, after, host.landlock_abi, mounts=False)
    else:
        unread, unwritten = _unread(before, after), _unwritten(before, after)
        rules = landlock_ops_of_less(after, host.landlock_abi, unread=unread, unwritten=unwritten)
    return [*rules, Op(OpKind.LANDLOCK_RESTRICT)]
