"""
The sockets on which a sandbox asks for names: DNS over UDP and over TCP, on every address of its namespace.

A packet goes to the resolver, and what that answers goes back from the address that was asked, whichever it was.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable

from .address import parse_packed
from .asker import Origin, origin_of
from .listener import Listener
from .loop import READ
from .pktinfo import CONTROL_BYTES, answer_from, tell_where_sent, where_sent
from .reactor import Reactor, Timer
from .resolver import Resolver
from .rule import RESOLVER_PORT

__all__ = ["NameServer"]

_PACKETS_AT_ONCE = 16
_PACKET_BYTES = 4096
_CONNECTIONS_MAX = 16
_CONNECTION_SECONDS = 10.0


class NameServer:
    """
    One sandbox's.

    Args:
        reactor: in whose thread all of this is.
        resolver: what is answered.
        on_refused: told of each name that is not allowed, and where the question comes from, if that is known.
    """

    def __init__(
        self, reactor: Reactor, resolver: Resolver, on_refused: Callable[[Origin | None, str], object]
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._on_refused = on_refused
        self._listening: list[socket.socket] = []
        self._accepting: list[Listener] = []
        self._connections: dict[socket.socket, tuple[bytearray, Timer]] = {}

    def take(self, sock: socket.socket) -> None:
        """
        Serve one of the sockets, which is ours from now on.
        """
        if sock.family == socket.AF_INET6:
            self._resolver.has_ipv6 = True
        if sock.type == socket.SOCK_STREAM:
            self._accepting.append(Listener(self._reactor, sock))
            self._accepting[-1].open(self._begin)
            return
        self._listening.append(sock)
        tell_where_sent(sock)
        self._reactor.watch(sock.fileno(), READ, lambda: self._serve(sock))

    def _serve(self, sock: socket.socket) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet, control, _, sender = sock.recvmsg(_PACKET_BYTES, CONTROL_BYTES)
            except BlockingIOError:
                return
            sent_to = where_sent(control)
            origin = _origin(sender, sent_to)
            reply = self._resolver.answer(packet, functools.partial(self._on_refused, origin))
            if reply is not None:
                with contextlib.suppress(OSError):  # nobody listens there any more, or its buffer is full
                    sock.sendmsg([reply], answer_from(sent_to), 0, sender)

    def _begin(self, sock: socket.socket) -> None:
        if len(self._connections) >= _CONNECTIONS_MAX:
            sock.close()
            return
        timer = self._reactor.later(_CONNECTION_SECONDS, lambda: self._hang_up(sock))
        self._connections[sock] = bytearray(), timer
        self._reactor.watch(sock.fileno(), READ, lambda: self._converse(sock))

    def _converse(self, sock: socket.socket) -> None:
        """
        Each packet has its length before it. RFC 1035 section 4.2.2.
        """
        held, _ = self._connections[sock]
        on_refused = functools.partial(self._on_refused, origin_of(sock))
        try:
            data = sock.recv(_PACKET_BYTES)
            held += data
            while len(held) >= 2 and len(held) >= 2 + (length := int.from_bytes(held[:2], "big")):
                reply = self._resolver.answer(bytes(held[2 : 2 + length]), on_refused)
                del held[: 2 + length]
                if reply is None or sock.send(len(reply).to_bytes(2, "big") + reply) != 2 + len(reply):
                    data = b""
                    break
        except OSError:
            data = b""
        if not data:
            self._hang_up(sock)

    def _hang_up(self, sock: socket.socket) -> None:
        if entry := self._connections.pop(sock, None):
            entry[1].cancel()
            self._reactor.unwatch(sock.fileno())
            sock.close()

    def close(self) -> None:
        """
        Drop all of it.
        """
        for sock in list(self._connections):
            self._hang_up(sock)
        for listener in self._accepting:
            listener.close()
        for sock in self._listening:
            self._reactor.unwatch(sock.fileno())
            sock.close()
        self._listening.clear()

    def forget(self) -> None:
        """
        The same in a forked copy of the harness, where nothing is watched.
        """
        for sock in (*self._listening, *self._connections, *(listener.sock for listener in self._accepting)):
            sock.close()


def _origin(sender: tuple[str, int], sent_to: bytes) -> Origin | None:
    """
    That of a datagram; None where the kernel did not say whom it was sent to.
    """
    if not sent_to:
        return None
    return Origin("udp", sender[:2], (str(parse_packed(sent_to)), RESOLVER_PORT))
