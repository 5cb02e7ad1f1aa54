"""
Which ports of a sandbox are published, and where on the host: the grammar of `publish`.

Pure. The words are those of docker-run(1), but that only the host's loopback is meant where no address is written ::

    8080                    127.0.0.1, port 8080, leads to port 8080 inside
    9000:8080               port 9000 does
    0:8080                  a port that is free, which `Sandbox.published` says
    127.0.0.2:9000:8080     another address of the host's
    [::1]:9000:8080         one of IPv6, which stands in brackets
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .address import meant, parse_address
from .errors import PolicyError
from .rule import RESOLVER_PORT, Rule, listened_ports
from .units import render_value

__all__ = ["PUBLISHED_MAX", "Published", "parse_published", "refuse_ambiguous", "ways_out"]

PUBLISHED_MAX = 128  # each costs a socket of the harness
_LOOPBACK = "127.0.0.1"
_PUBLISHED = re.compile(
    r"(?:(?:(?P<address>\[[^\]\s]*\]|[^:\[\]\s]+):)?(?P<host_port>[^:\s]*):)?(?P<port>[^:\s]+)"
)
_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """
    One port of a sandbox, and where it is to be reached.

    Args:
        port: inside, on the sandbox's loopback.
        host_port: on the host; 0 for one that is free.
        address: of the host's, in its one spelling.
    """

    port: int
    host_port: int
    address: str = _LOOPBACK

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.host_port}:{self.port}"


def parse_published(value: object) -> Published:
    """
    One item of `publish`, from its text or number.

    Raises:
        PolicyError: it is none.
    """
    if isinstance(value, Published):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise PolicyError(f"must be a port, or text such as 9000:8080, not {render_value(value)}")
    found = _PUBLISHED.fullmatch(str(value))
    if not found:
        raise PolicyError(
            f'{render_value(value)} is no published port. As in 8080, "9000:8080", "[::1]:9000:8080"'
        )
    port = _port(found["port"], 1, value)
    host_port = port if found["host_port"] is None else _port(found["host_port"], 0, value)
    return Published(port, host_port, _address(found["address"] or _LOOPBACK, value))


def _port(text: str, least: int, value: object) -> int:
    port = int(text) if _PORT.fullmatch(text) else -1
    if not least <= port <= 65535:
        free = "; 0 on the host is one that is free" if least == 0 else ""
        raise PolicyError(
            f"{render_value(value)}: {render_value(text)} is no port from {least} to 65535{free}"
        )
    return port


def _address(text: str, value: object) -> str:
    inner = text.removeprefix("[").removesuffix("]")
    try:
        address = parse_address(inner)
    except ValueError:
        raise PolicyError(
            f"{render_value(value)}: {render_value(text)} is no address; a name could be any. Write 127.0.0.1 or [::1]"
        ) from None
    if (address.version == 6) != text.startswith("["):
        raise PolicyError(f"{render_value(value)}: brackets are for IPv6")
    if meant(address) != address:
        raise PolicyError(f"{render_value(value)}: write {meant(address)}, which this means")
    return str(address)


def ways_out(network: str | Sequence[Rule], *, has_proxy: bool) -> frozenset[int]:
    """
    The ports inside that the harness listens on, for what goes out: a server of the sandbox's can be on no such port.
    """
    return frozenset() if isinstance(network, str) else frozenset(_listened(network, has_proxy=has_proxy))


def _listened(rules: Sequence[Rule], *, has_proxy: bool) -> Iterator[int]:
    yield RESOLVER_PORT
    ports = listened_ports(rules, has_proxy=has_proxy)
    yield from (port for protocol, port in ports if protocol == "tcp")


def refuse_ambiguous(
    published: Sequence[Published], network: str | Sequence[Rule], *, has_proxy: bool
) -> None:
    """
    Raises:
        PolicyError: two of them, or one of them and what `network` says, make no sense together.
    """
    if published and network == "host":
        raise PolicyError(
            'with network = "host" what listens inside listens on the host already', key="publish"
        )
    if len(published) > PUBLISHED_MAX:
        raise PolicyError(f"more than {PUBLISHED_MAX}; each is listened on", key="publish")
    places: dict[object, Published] = {}
    for item in published:
        where = (item.address, item.host_port or item)
        for place in (item.port, where):
            if place in places:
                raise PolicyError(
                    f'"{places[place]}" and "{item}": a port has one place on the host, and that has one port',
                    key="publish",
                )
            places[place] = item
        if item.port in ways_out(network, has_proxy=has_proxy):
            raise PolicyError(
                f'"{item}": port {item.port} inside is the way out to what network lists; serve on another',
                key="publish",
            )
