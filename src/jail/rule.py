"""
One rule of a network allowlist: what it says, and what it is about.

Pure. A rule is one text, and is read once, at the door: a host, its ports, a protocol ::

    pypi.org                 a name; ports 80 and 443
    *.github.com:443         every name below one, and not that itself
    db.example:5432,6000-6010
    10.1.2.0/24:5432         addresses need their ports
    [2001:db8::1]:443
    localhost:5432           the host's own loopback
    *                        every name and address of the public internet; ports 80 and 443
    10.1.2.3:514/udp         UDP; a name needs any-name there
    cdn.example any-name     goes without the check that TLS and HTTP say the same name

A rule that denies, of `deny_network`, is written alike, and without a port is for all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .address import SYNTHETIC, meant, parse_address, parse_network
from .errors import PolicyError
from .units import render_value

if TYPE_CHECKING:
    from .address import Address, Network

__all__ = [
    "EVERY_PORT",
    "LOCALHOST",
    "PORTS_MAX",
    "PROXY",
    "RESOLVER_PORT",
    "Protocol",
    "Rule",
    "is_name",
    "listened_ports",
    "parse_denial",
    "parse_rule",
    "ports_of",
    "refuse_place_of_proxy",
    "rule_for",
]

Protocol = Literal["tcp", "udp"]

RESOLVER_PORT = 53
# Where programs find the sandbox's own proxy. No program can have taken that port, or any below 1024; IANA gives it
# to nobody.
PROXY = ("127.0.0.1", 1003)
PORTS_MAX = 128  # each costs two sockets of the harness
_WEB = ((80, 80), (443, 443))
EVERY_PORT = ((1, 65535),)
LOCALHOST = ("127.0.0.1", "::1")

# RFC 1123 section 2.1, and "_", which names in use have. The last label is no number, as it is in odd spellings
# of addresses (inet_aton(3)).
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_RULE = re.compile(
    r"(?P<host>\[[^\]\s]*\]|[^:\[\]\s]+)(?::(?P<ports>[^:/\s]*)(?:/(?P<protocol>[^:/\s]*))?)?(?: +(?P<word>\S+))?"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule, as it was read.

    Args:
        host: a name in lower case and A-labels, one behind "*.", "*", or an address or network in its one spelling.
        ports: first and last of each range, in order.
        protocol: "tcp" or "udp"; "" for both, which is what denies.
        any_name: TLS and HTTP may say another name than was resolved.
    """

    host: str
    ports: tuple[tuple[int, int], ...]
    protocol: str = "tcp"
    any_name: bool = False

    @property
    def is_address(self) -> bool:
        """
        Whether it names addresses, and so may name some that are not public.
        """
        return ":" in self.host or "/" in self.host or self.host == "localhost" or _is_numeric(self.host)

    def __str__(self) -> str:
        text = f"[{self.host}]" if ":" in self.host else self.host
        if self.ports != EVERY_PORT:
            text += ":" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ports)
        return text + "/udp" * (self.protocol == "udp") + " any-name" * self.any_name

    def covers(self, port: int, protocol: Protocol) -> bool:
        """
        Whether it is about this port.
        """
        return self.protocol in ("", protocol) and any(a <= port <= b for a, b in self.ports)

    def names(self, name: str) -> bool:
        """
        Whether it is about this name, by the name.
        """
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return name.endswith(self.host[1:]) and len(name) > len(self.host) - 1
        return name == self.host

    def holds(self, address: Address) -> bool:
        """
        Whether it is about this address, by the address.
        """
        return any(address.version == n.version and address in n for n in _networks(self.host))


@functools.lru_cache(maxsize=1024)
def _networks(host: str) -> tuple[Network, ...]:
    """
    The addresses of a rule's host; none for a name.
    """
    if host == "localhost":
        return tuple(parse_network(text) for text in LOCALHOST)
    return (parse_network(host),) if ":" in host or "/" in host or _is_numeric(host) else ()


def _is_numeric(host: str) -> bool:
    return bool(_NUMBER.fullmatch(host.rpartition(".")[2]))


def is_name(name: str) -> bool:
    """
    Whether this is a host name as a rule may have it: lower case, without a last dot, and no spelling of an address.
    """
    labels = name.split(".")
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])


def ports_of(rules: Iterable[Rule], protocol: Protocol = "tcp") -> tuple[int, ...]:
    """
    Every port that some rule allows.

    Raises:
        PolicyError: there are too many of them, or one is the resolver's.
    """
    ranges = [pair for rule in rules if rule.protocol == protocol for pair in rule.ports]
    if sum(last - first + 1 for first, last in set(ranges)) > 16 * PORTS_MAX:
        raise _too_many()
    ports = {port for first, last in ranges for port in range(first, last + 1)}
    if len(ports) > PORTS_MAX:
        raise _too_many()
    return tuple(sorted(ports))


def listened_ports(rules: Sequence[Rule], *, has_proxy: bool) -> tuple[tuple[Protocol, int], ...]:
    """
    The ports that are listened on: those of the rules, and for TCP those of the web, so that who is refused there is
    told of; and that of the sandbox's own proxy.

    Raises:
        PolicyError: as `ports_of`.
    """
    tcp = {*ports_of(rules, "tcp"), *(port for port, _ in _WEB), *(PROXY[1:] if has_proxy else ())}
    return *(("tcp", port) for port in sorted(tcp)), *(("udp", port) for port in ports_of(rules, "udp"))


def refuse_place_of_proxy(rules: Iterable[Rule]) -> None:
    """
    Raises:
        PolicyError: a rule names the address and port at which the sandbox's own proxy is.
    """
    address, port = PROXY
    for rule in rules:
        if rule.covers(port, "tcp") and rule.holds(parse_address(address)):
            msg = f'"{rule}": port {port} of loopback is that of the proxy inside; take it out, or proxy_variables'
            raise PolicyError(msg, key="network")


def rule_for(subject: str, port: int, protocol: Protocol = "tcp", *, any_name: bool = False) -> Rule:
    """
    The rule that allows one name, or address, at one port.
    """
    rule = Rule(subject, ((port, port),), protocol, any_name)
    return dataclasses.replace(rule, any_name=True) if protocol == "udp" and not rule.is_address else rule


def _too_many() -> PolicyError:
    return PolicyError(f"more than {PORTS_MAX} ports together; each is listened on", key="network")


def parse_rule(value: object) -> Rule:
    """
    A rule that allows, from its text.

    Raises:
        PolicyError: it is none.
    """
    if isinstance(value, Rule):
        return value
    host, ports, protocol, any_name = _parse(value)
    if value in ("none", "host"):
        raise PolicyError(
            f'"{value}" in a list would be a machine of that name; write network = "{value}" alone'
        )
    if ports is None and (_is_numeric(host) or ":" in host or "/" in host):
        raise PolicyError(f'{render_value(value)} needs a port: "{Rule(host, ((443, 443),))}"')
    rule = Rule(host, ports or _WEB, protocol or "tcp", any_name)
    if rule.protocol == "udp" and not rule.is_address and not rule.any_name:
        msg = "what goes by UDP does not say whom it is for; write any-name behind it"
        raise PolicyError(f"{render_value(value)}: {msg}")
    if any(first <= RESOLVER_PORT <= last for first, last in rule.ports):
        raise PolicyError(f"{render_value(value)}: port 53 is that of the sandbox's own resolver")
    ports_of([rule])
    return rule


def parse_denial(value: object) -> Rule:
    """
    A rule that denies, from its text.

    Raises:
        PolicyError: it is none.
    """
    if isinstance(value, Rule):
        return value
    host, ports, protocol, any_name = _parse(value)
    if any_name or protocol:
        raise PolicyError(f"{render_value(value)}: what denies is for every protocol, and has no other words")
    return Rule(host, ports or EVERY_PORT, "")


def _parse(value: object) -> tuple[str, tuple[tuple[int, int], ...] | None, str, bool]:
    if not isinstance(value, str):
        raise PolicyError(f"must be a rule, as text, not {render_value(value)}")
    found = _RULE.fullmatch(value)
    if not found:
        raise PolicyError(f"{render_value(value)} is no rule.{_hint(value)}")
    ports, protocol, word = found["ports"], found["protocol"] or "", found["word"]
    if protocol not in ("", "tcp", "udp") or found["protocol"] == "":
        raise PolicyError(f"{render_value(value)}: the protocol is tcp or udp")
    if word not in (None, "any-name"):
        raise PolicyError(f'{render_value(value)}: {render_value(word)} is not "any-name"')
    return _host(found["host"], value), None if ports is None else _ports(ports, value), protocol, bool(word)


def _hint(text: str) -> str:
    if "://" in text:
        return " Write the host alone, without scheme and path"
    if text.count(":") > 1 and "[" not in text:
        return " An IPv6 address stands in brackets: [2001:db8::1]:443"
    return ' As in "pypi.org", "*.github.com:443", "10.1.2.0/24:5432", "[2001:db8::1]:443,8000-8010"'


def _ports(text: str, value: object) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?", part, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= 65535:
            raise PolicyError(
                f"{render_value(value)}: {render_value(part)} is no port from 1 to 65535, or range"
            )
        ranges.append((first, last))
    return tuple(sorted(set(ranges)))


def _host(text: str, value: object) -> str:
    """
    The host in its one spelling.
    """
    if text.startswith("["):
        network = _network(text[1:-1], value)
        if network.version != 6:
            raise PolicyError(f"{render_value(value)}: brackets are for IPv6")
        return _as_host(network, value)
    star = "*." if text.startswith("*.") else ""
    name = _ascii(text.removeprefix(star), value).lower().removesuffix(".")
    if text == "*":
        return "*"
    if not star and ("/" in name or _NUMBER.fullmatch(name.rpartition(".")[2])):
        return _as_host(_network(name, value), value)
    if not is_name(name):
        raise PolicyError(f"{render_value(value)}: {render_value(text)} is no host name.{_hint(str(value))}")
    if star and name == "localhost":
        raise PolicyError(f"{render_value(value)}: there is nothing below localhost")
    return star + name


def _network(text: str, value: object) -> Network:
    try:
        return parse_network(text)
    except ValueError:
        raise PolicyError(
            f"{render_value(value)}: {render_value(text)} is no address, and no network without bits behind its prefix"
        ) from None


def _as_host(network: Network, value: object) -> str:
    for text in SYNTHETIC:
        own = parse_network(text)
        if network.version == own.version and network.overlaps(own) and network.prefixlen >= own.prefixlen:
            raise PolicyError(f"{render_value(value)}: {text} stands for names inside")
    if network.version == 6 and (network.prefixlen == 128 and meant(network[0]).version == 4):
        raise PolicyError(f"{render_value(value)}: write {meant(network[0])}, which this means")
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def _ascii(text: str, value: object) -> str:
    """
    A name in A-labels: IDNA 2008 by way of UTS 46, which is what browsers do.
    """
    if text.isascii():
        return text
    import idna  # noqa: PLC0415 - only names beyond ASCII pay for it

    try:
        return idna.encode(text, uts46=True).decode()
    except idna.IDNAError as exc:
        raise PolicyError(f"{render_value(value)}: {exc}") from None
