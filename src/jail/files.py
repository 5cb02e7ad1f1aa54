"""
Files of a sandbox, read and written by the harness.

Each is opened by `jail-init`, by a process that stands where a program would: a name means what it means inside,
and permits what it permits inside. What comes back is a descriptor, looked at before it is used: a FIFO or a
device is refused, and nothing blocks. The harness follows no link, neither inside nor where it writes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .session import Session
from .streams import write_all
from .wire import FileCall

__all__ = ["ENTRIES", "FILE_BYTES", "TREE_BYTES", "Entry", "Files"]

# What is read, listed and copied at most where the caller says nothing.
FILE_BYTES = 64 << 20
TREE_BYTES = 1 << 30
ENTRIES = 100_000
_DEPTH = 100
_CHUNK_BYTES = 1 << 20

_OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_AT_REMOVEDIR = 0x200  # unlinkat(2)

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What is in a directory.

    Args:
        name: without the directory.
        kind: "file", "directory", "link", "fifo", "socket" or "device".
        size: of a file. Unit: bytes.
        mode: permission bits.
        modified_seconds: since the epoch.
    """

    name: str
    kind: str
    size: int
    mode: int
    modified_seconds: float


class Files:
    """
    The files of one sandbox. A relative path starts where programs start.

    Every method raises the ``OSError`` that a program would have got: ``FileNotFoundError``,
    ``PermissionError`` and so on, with the path in it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def read_file(self, path: str | os.PathLike[str], *, limit: int = FILE_BYTES) -> bytes:
        """
        The content of a regular file.

        Args:
            path: as seen inside.
            limit: most bytes. A longer file is ``OSError`` EFBIG.
        """
        with self._opened(path, os.O_RDONLY) as fd:
            content = _read(fd, limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"more than {limit} bytes", os.fspath(path))
        return content

    def write_file(
        self, path: str | os.PathLike[str], data: bytes | str, *, mode: int = 0o644, parents: bool = False
    ) -> None:
        """
        Create a regular file, or replace its content.

        Args:
            path: as seen inside.
            data: text is written as UTF-8.
            mode: permission bits of a new file.
            parents: make the directories above it that are missing.

        Raises:
            OSError: also EFBIG, for more than the policy's `file_size`.
        """
        content = data.encode() if isinstance(data, str) else data
        limit = self._session.policy.file_size
        if limit is not None and len(content) > limit:
            raise OSError(
                errno.EFBIG, f"more than the {limit} bytes of the policy's file_size", os.fspath(path)
            )
        if parents:
            self.make_directory(os.path.dirname(os.fspath(path)) or ".", parents=True)
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as fd:
            write_all(fd, content)

    def list(self, path: str | os.PathLike[str] = ".", *, limit: int = ENTRIES) -> list[Entry]:
        """
        What is in a directory, by name.

        Args:
            path: as seen inside.
            limit: most entries. More of them are ``OSError`` EFBIG.
        """
        with _closing(self._call(FileCall.OPEN, path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)) as fd:
            return sorted(_entries(fd, limit, os.fspath(path)), key=lambda entry: entry.name)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """
        Whether there is something of that name, be it a link that leads nowhere.
        """
        try:
            fd = self._call(FileCall.OPEN, path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        os.close(fd)
        return True

    def make_directory(self, path: str | os.PathLike[str], *, parents: bool = False) -> None:
        """
        Make a directory.

        Args:
            path: as seen inside.
            parents: make those above it that are missing, too, and take one that is there for made.
        """
        try:
            self._call(FileCall.MKDIR, path, mode=0o755)
        except FileExistsError:
            if not parents or not self._is_directory(path):
                raise
        except FileNotFoundError:
            above = os.path.dirname(self._absolute(path))
            if not parents or above == self._absolute(path):
                raise
            self.make_directory(above, parents=True)
            self._call(FileCall.MKDIR, path, mode=0o755)

    def _is_directory(self, path: str | os.PathLike[str]) -> bool:
        try:
            os.close(self._call(FileCall.OPEN, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except NotADirectoryError:
            return False
        return True

    def remove(self, path: str | os.PathLike[str], *, recursive: bool = False) -> None:
        """
        Remove a file, a link or an empty directory.

        Args:
            path: as seen inside. A link is removed, and not what it leads to.
            recursive: remove a directory with all that is in it.
        """
        try:
            self._call(FileCall.UNLINK, path)
        except IsADirectoryError:
            self._remove_directory(os.fspath(path), recursive=recursive)

    def _remove_directory(self, path: str, *, recursive: bool) -> None:
        """
        By a list of what is to be done, and not by calling itself: a program can make any depth.
        """
        waiting, emptied = [path], []
        while waiting:
            one = waiting.pop()
            emptied.append(one)
            for entry in self.list(one) if recursive else ():
                inner = os.path.join(one, entry.name)
                if entry.kind == "directory":
                    waiting.append(inner)
                else:
                    self._call(FileCall.UNLINK, inner)
        for one in reversed(emptied):
            self._call(FileCall.UNLINK, one, _AT_REMOVEDIR)

    def upload(self, source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
        """
        Copy a file or a directory of the host's into the sandbox.

        Args:
            source: on the host. A link in a directory is ``OSError`` ELOOP, anything but files EINVAL.
            path: as seen inside: the name that it gets there.
        """
        with _closing(os.open(source, os.O_RDONLY | _OPEN)) as fd:
            self._upload(fd, os.fspath(source), os.fspath(path), _DEPTH)

    def _upload(self, fd: int, source: str, path: str, depth: int) -> None:
        status = os.fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            _refuse_special(status, source)
            with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, status.st_mode & 0o777) as target:
                _copy(fd, target, self._session.policy.file_size, path)
            return
        _refuse_deep(depth, source)
        self.make_directory(path, parents=True)
        for name in sorted(os.listdir(fd)):
            with _closing(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | _OPEN, dir_fd=fd)) as inner:
                self._upload(inner, os.path.join(source, name), os.path.join(path, name), depth - 1)

    def download(
        self, path: str | os.PathLike[str], target: str | os.PathLike[str], *, limit: int = TREE_BYTES
    ) -> None:
        """
        Copy a file or a directory out of the sandbox.

        Args:
            path: as seen inside. A link in it is ``OSError`` ELOOP, a FIFO or a device EINVAL.
            target: on the host: the name that it gets there. A file is replaced, a directory added to; no link
                below it is followed.
            limit: most bytes in all. More are ``OSError`` EFBIG.
        """
        where, name = os.path.split(os.path.abspath(target))
        with _closing(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as parent:
            self._download(os.fspath(path), parent, name, limit, _DEPTH)

    def _download(self, path: str, parent: int, name: str, left: int, depth: int) -> int:
        """
        Copy one thing, and say how many bytes may still come.
        """
        with _closing(self._call(FileCall.OPEN, path, os.O_RDONLY | os.O_NOFOLLOW | _OPEN)) as fd:
            status = os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                _refuse_special(status, path)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | _OPEN
                with _closing(os.open(name, flags, status.st_mode & 0o777, dir_fd=parent)) as target:
                    return left - _copy(fd, target, left, path)
            _refuse_deep(depth, path)
            with _closing(_make_directory(name, parent)) as inner:
                for entry in list(_entries(fd, ENTRIES, path)):
                    left = self._download(os.path.join(path, entry.name), inner, entry.name, left, depth - 1)
        return left

    # How it is done.

    def _absolute(self, path: str | os.PathLike[str]) -> str:
        return os.path.join(self._session.directory, os.fspath(path))

    def _call(self, call: FileCall, path: str | os.PathLike[str], flags: int = 0, mode: int = 0) -> int:
        return self._session.file(call, self._absolute(path), flags, mode)

    @contextmanager
    def _opened(self, path: str | os.PathLike[str], flags: int, mode: int = 0) -> Iterator[int]:
        """
        A regular file, open meanwhile.
        """
        with _closing(self._call(FileCall.OPEN, path, flags | _OPEN, mode)) as fd:
            _refuse_special(os.fstat(fd), os.fspath(path))
            yield fd


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _refuse_special(status: os.stat_result, path: str) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
    if kind == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind != "file":
        raise OSError(errno.EINVAL, f"is a {kind}, and no regular file", path)


def _refuse_deep(depth: int, path: str) -> None:
    if depth <= 0:
        raise OSError(errno.ENAMETOOLONG, f"more than {_DEPTH} directories deep", path)


def _entries(fd: int, limit: int, path: str) -> Iterator[Entry]:
    with os.scandir(fd) as found:
        for count, entry in enumerate(found):
            if count == limit:
                raise OSError(errno.EFBIG, f"more than {limit} entries", path)
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "device")
            mode = stat.S_IMODE(status.st_mode)
            yield Entry(entry.name, kind, status.st_size, mode, status.st_mtime)


def _make_directory(name: str, parent: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _read(fd: int, most: int) -> bytes:
    pieces = []
    while most > 0 and (piece := os.read(fd, min(most, _CHUNK_BYTES))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _copy(source: int, target: int, limit: int | None, path: str) -> int:
    """
    Copy to the end, and say how many bytes it was.
    """
    copied = 0
    while piece := os.read(source, _CHUNK_BYTES):
        copied += len(piece)
        if limit is not None and copied > limit:
            raise OSError(errno.EFBIG, "more bytes than are allowed", path)
        write_all(target, piece)
    return copied
