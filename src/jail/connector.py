"""
The thread that calls connect(2) on the sockets of one sandbox that has no network namespace.

O_NONBLOCK is of an open file, and a program has the same one: it can take it away in the moment before the call, and
have it wait for as long as a SYN is unanswered. Then it is this thread that waits, and with it nobody but the sandbox.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import socket
import threading
from collections.abc import Callable

from .reactor import Reactor

__all__ = ["Connector"]

_LOOK_AGAIN_SECONDS = 0.01

_Address = tuple[str, int] | tuple[str, int, int, int]
_Call = tuple[socket.socket, _Address, Callable[[int], object]]


class Connector:
    """
    One sandbox's, from its first connection to `close`.

    Args:
        reactor: in whose thread `connect` and `close` are called, and answers are given.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sock: socket.socket | None = None  # that is being connected
        self._is_closed = False

    def connect(self, sock: socket.socket, address: _Address, on_error: Callable[[int], object]) -> None:
        """
        Have it connected, and be called back with the errno; 0 when it is. The socket stays open until then.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jail-connect", daemon=True)
            self._thread.start()
        self._calls.put((sock, address, on_error))

    def _run(self) -> None:
        while call := self._calls.get():
            self._sock, address, on_error = call
            if self._is_closed:
                return
            error = _connect(self._sock, address)
            self._sock = None
            self._reactor.submit(functools.partial(on_error, error))

    def close(self) -> None:
        """
        Call no more, and wait until the last one has returned: shutdown(2) wakes it.
        """
        self._is_closed = True
        self._calls.put(None)
        while self._thread and self._thread.is_alive():
            sock = self._sock
            if sock is not None:
                with contextlib.suppress(OSError):  # it is not connected, or not on its way yet
                    sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(_LOOK_AGAIN_SECONDS)


def _connect(sock: socket.socket, address: _Address) -> int:
    """
    For a moment the program's socket is one that does not block.
    """
    blocks = os.get_blocking(sock.fileno())
    if blocks:
        os.set_blocking(sock.fileno(), False)
    try:
        return sock.connect_ex(address)
    finally:
        if blocks:
            os.set_blocking(sock.fileno(), True)
