"""
What the running kernel, in this container, for this user, can do.

Pure data, made by `probe` and by tests: a fake host is a `Host` with other facts in it. What exists in the
file system is no fact of the host but of the moment, and is not in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FEATURES", "CgroupFacts", "Host"]

FEATURES: dict[str, str] = {
    "userns": "user, mount, PID, UTS, IPC and cgroup namespaces without privilege, as far as a mount in them",
    "privileged": "the same namespaces by the caller's own CAP_SYS_ADMIN",
    "proc": "a fresh /proc in a new PID namespace",
    "netns": "a network namespace with lo up",
    "devpts": "a devpts instance of one's own",
    "overlay": "overlayfs in a user namespace",
    "keyring": "a session keyring of one's own",
    "landlock": "Landlock, any ABI",
    "seccomp": "seccomp filters",
    "seccomp_notify": "seccomp user notification",
    "broker": "system calls of a child that wait for the harness, which can see the child's memory",
    "clone3": "clone3(2)",
    "pidfd": "pidfd_open(2)",
    "cgroup": "a cgroup v2 directory in which the caller may make others",
    "libseccomp": "libseccomp and pyseccomp, to compile filters of one's own",
}


@dataclass(frozen=True, slots=True)
class CgroupFacts:
    """
    The cgroup v2 directory in which sandboxes have cgroups of their own.

    Args:
        path: it, or None where there is none that may be used.
        controllers: those that a cgroup made in there has.
        version: of the hierarchy that is mounted: "v2"; "hybrid", where v2 is there and v1 has the controllers;
            "v1"; or "none".
    """

    path: str | None = None
    controllers: tuple[str, ...] = ()
    version: str = "v2"


@dataclass(frozen=True, slots=True)
class Host:
    """
    Facts about one host, for one user.

    Args:
        arch: "x86_64" or "aarch64".
        kernel: the release, as uname(2) gives it.
        uid, gid: the caller's effective ids.
        user: the caller's account name, or None where passwd(5) has none.
        home: the caller's home directory, absolute.
        account_home: the one that passwd(5) has for it, or None.
        features: which of `FEATURES` are there.
        landlock_abi: 0 where there is no Landlock.
        missing: for a feature that is absent, what the kernel said.
        cures: for a feature that is absent, what would bring it.
        container: "docker", "kubernetes", "podman", ... or None.
        cgroup: where cgroups can be made.
        interpreter: canonical directories of the running Python, and of its environment.
        bin_directory: where the running Python's own programs are.
        memory_bytes: of the machine.
        proc_files: files of /proc that tell about the host and exist here.
        hard_limits: of the caller, by setrlimit(2) number; absent means none.
    """

    arch: str = "x86_64"
    kernel: str = "6.12"
    uid: int = 1000
    gid: int = 1000
    user: str | None = "user"
    home: str = "/home/user"
    account_home: str | None = "/home/user"
    features: frozenset[str] = frozenset(FEATURES)
    landlock_abi: int = 7
    missing: Mapping[str, str] = field(default_factory=dict)
    cures: Mapping[str, str] = field(default_factory=dict)
    container: str | None = None
    cgroup: CgroupFacts = CgroupFacts("/sys/fs/cgroup/user", ("cpu", "io", "memory", "pids"))
    interpreter: tuple[str, ...] = ()
    bin_directory: str = "/usr/bin"
    memory_bytes: int = 1 << 33
    proc_files: tuple[str, ...] = ("/proc/kcore", "/proc/keys", "/proc/timer_list")
    hard_limits: Mapping[int, int] = field(default_factory=dict)

    def has(self, *features: str) -> bool:
        """
        Whether every one of these features is there.
        """
        return self.features.issuperset(features)

    def found(self, feature: str) -> str:
        """
        What was found instead of a feature that is absent, in the kernel's words.
        """
        if feature == "landlock" and self.landlock_abi:  # one that is there and too old
            return f"Landlock ABI {self.landlock_abi}"
        return self.missing.get(feature, f"no {FEATURES[feature]}")
