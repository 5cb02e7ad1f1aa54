"""
Connecting to a server inside a sandbox, without waiting: for the thread that serves the networks of sandboxes.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from .loop import WRITE
from .reactor import Reactor
from .stock import Stock

__all__ = ["InwardDial"]

_LOOPBACK = "127.0.0.1"
_GIVE_UP_SECONDS = 30.0


class InwardDial:
    """
    One connection to a server inside, on its way. What it has besides `Dial` has too.

    Args:
        reactor: in whose thread all of this is.
        stock: of the sandbox that is entered.
        port: of the server.
        on_end: called once, with a connected socket, or with None when nobody answers.
    """

    __slots__ = ("_on_end", "_port", "_reactor", "_sock", "gives_up_at")

    def __init__(
        self, reactor: Reactor, stock: Stock, port: int, on_end: Callable[[socket.socket | None], object]
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._on_end: Callable[[socket.socket | None], object] | None = on_end
        self._sock: socket.socket | None = None
        self.gives_up_at = time.monotonic() + _GIVE_UP_SECONDS
        if stock.leads_out(port):  # its rules have changed since it was found to be none
            self._end(None)
        else:
            stock.take(reactor, self._taken)

    def _taken(self, sock: socket.socket | None) -> None:
        if sock is None or self._on_end is None:
            if sock is not None:
                sock.close()
            self._end(None)
            return
        self._sock = sock
        sock.settimeout(0)
        error = sock.connect_ex((_LOOPBACK, self._port))
        if error == errno.EINPROGRESS:
            self._reactor.watch(sock.fileno(), WRITE, self._tried)
        else:
            self._settle(error)

    def _tried(self) -> None:
        if self._sock is not None:
            self._reactor.unwatch(self._sock.fileno())
            self._settle(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _settle(self, error: int) -> None:
        sock, self._sock = self._sock, None
        if error and sock is not None:
            sock.close()
            sock = None
        self._end(sock)

    def give_up(self) -> None:
        """
        It has taken too long.
        """
        if self._sock is not None:
            self._reactor.unwatch(self._sock.fileno())
            self._settle(errno.ETIMEDOUT)
        else:
            self._end(None)

    def cancel(self) -> None:
        """
        Nobody wants it any more.
        """
        self._on_end = None
        self.give_up()

    def _end(self, sock: socket.socket | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(sock)
        elif sock is not None:
            sock.close()

    def drop(self) -> None:
        """
        Close its descriptor, in a forked copy of the harness.
        """
        if self._sock is not None:
            self._sock.close()
