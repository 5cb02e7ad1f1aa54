"""
The ways into a sandbox: where one may be entered, where the host is listened on for that, and one visit.

A server is reached through a socket of the sandbox's own network, on its loopback; so what enters gets no further
than to what programs have opened to each other. All but `entrance`, `refuse_peers` and `listen_on_host` is done in
the harness's network thread.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .address import parse_address
from .carried import Carried, Owner
from .errors import PolicyError, SetupError, UnsupportedError
from .inward import InwardDial
from .ops import Clone
from .publish import Published, ways_out
from .rule import is_name
from .stock import Stock
from .units import render_value

if TYPE_CHECKING:
    from .plan import Plan
    from .policy import Policy
    from .session import Session

__all__ = ["Visit", "entrance", "listen_on_host", "refuse_peers", "refuse_shared"]

_BACKLOG = 1024

_HINTS = {
    errno.EADDRINUSE: 'Somebody listens there already; publish another port, or a free one: "0:{port}".',
    errno.EACCES: "Ports below net.ipv4.ip_unprivileged_port_start are root's; publish a higher one.",
    errno.EADDRNOTAVAIL: "This host has no such address.",
}


def refuse_shared(plan: Plan, what: str) -> None:
    """
    Raises:
        UnsupportedError: the sandbox has no network of its own, into which something could lead.
    """
    if not plan.clone_flags & Clone.NET:
        raise UnsupportedError(
            what,
            needs="a network namespace of the sandbox's own",
            found="one that uses the host's network, or none at all",
            cure='Use network="none" or a list of what may be reached, on a host with user namespaces.',
        )


def entrance(policy: Policy, plan: Plan, port: int, host: str) -> int:
    """
    The family of the socket with which a server inside is connected to.

    Args:
        policy: of the sandbox.
        plan: likewise.
        port: that it listens on.
        host: its address there.

    Raises:
        PolicyError: no server can be there.
        UnsupportedError: the sandbox has no network of its own.
    """
    if not 1 <= port <= 65535:
        raise PolicyError(f"{render_value(port)} is no port from 1 to 65535", key="port")
    try:
        address = parse_address(host)
    except ValueError:
        raise PolicyError(
            f"{render_value(host)} is no address inside; write 127.0.0.1 or ::1", key="host"
        ) from None
    refuse_shared(plan, "connect")
    if port in ways_out(policy.network, has_proxy=policy.proxy_variables):
        raise PolicyError(f"port {port} inside is the way out to what network lists", key="port")
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def refuse_peers(policy: Policy, peers: Mapping[str, Session]) -> None:
    """
    Raises:
        PolicyError: a peer is named by no rule, or cannot be reached by that.
        UnsupportedError: one has no network of its own.
        JailError: one belongs to another process.
    """
    rules = policy.network if isinstance(policy.network, tuple) else ()
    for name, peer in peers.items():
        naming = [rule for rule in rules if rule.host == name and not rule.is_address]
        if not (naming and is_name(name)):
            raise PolicyError(
                f'no rule of network names {render_value(name)}; add one with its ports: "db:5432"',
                key="peers",
            )
        peer.refuse_in_child()
        refuse_shared(peer.plan, f"peers: {name}")
        for port in ways_out(peer.policy.network, has_proxy=peer.policy.proxy_variables):
            if any(rule.covers(port, "tcp") for rule in naming):
                raise PolicyError(
                    f"{name}: port {port} of that sandbox is the way out to what its own network lists",
                    key="peers",
                )


def listen_on_host(published: Sequence[Published]) -> list[socket.socket]:
    """
    A listening socket for each, in order.

    Raises:
        SetupError: one cannot be had; then there is none.
    """
    with contextlib.ExitStack() as on_failure:
        listening = []
        for item in published:
            family = socket.AF_INET6 if ":" in item.address else socket.AF_INET
            try:
                sock = on_failure.enter_context(
                    socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                )
                _listen(sock, item)
            except OSError as exc:
                hint = _HINTS.get(exc.errno or 0, "").format(port=item.port)
                raise SetupError(
                    f"publish {item}", syscall="bind(2), listen(2)", errno=exc.errno or 0, hint=hint or None
                ) from exc
            listening.append(sock)
        on_failure.pop_all()
    return listening


def _listen(sock: socket.socket, item: Published) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # over what is in TIME_WAIT; no two listen
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which what is accepted inherits
    sock.bind((item.address, item.host_port))
    sock.listen(_BACKLOG)


class Visit(Carried):
    """
    One connection from the host to a published port, from `begin` to the owner's `ended`, which is called once.

    Args:
        owner: whose it is.
        sock: as it was accepted on the host; closed at the end.
        stock: of the sandbox.
        port: inside.
    """

    __slots__ = ("_port", "_stock")

    def __init__(self, owner: Owner, sock: socket.socket, stock: Stock, port: int) -> None:
        super().__init__(owner, sock)
        self._stock = stock
        self._port = port

    def begin(self) -> None:
        """
        Connect to the server.
        """
        dial = InwardDial(self._owner.reactor, self._stock, self._port, self._dialled)
        if self.pair is None and not self._has_ended():
            self._dial = dial

    def _dialled(self, inner: socket.socket | None) -> None:
        self._dial = None
        if inner is None:
            self._reset()
            return
        owner = self._owner
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pair = owner.traffic.add(inner, self._sock, owner.account, self._ended)
        if self.pair is None:
            inner.close()
            self._reset()
