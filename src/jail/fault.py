"""
From a fault's numbers to a sentence: what was being done, what the kernel said, what to do about it.

Pure: tables and one function. C reports integers only; the words are here.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from .errors import SetupError
from .ops import Op, OpKind, render_op
from .wire import Event, Phase, Step

__all__ = ["fault_error"]

# The calls of each room, in the order in which it makes them.
_CALLS: dict[int, str] = {
    OpKind.USERNS_MAP: "write(2) to uid_map",
    OpKind.MOUNT_PRIVATE: "mount(2)",
    OpKind.SCRATCH: "fsopen(2), fsmount(2), move_mount(2)",
    OpKind.DIRECTORY: "mkdirat(2)",
    OpKind.SYMLINK: "symlinkat(2)",
    OpKind.BIND: "openat2(2), open_tree(2), mount_setattr(2), move_mount(2)",
    OpKind.WRITABLE: "mkdirat(2), open_tree(2), move_mount(2)",
    OpKind.FILE: "openat(2), write(2), move_mount(2)",
    OpKind.HIDE: "openat2(2), open_tree(2), move_mount(2)",
    OpKind.PROC: "fsmount(2)",
    OpKind.DEVPTS: "fsmount(2)",
    OpKind.OVERLAY: "fsmount(2)",
    OpKind.PIVOT: "pivot_root(2)",
    OpKind.LOOPBACK: "ioctl(2) SIOCSIFFLAGS",
    OpKind.HOSTNAME: "sethostname(2)",
    OpKind.KEYRING: "keyctl(2)",
    OpKind.RLIMIT: "prlimit(2)",
    OpKind.LANDLOCK_RULESET: "landlock_create_ruleset(2)",
    OpKind.LANDLOCK_PATH: "landlock_add_rule(2)",
    OpKind.LANDLOCK_RESTRICT: "landlock_restrict_self(2)",
    OpKind.CAPABILITIES: "prctl(2), capset(2)",
    OpKind.NO_NEW_PRIVS: "prctl(2)",
    OpKind.UNDUMPABLE: "prctl(2)",
    OpKind.SUBREAPER: "kill(2), prctl(2)",
    OpKind.SECCOMP: "seccomp(2)",
    OpKind.PROCESSORS: "sched_setaffinity(2)",
    OpKind.WATCH: "openat(2)",
    OpKind.LIFETIME: "no call",
    OpKind.LOCAL_ROUTE: "sendto(2) RTM_NEWROUTE",
    OpKind.LISTEN: "socket(2), bind(2), listen(2), sendmsg(2)",
    OpKind.NOTIFY: "seccomp(2), sendmsg(2)",
    OpKind.COVERS: "openat(2), mmap(2)",
    OpKind.COVER: "openat(2), statx(2)",
    Step.CLONE: "clone(2)",
    Step.CAPABILITIES: "prctl(2) PR_CAP_AMBIENT",
    Step.DESCRIPTORS: "dup3(2), close_range(2)",
    Step.INIT: "execveat(2) of jail-init",
    Step.MESSAGE: "the request was malformed",
    Step.SESSION: "setsid(2)",
    Step.DIRECTORY: "chdir(2)",
    Step.SIGNALS: "rt_sigprocmask(2)",
    Step.EXEC: "execve(2)",
    Step.TERMINAL: "open(2) of /dev/ptmx, ioctl(2)",
}

_STEPS: dict[int, str] = {
    Step.CLONE: "start a process",
    Step.CAPABILITIES: "keep capabilities for the set-up",
    Step.DESCRIPTORS: "arrange descriptors",
    Step.INIT: "start jail-init",
    Step.MESSAGE: "read the request",
    Step.SESSION: "start a session",
    Step.DIRECTORY: "change to the working directory",
    Step.SIGNALS: "unblock signals",
    Step.EXEC: "execute",
    Step.TERMINAL: "make a terminal",
}

# Errnos that mislead, or that have one usual cause.
_HINTS: dict[tuple[int, int], str] = {
    (Step.CLONE, errno.ENOSPC): (
        "Not disk space: user.max_user_namespaces (or another of user.max_*_namespaces) is used up or 0"
    ),
    (Step.CLONE, errno.EPERM): "User namespaces are refused here; `jail doctor` says by whom",
    (Step.CLONE, errno.EAGAIN): "RLIMIT_NPROC or a pids cgroup is used up",
    (Step.INIT, errno.EACCES): (
        "jail-init must be readable and executable for this user, on a file system mounted without noexec"
    ),
    (OpKind.USERNS_MAP, errno.EPERM): (
        "The user namespace has no capabilities, as AppArmor does it on Ubuntu 24.04; see `jail doctor`"
    ),
    (OpKind.USERNS_MAP, errno.EACCES): "A security module forbids user namespaces; see `jail doctor`",
    (OpKind.PROC, errno.EPERM): (
        "The kernel mounts a new /proc only where the old one is not masked, which containers do"
    ),
    (OpKind.BIND, errno.ELOOP): "It has become a symbolic link since it was resolved",
    (OpKind.BIND, errno.ESTALE): "Another socket has taken its place since it was resolved",
    (OpKind.BIND, errno.ENOENT): "It has gone since it was resolved",
    (OpKind.BIND, errno.EXDEV): "Its place would have to be created in a directory of the host",
    (OpKind.HIDE, errno.ELOOP): "It has become a symbolic link since it was resolved",
    (OpKind.COVER, errno.ESTALE): "Somebody replaced it on the host while the sandbox was built",
    (OpKind.SECCOMP, errno.EINVAL): "The kernel does not take this filter, or was built without filters",
    (Step.EXEC, errno.ENOENT): "No such program inside: look at PATH, and at what the policy lets be read",
    (Step.EXEC, errno.EACCES): "It is there and may not be executed",
    (Step.EXEC, errno.ENOEXEC): "It is neither a program for this machine nor a script with a #! line",
    (Step.EXEC, errno.E2BIG): "Arguments and environment together exceed what the kernel takes",
    (Step.TERMINAL, errno.ENOENT): "There is no /dev/ptmx here, so no pseudoterminal can be made",
    (Step.DIRECTORY, errno.ENOENT): "No such directory inside: the policy has to let it be read",
}


def fault_error(event: Event, setup: Sequence[Op], each_exec: Sequence[Op], what: str = "") -> SetupError:
    """
    The exception for a FAULT event.

    Args:
        event: what `jail-init` reported.
        setup: the plan's setup ops, to find the op that failed.
        each_exec: the plan's ops for each program.
        what: what was being executed, for the sentence.
    """
    ops = each_exec if event.phase == Phase.EXEC else setup
    path = what or None
    if not 0 <= event.op < len(ops):  # NO_OP, or what no list has
        name = _STEPS.get(event.op_kind, f"step {event.op_kind}")
        doing = f"{name}: {what}" if what else name
    else:
        op = ops[event.op]
        doing = render_op(op)
        path = op.path or None
    return SetupError(
        doing,
        syscall=_CALLS.get(event.op_kind, "unknown call"),
        errno=event.err,
        path=path,
        hint=_HINTS.get((event.op_kind, event.err)),
    )
