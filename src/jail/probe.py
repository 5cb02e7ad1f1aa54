"""
Asks this kernel what it can do, by doing it in a throw-away child.

The trials are plans, carried out by the same `jail-init` as every sandbox: a feature that a trial has shown
is a feature that a sandbox will have. Nothing is changed outside of the child. One trial of everything
together is the usual case; only when it fails is each feature tried by itself.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import importlib.util
import os
import platform
import pwd
import re
import resource
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from . import _core
from .delegation import find_place, hierarchy
from .errors import SetupError
from .host import Host
from .notification import read_memory, socket_inode
from .notify import LANDLOCK_CONNECTS, notify_op
from .ops import AMBIENT, NAMESPACES, Clone, MountAttribute, Op, OpKind
from .seccomp import ARCHES
from .spawn import receive_event_fds, spawn_init

__all__ = ["probe", "probe_with"]

_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_USER_NOTIF = 0x7FC00000

_SINCE = (5, 12)  # mount_setattr(2)

_CONTROL_FD = 3  # JAIL_CONTROL_FD of csrc/boundary.h
_RLIMITS = 16  # RLIM_NLIMITS of asm-generic/resource.h

_BASE = (
    Op(OpKind.MOUNT_PRIVATE),
    Op(OpKind.SCRATCH, args=(1 << 20, 1 << 10)),
)
_TRIALS: dict[str, Op] = {
    "proc": Op(OpKind.PROC, "/proc", args=(int(MountAttribute.RDONLY),)),
    "devpts": Op(OpKind.DEVPTS, "/pts"),
    "overlay": Op(OpKind.OVERLAY, "/overlay", b"/usr/bin:/usr/lib"),
    "netns": Op(OpKind.LOOPBACK),
    "keyring": Op(OpKind.KEYRING),
}


@functools.cache
def probe() -> Host:
    """
    The facts about this host, for the user who asks. Asked of the kernel once per process.

    Costs about 2 ms where everything is allowed, some 10 ms where much is refused.
    """
    found, missing = _namespace_features()
    for feature, error in _kernel_features():
        if error:
            missing[feature] = os.strerror(error)
        else:
            found.add(feature)
    if "userns" in found or "privileged" in found:
        missing["broker"] = "not tried: namespaces serve"
    elif why := _no_broker():
        missing["broker"] = why
    else:
        found.add("broker")
    cgroup, why = find_place(os.environ.get("JAIL_CGROUP") or "auto")
    if cgroup.path is not None and "clone3" in found:
        found.add("cgroup")
    else:
        missing["cgroup"] = why or "no clone3(2), to start programs in one"
    if "userns" not in found:
        missing["userns"] += _refused_by()
    account = _account()
    return Host(
        arch=platform.machine(),
        kernel=platform.release(),
        uid=os.geteuid(),
        gid=os.getegid(),
        user=account.pw_name if account else None,
        home=_home(account),
        account_home=os.path.realpath(account.pw_dir) if account else None,
        features=frozenset(found),
        landlock_abi=max(_core.lib.jail_landlock_abi(), 0),
        missing=missing,
        cures=_cures(missing, tried="userns" in found or "privileged" in found),
        container=_container(),
        cgroup=cgroup,
        interpreter=_interpreter(),
        bin_directory=str(Path(sys.executable).parent),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        proc_files=tuple(_telling_files()),
        hard_limits=_hard_limits(),
    )


@functools.lru_cache(maxsize=8)
def probe_with(cgroup: str) -> Host:
    """
    The same with another wish for the place of cgroups; see `Policy.cgroup`.

    Raises:
        UnsupportedError: what is asked for by name cannot be had.
    """
    host = probe()
    if cgroup == "auto":
        return host
    place, why = find_place(cgroup)
    if place.path is not None and host.has("clone3"):
        return dataclasses.replace(host, cgroup=place, features=host.features | {"cgroup"})
    missing = {**host.missing, "cgroup": why or "no clone3(2), to start programs in one"}
    return dataclasses.replace(host, cgroup=place, features=host.features - {"cgroup"}, missing=missing)


def _try(setup: tuple[Op, ...], *, privileged: bool = False) -> SetupError | None:
    flags = NAMESPACES & ~(Clone.USER if privileged else 0)
    who = () if privileged else (_map(),)
    try:
        init = spawn_init(flags, 0 if privileged else AMBIENT, (*who, *setup), ())
    except SetupError as exc:
        return exc
    try:
        init.await_ready()
    except SetupError as exc:
        return exc
    finally:
        init.close()
    return None


def _no_broker() -> str:
    """
    Why a child's calls cannot wait for us, or be seen; empty when they can.

    What is tried on `jail-init` holds for programs, which are its children, ours by Yama's rule, and have our uid.
    """
    if _core.lib.jail_landlock_abi() < LANDLOCK_CONNECTS or platform.machine() not in ARCHES:
        return "not tried: Landlock ABI 4 does not serve here"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        try:
            setup = (Op(OpKind.NO_NEW_PRIVS), notify_op(platform.machine()))
            init = spawn_init(0, 0, setup, (), sockets_fd=theirs.fileno())
        except SetupError as exc:
            return str(exc)
        try:
            init.await_ready()
            for fd in receive_event_fds(ours, 1)[1]:
                os.close(fd)
            socket_inode(init.pid, _CONTROL_FD)
            read_memory(init.pid, _first_address(init.pid), 4)
        except OSError as exc:  # SetupError is one
            return str(exc)
        finally:
            init.close()
    return ""


def _first_address(pid: int) -> int:
    """
    Where a process has the first of its memory. proc_pid_maps(5)
    """
    return int(Path(f"/proc/{pid}/maps").read_text().partition("-")[0], 16)


def _map() -> Op:
    return Op(OpKind.USERNS_MAP, args=(os.geteuid(), os.geteuid(), os.getegid(), os.getegid()))


def _namespace_features() -> tuple[set[str], dict[str, str]]:
    whole = (*_BASE, *_TRIALS.values(), Op(OpKind.PIVOT))
    if _try(whole) is None:
        return {"userns", *_TRIALS}, {"privileged": "not tried: user namespaces serve"}
    found: set[str] = set()
    missing: dict[str, str] = {}
    refused = _try((*_BASE, Op(OpKind.PIVOT)))
    privileged = refused is not None and _try((*_BASE, Op(OpKind.PIVOT)), privileged=True) is None
    if refused is None:
        found.add("userns")
    else:
        missing["userns"] = str(refused)
    if privileged:
        found.add("privileged")
    for feature, op in _TRIALS.items():
        error = _try((*_BASE, op, Op(OpKind.PIVOT)), privileged=privileged)
        if error is None:
            found.add(feature)
        else:
            missing[feature] = str(error)
    return found, missing


def _kernel_features() -> Iterator[tuple[str, int]]:
    """
    Each feature of the kernel proper with 0, or the errno that says it is absent.
    """
    lib = _core.lib
    yield "landlock", max(-lib.jail_landlock_abi(), 0)
    yield "seccomp", -lib.jail_seccomp_action(_SECCOMP_RET_ERRNO)
    yield "seccomp_notify", -lib.jail_seccomp_action(_SECCOMP_RET_USER_NOTIF)
    yield "clone3", -lib.jail_clone3()
    yield "pidfd", 0
    yield "libseccomp", 0 if _libseccomp() else errno.ENOENT


def _libseccomp() -> bool:
    import ctypes.util  # noqa: PLC0415 - it imports subprocess, 7 ms that a process without a probe can save

    return bool(importlib.util.find_spec("pyseccomp") and ctypes.util.find_library("seccomp"))


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None


def _home(account: pwd.struct_passwd | None) -> str:
    home = os.environ.get("HOME") or (account.pw_dir if account else "")
    return os.path.realpath(home) if home.startswith("/") else "/"


def _interpreter() -> tuple[str, ...]:
    """
    Where this Python lives: its environment's prefix, the one it was made from, and the program itself.
    """
    places = (
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        sys.base_exec_prefix,
        str(Path(os.path.realpath(sys.executable)).parent),
    )
    return tuple(dict.fromkeys(p for p in places if p and Path(p).is_dir()))


def _telling_files() -> Iterator[str]:
    """
    Files of /proc that tell about the host: its keys, and what is not for everybody to read. The latter a
    program of root's could read, who owns them outside.
    """
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                for_everybody = entry.stat().st_mode & stat.S_IROTH
                if entry.name == "keys" or (os.geteuid() == 0 and not for_everybody):
                    yield entry.path


def _hard_limits() -> dict[int, int]:
    limits = {number: resource.getrlimit(number)[1] for number in range(_RLIMITS)}
    return {number: hard for number, hard in limits.items() if hard != resource.RLIM_INFINITY}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _refused_by() -> str:
    """
    Which of the known switches is off, for the sentence that says why.
    """
    switches = {
        "/proc/sys/user/max_user_namespaces": "0",
        "/proc/sys/kernel/unprivileged_userns_clone": "0",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
    }
    off = [f"{path} is {value}" for path, value in switches.items() if _read(path) == value]
    if profile := _apparmor_profile():
        off.append(f"AppArmor enforces the profile {profile}")
    return f" ({'; '.join(off)})" if off else ""


def _cures(missing: dict[str, str], *, tried: bool) -> dict[str, str]:
    """
    What would bring what is missing. What could not be tried for want of namespaces waits for their cure.
    """
    cures: dict[str, str] = {}
    if "userns" in missing:
        cures["userns"] = _userns_cure()
    if "proc" in missing and tried:
        cures["proc"] = (
            "In Docker: --security-opt systempaths=unconfined. In Kubernetes: procMount: Unmasked."
        )
    if "landlock" in missing:
        cures["landlock"] = (
            "Boot with lsm=landlock,... on Linux 5.13 or later built with CONFIG_SECURITY_LANDLOCK."
        )
    if "cgroup" in missing:
        cures["cgroup"] = _cgroup_cure()
    if "libseccomp" in missing:
        cures["libseccomp"] = "apt-get install libseccomp2 && pip install pyseccomp"
    return cures


def _cgroup_cure() -> str:
    version, _ = hierarchy()
    if version in {"v1", "hybrid"}:
        return "Boot with systemd.unified_cgroup_hierarchy=1: here the controllers are cgroup v1's."
    container = _container()
    if container == "kubernetes":
        return 'containerd 2.1 with cgroup_writable = true for the runtime class; then cgroup = "own".'
    if container == "docker":
        return 'Docker 28: --security-opt writable-cgroups=true --cgroupns=private; then cgroup = "own".'
    if container:
        return 'A container whose /sys/fs/cgroup is mounted read-write; then cgroup = "own".'
    if os.geteuid() == 0:
        return (
            "systemd-run --scope -p Delegate=yes COMMAND; or name a directory: JAIL_CGROUP=/sys/fs/cgroup/..."
        )
    return 'systemd-run --user --scope -p Delegate=yes COMMAND; then cgroup = "own" or JAIL_CGROUP=own.'


def _userns_cure() -> str:
    if _kernel_version() < _SINCE:
        return "Linux 5.12 or later."
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        return "sysctl -w user.max_user_namespaces=15000"
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sysctl -w kernel.unprivileged_userns_clone=1"
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,`"
        )
    if _container() is None and (profile := _apparmor_profile()):
        return (
            f"Allow `userns,` and `capability,` in the AppArmor profile {profile}, or start this process "
            "without it: aa-exec -p unconfined -- COMMAND"
        )
    return "In Docker: --security-opt seccomp=unconfined. In Kubernetes: seccompProfile of type Unconfined."


def _kernel_version() -> tuple[int, ...]:
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    return tuple(map(int, numbers.groups())) if numbers else _SINCE


def _apparmor_profile() -> str | None:
    """
    The AppArmor profile that is enforced on this process. apparmor(7)
    """
    label, _, mode = _read("/proc/self/attr/apparmor/current").rpartition(" ")
    return label if mode == "(enforce)" else None


def _container() -> str | None:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return os.environ.get("container") or None  # systemd's CONTAINER_INTERFACE.md: lower case
