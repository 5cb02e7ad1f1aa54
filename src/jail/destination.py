"""
A file that what is known of a run is written to, when that is over.

It is opened before: that it cannot be written is said while nothing has happened yet, and what the program does to
a writable workspace meanwhile - a link in the file's place - does not turn what we write elsewhere.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from .errors import PolicyError
from .streams import write_all

__all__ = ["Destination"]


class Destination:
    """
    A file by its path, or an open descriptor by its number. A context manager: one that was made for this, and got
    nothing, is removed.

    Args:
        target: as on the command line.
        option: whose argument that is, for messages.

    Raises:
        PolicyError: it cannot be written.
    """

    def __init__(self, target: str, option: str) -> None:
        self._target = target
        self._option = option
        self._is_new = False
        self._is_ours = not target.isdecimal()
        try:
            self._fd = self._open() if self._is_ours else os.dup(int(target))
        except (OSError, OverflowError) as exc:
            raise self._refused(getattr(exc, "strerror", None) or str(exc)) from exc

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(self._target, flags | os.O_EXCL, 0o666)
        except FileExistsError:
            return os.open(self._target, flags, 0o666)
        self._is_new = True
        return fd

    def write(self, text: str) -> None:
        """
        Have it hold this, and nothing else where it is a file.

        Raises:
            PolicyError: that failed, or something else is in its place by now.
        """
        try:
            if self._is_ours and stat.S_ISREG(os.fstat(self._fd).st_mode):
                if not self._is_in_place():
                    raise self._refused("it was moved or replaced while the program ran")
                os.ftruncate(self._fd, 0)
            self._is_new = False
            write_all(self._fd, text.encode())
        except OSError as exc:
            raise self._refused(exc.strerror) from exc

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._target), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _refused(self, why: str | None) -> PolicyError:
        return PolicyError(f"cannot write the result to {self._target}: {why}", key=self._option)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._is_new and self._is_in_place():
                os.unlink(self._target)
        finally:
            os.close(self._fd)
