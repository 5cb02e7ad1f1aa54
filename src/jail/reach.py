"""
What a live sandbox may reach, and how that is changed while it lives.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .errors import PolicyError, SetupError
from .inbound import refuse_shared
from .network import Rules
from .policy import parse_fields
from .rule import Protocol, Rule, listened_ports, refuse_place_of_proxy

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

__all__ = ["Reach"]

_BACKLOG = 4096
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Reach:
    """
    The rules of a sandbox whose network is a list. `Sandbox.network`; from any thread.

    The policy stays what it was: this is what has become of it. A program inside meets a change at once.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def rules(self) -> tuple[Rule, ...]:
        """
        What may be reached at this moment, but for what `denied` takes from it; `str` gives a rule as it is written.
        """
        return self._gateway().rules.allow

    @property
    def denied(self) -> tuple[Rule, ...]:
        """
        What may not.
        """
        return self._gateway().rules.deny

    def allow(self, *rules: str | Rule) -> None:
        """
        Add to what may be reached.

        Args:
            rules: as in `Policy.network`.

        Raises:
            PolicyError: one of them is no rule, there are too many ports, or the network of this sandbox is no list.
            SetupError: a program listens on such a port already.
        """
        gateway = self._gateway()
        added = parse_fields({"network": rules})["network"]
        if self._session.policy.proxy_variables:
            refuse_place_of_proxy(added)
        with gateway.changing:
            wanted = listened_ports((*gateway.rules.allow, *added), has_proxy=gateway.has_proxy)
            for protocol, port in sorted(set(wanted) - gateway.ports):
                self._listen(gateway, protocol, port)
            gateway.change(lambda now: Rules(tuple(dict.fromkeys((*now.allow, *added))), now.deny))

    def revoke(self, *rules: str | Rule) -> None:
        """
        Take rules back. Connections that no other rule allows are cut.

        Args:
            rules: of those that `rules` has.

        Raises:
            PolicyError: one of them is no rule, or not there; nothing is changed then.
        """
        gateway = self._gateway()
        gone = parse_fields({"network": rules})["network"]
        with gateway.changing:
            for rule in gone:
                if rule not in gateway.rules.allow:
                    there = ", ".join(map(str, gateway.rules.allow)) or "none"
                    raise PolicyError(f"{rule} is none of the rules, which are: {there}", key="network")
            gateway.change(lambda now: Rules(tuple(rule for rule in now.allow if rule not in gone), now.deny))

    def deny(self, *rules: str | Rule) -> None:
        """
        Add to what may not be reached, whatever allows it. Connections that are denied by it are cut.

        Args:
            rules: as in `Policy.deny_network`.

        Raises:
            PolicyError: one of them is no rule, or the network of this sandbox is no list.
        """
        added = parse_fields({"deny_network": rules})["deny_network"]
        self._gateway().change(lambda now: Rules(now.allow, tuple(dict.fromkeys((*now.deny, *added)))))

    def _gateway(self) -> Gateway:
        gateway, network = self._session.gateway, self._session.policy.network
        if isinstance(network, tuple):
            refuse_shared(self._session.plan, "network")
        if gateway is None or isinstance(network, str):
            msg = f'it is "{network}"; only a list can be changed. One that is empty will do: network = []'
            raise PolicyError(msg, key="network")
        self._session.refuse_ended()
        return gateway

    def _listen(self, gateway: Gateway, protocol: Protocol, port: int) -> None:
        """
        On every address of the sandbox. The harness made its user namespace, so the lower ports are the harness's.
        """
        with ExitStack() as made:
            sockets = []
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            for family in (socket.AF_INET, socket.AF_INET6):
                try:
                    sock = made.enter_context(self._session.make_socket(family, kind))
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.bind(("", port))
                    if protocol == "tcp":
                        sock.listen(_BACKLOG)
                except OSError as exc:
                    if family == socket.AF_INET6 and exc.errno in _NO_IPV6:
                        continue
                    raise SetupError(
                        f"listening on port {port}",
                        syscall="bind(2)",
                        errno=exc.errno or 0,
                        hint=exc.strerror,
                    ) from exc
                sock.settimeout(0)
                sockets.append(sock)
            made.pop_all()
        gateway.add(sockets)
