"""
A scratch directory on the host, for sandboxes that cannot mount one.

It is removed with its sandbox. The lock on it ends with the harness, however that dies; what a dead one left
behind is swept when the next is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from .fork import forget_in_child

__all__ = ["Scratch"]

_PREFIX = "jail-scratch-"


class Scratch:
    """
    A directory with ``tmp`` and ``home`` in it, private to the caller and locked while this object is open.
    """

    def __init__(self) -> None:
        _sweep()
        self.path, self._fd = _create()
        forget_in_child(self)
        for name in ("tmp", "home"):
            os.mkdir(name, 0o700, dir_fd=self._fd)

    def close(self) -> None:
        """
        Remove the directory and everything in it, links not followed.
        """
        if self._fd >= 0:
            _remove(self.path)
            self.forget()

    def forget(self) -> None:
        """
        Drop the descriptor and with it the lock, and leave the directory where it is.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _create() -> tuple[str, int]:
    """
    A new directory, and a descriptor that holds its lock.

    Another harness may sweep in between: what it took for left behind is tried anew.
    """
    while True:
        path = os.path.realpath(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)  # waits for who sweeps it
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _remove(path: str) -> None:
    """
    A program may have taken away its own permissions to hinder this; as the owner we give them back.
    """
    _open_up(path, None)
    shutil.rmtree(path)


def _open_up(name: str, parent: int | None) -> None:
    """
    Make a directory, and each below it, its owner's to list and to change. Links are not followed.
    """
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # what the descriptor is of, whatever has its name by now
        inside = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        with os.scandir(inside) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _open_up(entry.name, inside)
    finally:
        os.close(inside)


def _sweep() -> None:
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:  # or its own sandbox has just removed it
                    _remove(str(place))
        except BlockingIOError:
            continue  # its harness lives
        finally:
            os.close(fd)
