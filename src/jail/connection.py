"""
One connection of a program's, from `accept` to its end: judged, looked up, judged again, dialled, listened in on, and
handed to the mover.

All of it is done in the harness's network thread, one callback after the other. Nothing is connected to before the
rules have allowed it, and then exactly the address that was judged.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from .address import parse_address
from .asker import Origin, origin_of
from .dial import Dial, Lookups
from .greeting import GREETING_BYTES_MAX, read_greeting
from .inward import InwardDial
from .loop import READ
from .network import Rules, Verdict, exhausted, granted, judge, names_address, refused
from .reactor import EDGE, Reactor
from .rule import LOCALHOST, Rule
from .stock import Stock
from .traffic import PAIRS_MAX, Account, Traffic
from .tunnel import Tunnel, Upstream

if TYPE_CHECKING:
    from .address import Address

__all__ = ["RESET", "Carried", "Connection", "Owner"]

_GREETING_SECONDS = 10.0
_END = b"\r\n\r\n"  # as which some servers take the end of a connection
RESET = struct.pack("=ii", 1, 0)  # struct linger of socket(7): close(2) sends RST


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
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._sock.close()
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


class Connection(Carried):
    """
    From `begin` on.

    Args:
        owner, sock: see `Carried`.
        name: that its address stands for; None where the program has named an address.
        address: whom the program has connected to.
        port: there.
    """

    __slots__ = (
        "_heard_at",
        "_is_this_host",
        "_is_tunnelled",
        "_listening",
        "_origin",
        "_reached",
        "address",
        "name",
        "port",
        "rule",
    )

    def __init__(
        self, owner: Owner, sock: socket.socket, name: str | None, address: Address, port: int
    ) -> None:
        super().__init__(owner, sock)
        self.name = name
        self.address = address
        self.port = port
        self.rule: Rule | None = None
        self._origin = origin_of(sock)
        self._reached: Address | None = None
        self._is_this_host = False
        self._is_tunnelled = False
        self._heard_at = 0.0  # of time.monotonic: when there were bytes that do not tell yet
        self._listening: socket.socket | None = None  # a copy of `_sock`, while its greeting is awaited

    def begin(self) -> None:
        """
        Judge by what the program has asked for, and find whom that means.
        """
        verdict = judge(self._owner.rules, self.name, None if self.name else self.address, self.port, "tcp")
        if verdict.allowed or not self._owner.ask(
            self._subject, self.port, verdict, self._go_on, self._origin
        ):
            self._go_on(verdict)

    def _go_on(self, verdict: Verdict) -> None:
        if self._has_ended():
            return
        if not verdict.allowed:
            self.lose(verdict)
            return
        self.rule = verdict.rule
        upstream = self._owner.upstream
        if self._is_to_peer():
            self._enter()
        elif upstream is not None and upstream.proxy.serves(self.name, self.address):
            self._tunnel(upstream)
        elif self.name is not None:
            self._owner.lookups.find(self.name, self._found)
        elif self.rule is not None and self.rule.host == "localhost":
            self._found(_loopback(self.address))
        else:
            self._connect([self.address])

    def _is_to_peer(self) -> bool:
        return self.name in self._owner.peers

    def _enter(self) -> None:
        """
        Connect to another sandbox, which nothing but a rule of its very name allows: no "*" does.
        """
        owner, verdict = self._owner, self._judge_now()
        if not verdict.allowed:
            self.lose(verdict)
            return
        dial = InwardDial(owner.reactor, owner.peers[self.name or ""], self.port, self._dialled)
        if self.pair is None and not self._has_ended():
            self._dial = dial

    def _found(self, addresses: list[Address]) -> None:
        """
        Of what a name has resolved to, dial what the rules allow.
        """
        if self._has_ended():
            return
        rules = self._owner.rules
        verdicts = [judge(rules, self.name, address, self.port, "tcp") for address in addresses]
        allowed = [address for address, verdict in zip(addresses, verdicts, strict=True) if verdict.allowed]
        if allowed:
            self._connect(allowed)
        else:
            self.lose(next(iter(verdicts), None))

    def _connect(self, addresses: list[Address]) -> None:
        dial = Dial(self._owner.reactor, addresses, self.port, self._dialled)
        if self.pair is None and not self._has_ended():
            self._dial = dial

    def _tunnel(self, upstream: Upstream) -> None:
        """
        Have a proxy connect to it: to a name as a name, which is the proxy's to look up.
        """
        self._is_tunnelled = True
        tunnel = Tunnel(upstream, self.name or str(self.address), self.port, self._dialled)
        if self.pair is None and not self._has_ended():
            self._dial = tunnel

    def _dialled(self, other: socket.socket | None) -> None:
        self._dial = None
        if other is None:
            self.lose(None)
            return
        verdict: Verdict | None = self._judge_now() if self._is_to_peer() else self._judge_other(other)
        if verdict and verdict.allowed:
            if not self._open_way(other):
                other.close()
                self.lose(None)
                return
            verdict = self._judge_greeting(self._sock)
        if verdict is not None and not verdict.allowed:
            other.close()
            self.lose(verdict)
            return
        if verdict is None and not self._listen_in():
            other.close()
            self.lose(
                exhausted("the harness has no descriptor left", "a higher RLIMIT_NOFILE for it: ulimit -n")
            )
            return
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._hand_over(other, is_held=verdict is None) and self._listening:
            self._owner.reactor.watch(self._listening.fileno(), READ | EDGE, self._heard)

    def _open_way(self, other: socket.socket) -> bool:  # noqa: ARG002 - one that was asked for has to say something
        """
        What comes before the first bytes of the program; False where it cannot.
        """
        return True

    def _judge_other(self, other: socket.socket) -> Verdict:
        """
        Whether it may be with whom it is: the rules may have changed meanwhile.
        """
        if self._is_tunnelled:  # it has ended at the proxy, wherever that is
            return self._judge_now()
        try:
            ours, theirs = (parse_address(name()[0]) for name in (other.getsockname, other.getpeername))
        except OSError:
            return refused("it was reset")
        self._reached, self._is_this_host = theirs, ours == theirs
        return self._judge_now()

    def _judge_now(self) -> Verdict:
        rules, reached = self._owner.rules, self._reached
        verdict = judge(rules, self.name, self.address if self.name is None else reached, self.port, "tcp")
        if not verdict.allowed:
            return verdict
        if self._is_to_peer():
            is_named = any(rule.host == self.name and rule.covers(self.port, "tcp") for rule in rules.allow)
            return (
                verdict if is_named else refused("it is another sandbox, and no rule names it with this port")
            )
        if reached is None or not self._is_this_host or names_address(rules, reached, self.port, "tcp"):
            return verdict
        return refused(f"{reached} is this host, by a public address, and no rule names it")

    def judge_again(self) -> None:
        """
        The rules have changed: cut it, if it may not be any more.
        """
        if self.rule is None:  # it is yet to be judged
            return
        verdict = self._judge_now()
        if not verdict.allowed:
            self._deny(verdict)
            self.cut()

    def _hand_over(self, other: socket.socket, *, is_held: bool) -> bool:
        owner = self._owner
        self.pair = owner.traffic.add(self._sock, other, owner.account, self._ended, is_held=is_held)
        if self.pair is None:
            other.close()
            self.lose(
                exhausted("the harness has too many connections already", f"no more than {PAIRS_MAX} at once")
            )
        return self.pair is not None

    # What a program says whom it talks to.

    def _judge_greeting(self, sock: socket.socket) -> Verdict | None:
        """
        Whether the first bytes name who was resolved; None while they do not tell.
        """
        if self.name is None or (self.rule and self.rule.any_name):
            return granted(self.rule)
        is_whole = _has_hung_up(sock)  # before the look: what comes after it is not in what was looked at
        try:
            data = sock.recv(GREETING_BYTES_MAX, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:  # it has ended without a word, and that is passed on
            return granted(self.rule)
        greeting = read_greeting(data)
        if greeting.kind == "more" and not is_whole:
            return None
        if greeting.kind == "more":
            greeting = read_greeting(data + _END)
        if greeting.kind == "other" or set(greeting.names) == {self.name}:
            return granted(self.rule)
        said = ", ".join(greeting.names) or "no name"
        protocol = "TLS" if greeting.kind == "tls" else "HTTP"
        return refused(f"{protocol} says {said} on a connection to {self.name}", any_name=True)

    def _listen_in(self) -> bool:
        """
        Keep a copy of the program's socket, which will be the mover's, to look at what comes first.
        """
        try:
            self._listening = self._sock.dup()
        except OSError:
            return False
        return True

    def _heard(self) -> None:
        if self._listening is None or self.pair is None:
            return
        verdict = self._judge_greeting(self._listening)
        if verdict is None:
            self._heard_at = self._heard_at or time.monotonic()
            return
        self._conclude(verdict)

    def _conclude(self, verdict: Verdict) -> None:
        self._stop_listening()
        if self.pair is None:
            return
        if verdict.allowed:
            self._owner.traffic.release(self.pair)
        else:
            self._deny(verdict)
            self._owner.traffic.cut(self.pair)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._owner.reactor.unwatch(self._listening.fileno())
            self._listening.close()
            self._listening = None

    # Ends.

    @property
    def _subject(self) -> str:
        return self.name or str(self.address)

    def _deny(self, verdict: Verdict) -> None:
        self._owner.deny(self._subject, self.port, verdict, self._origin)

    def _ended(self) -> None:
        self._stop_listening()
        super()._ended()

    def lose(self, verdict: Verdict | None) -> None:
        """
        End one that has no pair yet: with a verdict against it, or since nobody answers.
        """
        if verdict is not None:
            self._deny(verdict)
        self._reset()

    def sweep(self, now: float, idle_seconds: float) -> None:
        """
        See `Carried`: a program that has begun to say whom it talks to has some time to end.
        """
        if self._listening is not None and self._heard_at and self._heard_at + _GREETING_SECONDS <= now:
            why = f"what it sends first to {self.name} may become a request, and does not in time"
            self._conclude(refused(why, any_name=True))
        else:
            super().sweep(now, idle_seconds)

    def cut(self) -> None:
        """
        See `Carried`.
        """
        self._stop_listening()
        super().cut()

    def drop(self) -> None:
        """
        See `Carried`.
        """
        if self._listening is not None:
            self._listening.close()
        super().drop()


def _has_hung_up(sock: socket.socket) -> bool:
    """
    Whether there is an end behind what has come. POLLRDHUP, poll(2)
    """
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _loopback(address: Address) -> list[Address]:
    """
    Where a server of the host's may listen that a program calls localhost: it has the one address, or the other.
    """
    return [address, *(other for text in LOCALHOST if (other := parse_address(text)) != address)]
