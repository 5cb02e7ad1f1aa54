"""
One connection of a program's, from `accept` to its end: judged, looked up, judged again, dialled, listened in on, and
handed to the mover.

All of it is done in the harness's network thread, one callback after the other. Nothing is connected to before the
rules have allowed it, and then exactly the address that was judged.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from .address import parse_address
from .asker import Origin
from .carried import Carried, Owner, reset
from .dial import Dial
from .inward import InwardDial
from .network import Verdict, judge, judge_this_host, prevented, refused
from .rule import LOCALHOST, Rule
from .sniffer import Sniffer
from .traffic import PAIRS_MAX
from .tunnel import Tunnel, Upstream

if TYPE_CHECKING:
    from .address import Address

__all__ = ["Connection"]


class Connection(Carried):
    """
    From `begin` on.

    Args:
        owner, sock: see `Carried`.
        name: that its address stands for; None where the program has named an address.
        address: whom the program has connected to.
        port: there.
        origin: where it comes from.
    """

    __slots__ = (
        "_is_this_host",
        "_is_tunnelled",
        "_origin",
        "_reached",
        "_sniffer",
        "address",
        "name",
        "port",
        "rule",
    )

    def __init__(
        self,
        owner: Owner,
        sock: socket.socket,
        name: str | None,
        address: Address,
        port: int,
        origin: Origin | None,
    ) -> None:
        super().__init__(owner, sock)
        self.name = name
        self.address = address
        self.port = port
        self.rule: Rule | None = None
        self._origin = origin
        self._reached: Address | None = None
        self._is_this_host = False
        self._is_tunnelled = False
        self._sniffer: Sniffer | None = None  # while its first bytes are awaited

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
        verdict = self._judge_other(other)
        if verdict is None or not verdict.allowed or not self._open_way(other):
            other.close()
            self.lose(verdict if verdict and not verdict.allowed else None)
            return
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.name is not None and self._is_sniffed():
            self._sniff(self.name, other)
        else:
            self._hand_over(other)

    def _open_way(self, other: socket.socket) -> bool:  # noqa: ARG002 - one that was asked for has to say something
        """
        What comes before the first bytes of the program; False where it cannot.
        """
        return True

    def _judge_other(self, other: socket.socket) -> Verdict | None:
        """
        Whether it may be with whom it is: the rules may have changed meanwhile. None: it is gone again.
        """
        if (
            not self._is_tunnelled and not self._is_to_peer()
        ):  # those have ended elsewhere: at the proxy, and inside
            try:
                ours, theirs = (parse_address(name()[0]) for name in (other.getsockname, other.getpeername))
            except OSError:
                return None
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
        if reached is None or not self._is_this_host:
            return verdict
        return judge_this_host(rules, verdict, reached, self.port, "tcp")

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

    def _hand_over(self, other: socket.socket, *, is_held: bool = False) -> bool:
        owner = self._owner
        self.pair = owner.traffic.add(self._sock, other, owner.account, self._ended, is_held=is_held)
        if self.pair is None:
            other.close()
            self.lose(
                prevented("the harness has too many connections already", f"no more than {PAIRS_MAX} at once")
            )
        return self.pair is not None

    # What a program says whom it talks to.

    def _is_sniffed(self) -> bool:
        return not (self.rule and self.rule.any_name)

    def _sniff(self, name: str, other: socket.socket) -> None:
        """
        Hand it over when its first bytes name who was resolved; until they tell, only what comes back is passed on.
        """
        sniffer = Sniffer(self._owner.reactor, name)
        try:
            verdict = sniffer.listen(self._sock, other)
        except OSError:
            reset(other)
            self.lose(None)
            return
        if verdict is None:
            self._wait(sniffer, other)
        elif not verdict.allowed:
            other.close()
            self.lose(verdict)
        elif self._hand_over(other):
            self._owner.count(sniffer.size, 0)

    def _wait(self, sniffer: Sniffer, other: socket.socket) -> None:
        try:
            sniffer.wait(self._sock, other, self._sniffed)
        except OSError:
            other.close()
            self.lose(
                prevented("the harness has no descriptor left", "a higher RLIMIT_NOFILE for it: ulimit -n")
            )
            return
        self._sniffer = sniffer
        self._hand_over(other, is_held=True)

    def _sniffed(self, verdict: Verdict | None) -> None:
        sniffer, self._sniffer = self._sniffer, None
        if self.pair is None or sniffer is None:
            return
        if verdict is not None and verdict.allowed:
            self._owner.traffic.release(self.pair)
            self._owner.count(sniffer.size, 0)
            return
        if verdict is not None:
            self._deny(verdict)
        self._owner.traffic.cut(self.pair)

    def _stop_sniffing(self) -> None:
        if self._sniffer is not None:
            self._sniffer.close()
            self._sniffer = None

    # Ends.

    @property
    def _subject(self) -> str:
        return self.name or str(self.address)

    def _deny(self, verdict: Verdict) -> None:
        self._owner.deny(self._subject, self.port, verdict, self._origin)

    def _ended(self) -> None:
        self._stop_sniffing()
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
        if self._sniffer is not None:
            self._sniffer.sweep(now)
        super().sweep(now, idle_seconds)

    def cut(self) -> None:
        """
        See `Carried`.
        """
        self._stop_sniffing()
        super().cut()

    def drop(self) -> None:
        """
        See `Carried`.
        """
        if self._sniffer is not None:
            self._sniffer.drop()
        super().drop()


def _loopback(address: Address) -> list[Address]:
    """
    Where a server of the host's may listen that a program calls localhost: it has the one address, or the other.
    """
    return [address, *(other for text in LOCALHOST if (other := parse_address(text)) != address)]
