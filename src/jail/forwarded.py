"""
One connection of a program's to the proxy of its sandbox: a request that is awaited, and then the same as any other.

Whom it asks for is judged, looked up, judged again and dialled as if the program had connected there; where that comes
to nothing it is told so in an answer, before its connection ends. All of it is done in the harness's network thread.
"""

from __future__ import annotations

import socket
import time
import typing

from .address import parse_address
from .asker import origin_of
from .carried import Owner
from .connection import Connection
from .forward import ESTABLISHED, HEAD_BYTES_MAX, BadRequestError, Request, read_request, render_answer
from .loop import READ
from .network import Verdict, denial_of
from .rule import PROXY

__all__ = ["Forwarded", "ProxyOwner"]

# A close with bytes unread is a reset, which may overtake the answer: for so long, and so much, they are read.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class ProxyOwner(Owner, typing.Protocol):
    """
    Whose proxy it is: what else a gateway has, and is told.
    """

    def name_of(self, address: str) -> str | None:
        """
        The name that an address stands for inside, if it does.
        """


class Forwarded(Connection):
    """
    From `begin` on.

    Args:
        owner: whose it is.
        sock: as it was accepted; closed at the end.
    """

    __slots__ = ("_at", "_head", "_is_open", "_lingering", "_proxy", "_request")

    def __init__(self, owner: ProxyOwner, sock: socket.socket) -> None:
        address, port = PROXY
        super().__init__(owner, sock, None, parse_address(address), port, origin_of(sock))
        self._proxy = owner
        self._at = time.monotonic()
        self._head = b""
        self._request: Request | None = None
        self._is_open = False  # the program has been told that it is connected
        self._lingering = 0  # bytes that were read behind an answer

    def begin(self) -> None:
        """
        Await the request.
        """
        self._owner.reactor.watch(self._sock.fileno(), READ, self._hear)

    def _hear(self) -> None:
        """
        Take what belongs to the head, and no byte more.
        """
        try:
            data = self._sock.recv(HEAD_BYTES_MAX, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            request = read_request(self._head + data)
            self._sock.recv(request.size - len(self._head) if request else len(data), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except BadRequestError as exc:
            self._answer(exc.status, str(exc))
            return
        except OSError:
            data, request = b"", None
        self._head += data
        if request is not None:
            self._ask(request)
        elif not data:
            self.cut()

    def _ask(self, request: Request) -> None:
        self._owner.reactor.unwatch(self._sock.fileno())
        self._request = request
        self._head = b""
        self.name, self.port = request.name, request.port
        if request.address is not None:
            self.address = request.address
            if request.is_tunnel:
                self.name = self._proxy.name_of(str(request.address))
        super().begin()

    def _open_way(self, other: socket.socket) -> bool:
        """
        Tell the program that it is connected; or the server what it is asked for.
        """
        if self._request is None:
            return False
        if self._request.is_tunnel:
            self._is_open = True
            return _send(self._sock, ESTABLISHED)
        head = self._request.head
        self._proxy.count(len(head), 0)  # which may be one too many
        return not self._has_ended() and _send(other, head)

    def _is_sniffed(self) -> bool:
        """
        What goes to a server without a tunnel has a Host of ours.
        """
        return self._request is not None and self._request.is_tunnel and super()._is_sniffed()

    # Ends.

    def lose(self, verdict: Verdict | None) -> None:
        """
        Say why there is no connection.
        """
        if self._has_ended():
            return
        if self._request is None or self._is_open:
            super().lose(verdict)
        elif verdict is None:
            self._answer(502, f"nobody answers at {self._subject}, port {self.port}")
        else:
            self._deny(verdict)
            self._answer(403, verdict.why, str(denial_of(self._subject, self.port, verdict)))

    def _answer(self, status: int, why: str, text: str = "") -> None:
        reactor = self._owner.reactor
        reactor.unwatch(self._sock.fileno())
        self.rule = None  # there is nothing left to judge again
        try:
            _send(self._sock, render_answer(status, why, text or why))
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()
            return
        reactor.watch(self._sock.fileno(), READ, self._linger)
        reactor.later(_LINGER_SECONDS, self._leave)

    def _linger(self) -> None:
        try:
            data = self._sock.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._lingering += len(data)
        if not data or self._lingering > _LINGER_BYTES:
            self._leave()

    def _leave(self) -> None:
        if not self._has_ended():
            self._owner.reactor.unwatch(self._sock.fileno())
            self._sock.close()
            self._ended()

    def _reset(self) -> None:
        if not self._has_ended():
            self._owner.reactor.unwatch(self._sock.fileno())
        super()._reset()

    def sweep(self, now: float, idle_seconds: float) -> None:
        """
        See `Carried`: a head that does not come is idle.
        """
        if self._request is None and self._at + idle_seconds <= now:
            self.cut()
        else:
            super().sweep(now, idle_seconds)


def _send(sock: socket.socket, data: bytes) -> bool:
    """
    Whether all of it fits into the buffer of a connection on which nothing was sent before.
    """
    try:
        return sock.send(data, _FLAGS) == len(data)
    except OSError:
        return False
