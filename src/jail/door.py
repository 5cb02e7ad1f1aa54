"""
Where a sandbox without a network of its own finds its proxy: a port of the host's loopback, for its programs alone.

Anybody on the host may connect to a port of loopback, so nobody is let in for having done it. The broker says which
sockets it has connected here, and a copy of each is kept until it has been accepted: while there is one, nobody else
can be at the same address. Who comes from any other one is reset. All but `close` is done in the harness's network
thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable

from .address import meant, parse_address
from .carried import reset
from .errors import SetupError
from .listener import Listener
from .reactor import Reactor

__all__ = ["Door"]

_LOOPBACK = "127.0.0.1"
_BACKLOG = 1024
_COMING_MAX = 256

_Place = tuple[str, int]


class Door:
    """
    From before the sandbox is built to its end.

    Args:
        reactor: in whose thread all of this is.
        admit: given each connection of a program's.

    Attributes:
        place: address and port.

    Raises:
        SetupError: loopback cannot be listened on.
    """

    def __init__(self, reactor: Reactor, admit: Callable[[socket.socket], object]) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
            sock.bind((_LOOPBACK, 0))
            sock.listen(_BACKLOG)
        except OSError as exc:
            sock.close()
            raise SetupError(
                "the proxy of proxy_variables on loopback", syscall="bind(2), listen(2)", errno=exc.errno or 0
            ) from exc
        self.place: _Place = sock.getsockname()
        self._reactor = reactor
        self._admit = admit
        self._listener = Listener(reactor, sock)
        self._coming: dict[_Place, socket.socket] = {}  # the oldest first
        self._awaited = 0
        self._unknown: list[socket.socket] = []  # that came while somebody is awaited
        reactor.call(lambda: self._listener.open(self._enter))

    def is_at(self, address: str, port: int) -> bool:
        """
        Whether who connects there comes here.
        """
        return self.place == (str(meant(parse_address(address))), port)

    def await_one(self) -> None:
        """
        Somebody is about to connect here, and from where is said by `expect`.
        """
        self._awaited += 1

    def expect(self, sock: socket.socket | None) -> None:
        """
        Let in who is accepted from this one, which is connected here or on its way. None: nobody comes.
        """
        self._awaited -= 1
        if sock is not None:
            self._note(sock)
        unknown, self._unknown = self._unknown, []
        for one in unknown:
            self._reactor.submit(functools.partial(self._enter, one))  # each by itself: one may fail

    def _note(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # no descriptor is left: he is reset
            copy = _copy(sock)
            while len(self._coming) >= _COMING_MAX:
                self._coming.pop(next(iter(self._coming))).close()
            place = _place(copy.getsockname())
            if place in self._coming:
                self._coming.pop(place).close()
            self._coming[place] = copy

    def _enter(self, sock: socket.socket) -> None:
        if self._is_expected(sock):
            self._admit(sock)
            return
        if self._awaited and len(self._unknown) < _COMING_MAX:
            self._unknown.append(sock)
            return
        reset(sock)

    def _is_expected(self, sock: socket.socket) -> bool:
        """
        Whether a copy is at the other end now: one that has failed to connect may have left its address to another.
        """
        with contextlib.suppress(OSError):
            copy = self._coming.pop(_place(sock.getpeername()), None)
            if copy is not None:
                with copy:
                    ends = _place(copy.getsockname()), _place(copy.getpeername())
                return ends == (_place(sock.getpeername()), self.place)
        return False

    def close(self) -> None:
        """
        Let nobody in any more. From any thread; may be called again.
        """
        self._reactor.call(self._close)

    def _close(self) -> None:
        self._listener.close()
        self._drop()

    def forget(self) -> None:
        """
        The same in a forked copy of the harness, where nothing is watched.
        """
        self._listener.sock.close()
        self._drop()

    def _drop(self) -> None:
        for sock in (*self._coming.values(), *self._unknown):
            sock.close()
        self._coming.clear()
        self._unknown.clear()


def _copy(sock: socket.socket) -> socket.socket:
    """
    Another descriptor for it, whose making leaves O_NONBLOCK alone: that is of what both are for, and the program's.
    """
    blocks = os.get_blocking(sock.fileno())
    copy = socket.socket(fileno=os.dup(sock.fileno()))
    os.set_blocking(sock.fileno(), blocks)
    return copy


def _place(name: tuple[str, int] | tuple[str, int, int, int]) -> _Place:
    """
    An end of a connection, as IPv4 has it.
    """
    return str(meant(parse_address(name[0]))), name[1]
