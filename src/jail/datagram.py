"""
UDP on a sandbox's way out: what its programs send to listed ports, and the answers.

A flow is one socket of a program's and one address that it sends to. It is judged and looked up as a connection is,
and has a connected socket outside: what comes in there comes from who was judged, and goes back from the address that
the program has sent to. All of it is done in the harness's network thread.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .address import parse_address, parse_packed
from .asker import Origin
from .dial import Lookups
from .loop import READ
from .network import Rules, Verdict, judge, judge_this_host, prevented
from .pktinfo import CONTROL_BYTES, answer_from, tell_where_sent, where_sent
from .reactor import Reactor

if TYPE_CHECKING:
    from .address import Address
    from .stock import Stock
    from .tunnel import Upstream

__all__ = ["FlowOwner", "Flows"]

_AT_ONCE = 64  # datagrams of one socket, before others have their turn
_WAITING_MAX = 16  # datagrams of a flow whose name is looked up
_WAITING_BYTES_MAX = 4 << 20  # of all flows
_DATAGRAM_BYTES = 65535
_IDLE_SECONDS = (
    60.0  # RFC 4787 section 4.3 has two minutes at least for what answers the internet; this answers itself
)


class FlowOwner(typing.Protocol):
    """
    Whose flows they are: what a gateway has, and what it is told.
    """

    rules: Rules
    reactor: Reactor
    lookups: Lookups
    upstream: Upstream | None
    peers: Mapping[str, Stock]

    def deny(self, subject: str, port: int | None, verdict: Verdict, origin: Origin) -> None:
        """
        Note a refusal of what comes from there.
        """

    def name_of(self, address: str) -> str | None:
        """
        The name that an address stands for, if it does.
        """

    def count(self, sent: int, received: int) -> None:
        """
        Bytes have passed, or are about to.
        """

    def budget(self) -> Verdict | None:
        """
        A verdict against anything new, when too many have.
        """


# A socket that was made inside, where the program sends from, and the address that it sends to.
_Key = tuple[socket.socket, tuple[str, int], bytes]


class _Flow:
    """
    One of them, until it is idle or its rule is gone.
    """

    __slots__ = ("address", "at", "back", "key", "name", "other", "ours", "peer", "port", "waiting")

    def __init__(self, key: _Key, port: int, name_of: Callable[[str], str | None]) -> None:
        _, _, sent_to = self.key = key
        self.back = answer_from(sent_to)
        self.address = parse_packed(sent_to)
        self.name = name_of(str(self.address))
        self.port = port
        self.other: socket.socket | None = None
        self.peer: Address | None = None
        self.ours: Address | None = None
        self.waiting: list[bytes] = []
        self.at = time.monotonic()

    @property
    def subject(self) -> str:
        return self.name or str(self.address)

    @property
    def origin(self) -> Origin:
        _, program, _ = self.key
        return Origin("udp", program, (str(self.address), self.port))


class Flows:
    """
    Those of one sandbox.

    Args:
        owner: whose they are.
        flows_max: at once; a new one ends that which was idle longest.
        idle_seconds: after which one is forgotten, a minute at most.
    """

    def __init__(self, owner: FlowOwner, flows_max: int, idle_seconds: float) -> None:
        self._owner = owner
        self._flows_max = flows_max
        self._idle_seconds = min(idle_seconds, _IDLE_SECONDS)
        self._listening: dict[socket.socket, int] = {}
        self._awaiting: dict[str, set[_Flow]] = {}
        self._waiting_bytes = 0
        self._flows: dict[_Key, _Flow] = {}  # in the order of their last use
        self._buffer = memoryview(bytearray(_DATAGRAM_BYTES))
        self._is_sweeping = False

    def take(self, sock: socket.socket) -> None:
        """
        Serve one of the sockets that were made inside, which is ours from now on.
        """
        tell_where_sent(sock)
        self._listening[sock] = sock.getsockname()[1]
        self._owner.reactor.watch(sock.fileno(), READ, lambda: self._serve(sock))

    def _serve(self, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                length, control, _, program = sock.recvmsg_into([self._buffer], CONTROL_BYTES)
            except BlockingIOError:
                return
            sent_to = where_sent(control)
            if sent_to and (flow := self._flow((sock, program[:2], sent_to))):
                self._send(flow, self._buffer[:length])

    def _flow(self, key: _Key) -> _Flow | None:
        """
        The flow that a datagram is of; None where there may be none.
        """
        flow = self._flows.pop(key, None)
        if flow is None:
            return self._begin(key)
        self._flows[key] = flow
        flow.at = time.monotonic()
        return flow

    def _begin(self, key: _Key) -> _Flow | None:
        flow = _Flow(key, self._listening[key[0]], self._owner.name_of)
        verdict = self._owner.budget() or self._judge(flow, None if flow.name else flow.address)
        if flow.name in self._owner.peers:  # which is looked up nowhere
            verdict = prevented("it is another sandbox, and those are reached by TCP", "a TCP port of its")
        if self._owner.upstream:  # a rule of a moment ago: the policy has none
            verdict = prevented("the proxy that all goes through carries no UDP", "no network_proxy")
        if not verdict.allowed:
            self._owner.deny(flow.subject, flow.port, verdict, flow.origin)
            return None
        while len(self._flows) >= self._flows_max:
            self._drop(next(iter(self._flows.values())))
        self._flows[key] = flow
        self._sweep_later()
        if flow.name is None:
            self._connect(flow, [flow.address])
        else:
            self._look_up(flow, flow.name)
        return flow if self._is_there(flow) else None

    def _is_there(self, flow: _Flow) -> bool:
        return self._flows.get(flow.key) is flow

    def _judge(self, flow: _Flow, address: Address | None) -> Verdict:
        return judge(self._owner.rules, flow.name, address, flow.port, "udp")

    def _judge_now(self, flow: _Flow) -> Verdict:
        """
        By whom it has reached, once it has.
        """
        rules, peer = self._owner.rules, flow.peer
        verdict = self._judge(flow, flow.address if flow.name is None and peer is None else peer)
        if peer is None or flow.ours != peer:
            return verdict
        return judge_this_host(rules, verdict, peer, flow.port, "udp")

    def _look_up(self, flow: _Flow, name: str) -> None:
        """
        One question for all the flows that wait for its answer.
        """
        if name in self._awaiting:
            self._awaiting[name].add(flow)
            return
        self._awaiting[name] = {flow}
        self._owner.lookups.find(name, functools.partial(self._answered, name))

    def _answered(self, name: str, addresses: list[Address]) -> None:
        for flow in self._awaiting.pop(name, set()):
            self._found(flow, addresses)

    def _found(self, flow: _Flow, addresses: list[Address]) -> None:
        if not self._is_there(flow):
            return
        verdicts = [self._judge(flow, address) for address in addresses]
        allowed = [address for address, verdict in zip(addresses, verdicts, strict=True) if verdict.allowed]
        if allowed:
            self._connect(flow, allowed)
        else:
            self._end(flow, next(iter(verdicts), None))

    def _connect(self, flow: _Flow, addresses: list[Address]) -> None:
        """
        To the first that the host has a way to.
        """
        for address in addresses:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            with contextlib.ExitStack() as on_failure, contextlib.suppress(OSError):
                other = on_failure.enter_context(
                    socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                )
                other.connect((str(address), flow.port))
                flow.ours, flow.peer = (
                    parse_address(name()[0].partition("%")[0])
                    for name in (other.getsockname, other.getpeername)
                )
                verdict = self._judge_now(flow)
                if not verdict.allowed:
                    self._end(flow, verdict)
                    return
                on_failure.pop_all()
                flow.other = other
                self._owner.reactor.watch(other.fileno(), READ, lambda: self._receive(flow))
                for datagram in self._take_waiting(flow):
                    if flow.other is not None:
                        self._send(flow, memoryview(datagram))
                return
        self._end(flow, None)

    def _take_waiting(self, flow: _Flow) -> list[bytes]:
        waiting, flow.waiting = flow.waiting, []
        self._waiting_bytes -= sum(map(len, waiting))
        return waiting

    def _send(self, flow: _Flow, datagram: memoryview) -> None:
        if flow.other is None:
            if len(flow.waiting) < _WAITING_MAX and self._waiting_bytes + len(datagram) <= _WAITING_BYTES_MAX:
                flow.waiting.append(bytes(datagram))
                self._waiting_bytes += len(datagram)
            return
        self._owner.count(len(datagram), 0)
        if flow.other is None:  # it was cut: too many bytes
            return
        with contextlib.suppress(
            OSError
        ):  # nobody is there (ECONNREFUSED), or no room: UDP loses it, as it may
            flow.other.send(datagram)

    def _receive(self, flow: _Flow) -> None:
        for _ in range(_AT_ONCE):
            if flow.other is None:  # it was cut: too many bytes
                return
            try:
                length = flow.other.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:  # what an earlier datagram met: ICMP, udp(7)
                continue
            flow.at = time.monotonic()
            self._owner.count(0, length)
            sock, program, _ = flow.key
            with contextlib.suppress(OSError):
                sock.sendmsg([self._buffer[:length]], flow.back, 0, program)

    # Ends.

    def _end(self, flow: _Flow, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._owner.deny(flow.subject, flow.port, verdict, flow.origin)
        self._drop(flow)

    def _drop(self, flow: _Flow) -> None:
        del self._flows[flow.key]
        self._take_waiting(flow)
        if flow.name in self._awaiting:
            self._awaiting[flow.name].discard(flow)
        if flow.other is not None:
            self._owner.reactor.unwatch(flow.other.fileno())
            flow.other.close()
            flow.other = None

    def judge_again(self) -> None:
        """
        The rules have changed: end what may not be any more.
        """
        for flow in list(self._flows.values()):
            verdict = self._judge_now(flow)
            if not verdict.allowed:
                self._end(flow, verdict)

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._owner.reactor.later(1.0, self._sweep)

    def _sweep(self) -> None:
        self._is_sweeping = False
        before = time.monotonic() - self._idle_seconds
        for flow in list(self._flows.values()):
            if flow.at <= before:
                self._drop(flow)
        if self._flows:
            self._sweep_later()

    def cut(self) -> None:
        """
        End all flows.
        """
        for flow in list(self._flows.values()):
            self._drop(flow)

    def stop_listening(self, ports: set[int]) -> None:
        """
        Serve these ports no more.
        """
        for sock in [sock for sock, port in self._listening.items() if port in ports]:
            for flow in [flow for flow in self._flows.values() if flow.key[0] is sock]:
                self._drop(flow)
            del self._listening[sock]
            self._owner.reactor.unwatch(sock.fileno())
            sock.close()

    def close(self) -> None:
        """
        Drop all of it.
        """
        self.stop_listening(set(self._listening.values()))

    def forget(self) -> None:
        """
        The same in a forked copy of the harness, where nothing is watched.
        """
        for flow in self._flows.values():
            if flow.other is not None:
                flow.other.close()
        for sock in self._listening:
            sock.close()
