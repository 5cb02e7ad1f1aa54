"""
Descriptors that `jail-init` makes while it builds a sandbox, as they come to the network thread.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from .loop import READ
from .reactor import Reactor
from .spawn import receive_event_fds

__all__ = ["Handoff"]


class Handoff:
    """
    From `open` to the sandbox's last, or to `close`. All but `open` is called in the reactor's thread.

    Args:
        reactor: in whose thread they are taken.
        take: called with each, which is its own from then on.
    """

    def __init__(self, reactor: Reactor, take: Callable[[int], object]) -> None:
        self._reactor = reactor
        self._take = take
        self._ours: socket.socket | None = None

    def open(self) -> socket.socket:
        """
        The end of a socket on which `jail-init` is to send them; the caller's to close.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours = ours
        self._reactor.submit(lambda: self._reactor.watch(ours.fileno(), READ, self._receive))
        return theirs

    def _receive(self) -> None:
        if self._ours is None:
            return
        try:
            event, fds = receive_event_fds(self._ours, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if event is None:
            self.close()
            return
        for fd in fds:
            self._take(fd)

    def close(self) -> None:
        """
        Take no more. May be called again.
        """
        if self._ours is not None:
            self._reactor.unwatch(self._ours.fileno())
            self.forget()

    def forget(self) -> None:
        """
        The same in a forked copy of the harness, where nothing is watched.
        """
        if self._ours is not None:
            self._ours.close()
            self._ours = None
