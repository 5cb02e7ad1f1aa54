"""
Who keeps a new sandbox's network, where there is something to keep: a gateway, a broker, or nobody.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .denial import Ask, Denials
from .errors import JailError, PolicyError
from .host import Host
from .inbound import refuse_peers, refuse_shared
from .network import Rules
from .notify import is_brokered
from .plan import Plan
from .policy import Policy
from .proxy import proxy_of
from .rule import RESOLVER_PORT
from .tier import Tier

if TYPE_CHECKING:
    from .broker import Broker
    from .dial import LookUp
    from .gateway import Gateway
    from .session import Session

__all__ = ["Wishes", "make_broker", "make_gateway", "sockets_of"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What a caller wants besides the policy.

    Args:
        look: who is asked for the addresses of a name that is allowed; None for the host's own resolver.
        ask: who is asked about what no rule is about; None for nobody.
        peers: other sandboxes of this harness, by names that the policy allows.
    """

    look: LookUp | None = None
    ask: Ask | None = None
    peers: Mapping[str, Session] = field(default_factory=dict)


def make_gateway(
    policy: Policy, plan: Plan, denials: Denials, wishes: Wishes, at_end: ExitStack
) -> Gateway | None:
    """
    What leads out to what a list names, and in to what is published; None where there is neither, or no network of
    the sandbox's own.

    Raises:
        PolicyError: there is nothing to ask about, or a peer is named by no rule.
        UnsupportedError: it takes a network of the sandbox's own.
        SetupError: what is published cannot be listened on.
    """
    refuse_peers(policy, wishes.peers)
    for wish, name in ((policy.publish, "publish"), (wishes.ask, "ask")):
        if wish:
            refuse_shared(plan, name)
    if wishes.ask is not None and not isinstance(policy.network, tuple):
        msg = f'it is "{policy.network}", and ask is about what a list does not have: network = []'
        raise PolicyError(msg, key="network")
    listed = isinstance(policy.network, tuple) and plan.tier is not Tier.LANDLOCK
    if not listed and not policy.publish:
        return None
    gateway = _gateway(policy, denials, wishes, at_end)
    gateway.bind(policy.publish)
    return gateway


def _gateway(policy: Policy, denials: Denials, wishes: Wishes, at_end: ExitStack) -> Gateway:
    from .allowance import GatewayLimits, Outside  # noqa: PLC0415 - most sandboxes have no way out
    from .gateway import Gateway  # noqa: PLC0415 - as above

    limits = GatewayLimits(policy.network_connections, policy.network_idle, policy.network_bytes)
    stocks = {name: peer.stock for name, peer in wishes.peers.items()}
    outside = Outside(wishes.look, wishes.ask, stocks, proxy_of(policy.network_proxy, os.environ))
    gateway = Gateway(_rules(policy), limits, denials, outside, has_proxy=policy.proxy_variables)
    at_end.callback(gateway.close)
    return gateway


def _rules(policy: Policy) -> Rules:
    return Rules(policy.network if isinstance(policy.network, tuple) else (), policy.deny_network)


def make_broker(
    policy: Policy, host: Host, denials: Denials, wishes: Wishes, at_end: ExitStack
) -> Broker | None:
    """
    Who makes and connects the sockets of programs that have no network of their own; None where nobody does.

    Raises:
        SetupError: their proxy cannot be listened for.
    """
    if not is_brokered(policy, host):
        return None
    from .broker import Broker  # noqa: PLC0415 - as above

    # Before the broker, and so closed after it: nobody is let in to what has ended.
    forward = _gateway(policy, denials, wishes, at_end).forward if policy.proxy_variables else None
    broker = Broker(_rules(policy), denials)
    at_end.callback(broker.close)
    if forward is not None:
        from .door import Door  # noqa: PLC0415 - as above

        broker.door = Door(broker.reactor, forward)
    return broker


def sockets_of(session: Session) -> tuple[Callable[[], socket.socket], Callable[[int], bool]]:
    """
    What makes sockets of its network, and what says whether a port there leads out again. Neither keeps it alive.
    """
    weak = weakref.ref(session)

    def make() -> socket.socket:
        if (session := weak()) is None:
            raise JailError("the sandbox is closed")
        return session.make_socket(socket.AF_INET, socket.SOCK_STREAM)

    def leads_out(port: int) -> bool:
        session = weak()
        ports = session.gateway.ports if session and session.gateway else ()
        return port == RESOLVER_PORT or ("tcp", port) in ports

    return make, leads_out
