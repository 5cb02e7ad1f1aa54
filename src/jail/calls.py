"""
Calls that are made where a program of a sandbox would stand: on its files, and for sockets of its network.

A process does it that is confined like a program, and hands over the descriptor.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self

from .errors import JailError
from .spawn import Init, receive_event_fds
from .wire import EventKind, FileCall, RequestKind, Scope, encode_file, encode_signal

__all__ = ["ANSWER_SECONDS", "Asked", "Calls"]

# How long a file may take to be opened.
ANSWER_SECONDS = 15.0

_BRING = (FileCall.OPEN, FileCall.SOCKET)  # a descriptor, that is


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """
    A call that was asked for. A context manager, which closes the socket.

    Args:
        call: which.
        id: by which its process can be killed.
        socket: can be read when there is an answer.
    """

    call: FileCall
    id: int
    socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Calls(ABC):
    """
    Those of one sandbox, which a `Session` is.

    Attributes:
        init: who has them made.
    """

    init: Init

    @abstractmethod
    def next_id(self) -> int:
        """
        A number for the next.

        Raises:
            JailError: the sandbox has ended, or is another process's.
        """

    def file(self, call: FileCall, path: str, flags: int = 0, mode: int = 0) -> int:
        """
        One call on a file, made where a program would stand.

        Args:
            call: which.
            path: absolute, as seen inside.
            flags: of open(2) or unlinkat(2); the family of a socket.
            mode: of open(2) or mkdir(2); the type of a socket.

        Returns:
            A descriptor for `FileCall.OPEN` and `FileCall.SOCKET`, which the caller owns; otherwise -1.

        Raises:
            OSError: what the call gave.
            SetupError: it could not be made.
            JailError: the sandbox is closed, or was killed from outside.
        """
        with self.ask_file(call, path, flags, mode) as asked:
            self._await_answer(asked, path)
            return self.answer_of(asked, path)

    def ask_file(self, call: FileCall, path: str, flags: int = 0, mode: int = 0) -> Asked:
        """
        Ask for such a call, and do not wait: `answer_of` has what came of it once the socket can be read.
        """
        body = encode_file(call, os.fsencode(path), flags=flags, mode=mode)
        exec_id = self.next_id()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = Asked(call, exec_id, ours)
        with theirs, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            self.init.ask(RequestKind.FILE, exec_id, body, [theirs.fileno()])
            on_failure.pop_all()
        return asked

    def answer_of(self, asked: Asked, path: str) -> int:
        """
        See `file`.
        """
        event, fds = receive_event_fds(asked.socket, 1)
        if event is None:
            raise self.init.gone()
        if event.kind is EventKind.FILE and not event.err and len(fds) == (asked.call in _BRING):
            return fds[0] if fds else -1
        for fd in fds:
            os.close(fd)
        if event.kind is EventKind.FAULT:
            raise self.init.fault(event, path)
        if event.kind is EventKind.FILE and event.err:
            raise OSError(event.err, os.strerror(event.err), path)
        raise JailError(f"{path}: it was killed before it could be opened")

    def make_socket(self, family: int, kind: int) -> socket.socket:
        """
        A socket in the sandbox's network, neither bound nor connected.

        Args:
            family: AF_INET or AF_INET6.
            kind: SOCK_STREAM or SOCK_DGRAM.

        Raises:
            OSError: what socket(2) gave.
            SetupError, JailError: as `file` has them.
        """
        with self.ask_socket(family, kind) as asked:
            self._await_answer(asked, "socket")
            return self.socket_of(asked, family, kind)

    def ask_socket(self, family: int, kind: int) -> Asked:
        """
        Ask for one, and do not wait: see `ask_file`.
        """
        return self.ask_file(FileCall.SOCKET, "socket", family, kind | socket.SOCK_CLOEXEC)

    def socket_of(self, asked: Asked, family: int, kind: int) -> socket.socket:
        """
        See `make_socket`.
        """
        return socket.socket(family, kind, 0, self.answer_of(asked, "socket"))

    def _await_answer(self, asked: Asked, path: str) -> None:
        poll = select.poll()
        poll.register(asked.socket, select.POLLIN)
        if not poll.poll(ANSWER_SECONDS * 1000):
            raise self.unanswered(asked, path)

    def unanswered(self, asked: Asked, path: str) -> JailError:
        """
        The exception for a call that has taken too long; the process that makes it is killed.
        """
        self.init.ask(RequestKind.SIGNAL, asked.id, encode_signal(signal.SIGKILL, Scope.TREE))
        return JailError(f"{path}: it could not be opened within {ANSWER_SECONDS:g} seconds")
