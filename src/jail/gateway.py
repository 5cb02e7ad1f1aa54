"""
One sandbox's way out: what its programs connect to is judged, looked up, judged again, and dialled.

The listening sockets were made inside, and every address is local there; so the local address of what is accepted
says whom the program meant. Nothing is connected to before the rules have allowed it, and then exactly the address
that was judged. All of it is done in the harness's network thread; the bytes are the mover's.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .address import parse_address
from .denial import Denial, Denials, Meanwhile
from .dial import Dial, LookUp, Lookups, look_up
from .errors import UnsupportedError
from .fork import forget_in_child
from .greeting import GREETING_BYTES_MAX, read_greeting
from .loop import READ
from .nameserver import NameServer
from .network import (
    LOCALHOST,
    RESOLVER_PORT,
    Rule,
    Rules,
    Verdict,
    granted,
    judge,
    judge_name,
    names_address,
    refused,
)
from .reactor import EDGE
from .resolver import Names, Resolver
from .spawn import receive_event_fds
from .traffic import Account, Traffic, enter, leave

if TYPE_CHECKING:
    from .address import Address

__all__ = ["Gateway", "GatewayLimits"]

_ACCEPTED_AT_ONCE = 64
_SWEEP_SECONDS = 1.0
_NO_DESCRIPTOR_SECONDS = 0.1
_END_SECONDS = 5.0
_IDLE_SECONDS = 900.0
_CONNECTIONS = 1024
_DESCRIPTORS_EACH = 3  # its two sockets, and a copy of one while its greeting is awaited
_RESET = struct.pack("=ii", 1, 0)  # struct linger of socket(7): close(2) sends RST


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """
    What one sandbox may have of the network.

    Args:
        connections: at once. None: 1024, or an eighth of the descriptors that the harness may have.
        idle_seconds: before one that moves nothing is cut. None: a quarter of an hour.
        bytes: of all of them together, in both directions; None for no limit.
    """

    connections: int | None = None
    idle_seconds: float | None = None
    bytes: int | None = None


@dataclass(eq=False, slots=True)
class _Connection:
    """
    One that was accepted, until it has ended.
    """

    sock: socket.socket
    address: Address
    port: int
    name: str | None
    rule: Rule | None = None
    dial: Dial | None = None
    pair: int | None = None
    listening: socket.socket | None = None  # a copy of `sock`, while its greeting is awaited


def _loopback(address: Address) -> list[Address]:
    """
    Where a server of the host's may listen that a program calls localhost: it has the one address, or the other.
    """
    return [address, *(other for text in LOCALHOST if (other := parse_address(text)) != address)]


def _connections_max(wanted: int | None) -> int:
    """
    How many connections there may be at once.

    Raises:
        UnsupportedError: more are wanted than the harness has descriptors for.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted is None:
        return max(8, min(_CONNECTIONS, soft // 8))
    if wanted * _DESCRIPTORS_EACH > soft:
        raise UnsupportedError(
            "network_connections",
            needs=f"{wanted * _DESCRIPTORS_EACH} descriptors in the harness",
            found=f"RLIMIT_NOFILE of {soft}",
            cure="Raise it with `ulimit -n`, or resource.setrlimit() in the harness.",
        )
    return wanted


class Gateway:
    """
    From before the sandbox is built to its end.

    Args:
        rules: who may be reached.
        limits: how much of it.
        denials: where refusals are noted.
        look: who is asked for the addresses of a name; None for the host's own resolver.

    Raises:
        UnsupportedError: the harness may not have the descriptors that so many connections need.
    """

    def __init__(
        self, rules: Rules, limits: GatewayLimits, denials: Denials, look: LookUp | None = None
    ) -> None:
        self.rules = rules
        self._limits = limits
        self._connections_max = _connections_max(limits.connections)
        self._idle_seconds = limits.idle_seconds if limits.idle_seconds is not None else _IDLE_SECONDS
        self._denials = denials
        self._traffic: Traffic = enter()
        self._reactor = self._traffic.reactor
        self._names = Names()
        resolver = Resolver(self._names, self._allows_name, self._refuse_name)
        self._server = NameServer(self._reactor, resolver)
        self._lookups = Lookups(self._reactor, look or look_up)
        self._listeners: list[socket.socket] = []
        self._connections: set[_Connection] = set()
        self._is_sweeping = False
        self._is_closed = False
        self._ended = threading.Event()
        self._final = (0, 0)
        self._ours: socket.socket | None = None
        self._account: Account
        self._reactor.call(self._open_account)
        forget_in_child(self)

    def _open_account(self) -> None:
        self._account = self._traffic.open_account(self._limits.bytes or 0)

    @property
    def moved(self) -> tuple[int, int]:
        """
        Bytes from the programs, and to them.
        """
        return self._final if self._ended.is_set() else self._account.moved

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
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours = ours
        self._reactor.submit(lambda: self._reactor.watch(ours.fileno(), READ, self._receive))
        return theirs

    def _receive(self) -> None:
        """
        One socket from the sandbox, or the end of them.
        """
        if self._ours is None:
            return
        try:
            event, fds = receive_event_fds(self._ours, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if event is None:
            self._stop_receiving()
            return
        for fd in fds:
            self._take(socket.socket(fileno=fd))

    def _stop_receiving(self) -> None:
        if self._ours is not None:
            self._reactor.unwatch(self._ours.fileno())
            self._ours.close()
            self._ours = None

    def _take(self, sock: socket.socket) -> None:
        port = sock.getsockname()[1]
        if port == RESOLVER_PORT:
            self._server.take(sock)
            return
        self._listeners.append(sock)
        self._listen(sock, port)

    def _listen(self, sock: socket.socket, port: int) -> None:
        if not self._is_closed:
            self._reactor.watch(sock.fileno(), READ, lambda: self._accept(sock, port))

    # Names.

    def _allows_name(self, name: str) -> bool:
        return judge_name(self.rules, name).allowed

    def _refuse_name(self, name: str) -> None:
        self._deny(name, None, judge_name(self.rules, name))

    def _deny(self, subject: str, port: int | None, verdict: Verdict) -> None:
        if verdict.rule is not None:
            cure = f'take "{verdict.rule}" from deny_network'
        else:
            host = f"[{subject}]" if ":" in subject else subject
            allowing = (host if port is None else f"{host}:{port}") + f" {verdict.word}" * bool(verdict.word)
            cure = f'network = ["{allowing}"]'
        rule = str(verdict.rule) if verdict.rule is not None else ""
        self._denials.add(Denial("network", subject, port, verdict.why, rule, cure))

    # Connections: accepted, looked up, dialled, paired.

    def _accept(self, listener: socket.socket, port: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptor is left: they wait until some are
                self._reactor.unwatch(listener.fileno())
                self._reactor.later(_NO_DESCRIPTOR_SECONDS, lambda: self._listen(listener, port))
                return
            self._begin(sock, port)

    def _begin(self, sock: socket.socket, port: int) -> None:
        try:
            text = sock.getsockname()[0]
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            return
        name = self._names.name_of(text)
        connection = _Connection(sock, parse_address(text.partition("%")[0]), port, name)
        if len(self._connections) >= self._connections_max:
            why = f"it has {self._connections_max} connections already"
            self._refuse(connection, refused(why))
            return
        verdict = judge(self.rules, name, None if name else connection.address, port, "tcp")
        if not verdict.allowed:
            self._refuse(connection, verdict)
            return
        connection.rule = verdict.rule
        self._connections.add(connection)
        self._sweep_later()
        if name is None and verdict.rule is not None and verdict.rule.host == "localhost":
            self._dial(connection, _loopback(connection.address))
        elif name is None:
            self._dial(connection, [connection.address])
        else:
            self._lookups.find(name, lambda found: self._dial_judged(connection, found))

    def _dial_judged(self, connection: _Connection, found: list[Address]) -> None:
        """
        Of what a name has resolved to, dial what the rules allow.
        """
        if connection not in self._connections:
            return
        verdicts = [judge(self.rules, connection.name, address, connection.port, "tcp") for address in found]
        allowed = [address for address, verdict in zip(found, verdicts, strict=True) if verdict.allowed]
        if allowed:
            self._dial(connection, allowed)
        else:
            self._lose(connection, next(iter(verdicts), None))

    def _dial(self, connection: _Connection, addresses: list[Address]) -> None:
        dial = Dial(self._reactor, addresses, connection.port, lambda sock: self._dialled(connection, sock))
        if connection in self._connections and connection.pair is None:
            connection.dial = dial

    def _dialled(self, connection: _Connection, other: socket.socket | None) -> None:
        connection.dial = None
        if other is None:
            self._lose(connection, None)
            return
        if verdict := self._judge_peer(connection, other):
            other.close()
            self._lose(connection, verdict)
            return
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connection.name is None or (connection.rule and connection.rule.any_name):
            self._pair(connection, other, is_held=False)
            return
        greeting = self._judge_greeting(connection, connection.sock)
        if greeting is not None and not greeting.allowed:
            other.close()
            self._lose(connection, greeting)
            return
        if greeting is None and not self._listen_in(connection):
            other.close()
            self._lose(connection, refused("the harness has no descriptor left"))
            return
        if self._pair(connection, other, is_held=greeting is None) and connection.listening:
            fd = connection.listening.fileno()
            self._reactor.watch(fd, READ | EDGE, lambda: self._heard(connection))

    def _judge_peer(self, connection: _Connection, other: socket.socket) -> Verdict | None:
        """
        A verdict against a connection that has ended at this very host, by a public address that it has.
        """
        try:
            ours, theirs = other.getsockname()[0], other.getpeername()[0]
        except OSError:
            return refused("it was reset")
        if ours != theirs or names_address(self.rules, parse_address(theirs), connection.port, "tcp"):
            return None
        return refused(f"{theirs} is this host, and no rule names it")

    def _pair(self, connection: _Connection, other: socket.socket, *, is_held: bool) -> bool:
        def on_end() -> None:
            self._forget(connection)

        number = self._traffic.add(connection.sock, other, self._account, on_end, is_held=is_held)
        if number is None:
            other.close()
            self._lose(connection, refused("the harness has too many connections already"))
            return False
        connection.pair = number
        return True

    # What a program says whom it talks to.

    def _judge_greeting(self, connection: _Connection, sock: socket.socket) -> Verdict | None:
        """
        Whether the first bytes name who was resolved; None while they do not tell.
        """
        try:
            data = sock.recv(GREETING_BYTES_MAX, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:  # it has ended without a word, and that is passed on
            return granted(connection.rule)
        greeting = read_greeting(data)
        if greeting.kind == "more":
            return None
        if greeting.kind == "other" or set(greeting.names) == {connection.name}:
            return granted(connection.rule)
        said = ", ".join(greeting.names) or "no name"
        protocol = "TLS" if greeting.kind == "tls" else "HTTP"
        why = f"{protocol} says {said} on a connection to {connection.name}"
        return refused(why, word="any-name")

    def _listen_in(self, connection: _Connection) -> bool:
        """
        Keep a copy of the program's socket, which will be the mover's, to look at what comes first.
        """
        try:
            connection.listening = connection.sock.dup()
        except OSError:
            return False
        return True

    def _heard(self, connection: _Connection) -> None:
        if connection.listening is None or connection.pair is None:
            return
        verdict = self._judge_greeting(connection, connection.listening)
        if verdict is None:
            return
        self._stop_listening(connection)
        if verdict.allowed:
            self._traffic.release(connection.pair)
        else:
            self._deny_connection(connection, verdict)
            self._traffic.cut(connection.pair)

    def _stop_listening(self, connection: _Connection) -> None:
        if connection.listening is not None:
            self._reactor.unwatch(connection.listening.fileno())
            connection.listening.close()
            connection.listening = None

    # Ends.

    def _deny_connection(self, connection: _Connection, verdict: Verdict) -> None:
        self._deny(connection.name or str(connection.address), connection.port, verdict)

    def _refuse(self, connection: _Connection, verdict: Verdict) -> None:
        """
        RST, at once.
        """
        self._deny_connection(connection, verdict)
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.sock.close()

    def _lose(self, connection: _Connection, verdict: Verdict | None) -> None:
        """
        End one that was begun: with a verdict against it, or since nobody answers.
        """
        self._forget(connection)
        if verdict is not None:
            self._refuse(connection, verdict)
            return
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.sock.close()

    def _forget(self, connection: _Connection) -> None:
        self._stop_listening(connection)
        self._connections.discard(connection)
        if self._is_closed and not self._connections:
            self._end()

    def _end(self) -> None:
        if not self._ended.is_set():
            self._final = self._traffic.moved(self._account.number)
            self._traffic.close_account(self._account)
            self._ended.set()

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._reactor.later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """
        End what has taken, or was idle for, too long.
        """
        self._is_sweeping = False
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.dial is not None and connection.dial.gives_up_at <= now:
                connection.dial.give_up()
            elif connection.pair is not None:
                at = self._traffic.moved_at(connection.pair)
                if at and at + self._idle_seconds <= now:
                    self._traffic.cut(connection.pair)
        if self._connections:
            self._sweep_later()

    def close(self) -> None:
        """
        End all of it. From any thread; may be called again.
        """
        if not self._is_closed:
            self._is_closed = True
            self._reactor.call(self._close)
            if threading.current_thread() is not self._reactor.thread:
                self._ended.wait(_END_SECONDS)
            leave(self._traffic)

    def forget(self) -> None:
        """
        Drop the descriptors: in a forked copy of the harness, which has no such thread.
        """
        self._is_closed = True
        for sock in (self._ours, *self._listeners, *(c.sock for c in self._connections)):
            if sock is not None:
                sock.close()
        self._server.forget()

    def _close(self) -> None:
        self._stop_receiving()
        self._server.close()
        for sock in self._listeners:
            self._reactor.unwatch(sock.fileno())
            sock.close()
        for connection in list(self._connections):
            self._stop_listening(connection)
            if connection.dial is not None:
                connection.dial.cancel()
            if connection.pair is not None:
                self._traffic.cut(connection.pair)
            else:
                self._lose(connection, None)
        if not self._connections:
            self._end()
