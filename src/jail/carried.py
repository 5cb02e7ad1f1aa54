"""
What all connections have that a sandbox's network carries, out of it or into it: an owner, a pair at the mover, an end.

All of it is done in the harness's network thread.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from .asker import Origin
from .dial import Dial, Lookups
from .inward import InwardDial
from .network import Rules, Verdict
from .reactor import Reactor
from .stock import Stock
from .traffic import Account, Traffic
from .tunnel import Tunnel, Upstream

__all__ = ["Carried", "Owner", "reset"]

_RESET = struct.pack("=ii", 1, 0)  # struct linger of socket(7): close(2) sends RST


def reset(sock: socket.socket) -> None:
    """
    Close it by RST.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


class Owner(Protocol):
    """
    Whose connection it is: what a gateway has, and what it is told.
    """

    rules: Rules
    reactor: Reactor
    traffic: Traffic
    account: Account
    lookups: Lookups
    peers: Mapping[str, Stock]
    upstream: Upstream | None

    def deny(self, subject: str, port: int | None, verdict: Verdict, origin: Origin | None) -> None:
        """
        Note a refusal of what comes from there.
        """

    def ask(
        self,
        subject: str,
        port: int,
        verdict: Verdict,
        on_verdict: Callable[[Verdict], object],
        origin: Origin | None,
    ) -> bool:
        """
        Have the harness asked about what is refused, and call back with what it says; False: it is not to be asked.
        """

    def count(self, sent: int, received: int) -> None:
        """
        Bytes have passed, or are about to, that the mover does not see.
        """

    def ended(self, connection: Carried) -> None:
        """
        It has ended.
        """


class Carried:
    """
    A connection as its owner sees it, in whichever direction it goes, to the owner's `ended`, which is called once.

    Args:
        owner: whose it is.
        sock: as it was accepted; closed at the end.
    """

    __slots__ = ("_dial", "_owner", "_sock", "pair")

    def __init__(self, owner: Owner, sock: socket.socket) -> None:
        self._owner = owner
        self._sock = sock
        self._dial: Dial | InwardDial | Tunnel | None = None
        self.pair: int | None = None

    def _has_ended(self) -> bool:
        return self._sock.fileno() < 0

    def _ended(self) -> None:
        self._owner.ended(self)

    def _reset(self) -> None:
        """
        End one that has no pair yet, by RST.
        """
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        reset(self._sock)
        self._ended()

    def sweep(self, now: float, idle_seconds: float) -> None:
        """
        End it if it has taken, or was idle for, too long.

        Args:
            now: of ``time.monotonic``.
            idle_seconds: that it may be.
        """
        if self._dial is not None and self._dial.gives_up_at <= now:
            self._dial.give_up()
        elif self.pair is not None:
            at = self._owner.traffic.moved_at(self.pair)
            if at and at + idle_seconds <= now:
                self.cut()

    def cut(self) -> None:
        """
        End it at once, wherever it is on its way. Its owner is told, now or soon.
        """
        if self.pair is not None:
            self._owner.traffic.cut(self.pair)
        else:
            self._reset()

    def drop(self) -> None:
        """
        Close its descriptors, in a forked copy of the harness.
        """
        if self._dial is not None:
            self._dial.drop()
        self._sock.close()
