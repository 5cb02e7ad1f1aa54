"""
One program that is to have less than its sandbox: what that means, and the ops that make it so.

Pure. The ops come after those that every program carries out, in a process that is already confined, so they
can take away and never give back; what asks for more is refused before it gets that far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from .confine import landlock_ops, landlock_ops_of_some, rlimit_ops
from .errors import PolicyError, UnsupportedError
from .fields import PolicyPath
from .guarantee import Guarantee, Strength
from .host import Host
from .ops import Op, OpKind
from .plan import Tier, choose_tier
from .policy import Policy, SupportsFspath
from .view import View

__all__ = ["Tightening", "TighterFields", "compile_tightening", "tighter_filter", "tighter_policy"]

_LANDLOCK_USABLE = 2
_LIMITS = ("memory", "file_size", "processes", "open_files")


class TighterFields(TypedDict, total=False):
    """
    What one program may have less of than its sandbox, in the words of `Policy`.

    write: of the host's files that the sandbox may write, the only ones that this program may. The rest stay
        readable.
    deny: hidden from this program. Directories above what it may see cannot be listed then.
    workspace_access: "read" takes the workspace from what it may write.
    network: "none".
    memory, file_size, processes, open_files: lower limits.
    deny_syscalls: system calls that are EPERM beside those of the sandbox.
    """

    write: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    deny: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    workspace_access: Literal["read"]
    network: Literal["none"]
    memory: int | str
    file_size: int | str
    processes: int
    open_files: int
    deny_syscalls: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tightening:
    """
    What a program carries out beside the plan's ops, and the guarantees that are other than the sandbox's.
    """

    ops: tuple[Op, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()


def tighter_policy(policy: Policy, fields: Mapping[str, Any]) -> Policy:
    """
    The policy of one program: its sandbox's, with less.

    Args:
        policy: the sandbox's.
        fields: `TighterFields`.

    Raises:
        PolicyError: a field that does not exist, makes no sense, or asks for more.
    """
    asked = policy.replace(**fields)
    for key in _LIMITS:
        now, then = getattr(asked, key), getattr(policy, key)
        if key in fields and (now is None or (then is not None and now > then)):
            raise PolicyError(
                f"{now} is more than the {then} of the sandbox; a program can only have less", key=key
            )
    if "network" in fields and (asked.network, policy.network) == ("host", "none"):
        raise PolicyError("the sandbox has no network, so none of its programs can have one", key="network")
    if "workspace_access" in fields and (asked.workspace_access, policy.workspace_access) == (
        "write",
        "read",
    ):
        raise PolicyError("the workspace of this sandbox is read-only", key="workspace_access")
    lists: dict[str, Any] = {
        "deny_syscalls": (*policy.deny_syscalls, *asked.deny_syscalls) if "deny_syscalls" in fields else None,
        "deny": (*policy.deny, *asked.deny) if "deny" in fields else None,
    }
    if "write" in fields:
        kept = {path.spelling for path in asked.write}
        lists["read"] = tuple(p for p in (*policy.read, *policy.write) if p.spelling not in kept)
        if "workspace_access" not in fields:
            lists["workspace_access"] = "read"
    return asked.replace(**{key: value for key, value in lists.items() if value is not None})


def tighter_filter(policy: Policy, asked: Policy, host: Host, *, fewer_files: bool) -> str | None:
    """
    The name of the built-in seccomp filter to load on top; None where there is nothing to take.
    """
    without_metadata = fewer_files and "filesystem.metadata" not in policy.waive
    without_network = (asked.network, policy.network) == ("none", "host")
    if choose_tier(host) is not Tier.LANDLOCK:
        name = "namespaces" + "-metadata" * without_metadata + "-network" * without_network
        needed = without_metadata or without_network
    else:
        name = "no-namespaces" + "+metadata" * ("filesystem.metadata" in policy.waive)
        name += "+network" * (asked.network == "host")
        needed = without_network
    return name if needed or asked.deny_syscalls != policy.deny_syscalls else None


def compile_tightening(
    policy: Policy, asked: Policy, host: Host, views: tuple[View, View], seccomp_filter: bytes | None
) -> Tightening:
    """
    The ops that take from a program what its sandbox has and it is not to have.

    Args:
        policy: the sandbox's.
        asked: the program's, as `tighter_policy` gives it.
        host: what this kernel can do.
        views: what the paths of the sandbox meant when it was made, and what the program's mean now.
        seccomp_filter: the compiled filter that `tighter_filter` names, if it names one.

    Raises:
        PolicyError: a path to be written that the sandbox does not let be written.
        UnsupportedError: fewer files, and no Landlock to hide them with.
    """
    before, after = views
    ops = [op for op in rlimit_ops(asked, host) if op not in set(rlimit_ops(policy, host))]
    guarantees: list[Guarantee] = []
    if before is not after:
        _refuse_wider(before, after)
        ops += _fewer_files(asked, host, before, after)
        writable = [tree.path for tree in after.trees if tree.writable]
        where = ", ".join(writable) if writable else "nothing of the host"
        walls = f"Landlock ABI {host.landlock_abi}"
        promise = f"{where} can be written by this program, and the sandbox's own files"
        guarantees.append(Guarantee("filesystem.write", walls, Strength.KERNEL, promise))
        if choose_tier(host) is not Tier.LANDLOCK and "filesystem.metadata" not in policy.waive:
            promise = "chmod(2), chown(2), utime(2), setxattr(2) and their kin are EPERM for this program"
            guarantees.append(Guarantee("filesystem.metadata", "seccomp", Strength.KERNEL, promise))
        if after.hidden != before.hidden:
            promise = f"as in the sandbox, without {', '.join(sorted({*after.hidden} - {*before.hidden}))}"
            guarantees.append(Guarantee("filesystem.read", walls, Strength.KERNEL, promise))
    if (asked.network, policy.network) == ("none", "host"):
        guarantees.append(
            Guarantee("network", "seccomp", Strength.KERNEL, "no socket can be made but unix(7)")
        )
    if seccomp_filter is not None:
        ops.append(Op(OpKind.SECCOMP, data=seccomp_filter))
    return Tightening(tuple(ops), tuple(guarantees))


def _refuse_wider(before: View, after: View) -> None:
    for tree in after.trees:
        around = before.tree_of(tree.path)
        if tree.writable and not (around and around.writable):
            raise PolicyError(f"{tree.path} cannot be written in this sandbox by anything", key="write")


def _fewer_files(asked: Policy, host: Host, before: View, after: View) -> list[Op]:
    if host.landlock_abi < _LANDLOCK_USABLE:
        raise UnsupportedError(
            "filesystem.write",
            needs="Landlock ABI 2 of Linux 5.19, to take files from one program",
            found=host.found("landlock"),
            cure=host.cures.get("landlock"),
        )
    is_own = choose_tier(host) is not Tier.LANDLOCK
    if is_own and after.hidden != before.hidden:
        rules = landlock_ops_of_some(after, host.landlock_abi)
    else:
        rules = landlock_ops(asked, after, host.landlock_abi, mounts=is_own)
    return [*rules, Op(OpKind.LANDLOCK_RESTRICT)]
