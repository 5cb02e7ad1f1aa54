"""
One sandbox's ways out and in: the sockets on which its programs, and visitors to what it publishes, are listened to,
and who may connect to what through them.

The listening sockets were made inside, and every address is local there; so the local address of what is accepted
says whom the program meant. All of it is done in the harness's network thread; the bytes are the mover's.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from .address import parse_address
from .allowance import IDLE_SECONDS, GatewayLimits, Outside, connections_max
from .asker import Askers, Origin, origin_of
from .carried import Carried
from .connection import Connection
from .datagram import Flows
from .denial import Asker, Denials, Meanwhile, Question
from .dial import Lookups, look_up
from .errors import JailError
from .fork import forget_in_child
from .forwarded import Forwarded
from .handoff import Handoff
from .inbound import Visit, listen_on_host
from .listener import Listener
from .nameserver import NameServer
from .network import Rules, Verdict, denial_of, granted, judge_name, prevented, refused
from .publish import Published
from .question import Questions
from .resolver import Names, Resolver
from .rule import PROXY, RESOLVER_PORT, Protocol, listened_ports, rule_for
from .stock import Stock
from .traffic import Account, Traffic, enter, leave
from .tunnel import Upstream

__all__ = ["Gateway"]

_SWEEP_SECONDS = 1.0
_END_SECONDS = 5.0


class Gateway:
    """
    From before the sandbox is built to its end.

    Args:
        rules: who may be reached.
        limits: how much of it.
        denials: where refusals are noted.
        outside: what it makes use of.
        has_proxy: whether programs find a proxy inside that leads to the same.

    Attributes:
        rules: who may be reached at this moment.
        changing: held by whoever makes listeners for rules that are to come.
        ports: that are listened on, or are about to be, with their protocols.
        askers: who finds the processes of the sandbox; None before there is one.

    Raises:
        UnsupportedError: the harness may not have the descriptors that so many connections need.
        JailError: the harness has too many sandboxes with an allowlist.
    """

    def __init__(
        self,
        rules: Rules,
        limits: GatewayLimits,
        denials: Denials,
        outside: Outside,
        *,
        has_proxy: bool = False,
    ) -> None:
        self.rules = rules
        self.has_proxy = has_proxy
        self.peers = outside.peers
        self.changing = threading.Lock()
        self.ports: set[tuple[Protocol, int]] = set()
        self.askers: Askers | None = None
        self._limits = limits
        self._connections_max = connections_max(limits.connections)
        self._idle_seconds = limits.idle_seconds if limits.idle_seconds is not None else IDLE_SECONDS
        self._denials = denials
        self.traffic: Traffic = enter()
        self.reactor = self.traffic.reactor
        self.account: Account
        try:
            self.reactor.call(self._open_account)
        except JailError:
            leave(self.traffic)
            raise
        self._names = Names()
        self._resolver = Resolver(self._names, self._allows_name)
        self._server = NameServer(self.reactor, self._resolver, self._refuse_name)
        self._questions = Questions(self.reactor, outside.ask) if outside.ask else None
        self.lookups = Lookups(self.reactor, outside.look or look_up)
        self.upstream = Upstream(self.reactor, outside.proxy) if outside.proxy else None
        self._listeners: set[Listener] = set()
        self._published: list[tuple[Listener, int]] = []
        self._places: dict[int, tuple[str, int]] = {}
        self._connections: set[Carried] = set()
        self._flows = Flows(self, self._connections_max, self._idle_seconds)
        self._counted = 0, 0
        self._is_sweeping = False
        self._is_closed = False
        self._ended = threading.Event()
        self._final = (0, 0)
        self._handoff = Handoff(self.reactor, self._take)
        forget_in_child(self)

    def _open_account(self) -> None:
        self.account = self.traffic.open_account(self._limits.bytes or 0)

    @property
    def moved(self) -> tuple[int, int]:
        """
        Bytes from the programs, and to them.
        """
        if self._ended.is_set():
            return self._final
        sent, received = self.account.moved
        return sent + self._counted[0], received + self._counted[1]

    def count(self, sent: int, received: int) -> None:
        """
        See `FlowOwner`.
        """
        self._counted = self._counted[0] + sent, self._counted[1] + received
        if self.budget():
            self._cut_all()

    def budget(self) -> Verdict | None:
        """
        See `FlowOwner`.
        """
        most = self._limits.bytes
        if not most or sum(self.moved) <= most:
            return None
        return prevented(f"it has moved {most} bytes already", f"more than network_bytes = {most}")

    def _cut_all(self) -> None:
        self._flows.cut()
        for connection in list(self._connections):
            connection.cut()

    def from_now(self) -> Callable[[], Meanwhile]:
        """
        A function that says what happens from this moment until it is called.
        """
        mark, before = self._denials.mark(), sum(self.moved)
        return lambda: Meanwhile(self._denials.since(mark), sum(self.moved) - before)

    def open(self) -> socket.socket:
        """
        The end of a socket on which `jail-init` is to send what its LISTEN ops make; the caller's to close.
        """
        self.ports |= self._listened()
        return self._handoff.open()

    def _listened(self) -> set[tuple[Protocol, int]]:
        return set(listened_ports(self.rules.allow, has_proxy=self.has_proxy))

    @property
    def proxy_url(self) -> str | None:
        """
        Of the proxy inside.
        """
        return "http://{}:{}".format(*PROXY) if self.has_proxy else None

    def _take(self, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        sock.settimeout(0)  # whatever socket.setdefaulttimeout says
        self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        if self._is_closed:
            sock.close()
            return
        port = sock.getsockname()[1]
        if port == RESOLVER_PORT:
            self._server.take(sock)
            return
        if sock.type == socket.SOCK_DGRAM:
            self._flows.take(sock)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        listener = Listener(self.reactor, sock)
        self._listeners.add(listener)
        listener.open(lambda conn: self._begin(conn, port))

    # What may be reached.

    def add(self, listeners: Iterable[socket.socket]) -> None:
        """
        Accept on these as well, which are ours from now on. From any thread.
        """

        def take() -> None:
            for sock in listeners:
                self.ports.add(("udp" if sock.type == socket.SOCK_DGRAM else "tcp", sock.getsockname()[1]))
                self._serve(sock)

        self.reactor.call(take)

    def change(self, change: Callable[[Rules], Rules]) -> None:
        """
        Have other rules, and cut what they do not allow. From any thread.
        """

        def apply() -> None:
            self.rules = change(self.rules)
            self._resolver.forget()
            self._stop_listening(self.ports - self._listened())
            self._flows.judge_again()
            for connection in list(self._connections):
                if isinstance(connection, Connection):
                    connection.judge_again()

        self.reactor.call(apply)

    def _stop_listening(self, ports: set[tuple[Protocol, int]]) -> None:
        self.ports -= ports
        self._flows.stop_listening({port for protocol, port in ports if protocol == "udp"})
        for listener in [listener for listener in self._listeners if ("tcp", listener.port) in ports]:
            self._listeners.remove(listener)
            listener.close()

    def ask(
        self,
        subject: str,
        port: int,
        verdict: Verdict,
        on_verdict: Callable[[Verdict], object],
        origin: Origin | None = None,
    ) -> bool:
        """
        See `Owner`. Of ports that nobody listens on, which are the proxy's alone, a program could ask without end.
        """
        if self._questions is None or verdict.rule is not None or ("tcp", port) not in self.ports:
            return False
        rule = rule_for(subject, port)

        def answered(allowed: bool) -> None:  # noqa: FBT001 - a callback
            if allowed:
                self.rules = Rules(tuple(dict.fromkeys((*self.rules.allow, rule))), self.rules.deny)
            on_verdict(granted(rule) if allowed else refused("the harness was asked, and did not allow it"))

        question = Question(subject, port, verdict.why, str(rule))
        self._questions.put(question, answered, functools.partial(self._find_asker, origin))
        return True

    def _find_asker(self, origin: Origin | None) -> Asker | None:
        return self.askers.find(origin) if self.askers and origin else None

    # Names.

    def name_of(self, address: str) -> str | None:
        """
        See `FlowOwner`.
        """
        return self._names.name_of(address)

    def _allows_name(self, name: str) -> bool:
        verdict = judge_name(self.rules, name)
        return verdict.allowed or (self._questions is not None and verdict.rule is None)

    def _refuse_name(self, origin: Origin | None, name: str) -> None:
        self.deny(name, None, judge_name(self.rules, name), origin)

    def deny(self, subject: str, port: int | None, verdict: Verdict, origin: Origin | None = None) -> None:
        """
        Note a refusal, what would allow it, and who has asked.
        """
        denial = denial_of(subject, port, verdict, origin.protocol if origin else "tcp")
        self._denials.add(denial, functools.partial(self._find_asker, origin))

    # Connections.

    def _begin(self, sock: socket.socket, port: int) -> None:
        try:
            local = sock.getsockname()[:2]
        except OSError:
            sock.close()
            return
        text, _ = local
        if self.has_proxy and (text, port) == PROXY:
            self.forward(sock)
            return
        address = parse_address(text.partition("%")[0])
        origin = origin_of(sock, local)
        self._begin_one(Connection(self, sock, self.name_of(text), address, port, origin))

    def forward(self, sock: socket.socket) -> None:
        """
        Be the proxy that this one was accepted by.
        """
        self._begin_one(Forwarded(self, sock))

    def _begin_one(self, connection: Connection) -> None:
        if verdict := self._admit(connection):
            connection.lose(verdict)
        else:
            connection.begin()

    def _admit(self, connection: Carried) -> Verdict | None:
        """
        Count one in; a verdict against one too many.
        """
        self._connections.add(connection)
        self._sweep_later()
        if len(self._connections) > self._connections_max:
            most = self._connections_max
            return prevented(f"it has {most} connections already", f"more than network_connections = {most}")
        return self.budget()

    # Visitors.

    def bind(self, published: Sequence[Published]) -> None:
        """
        Listen on the host for these; nobody is let in before `welcome`.

        Raises:
            SetupError: an address cannot be had.
        """
        listening = listen_on_host(published)
        self._published = [
            (Listener(self.reactor, sock), item.port) for sock, item in zip(listening, published, strict=True)
        ]
        self._places = {port: listener.sock.getsockname()[:2] for listener, port in self._published}

    @property
    def published(self) -> dict[int, tuple[str, int]]:
        """
        Each port that is published, and where on the host it is.
        """
        return dict(self._places)

    def welcome(self, stock: Stock) -> None:
        """
        Let visitors in: the sandbox is there, and has sockets in stock.
        """
        for listener, port in self._published:
            begin = functools.partial(self._visit, stock, port)
            self.reactor.submit(functools.partial(listener.open, begin))

    def _visit(self, stock: Stock, port: int, sock: socket.socket) -> None:
        visit = Visit(self, sock, stock, port)
        if self._admit(visit):
            visit.cut()
        else:
            visit.begin()

    def _on_host(self) -> list[Listener]:
        return [listener for listener, _ in self._published]

    def ended(self, connection: Carried) -> None:
        """
        See `Owner`.
        """
        self._connections.discard(connection)
        if self._is_closed and not self._connections:
            self._end()

    def _end(self) -> None:
        if not self._ended.is_set():
            self._final = self.moved
            self.traffic.close_account(self.account)
            self._ended.set()

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self.reactor.later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """
        End what has taken, or was idle for, too long.
        """
        self._is_sweeping = False
        now = time.monotonic()
        for connection in list(self._connections):
            connection.sweep(now, self._idle_seconds)
        if self.budget():
            self._cut_all()
        if self._connections:
            self._sweep_later()

    def close(self) -> None:
        """
        End all of it. From any thread; may be called again.
        """
        if not self._is_closed:
            self._is_closed = True
            try:
                self.reactor.call(self._close)
                if threading.current_thread() is not self.reactor.thread:
                    self._ended.wait(_END_SECONDS)
            finally:
                leave(self.traffic)

    def forget(self) -> None:
        """
        Drop the descriptors: in a forked copy of the harness, which has no such thread.
        """
        self._is_closed = True
        self._handoff.forget()
        for listener in (*self._listeners, *self._on_host()):
            listener.sock.close()
        for connection in self._connections:
            connection.drop()
        self._server.forget()
        self._flows.forget()

    def _close(self) -> None:
        self._handoff.close()
        self._server.close()
        self._flows.close()
        for listener in (*self._listeners, *self._on_host()):
            listener.close()
        self._cut_all()
        if not self._connections:
            self._end()
