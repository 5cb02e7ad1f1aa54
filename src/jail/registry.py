"""
Live sandboxes that have a name: who may be asked about them, and what a dead harness left behind.

A directory of the user's own with a record and a socket for each. The record is locked for as long as its
harness lives, however that ends; one that nobody locks is swept by whoever comes by.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from .errors import JailError, PolicyError
from .fork import forget_in_child
from .liveness import started

__all__ = ["Record", "Registration", "connect", "end", "find", "records"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What is known of a live sandbox.

    Args:
        name: as its maker gave it.
        harness_pid: of the process that it belongs to.
        init_pid: of its `jail-init`.
        init_started: when that was started, in clock ticks since boot; proc_pid_stat(5).
        created_seconds: since the epoch.
        tier: what it stands on.
        directory: where its programs start.
        policy: as TOML.
        cgroup: the directory of its cgroup v2, where it has one.
    """

    name: str
    harness_pid: int
    init_pid: int
    init_started: int
    created_seconds: float
    tier: str
    directory: str
    policy: str
    cgroup: str | None = None


class Registration:
    """
    A name that is taken, until this is closed.

    Args:
        record: what to say of the sandbox.

    Raises:
        PolicyError: the name is no name, or taken.
        JailError: there is no directory for it.
    """

    def __init__(self, record: Record) -> None:
        self._name = _checked(record.name)
        with _directory() as directory, ExitStack() as on_failure:
            self._fd = _take(directory, record.name)
            on_failure.callback(os.close, self._fd)
            os.write(self._fd, json.dumps(asdict(record)).encode())
            self.listener = _listen(directory, record.name)
            self._directory = os.dup(directory)  # where it was taken, wherever names are by then
            on_failure.pop_all()
        forget_in_child(self)

    def close(self) -> None:
        """
        Give the name back, unless it was taken away: the sandbox was dead already.
        """
        if self._fd >= 0:
            fcntl.flock(self._directory, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_nlink:
                _remove(self._directory, self._name)
            fcntl.flock(self._directory, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """
        Drop the descriptors, and with them the lock.
        """
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._directory)
            self._fd = -1
            self.listener.close()


def records() -> list[Record]:
    """
    All sandboxes of this user that have a name and live, by name. What dead harnesses left is swept.
    """
    with _directory() as directory:
        names = sorted(name.removesuffix(".json") for name in os.listdir(directory) if name.endswith(".json"))
        return [record for name in names if (record := _read(directory, name)) is not None]


def find(name: str) -> Record:
    """
    The live sandbox of this name.

    Raises:
        JailError: there is none.
    """
    with _directory() as directory:
        record = _read(directory, _checked(name))
    if record is None:
        raise JailError(f"no sandbox is named {name!r}; `jail ps` lists those that are")
    return record


def connect(record: Record) -> socket.socket:
    """
    A connection to the harness of a sandbox: see `remote`.

    Raises:
        JailError: it does not answer.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _directory() as directory:
            connection.connect(_address(directory, record.name))
    except OSError as exc:
        connection.close()
        raise JailError(f"the harness of {record.name!r} does not answer: {exc.strerror}") from exc
    return connection


def end(record: Record) -> None:
    """
    Have a sandbox end, with everything inside, whatever its harness is doing.

    Raises:
        JailError: it has ended meanwhile.
    """
    try:
        pidfd = os.pidfd_open(record.init_pid)
    except ProcessLookupError:
        raise JailError(f"{record.name!r} has ended already") from None
    try:
        if started(record.init_pid) != record.init_started:  # looked up after it was opened: it is that one
            raise JailError(f"{record.name!r} has ended already")
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except ProcessLookupError:  # reaped since
        raise JailError(f"{record.name!r} has ended already") from None
    finally:
        os.close(pidfd)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PolicyError(f"{name!r} is not a name: letters, digits, dots, hyphens, at most 63", key="name")
    return name


def _place(environment: Mapping[str, str]) -> str:
    """
    Where the records are. Not the caller's $TMPDIR, which another harness of the same user may not share.
    """
    runtime = environment.get("XDG_RUNTIME_DIR")
    return environment.get("JAIL_RUNTIME_DIR") or (
        f"{runtime}/jail" if runtime else f"{tempfile.gettempdir()}/jail-{os.geteuid()}"
    )


@contextmanager
def _directory() -> Iterator[int]:
    """
    The directory of the records, nobody else's, and locked meanwhile: who takes a name, sweeps one or lists them
    has it alone.

    Raises:
        JailError: it is, or cannot be made.
    """
    path = _place(os.environ)
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise JailError(f"{path}: {exc.strerror}. JAIL_RUNTIME_DIR can name another directory") from exc
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise JailError(f"{path} is open to others. JAIL_RUNTIME_DIR can name another directory")
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a copy of it may stay open
        os.close(fd)


def _address(directory: int, name: str) -> str:
    return f"/proc/self/fd/{directory}/{name}.sock"  # whose length has no limit of 107 bytes; unix(7)


def _take(directory: int, name: str) -> int:
    """
    A locked, empty record.
    """
    if _read(directory, name) is not None:
        raise PolicyError(f"a sandbox named {name!r} is running", key="name")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f"{name}.json", flags, 0o600, dir_fd=directory)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _listen(directory: int, name: str) -> socket.socket:
    with suppress(FileNotFoundError):
        os.unlink(f"{name}.sock", dir_fd=directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    listener.bind(_address(directory, name))
    listener.listen()
    return listener


def _remove(directory: int, name: str) -> None:
    for suffix in (".sock", ".json"):
        with suppress(FileNotFoundError):
            os.unlink(f"{name}{suffix}", dir_fd=directory)


def _read(directory: int, name: str) -> Record | None:
    """
    A live record; None where there is none, or none any more: then it is swept. One lives as long as its harness
    has it locked, and its `jail-init` is there: a copy of the harness that somebody has forked has the lock, too.
    """
    try:
        fd = os.open(f"{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        record = _parse(os.read(fd, 1 << 20))
        if record and started(record.init_pid) == record.init_started:
            return record
    finally:
        os.close(fd)
    _remove(directory, name)
    return None


def _parse(text: bytes) -> Record | None:
    """
    A record; None where that is none.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
        return Record(**fields)
    except (ValueError, TypeError):
        return None
