"""
Sockets of a sandbox's network, made ahead: for the thread that serves all networks, which must not wait.

Each is made by a process inside, which takes a fraction of a millisecond, or seconds on a busy machine. So a thread
makes them, which exists while some are to be made.
"""

from __future__ import annotations

import collections
import functools
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from .errors import JailError
from .fork import forget_in_child
from .reactor import Reactor

__all__ = ["Stock"]

_FULL = 8  # descriptors of the harness; and more connections at once wait for as many to be made
_LOW = 4

OnSocket = Callable[["socket.socket | None"], object]


class _Waiting(NamedTuple):
    reactor: Reactor
    on_socket: OnSocket


class Stock:
    """
    One sandbox's; empty until the first is taken, since most are never needed.

    Args:
        make: gives one, neither bound nor connected; may block, and raise OSError or JailError.
        leads_out: whether what is connected to a port there would be led out again, by the sandbox's own allowlist.
    """

    def __init__(self, make: Callable[[], socket.socket], leads_out: Callable[[int], bool]) -> None:
        self._make = make
        self.leads_out = leads_out
        self._lock = threading.RLock()
        self._free: list[socket.socket] = []
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._thread: threading.Thread | None = None
        self._is_filling = False
        self._is_closed = False
        forget_in_child(self)

    def take(self, reactor: Reactor, on_socket: OnSocket) -> None:
        """
        Call back with a socket, which is the caller's: at once where there is one, or else in the reactor's thread.
        With None where there can be none, as the sandbox has ended.
        """
        with self._lock:
            sock = self._free.pop() if self._free else None
            is_over = self._is_closed
            if sock is None and not is_over:
                self._waiting.append(_Waiting(reactor, on_socket))
            is_to_fill = len(self._free) < _LOW and not self._is_filling and not is_over
            self._is_filling |= is_to_fill
            if is_to_fill:
                self._thread = threading.Thread(target=self._fill, name="jail-stock", daemon=True)
                self._thread.start()
        if sock is not None or is_over:
            on_socket(sock)

    def _fill(self) -> None:
        while self._lacks():
            try:
                sock = self._make()
            except (JailError, OSError):  # the sandbox has ended, or may have no more: who waits is told
                self._give_up()
                return
            self._add(sock)

    def _lacks(self) -> bool:
        with self._lock:
            self._is_filling = not self._is_closed and (bool(self._waiting) or len(self._free) < _FULL)
            return self._is_filling

    def _add(self, sock: socket.socket) -> None:
        with self._lock:
            if self._is_closed:
                sock.close()
            elif self._waiting:
                reactor, on_socket = self._waiting.popleft()
                reactor.submit(functools.partial(on_socket, sock))
            else:
                self._free.append(sock)

    def _give_up(self) -> None:
        with self._lock:
            self._is_filling = False
            while self._waiting:
                reactor, on_socket = self._waiting.popleft()
                reactor.submit(functools.partial(on_socket, None))

    def close(self) -> None:
        """
        The sandbox has ended, so that what is being made ends as well: nobody gets any more, and nothing is left
        open. From any thread; may be called again.
        """
        with self._lock:
            self._is_closed = True
            self._give_up()
            while self._free:
                self._free.pop().close()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def forget(self) -> None:
        """
        Drop the descriptors: in a forked copy of the harness, where another thread may have held the lock.
        """
        self._lock = threading.RLock()
        self._is_closed = True
        self._waiting.clear()
        while self._free:
            self._free.pop().close()
