"""
A connection through a proxy, on its way: found, dialled, and asked for whom the program means; without waiting.

It stands where a `Dial` does, and has the same ends. Why a proxy does not open the way is logged, each reason once:
it is no denial, for no line of policy would change it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .address import parse_address
from .dial import Dial, Lookups, look_up
from .handshake import HEAD_BYTES_MAX, RefusedError, Step, handshake
from .loop import READ

if TYPE_CHECKING:
    from .address import Address
    from .proxy import Proxy
    from .reactor import Reactor

__all__ = ["Tunnel", "Upstream"]

_GIVE_UP_SECONDS = 30.0
_REASONS_MAX = 64

_log = logging.getLogger("jail")


class Upstream:
    """
    The proxy of one sandbox.

    Args:
        reactor: in whose thread all of this is.
        proxy: which.
    """

    def __init__(self, reactor: Reactor, proxy: Proxy) -> None:
        self.reactor = reactor
        self.proxy = proxy
        self.lookups = Lookups(
            reactor, look_up
        )  # of the proxy itself: the sandbox's resolver is for programs
        self._told: set[str] = set()

    def tell(self, target: str, why: str) -> None:
        """
        Log why it has not let a program through.
        """
        text = f"the proxy {self.proxy} has not connected to {target}: {why}"
        if text not in self._told and len(self._told) < _REASONS_MAX:
            self._told.add(text)
            _log.warning("%s", text)


class Tunnel:
    """
    One connection.

    Args:
        upstream: the proxy.
        host: a name, or an address, that the rules allow.
        port: there.
        on_end: called once, with a socket that is connected to it, or with None.

    Attributes:
        gives_up_at: of ``time.monotonic``; from then on it should be given up.
    """

    def __init__(
        self, upstream: Upstream, host: str, port: int, on_end: Callable[[socket.socket | None], object]
    ) -> None:
        self._upstream = upstream
        self._target = f"{host}, port {port}"
        self._handshake = handshake(upstream.proxy, host, port)
        self._on_end: Callable[[socket.socket | None], object] | None = on_end
        self._dial: Dial | None = None
        self._sock: socket.socket | None = None
        self._step = Step(b"")
        self._heard = b""
        self.gives_up_at = time.monotonic() + _GIVE_UP_SECONDS
        try:
            self._found([parse_address(upstream.proxy.host)])
        except ValueError:
            upstream.lookups.find(upstream.proxy.host, self._found)

    def _found(self, addresses: list[Address]) -> None:
        if self._is_over:
            return
        if not addresses:
            self._fail("it has no address")
            return
        dial = Dial(self._upstream.reactor, addresses, self._upstream.proxy.port, self._dialled)
        if self._sock is None and not self._is_over:
            self._dial = dial

    def _dialled(self, sock: socket.socket | None) -> None:
        self._dial = None
        if sock is None:
            self._fail("nobody answers there")
            return
        self._sock = sock
        self._upstream.reactor.watch(sock.fileno(), READ, self._hear)
        self._go_on(None)

    def _go_on(self, heard: bytes | None) -> None:
        """
        Give the handshake what it has waited for, and say what it says next.
        """
        if self._sock is None:
            return
        self._heard = b""
        try:
            self._step = next(self._handshake) if heard is None else self._handshake.send(heard)
            # Under 2 KiB, after an answer to all before: it fits into the buffer of any socket.
            if self._step.send and self._sock.send(self._step.send) != len(self._step.send):
                self._fail("it takes no request")
        except StopIteration:
            self._upstream.reactor.unwatch(self._sock.fileno())
            sock, self._sock = self._sock, None
            self._end(sock)
        except (RefusedError, OSError) as exc:
            self._fail(str(exc))

    def _hear(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(self._step.read or HEAD_BYTES_MAX, socket.MSG_PEEK)
            taken = self._take(data)
            self._sock.recv(len(taken))
        except BlockingIOError:
            return
        except OSError as exc:
            self._fail(str(exc))
            return
        if not data:
            self._fail("it has closed the connection")
        elif self._is_whole():
            self._go_on(self._heard)
        elif len(self._heard) >= HEAD_BYTES_MAX:
            self._fail(f"its answer has more than {HEAD_BYTES_MAX} bytes")

    def _take(self, data: bytes) -> bytes:
        """
        Of what is there, what belongs to the answer.
        """
        before = len(self._heard)
        self._heard += data
        if self._step.read:
            self._heard = self._heard[: self._step.read]
        elif (end := self._heard.find(b"\r\n\r\n")) >= 0:
            self._heard = self._heard[: end + 4]
        return self._heard[before:]

    def _is_whole(self) -> bool:
        if self._step.read:
            return len(self._heard) == self._step.read
        return self._heard.endswith(b"\r\n\r\n")

    # Ends.

    @property
    def _is_over(self) -> bool:
        return self._on_end is None

    def _fail(self, why: str) -> None:
        if self._on_end:
            self._upstream.tell(self._target, why)
        self._end(None)

    def give_up(self) -> None:
        """
        It has taken too long.
        """
        self._fail(f"it has not answered within {_GIVE_UP_SECONDS:g} seconds")

    def cancel(self) -> None:
        """
        Nobody wants it any more.
        """
        self._on_end = None
        self._end(None)

    def _end(self, sock: socket.socket | None) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._sock is not None:
            self._upstream.reactor.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
        on_end, self._on_end = self._on_end, None
        if on_end:
            on_end(sock)
        elif sock:
            sock.close()

    def drop(self) -> None:
        """
        Close its descriptors, in a forked copy of the harness.
        """
        if self._dial is not None:
            self._dial.drop()
        if self._sock is not None:
            self._sock.close()
