"""
Who keeps each limit: the kernel, by a cgroup or by what each process carries, or `jail-init`, who looks.

Pure. The strongest that this host has is taken: a cgroup counts everything and forgets nothing; rlimits of a
user namespace count processes; a watcher sees most of it, and soon. What nobody can keep here is not in the
table, and `plan` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .guarantee import Strength
from .host import Host
from .ops import Op, OpKind, ProcPlace
from .policy import Policy
from .units import MAX_BYTES

__all__ = [
    "UNBOUNDED",
    "Bounds",
    "Keeper",
    "Keepers",
    "bounds_of",
    "choose_keepers",
    "limit_ops",
    "rlimit_ops",
    "watch_op",
]

# getrlimit(2); the numbers are the same on x86_64 and aarch64.
_RLIMIT_CPU, _RLIMIT_FSIZE, _RLIMIT_DATA, _RLIMIT_CORE, _RLIMIT_NPROC, _RLIMIT_NOFILE = 0, 1, 2, 4, 6, 7

# jail-init and one shepherd, which count as processes of the same user.
_OWN_PROCESSES = 2

# What one process may map of private memory beside twice what all may use, where a watcher keeps the sum: runtimes map
# far more than they use, and a JVM's first heap is a 64th of the machine.
_MAPPED_BYTES = 4 << 30
_MAPPED_PART = 32


class Keeper(StrEnum):
    """
    Who sees to it that a limit is kept.
    """

    CGROUP = "cgroup v2"
    RLIMIT = "RLIMIT_NPROC"
    AFFINITY = "sched_setaffinity(2), seccomp"
    WATCH = "jail-init, who looks at /proc"

    @property
    def strength(self) -> Strength:
        """
        Whether the kernel keeps it.
        """
        return Strength.SUPERVISED if self is Keeper.WATCH else Strength.KERNEL


@dataclass(frozen=True, slots=True)
class Keepers:
    """
    Who keeps what; None where nobody can.
    """

    memory: Keeper | None
    processes: Keeper | None
    cpus: Keeper | None
    io: Keeper | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What one program may have, with all that it starts. None: no limit.

    Args:
        memory: bytes.
        processes: processes and threads.
        cpus: processors, on average.
        cpu_seconds: processor time.
        output: bytes.
        wall: seconds that its sandbox lasts.
        disk: bytes of the sandbox's own files.
        inodes: their number.
    """

    memory: int | None = None
    processes: int | None = None
    cpus: float | None = None
    cpu_seconds: float | None = None
    output: int | None = None
    wall: float | None = None
    disk: int | None = None
    inodes: int | None = None


UNBOUNDED = Bounds()


def bounds_of(policy: Policy, disk: tuple[int, int] | None = None) -> Bounds:
    """
    What a policy allows one program. `disk` is bytes and inodes of the sandbox's tmpfs, where it has one.
    """
    size, inodes = disk or (None, None)
    return Bounds(
        policy.memory,
        policy.processes,
        policy.cpus,
        policy.cpu_seconds,
        policy.output,
        policy.wall,
        size,
        inodes,
    )


def choose_keepers(policy: Policy, host: Host, *, userns: bool) -> Keepers:
    """
    The strongest keeper of each limit that this host has.

    Args:
        policy: whether a watcher will do (`strict`), and how many processors.
        host: what this kernel can do.
        userns: the sandbox has a user namespace of its own.
    """
    watch = None if policy.strict else Keeper.WATCH
    controllers = host.cgroup.controllers if host.has("cgroup") else ()
    # In a user namespace RLIMIT_NPROC counts for that, Linux 5.14; root outside of it is not bound. setrlimit(2)
    processes = Keeper.RLIMIT if userns and host.uid != 0 else watch
    whole = policy.cpus is not None and policy.cpus == int(policy.cpus)
    return Keepers(
        memory=Keeper.CGROUP if "memory" in controllers else watch,
        processes=Keeper.CGROUP if "pids" in controllers else processes,
        cpus=Keeper.CGROUP if "cpu" in controllers else Keeper.AFFINITY if whole else None,
        io=Keeper.CGROUP if "io" in controllers else None,
    )


def watch_op(policy: Policy, host: Host, keepers: Keepers, *, tree: bool) -> Op:
    """
    Have `jail-init` look, for what it is to keep and for what a run is told of its cost.

    Args:
        policy: the limits.
        host: whether the sandbox has a /proc of its own.
        keepers: who keeps them.
        tree: the sandbox has a tree of its own, in which that is.
    """
    memory = policy.memory if keepers.memory is Keeper.WATCH else None
    tasks = policy.processes if keepers.processes is Keeper.WATCH else None
    notice = policy.processes if keepers.processes is Keeper.RLIMIT else None
    place = ProcPlace.INSIDE if tree and host.has("proc") else ProcPlace.OUTSIDE
    return Op(OpKind.WATCH, "/proc", args=(memory or 0, tasks or 0, notice or 0, int(place)))


def limit_ops(policy: Policy, keepers: Keepers) -> Iterator[Op]:
    """
    What `jail-init` carries out once, for itself and for all that it starts.
    """
    if policy.cpus is not None and keepers.cpus is Keeper.AFFINITY:
        yield Op(OpKind.PROCESSORS, args=(int(policy.cpus),))
    if policy.wall is not None or policy.idle is not None:
        times = (
            0 if seconds is None else max(1, round(seconds * 1e9)) for seconds in (policy.wall, policy.idle)
        )
        yield Op(OpKind.LIFETIME, args=tuple(times))


def rlimit_ops(policy: Policy, host: Host, keepers: Keepers) -> Iterator[Op]:
    """
    What each program carries. Hard equals soft: nothing inside can raise it.
    """
    watched = policy.memory is not None and keepers.memory is Keeper.WATCH
    counted = policy.processes is not None and keepers.processes is Keeper.RLIMIT
    limits: list[tuple[int, int | None]] = [
        # Not 0: a core_pattern that is a pipe gets its dump all the same, but for this value. core(5)
        (_RLIMIT_CORE, policy.core or 1),
        (_RLIMIT_FSIZE, policy.file_size),
        (_RLIMIT_DATA, _data_limit(policy.memory or 0, host) if watched else None),
        (_RLIMIT_NOFILE, policy.open_files),
        (_RLIMIT_NPROC, (policy.processes or 0) + _OWN_PROCESSES if counted else None),
        # Whole seconds, of one process: behind the watcher, who counts them all. setrlimit(2)
        (_RLIMIT_CPU, int(policy.cpu_seconds) + 2 if policy.cpu_seconds is not None else None),
    ]
    for resource, wanted in limits:
        if wanted is not None:
            limit = min(wanted, host.hard_limits.get(resource, wanted))
            yield Op(OpKind.RLIMIT, args=(resource, limit, limit))


def _data_limit(memory: int, host: Host) -> int:
    """
    Behind the watcher: what one process can map at all, however fast it is.
    """
    return min(2 * memory + max(_MAPPED_BYTES, host.memory_bytes // _MAPPED_PART), MAX_BYTES)
