"""
A listening socket that is accepted from, for as long as there are descriptors: in the harness's network thread.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from .loop import READ
from .reactor import Reactor

__all__ = ["Listener"]

_NO_DESCRIPTOR_SECONDS = 0.1


class Listener:
    """
    One of them, from `open` to `close`.

    Args:
        reactor: in whose thread both are called.
        sock: that does not wait; ours from now on.
    """

    __slots__ = ("_reactor", "sock")

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self._reactor = reactor
        self.sock = sock

    @property
    def port(self) -> int:
        """
        That it listens on.
        """
        return int(self.sock.getsockname()[1])

    def open(self, begin: Callable[[socket.socket], object]) -> None:
        """
        Give `begin` whatever is accepted from now on.
        """
        if self.sock.fileno() >= 0:
            self._reactor.watch(self.sock.fileno(), READ, lambda: self._accept(begin))

    def _accept(self, begin: Callable[[socket.socket], object]) -> None:
        try:
            sock, _ = self.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: they wait until some are
            self._reactor.unwatch(self.sock.fileno())
            self._reactor.later(_NO_DESCRIPTOR_SECONDS, lambda: self.open(begin))
            return
        sock.settimeout(0)  # whatever socket.setdefaulttimeout says
        begin(sock)

    def close(self) -> None:
        """
        Accept no more. Harmless before `open`.
        """
        if self.sock.fileno() >= 0:
            self._reactor.unwatch(self.sock.fileno())
            self.sock.close()
