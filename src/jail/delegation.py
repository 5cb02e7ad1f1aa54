"""
Where cgroups may be made: which directory of cgroup v2 is the caller's to divide, and how it is made so.

Nobody is moved unless that was asked for: a cgroup that has controllers for others has no processes of its own
(cgroup-v2.rst, "No Internal Process Constraint"), so a harness that stands in its own cgroup would have to leave
it for a leaf.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .errors import JailError, UnsupportedError
from .host import CgroupFacts
from .liveness import started

__all__ = ["find_place", "hierarchy", "remove_tree", "sweep"]

WANTED = ("cpu", "io", "memory", "pids")
_LEAF = "harness"
_UNITS = (".scope", ".service", ".slice")
_NAME = re.compile(r"jail-(?P<pid>[0-9]{1,10})-(?P<started>[0-9]{1,20})-[0-9]+")  # as cgroup.name_of has it
_SYSTEMD_DELEGATES = ("user.delegate", "trusted.delegate")


def hierarchy() -> tuple[str, str | None]:
    """
    Which cgroups this host has, and where cgroup v2 is mounted.

    Returns:
        "v2", "hybrid" (v2 is mounted, and controllers are v1's), "v1" or "none"; and the mount point or None.
    """
    mounts = [line.split() for line in _text("/proc/self/mountinfo").splitlines()]
    kinds = {fields[fields.index("-") + 1]: fields[4] for fields in reversed(mounts)}
    if "cgroup2" in kinds:
        return "hybrid" if "cgroup" in kinds else "v2", kinds["cgroup2"]
    return "v1" if "cgroup" in kinds else "none", None


def find_place(wish: str) -> tuple[CgroupFacts, str]:
    """
    The directory to make cgroups in.

    Args:
        wish: as `Policy.cgroup` has it. "own" and "systemd" move this process, if that is what it takes.

    Returns:
        It, with the path None where there is none; and then why.

    Raises:
        UnsupportedError: what was asked for by name cannot be had.
    """
    version, mount = hierarchy()
    nowhere = CgroupFacts(version=version)
    if wish == "none":
        return nowhere, "none was wanted"
    if mount is None:
        return _refuse(wish, nowhere, "no cgroup v2 is mounted")
    if not set(_text(f"{mount}/cgroup.controllers").split()) & set(WANTED):
        return _refuse(wish, nowhere, "cgroup v2 has no controllers here: cgroup v1 has them")
    own = _own(mount)
    if wish == "systemd":
        from .systemd import enter_scope  # noqa: PLC0415 - a D-Bus client, for those who ask

        enter_scope()
        own = _own(mount)
        wish = "own"
    if own is None:
        return _refuse(wish, nowhere, "the caller's own cgroup cannot be seen here")
    place = wish if wish.startswith("/") else _delegated(own, mount)
    if place is None and wish == "own":
        place = _leave(own)
    if place is None:
        return _refuse(wish, nowhere, f"{own} has processes, and nothing above it is the caller's to divide")
    return _usable(wish, place, own, version)


def _refuse(wish: str, nowhere: CgroupFacts, why: str) -> tuple[CgroupFacts, str]:
    if wish == "auto":
        return nowhere, why
    raise UnsupportedError("cgroup", needs="a cgroup v2 directory that the caller may divide", found=why)


def _usable(wish: str, place: str, own: str, version: str) -> tuple[CgroupFacts, str]:
    """
    The place, with its controllers switched on; and swept.
    """
    nowhere = CgroupFacts(version=version)
    meeting = os.path.commonpath([place, own])
    for path in (f"{place}/cgroup.subtree_control", f"{place}/cgroup.procs", f"{meeting}/cgroup.procs"):
        if not os.access(
            path, os.W_OK
        ):  # entering takes the last one too: cgroup-v2.rst, "Delegation Containment"
            return _refuse(wish, nowhere, f"{path} cannot be written")
    controllers = tuple(name for name in WANTED if _enable(place, name))
    if not controllers:
        return _refuse(wish, nowhere, f"{place} has no controller to give on")
    sweep(place)
    return CgroupFacts(place, controllers, version), ""


def _own(mount: str) -> str | None:
    """
    The directory of this process's cgroup. Source: cgroups(7), "/proc/pid/cgroup".
    """
    line = next(
        (text[3:] for text in _text("/proc/self/cgroup").splitlines() if text.startswith("0::")), None
    )
    if line is None or line.startswith("/.."):
        return None
    mounts = [text.split() for text in _text("/proc/self/mountinfo").splitlines()]
    root = next(fields[3] for fields in mounts if fields[4] == mount and "cgroup2" in fields)
    path = os.path.normpath(f"{mount}/{os.path.relpath(line, root)}")
    return path if os.path.isdir(path) else None


def _delegated(own: str, mount: str) -> str | None:
    """
    The nearest cgroup above this process's that is the caller's, and has no processes. Within the unit of systemd's
    that it is in: what is above that is systemd's to write. Source: systemd's CGROUP_DELEGATION.md, "Two Key Design
    Rules".
    """
    if own.endswith(_UNITS):
        return None
    for path in _upwards(os.path.dirname(own), mount):
        if not _is_ours(path):
            return None
        if not _text(f"{path}/cgroup.procs").strip():
            return path
        if path.endswith(_UNITS):
            return None
    return None


def _upwards(path: str, top: str) -> Iterator[str]:
    while path.startswith(top):
        yield path
        if path == top:
            return
        path = os.path.dirname(path)


def _is_ours(path: str) -> bool:
    """
    Whether it was given to the caller: root may write everything, and may divide what systemd says so of.
    """
    if os.geteuid() != 0:
        return os.stat(path).st_uid == os.geteuid() and os.access(f"{path}/cgroup.procs", os.W_OK)
    for name in _SYSTEMD_DELEGATES:
        with suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _leave(own: str) -> str | None:
    """
    Move what is in a cgroup of ours to a leaf in it, so that it can be divided.
    """
    leaf = f"{own}/{_LEAF}"
    try:
        with suppress(FileExistsError):
            os.mkdir(leaf)
        for pid in _text(f"{own}/cgroup.procs").split():
            with suppress(ProcessLookupError):
                Path(f"{leaf}/cgroup.procs").write_text(pid, encoding="ascii")
    except OSError as exc:
        raise JailError(f"cannot move to {leaf}: {exc.strerror}; is {own} delegated?") from exc
    return own


def _enable(place: str, controller: str) -> bool:
    """
    Switch a controller on for what is made in there, if it is not yet. Source: cgroup-v2.rst, "Enabling and
    Disabling".
    """
    if controller in _text(f"{place}/cgroup.subtree_control").split():
        return True
    if controller not in _text(f"{place}/cgroup.controllers").split():
        return False
    try:
        Path(f"{place}/cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    except OSError:
        return False  # EBUSY: processes in there; the caller is told which controllers there are
    return True


def sweep(place: str) -> None:
    """
    Remove what dead harnesses have left: whose lock nobody holds, and whose maker is gone by pid and start time.
    """
    for entry in list(os.scandir(place)):
        maker = _NAME.fullmatch(entry.name)
        if not maker or started(int(maker["pid"])) == int(maker["started"]):
            continue
        with suppress(OSError):  # somebody else sweeps it
            fd = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _kill(entry.path)
                remove_tree(entry.path)
            finally:
                os.close(fd)


def _kill(path: str) -> None:
    """
    End what is in a cgroup, where the kernel does that at once: Linux 5.14. It is not to be made where it is not:
    that is EACCES, and no matter of ours.
    """
    with suppress(FileNotFoundError):
        fd = os.open(f"{path}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)


def remove_tree(path: str) -> None:
    """
    Remove a cgroup and those in it. Children first; files in there are the kernel's, and go along.
    """
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
        os.rmdir(path)


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
