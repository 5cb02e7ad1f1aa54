"""
The operations of a plan: what `jail-init` can be told to do.

Pure data. Each kind has the number of its row in ``csrc/boundary.h`` and ``csrc/run.c``; a test holds the
two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

__all__ = [
    "AMBIENT",
    "AMBIENT_TO_LISTEN",
    "NAMESPACES",
    "Clone",
    "MountAttribute",
    "Op",
    "OpKind",
    "ProcPlace",
    "render_op",
]


class OpKind(IntEnum):
    """
    One room's one task each; the comment in ``csrc/boundary.h`` says what each takes.
    """

    USERNS_MAP = 1
    MOUNT_PRIVATE = 2
    SCRATCH = 3
    DIRECTORY = 4
    SYMLINK = 5
    BIND = 6
    WRITABLE = 7
    FILE = 8
    HIDE = 9
    PROC = 10
    DEVPTS = 11
    OVERLAY = 12
    PIVOT = 13
    LOOPBACK = 14
    HOSTNAME = 15
    KEYRING = 16
    RLIMIT = 17
    LANDLOCK_RULESET = 18
    LANDLOCK_PATH = 19
    LANDLOCK_RESTRICT = 20
    CAPABILITIES = 21
    NO_NEW_PRIVS = 22
    UNDUMPABLE = 23
    SUBREAPER = 24
    SECCOMP = 25
    PROCESSORS = 26
    WATCH = 27
    LIFETIME = 28
    LOCAL_ROUTE = 29
    LISTEN = 30
    NOTIFY = 31
    COVERS = 32
    COVER = 33


class ProcPlace(IntEnum):
    """
    ``enum jail_proc_place``: which /proc is looked at.
    """

    OUTSIDE = 0
    INSIDE = 1


class Clone(IntFlag):
    """
    ``CLONE_NEW*`` of clone(2), by the names of ``/proc/PID/ns``.
    """

    MNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


NAMESPACES = Clone.USER | Clone.MNT | Clone.PID | Clone.NET | Clone.UTS | Clone.IPC | Clone.CGROUP

# capabilities(7): CAP_SETPCAP to empty the bounding set, CAP_NET_ADMIN for lo, CAP_SYS_ADMIN for mounts and names.
AMBIENT = 1 << 8 | 1 << 12 | 1 << 21
AMBIENT_TO_LISTEN = AMBIENT | 1 << 10  # CAP_NET_BIND_SERVICE: ports below 1024


class MountAttribute(IntFlag):
    """
    ``MOUNT_ATTR_*`` of mount_setattr(2), by their last word.
    """

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8


@dataclass(frozen=True, slots=True)
class Op:
    """
    One operation, carried out by `jail-init` on itself or on a program about to start.

    Args:
        kind: which.
        path: a path inside the sandbox, or empty.
        data: bytes the kind asks for: a path outside, a link's text, a name, a filter.
        args: up to four unsigned 64-bit numbers.
        optional: ENOENT is no failure.
    """

    kind: OpKind
    path: str = ""
    data: bytes = b""
    args: tuple[int, ...] = ()
    optional: bool = False


_MEANING: dict[OpKind, str] = {
    OpKind.USERNS_MAP: "user namespace: be uid {a[0]} here, {a[1]} outside; gid {a[2]} here, {a[3]} outside",
    OpKind.MOUNT_PRIVATE: "mount namespace: no mount reaches the host, nor the reverse",
    OpKind.SCRATCH: "tmpfs of {a[0]} bytes and {a[1]} inodes for all that is not the host's",
    OpKind.DIRECTORY: "directory {path}",
    OpKind.SYMLINK: "link {path} -> {data}",
    OpKind.BIND: "bind {path}{attributes}",
    OpKind.WRITABLE: "fresh directory {path}, on the tmpfs",
    OpKind.FILE: "file {path}, {size} bytes of our own",
    OpKind.HIDE: "hide {path}",
    OpKind.PROC: "proc on {path}, read-only",
    OpKind.DEVPTS: "devpts on {path}, an instance of its own",
    OpKind.OVERLAY: "overlay on {path}, lower {data}",
    OpKind.PIVOT: "this tree becomes /, the old one is detached",
    OpKind.LOOPBACK: "network namespace: lo up, nothing else",
    OpKind.HOSTNAME: "hostname {data}",
    OpKind.KEYRING: "a session keyring of its own",
    OpKind.RLIMIT: "rlimit {limit}: soft {a[1]}, hard {a[2]}",
    OpKind.LANDLOCK_RULESET: "Landlock ruleset: files {a[0]:#x}, network {a[1]:#x}, scopes {a[2]:#x}",
    OpKind.LANDLOCK_PATH: "Landlock: {path} may {a[0]:#x} (a file: {a[1]:#x})",
    OpKind.LANDLOCK_RESTRICT: "Landlock: enter the ruleset",
    OpKind.CAPABILITIES: "no capabilities, in no set, for good",
    OpKind.NO_NEW_PRIVS: "no_new_privs",
    OpKind.UNDUMPABLE: "jail-init is not dumpable",
    OpKind.SUBREAPER: "orphans come to jail-init",
    OpKind.SECCOMP: "seccomp filter of {size} bytes",
    OpKind.PROCESSORS: "run on {a[0]} processors, from the one that jail-init is on",
    OpKind.WATCH: "watch by {path}: memory {a[0]}, processes {a[1]}, noticed at {a[2]} (0: only looked at)",
    OpKind.LIFETIME: "end after {a[0]} ns, and after {a[1]} ns with nothing running (0: never)",
    OpKind.LOCAL_ROUTE: "network namespace: every {family} address is the sandbox's own",
    OpKind.COVERS: "be told by {path} when one of {a[0]} mounts is taken away",
    OpKind.COVER: "end the sandbox should the host take away what lies on {path}",
    OpKind.LISTEN: "listen for {family} {type} on port {a[2]}, and hand the socket to the harness",
    OpKind.NOTIFY: "seccomp filter of {size} bytes, whose listener goes to the harness",
}

# socket(2); the numbers are the same on x86_64 and aarch64.
AF_INET, AF_INET6 = 2, 10
SOCK_STREAM, SOCK_DGRAM = 1, 2
_FAMILIES = {AF_INET: "IPv4", AF_INET6: "IPv6"}
_TYPES = {SOCK_STREAM: "TCP", SOCK_DGRAM: "UDP"}

# setrlimit(2); the numbers are the same on x86_64 and aarch64.
_RLIMITS = {0: "CPU", 1: "FSIZE", 2: "DATA", 4: "CORE", 6: "NPROC", 7: "NOFILE", 9: "AS"}


def render_op(op: Op) -> str:
    """
    One line for ``jail explain`` and for error messages.

    >>> render_op(Op(OpKind.BIND, "/usr", b"/usr", (int(MountAttribute.RDONLY),)))
    'bind /usr, rdonly'
    """
    args = (*op.args, 0, 0, 0, 0)
    flags = [str(flag.name).lower() for flag in MountAttribute if op.kind is OpKind.BIND and flag & args[0]]
    return _MEANING[op.kind].format(
        a=args,
        path=op.path,
        data=op.data.decode(errors="replace"),
        size=len(op.data),
        attributes="".join(f", {flag}" for flag in flags),
        limit=_RLIMITS.get(args[0], str(args[0])),
        family=_FAMILIES.get(args[0], ""),
        type=_TYPES.get(args[1], ""),
    )
