"""
A scratch directory on the host, for sandboxes that cannot mount one.

It is removed with its sandbox. The lock on it ends with the harness, however that dies; what a dead one left
behind is swept when the next is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
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
    for folder, _, _, fd in os.fwalk(path, onerror=_open_up):
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
            os.chmod(folder, 0o700)
    shutil.rmtree(path)


def _open_up(error: OSError) -> None:
    if error.filename:
        os.chmod(error.filename, 0o700, follow_symlinks=False)


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
