"""
Internet addresses: how they are read, and which of them are on the public internet.

Pure. ``ipaddress`` does the arithmetic; it is imported when the first address is looked at, since most
policies name none. Which addresses are special is a table here and not its ``is_global``, which has changed
from one Python to the next.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Address = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network

__all__ = ["SYNTHETIC", "is_public", "meant", "parse_address", "parse_network", "parse_packed", "why_special"]

# What stands for a name inside: RFC 2544 has the first for benchmarks, RFC 4193 the second for private use.
SYNTHETIC = ("198.18.0.0/15", "fd00::/64")

# The special-purpose registries of IANA (RFC 6890), and the metadata services of clouds that lie outside of them.
_SPECIAL: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "of a carrier's own network"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a metadata service"),
    ("169.254.0.0/16", "link-local; cloud metadata is there"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "a relay to 6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, or broadcast"),
)
# Of IPv6 only 2000::/3 is given out; of that, these are not.
_SPECIAL_6: tuple[tuple[str, str], ...] = (
    ("2001::/23", "Teredo, or reserved"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4, which hides another address"),
    ("2620:4f:8000::/48", "reserved"),
    ("3fff::/20", "for documentation"),
)
_OTHERS_6: tuple[tuple[str, str], ...] = (
    ("::1/128", "loopback"),
    ("fc00::/7", "private; cloud metadata is there"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
)


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """
    An address in its one spelling: four decimal numbers without leading zeros, or RFC 4291 without a zone.

    Raises:
        ValueError: it is none.
    """
    import ipaddress  # noqa: PLC0415 - see above

    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    return ipaddress.ip_address(text)


def parse_packed(data: bytes) -> Address:
    """
    An address of 4 or 16 bytes.
    """
    import ipaddress  # noqa: PLC0415 - see above

    return ipaddress.ip_address(data)


def parse_network(text: str) -> Network:
    """
    An address, or a network with nothing behind its prefix.

    Raises:
        ValueError: it is neither.
    """
    import ipaddress  # noqa: PLC0415 - see above

    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    _, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdecimal()):
        raise ValueError(f"{text!r} has no number behind its slash")
    return ipaddress.ip_network(text)


def meant(address: Address) -> Address:
    """
    The address that a packet to this one ends at: that of IPv4 within a mapped one, or behind NAT64 (RFC 6052).

    >>> str(meant(parse_address("::ffff:127.0.0.1"))), str(meant(parse_address("64:ff9b::a9fe:a9fe")))
    ('127.0.0.1', '169.254.169.254')
    """
    import ipaddress  # noqa: PLC0415 - see above

    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if int(address) >> 32 == 0x64FF9B << 64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[list[tuple[Network, str]], list[tuple[Network, str]], Network]:
    special = [(parse_network(text), why) for text, why in _SPECIAL]
    special_6 = [(parse_network(text), why) for text, why in (*_SPECIAL_6, *_OTHERS_6)]
    return special, special_6, parse_network("2000::/3")


@functools.lru_cache(maxsize=4096)
def why_special(address: Address) -> str:
    """
    Why an address is not on the public internet, in a few words; empty when it is. Of what is `meant`.
    """
    special, special_6, given_out = _tables()
    address = meant(address)
    for network, why in special if address.version == 4 else special_6:
        if address in network:
            return why
    return "" if address.version == 4 or address in given_out else "reserved"


def is_public(address: Address) -> bool:
    """
    Whether an address is one of the public internet.
    """
    return not why_special(address)
