"""
Finding a host by its name and connecting to it, without waiting: for the thread that serves the networks of sandboxes.

A name is looked up by a function that may block, in a thread of its own; what it gives is only text, and is judged
by whoever asked before anything is connected to.
"""

from __future__ import annotations

import errno
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .address import parse_address
from .loop import WRITE
from .reactor import Reactor, Timer

if TYPE_CHECKING:
    from .address import Address

__all__ = ["Dial", "LookUp", "Lookups", "look_up"]

# A name -> its addresses, as text. May block, and may raise OSError.
LookUp = Callable[[str], Iterable[str]]

_KEPT_SECONDS = 5.0
_KEPT_NAMES = 4096
_LOOKUPS_AT_ONCE = 16
_NEXT_SECONDS = 0.25  # RFC 8305 section 8: "Connection Attempt Delay"
_GIVE_UP_SECONDS = 30.0


def look_up(name: str) -> list[str]:
    """
    The addresses that the host's own resolver gives, in its order (RFC 6724).
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Lookups:
    """
    What one sandbox's names have lately resolved to.

    Args:
        reactor: in whose thread answers are given.
        ask: who is asked.
    """

    def __init__(self, reactor: Reactor, ask: LookUp) -> None:
        self._reactor = reactor
        self._ask = ask
        self._kept: dict[str, tuple[float, list[Address]]] = {}
        self._waiting: dict[str, list[Callable[[list[Address]], object]]] = {}
        self._queue: list[str] = []
        self._running = 0

    def find(self, name: str, on_found: Callable[[list[Address]], object]) -> None:
        """
        Call back with the addresses of a name; with none where it has none, or nobody knows.
        """
        until, addresses = self._kept.get(name, (0.0, []))
        if time.monotonic() < until:
            on_found(addresses)
            return
        if name in self._waiting:
            self._waiting[name].append(on_found)
            return
        self._waiting[name] = [on_found]
        self._queue.append(name)
        self._start()

    def _start(self) -> None:
        while self._queue and self._running < _LOOKUPS_AT_ONCE:
            self._running += 1
            name = self._queue.pop(0)
            threading.Thread(target=self._run, args=(name,), name="jail-lookup", daemon=True).start()

    def _run(self, name: str) -> None:
        addresses: list[Address] = []
        try:
            addresses = [parse_address(text) for text in self._ask(name)]
        except (OSError, UnicodeError, ValueError):
            pass  # nobody has this name, or what was said is no address: the program's connection ends
        finally:
            self._reactor.submit(lambda: self._found(name, addresses))

    def _found(self, name: str, addresses: list[Address]) -> None:
        self._running -= 1
        if len(self._kept) >= _KEPT_NAMES:
            self._kept.clear()
        if addresses:
            self._kept[name] = (time.monotonic() + _KEPT_SECONDS, addresses)
        for on_found in self._waiting.pop(name):
            self._reactor.submit(functools.partial(on_found, addresses))  # each by itself: one may fail
        self._start()


class Dial:
    """
    One connection on its way: happy eyeballs (RFC 8305) over addresses that may be connected to.

    Args:
        reactor: in whose thread all of this is.
        addresses: in the order in which they are tried.
        port: on each of them.
        on_end: called once, with a connected socket, or with None when nobody answers.

    Attributes:
        gives_up_at: of ``time.monotonic``; from then on it should be given up.
    """

    def __init__(
        self,
        reactor: Reactor,
        addresses: Sequence[Address],
        port: int,
        on_end: Callable[[socket.socket | None], object],
    ) -> None:
        self._reactor = reactor
        self._waiting = _interleave(addresses)
        self._port = port
        self._on_end: Callable[[socket.socket | None], object] | None = on_end
        self._trying: set[socket.socket] = set()
        self._next: Timer | None = None
        self.gives_up_at = time.monotonic() + _GIVE_UP_SECONDS
        self._try_next()

    def _try_next(self) -> None:
        if self._next:
            self._next.cancel()
        while self._waiting:
            address = self._waiting.pop(0)
            if self._try(address):
                if self._waiting:
                    self._next = self._reactor.later(_NEXT_SECONDS, self._try_next)
                return
        if not self._trying:
            self._end(None)

    def _try(self, address: Address) -> bool:
        """
        Begin with one; False when that has failed at once.
        """
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # no such family here, or no descriptor left
            return False
        where = (str(address), self._port)
        error = sock.connect_ex(where)
        if error == errno.EINPROGRESS:  # on this host it is connected by now, and only a second call says so
            error = sock.connect_ex(where)
        if error not in (0, errno.EALREADY):
            sock.close()
            return False
        if not error:
            self._end(sock)
            return True
        self._trying.add(sock)
        self._reactor.watch(sock.fileno(), WRITE, lambda: self._tried(sock))
        return True

    def _tried(self, sock: socket.socket) -> None:
        self._reactor.unwatch(sock.fileno())
        self._trying.remove(sock)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._try_next()
        else:
            self._end(sock)

    def give_up(self) -> None:
        """
        It has taken too long.
        """
        self._end(None)

    def cancel(self) -> None:
        """
        Nobody wants it any more.
        """
        self._on_end = None
        self._end(None)

    def _end(self, sock: socket.socket | None) -> None:
        if self._next:
            self._next.cancel()
        for other in self._trying:
            self._reactor.unwatch(other.fileno())
            other.close()
        self._trying.clear()
        self._waiting.clear()
        on_end, self._on_end = self._on_end, None
        if on_end:
            on_end(sock)
        elif sock:
            sock.close()

    def drop(self) -> None:
        """
        Close its descriptors, in a forked copy of the harness.
        """
        for sock in self._trying:
            sock.close()


def _interleave(addresses: Sequence[Address]) -> list[Address]:
    """
    One family and the other in turn, beginning with that of the first. RFC 8305 section 4.
    """
    if len(addresses) < 2:
        return list(addresses)
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    mixed = [address for pair in zip(first, second, strict=False) for address in pair]
    shorter = min(len(first), len(second))
    return [*mixed, *first[shorter:], *second[shorter:]]
