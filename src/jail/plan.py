"""
How a policy will be kept on a host: a flat list of ops, and the guarantees that they keep.

Pure: the same policy, host, view and filter give the same plan, byte for byte. Each guarantee gets the
strongest mechanism that this host has; where there is none, and the caller has not waived it, there is no
plan.

Two tiers. *Namespaces*: the sandbox has a tree, processes, network and names of its own, and Landlock and
seccomp stand behind them. *Landlock*: where no namespaces are to be had, it shares the host's tree, of which
Landlock leaves it a part; seccomp takes away what would reach further; `jail-init` is a subreaper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .confine import landlock_ops, rlimit_ops, scope_ops
from .errors import UnsupportedError
from .guarantee import Guarantee, Strength
from .host import Host
from .layout import inside_ids, tree_ops
from .ops import AMBIENT, NAMESPACES, Clone, Op, OpKind
from .policy import Policy
from .view import View, is_below

__all__ = ["Plan", "Tier", "choose_filter", "choose_tier", "compile_plan"]

# Landlock below ABI 2 forbids every move to another directory (EXDEV), which no build survives.
_LANDLOCK_USABLE = 2
_LANDLOCK_TRUNCATES = 3
_LANDLOCK_SCOPES = 6


class Tier(StrEnum):
    """
    What the sandbox stands on.
    """

    NAMESPACES = "namespaces"
    PRIVILEGED = "privileged namespaces"
    LANDLOCK = "Landlock"


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
        guarantees: one for each that was asked for, waived ones included.
    """

    tier: Tier
    clone_flags: int
    ambient: int
    setup: tuple[Op, ...]
    each_exec: tuple[Op, ...]
    guarantees: tuple[Guarantee, ...]


def choose_tier(host: Host) -> Tier:
    """
    The strongest tier this host has.

    Raises:
        UnsupportedError: it has none: neither namespaces nor Landlock, or no seccomp.
    """
    if not host.has("seccomp"):
        raise _unsupported(host, "syscalls", "seccomp filters, Linux 4.14", "seccomp")
    if host.has("userns"):
        return Tier.NAMESPACES
    if host.has("privileged"):
        return Tier.PRIVILEGED
    if host.landlock_abi >= _LANDLOCK_USABLE:
        return Tier.LANDLOCK
    raise _unsupported(host, "filesystem.read", "user namespaces, or Landlock ABI 2 of Linux 5.19", "userns")


def choose_filter(policy: Policy, host: Host) -> str:
    """
    The name of the built-in seccomp filter for this policy here; see ``profiles/syscalls.toml``.
    """
    if choose_tier(host) is not Tier.LANDLOCK:
        return "namespaces"
    name = "no-namespaces"
    if "filesystem.metadata" in policy.waive:
        name += "+metadata"
    if policy.network == "host":
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
    if tier is not Tier.NAMESPACES and (policy.uid, policy.gid) != (None, None):
        raise UnsupportedError(
            "uid" if policy.uid is not None else "gid",
            needs="a user namespace, to map it",
            found=host.found("userns"),
            cure=host.cures.get("userns"),
        )
    guarantees = tuple(_Deciding(policy, host, view, tier).decide())
    load = Op(OpKind.SECCOMP, data=seccomp_filter)
    rlimits = list(rlimit_ops(policy, host))
    if tier is Tier.LANDLOCK:
        setup, each_exec = _on_landlock(policy, host, view, load, rlimits)
        return Plan(tier, 0, 0, setup, each_exec, guarantees)
    flags = NAMESPACES
    if tier is Tier.PRIVILEGED:
        flags &= ~Clone.USER
    if policy.network == "host":
        flags &= ~Clone.NET
    setup = _on_namespaces(policy, host, view, tier, load)
    ambient = AMBIENT if tier is Tier.NAMESPACES else 0
    return Plan(tier, int(flags), ambient, setup, tuple(rlimits), guarantees)


def _on_namespaces(policy: Policy, host: Host, view: View, tier: Tier, load: Op) -> tuple[Op, ...]:
    """
    The order is the argument: who we are, then what is there, then what may be done with it, and last what
    can be called at all. Everything binds `jail-init` too, so a program starts with it at no further cost.
    """
    ops: list[Op] = []
    if tier is Tier.NAMESPACES:
        uid, gid = inside_ids(policy, host)
        ops.append(Op(OpKind.USERNS_MAP, args=(uid, host.uid, gid, host.gid)))
    if host.has("keyring"):
        ops.append(Op(OpKind.KEYRING))  # before seccomp takes keyctl(2)
    ops += tree_ops(policy, host, view)
    if policy.network == "none":
        ops.append(Op(OpKind.LOOPBACK))
    ops.append(Op(OpKind.HOSTNAME, data=policy.hostname.encode()))
    ops.append(Op(OpKind.NO_NEW_PRIVS))  # landlock_restrict_self(2) and seccomp(2) ask for it
    if host.landlock_abi >= _LANDLOCK_USABLE:
        ops += landlock_ops(policy, view, host.landlock_abi, mounts=True)
        ops.append(Op(OpKind.LANDLOCK_RESTRICT))
    return (*ops, Op(OpKind.CAPABILITIES), Op(OpKind.UNDUMPABLE), load)


def _on_landlock(
    policy: Policy, host: Host, view: View, load: Op, rlimits: Sequence[Op]
) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """
    `jail-init` stays outside of the programs' domain, which is what keeps them from killing it: Landlock lets
    no signal out. It stands in a wider domain of its own, which keeps its kill(-1) from the host.
    """
    contained = host.landlock_abi >= _LANDLOCK_SCOPES
    setup = (
        Op(OpKind.NO_NEW_PRIVS),
        *(scope_ops(host.landlock_abi) if contained else ()),
        Op(OpKind.SUBREAPER, args=(int(contained),)),
        *landlock_ops(policy, view, host.landlock_abi, mounts=False),
        Op(OpKind.CAPABILITIES),
        Op(OpKind.UNDUMPABLE),
    )
    return setup, (*rlimits, Op(OpKind.LANDLOCK_RESTRICT), load)


def _unsupported(host: Host, guarantee: str, needs: str, feature: str) -> UnsupportedError:
    waive = f'Or go on without it: waive=["{guarantee}"].'
    cure = host.cures.get(feature)
    return UnsupportedError(
        guarantee, needs=needs, found=host.found(feature), cure=f"{cure} {waive}" if cure else waive
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    mechanism: str
    promise: str
    strength: Strength = Strength.KERNEL


@dataclass(frozen=True, slots=True)
class _Lost:
    needs: str
    feature: str


@dataclass(frozen=True, slots=True)
class _Deciding:
    """
    One method per guarantee: what keeps it here, what is missing, or None where it was not asked for.
    """

    policy: Policy
    host: Host
    view: View
    tier: Tier

    def decide(self) -> list[Guarantee]:
        table: dict[str, Callable[[], _Kept | _Lost | None]] = {
            "filesystem.read": self.read,
            "filesystem.write": self.write,
            "filesystem.metadata": self.metadata,
            "network": self.network,
            "processes": self.processes,
            "ipc": self.ipc,
            "privileges": self.privileges,
            "syscalls": self.syscalls,
            "terminal": self.terminal,
            "descriptors": self.descriptors,
            "environment": self.environment,
            "memory": self.memory,
            "pids": self.pids,
            "disk": self.disk,
            "time": self.time,
            "teardown": self.teardown,
        }
        return [g for name, how in table.items() if (g := self._guarantee(name, how())) is not None]

    def _guarantee(self, name: str, how: _Kept | _Lost | None) -> Guarantee | None:
        if isinstance(how, _Kept):
            return Guarantee(name, how.mechanism, how.strength, how.promise)
        if how is None:
            return None
        if name not in self.policy.waive:
            raise _unsupported(self.host, name, how.needs, how.feature)
        return Guarantee(name, "", Strength.NONE, f"waived: needs {how.needs}")

    @property
    def _own(self) -> bool:
        return self.tier is not Tier.LANDLOCK

    def _walls(self) -> str:
        if not self._own:
            return f"Landlock ABI {self.host.landlock_abi}"
        behind = self.host.landlock_abi >= _LANDLOCK_USABLE
        return "mount namespace" + (f", Landlock ABI {self.host.landlock_abi}" if behind else "")

    def read(self) -> _Kept | _Lost:
        in_writable = [p for p in self.view.hidden if self._in_writable(p)]
        if in_writable and not self._own:
            return _Lost(f"a mount namespace to hide {in_writable[0]} in a writable directory", "userns")
        shown = f"only {len(self.view.trees)} trees of the host, and the sandbox's own files, can be read"
        return _Kept(self._walls(), shown)

    def write(self) -> _Kept | _Lost:
        writable = [tree.path for tree in self.view.trees if tree.writable]
        inner = [t.path for t in self.view.trees if not t.writable and self._in_writable(t.path)]
        if not self._own and self.host.landlock_abi < _LANDLOCK_TRUNCATES:
            return _Lost("a mount namespace, or Landlock ABI 3 of Linux 6.2 against truncate(2)", "userns")
        if inner and not self._own:
            return _Lost(f"a mount namespace to keep {inner[0]} read-only in a writable directory", "userns")
        where = ", ".join(writable) if writable else "nothing of the host"
        return _Kept(self._walls(), f"{where} can be written, and the sandbox's own files")

    def _in_writable(self, path: str) -> bool:
        return any(t.writable and t.path != path and is_below(path, t.path) for t in self.view.trees)

    def metadata(self) -> _Kept | _Lost:
        if self._own:
            return _Kept("read-only mounts", "modes, owners, times and attributes of read-only files stay")
        if "filesystem.metadata" in self.policy.waive:
            return _Lost("seccomp to deny chmod(2) and its kin, which was waived", "userns")
        return _Kept(
            "seccomp", "chmod(2), chown(2), utime(2), setxattr(2) and their kin are EPERM everywhere"
        )

    def network(self) -> _Kept | _Lost:
        if self.policy.network == "host":
            return _Kept("", "none: the policy asks for the host's network", Strength.NONE)
        if not self._own:
            return _Kept("seccomp", "no socket can be made")
        if not self.host.has("netns"):
            return _Lost("a network namespace", "netns")
        return _Kept("network namespace", "there is no interface but lo, and nobody else on it")

    def processes(self) -> _Kept | _Lost:
        if self._own:
            proc = "a /proc of its own" if self.host.has("proc") else "no /proc at all"
            return _Kept("PID namespace", f"no process outside can be named; there is {proc}")
        if self.host.landlock_abi < _LANDLOCK_SCOPES or "processes" in self.policy.waive:
            return _Lost("a PID namespace, or Landlock ABI 6 of Linux 6.12 and no /proc", "userns")
        return _Kept("Landlock scopes, seccomp", "no signal or trace leaves the sandbox; there is no /proc")

    def ipc(self) -> _Kept | _Lost:
        if not self._own:
            return _Kept("seccomp", "System V IPC, message queues, keys and sockets are EPERM")
        if self.policy.network == "host" and self.host.landlock_abi < _LANDLOCK_SCOPES:
            return _Lost(
                "Landlock ABI 6 of Linux 6.12 to keep abstract sockets of the host's network out", "landlock"
            )
        return _Kept("IPC namespace, seccomp", "shared memory, queues and semaphores are its own; no keys")

    def privileges(self) -> _Kept:
        held = "user namespace, " if self.tier is Tier.NAMESPACES else ""
        return _Kept(
            f"{held}no_new_privs, capability sets", "no capability is held, and execve(2) grants none"
        )

    def syscalls(self) -> _Kept:
        return _Kept(
            "seccomp", "what is not on the list is ENOSYS, what is denied EPERM, other ABIs are killed"
        )

    def terminal(self) -> _Kept:
        return _Kept("setsid(2), seccomp", "no controlling terminal; TIOCSTI and TIOCLINUX are EPERM")

    def descriptors(self) -> _Kept:
        return _Kept("close_range(2)", "a program starts with 0, 1 and 2, and nothing else")

    def environment(self) -> _Kept:
        return _Kept("execve(2)", "a program starts with the variables that the policy names")

    def memory(self) -> _Kept | None:
        if self.policy.memory is None:
            return None
        each = (
            f"no process holds more than {self.policy.memory} bytes of private memory; the sum is not bounded"
        )
        return _Kept("RLIMIT_DATA", each)

    def pids(self) -> _Kept | _Lost | None:
        if self.policy.processes is None:
            return None
        if self.tier is not Tier.NAMESPACES or self.host.uid == 0:
            return _Lost(
                "a user namespace whose maker is not root: RLIMIT_NPROC does not bind root", "userns"
            )
        return _Kept("RLIMIT_NPROC", f"at most {self.policy.processes} processes and threads, together")

    def disk(self) -> _Kept | _Lost | None:
        if self._own:
            return _Kept(
                "tmpfs size", "what the sandbox writes beside the host's files is bounded in bytes and inodes"
            )
        if self.policy.scratch is not None and self.policy.file_size is None:
            return _Lost("a tmpfs of the sandbox's own, or file_size", "userns")
        if self.policy.file_size is None:
            return None
        return _Kept("RLIMIT_FSIZE", f"no file grows beyond {self.policy.file_size} bytes")

    def time(self) -> _Kept | None:
        if self.policy.timeout is None:
            return None
        return _Kept(
            "SIGTERM and SIGKILL by jail-init",
            f"ended after {self.policy.timeout:g} seconds, and {self.policy.grace:g} of grace",
            Strength.SUPERVISED,
        )

    def teardown(self) -> _Kept | _Lost:
        if self._own:
            return _Kept("PID namespace", "every process ends with jail-init, and jail-init with the harness")
        if self.host.landlock_abi < _LANDLOCK_SCOPES:
            return _Lost("a PID namespace, or Landlock ABI 6 of Linux 6.12", "userns")
        how = "every process ends with jail-init, which nothing inside can signal"
        return _Kept("subreaper, Landlock scopes", how, Strength.SUPERVISED)
