"""
The thread that connects, and closes, the sockets of one sandbox that has no network namespace.

O_NONBLOCK and SO_LINGER are of an open file, and a program has the same one: it can take the one away in the moment
before connect(2), and have close(2) wait by the other, for as long as the other side says nothing. Then it is this
thread that waits, and with it nobody but the sandbox.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable

from .reactor import Reactor

__all__ = ["Connector"]

_LOOK_AGAIN_SECONDS = 0.01
_END_SECONDS = 5.0

_Address = tuple[str, int] | tuple[str, int, int, int]

_log = logging.getLogger("jail")


class Connector:
    """
    One sandbox's, from its first connection to `close`. Sockets that it was given are its own to close.

    Args:
        reactor: in whose thread all but `join` is called, and answers are given.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connecting: socket.socket | None = None
        self._is_closed = False

    def connect(self, sock: socket.socket, address: _Address, on_error: Callable[[int], object]) -> None:
        """
        Have it connected, and be called back with the errno; 0 when it is.

        Raises:
            OSError: EAGAIN, there can be no such thread now.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="jail-connect", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from exc
            self._thread = thread
        self._calls.put(functools.partial(self._connect, sock, address, on_error))

    def drop(self, sock: socket.socket) -> None:
        """
        Have it closed. One that was never connected does not wait for anybody.
        """
        if self._thread is None:
            sock.close()
        else:
            self._calls.put(sock.close)

    def _run(self) -> None:
        while call := self._calls.get():
            with contextlib.suppress(OSError):  # close(2) has closed it, whatever it says
                call()

    def _connect(self, sock: socket.socket, address: _Address, on_error: Callable[[int], object]) -> None:
        error = errno.EIO
        self._connecting = sock
        try:
            error = errno.ECONNABORTED if self._is_closed else _connect(sock, address)
        except OSError as exc:
            error = exc.errno or errno.EIO
        except Exception:  # noqa: BLE001 - an error of our own, and a program is not to hang for it
            _log.exception("a program could not be connected for an error of jail's own")
        finally:
            self._connecting = None
            self._reactor.submit(functools.partial(on_error, error))

    def close(self) -> None:
        """
        Connect nothing more, and end when all is closed that was given.
        """
        self._is_closed = True
        self._calls.put(None)
        self._wake()

    def _wake(self) -> None:
        """
        Where connect(2) waits, shutdown(2) ends that; it may be just about to.
        """
        if self._thread is not None and self._thread.is_alive():
            if sock := self._connecting:
                with contextlib.suppress(OSError):  # it is not connected, or not on its way yet
                    sock.shutdown(socket.SHUT_RDWR)
            self._reactor.later(_LOOK_AGAIN_SECONDS, self._wake)

    def join(self) -> None:
        """
        After `close`: wait until it has ended, unless a program has it wait for longer. From any thread.
        """
        if self._thread not in (None, threading.current_thread(), self._reactor.thread):
            self._thread.join(_END_SECONDS)


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
