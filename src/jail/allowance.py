"""
What one sandbox's gateway may have of the network, and what of the harness's it makes use of.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field

from .denial import Ask
from .dial import LookUp
from .errors import UnsupportedError
from .proxy import Proxy
from .stock import Stock

__all__ = ["IDLE_SECONDS", "GatewayLimits", "Outside", "connections_max"]

IDLE_SECONDS = 900.0
_CONNECTIONS = 1024
_DESCRIPTORS_EACH = 3  # its two sockets, and a copy of one while its greeting is awaited


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


@dataclass(frozen=True, slots=True)
class Outside:
    """
    What a gateway makes use of, of the harness's.

    Args:
        look: who is asked for the addresses of a name; None for the host's own resolver.
        ask: who is asked about what no rule is about; None for nobody.
        peers: what leads into other sandboxes, by the names for them.
        proxy: through which allowed connections go; None for none.
    """

    look: LookUp | None = None
    ask: Ask | None = None
    peers: Mapping[str, Stock] = field(default_factory=dict)
    proxy: Proxy | None = None


def connections_max(wanted: int | None) -> int:
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
