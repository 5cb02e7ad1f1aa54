"""
What must be had in each case, as data: features of the host, the tier, and who keeps each guarantee.

To add a guarantee: ask for it in `ASKED`, and say in the rows below who keeps it, or what it is refused for. One
that is not mentioned fails every case.
"""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ASKED", "EXPECTED", "Expected", "Kept", "Refused"]

# A policy with which nothing is left out: each limit is asked for.
ASKED = {
    "memory": "256M",
    "cpus": 1,
    "processes": 64,
    "disk": "64M",
    "io": "10M",
    "output": "1M",
    "timeout": 60,
}


class Kept(NamedTuple):
    """
    Who keeps a guarantee. In a mechanism {abi} stands for the kernel's Landlock ABI.
    """

    mechanism: str
    strength: str = "kernel"


class Refused(NamedTuple):
    """
    An UnsupportedError that names the guarantee, and what it says is needed.
    """

    needs: str


@dataclass(frozen=True)
class Expected:
    """
    All that must be had in one case.
    """

    tier: str
    features: frozenset[str]
    guarantees: dict[str, Kept | Refused]


_WATCHED = Kept("jail-init, who looks at /proc", "supervised")

_EVERYWHERE = {
    "syscalls": Kept("seccomp"),
    "terminal": Kept("setsid(2), seccomp"),
    "descriptors": Kept("close_range(2)"),
    "environment": Kept("execve(2)"),
    "memory": _WATCHED,
    "cpu": Kept("sched_setaffinity(2), seccomp"),
    "pids": _WATCHED,
    "io": Refused("a cgroup with the io controller"),
    "output": Kept("SIGKILL by the harness", "supervised"),
    "time": Kept("signals by jail-init", "supervised"),
}
_LANDLOCK = _EVERYWHERE | {
    "filesystem.read": Kept("Landlock ABI {abi}"),
    "filesystem.write": Kept("Landlock ABI {abi}"),
    "filesystem.metadata": Kept("seccomp"),
    "network": Kept("seccomp"),
    "processes": Kept("Landlock scopes, seccomp"),
    "ipc": Kept("seccomp"),
    "privileges": Kept("no_new_privs, capability sets"),
    "disk": Refused("a tmpfs of the sandbox's own"),
    "teardown": Kept("subreaper, Landlock scopes", "supervised"),
}
_NAMESPACES = _EVERYWHERE | {
    "filesystem.read": Kept("mount namespace, Landlock ABI {abi}"),
    "filesystem.write": Kept("mount namespace, Landlock ABI {abi}"),
    "filesystem.metadata": Kept("read-only mounts"),
    "network": Kept("network namespace"),
    "processes": Kept("PID namespace"),
    "ipc": Kept("IPC namespace, seccomp"),
    "privileges": Kept("user namespace, no_new_privs, capability sets"),
    "disk": Kept("tmpfs size"),
    "teardown": Kept("PID namespace"),
}
_BY_CGROUP = dict.fromkeys(("memory", "cpu", "pids", "io"), Kept("cgroup v2"))
_NOT_ROOT = {"pids": Kept("RLIMIT_NPROC")}

_KERNEL = frozenset(("landlock", "seccomp", "seccomp_notify", "pidfd", "libseccomp"))
_OWN = _KERNEL | {"userns", "netns", "devpts", "overlay", "keyring", "clone3"}

_CONTAINED = Expected("Landlock", _KERNEL | {"broker"}, _LANDLOCK)

EXPECTED = {
    "default-root": _CONTAINED,
    "newer-root": _CONTAINED,
    "user": _CONTAINED,
    "restricted": _CONTAINED,
    # mount(2) is allowed and pivot_root(2) is not, so there is no tree of one's own for all that.
    "sysadmin": Expected("Landlock", _KERNEL | {"broker", "clone3"}, _LANDLOCK),
    "unconfined-root": Expected("namespaces", _OWN, _NAMESPACES),
    "unconfined-user": Expected("namespaces", _OWN, _NAMESPACES | _NOT_ROOT),
    "unmasked-root": Expected("namespaces", _OWN | {"proc"}, _NAMESPACES),
    "unmasked-user": Expected("namespaces", _OWN | {"proc"}, _NAMESPACES | _NOT_ROOT),
    "delegated-root": Expected("namespaces", _OWN | {"proc", "cgroup"}, _NAMESPACES | _BY_CGROUP),
}
