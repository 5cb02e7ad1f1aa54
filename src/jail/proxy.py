"""
The proxy behind which the public internet lies, for a host that has no other way: whose it is, and for whom it serves.

Pure. A policy is printed, compared and written to files, so it names a proxy and never a password; one that needs a
password is named by the harness's environment, as curl and its like read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .address import meant, parse_address, parse_network
from .errors import PolicyError
from .rule import is_name

if TYPE_CHECKING:
    from .address import Address

__all__ = ["ENVIRONMENT", "Proxy", "parse_proxy", "proxy_of"]

ENVIRONMENT = "environment"

# Lower case first, as curl(1) has it.
_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_URL = re.compile(
    r"(?P<scheme>http|socks5h?)://(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^:@/\[\]\s]+):(?P<port>[1-9][0-9]{0,4})/?",
    re.ASCII | re.IGNORECASE,
)
_LOGIN_BYTES_MAX = 255  # of each: RFC 1929 section 2
_WANTED = 'it is "http://host:port" or "socks5://host:port"'


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    One proxy, and who is reached without it.

    Args:
        scheme: "http", which is asked by CONNECT (RFC 9110 section 9.3.6), or "socks5" (RFC 1928).
        host: a name or an address, without brackets.
        port: there.
        user: whom it knows; empty where it asks nobody.
        password: of that user. Shown by nothing.
        direct: names, networks or "*", of NO_PROXY, that are reached without it.
    """

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    user: bytes = field(default=b"", repr=False)
    password: bytes = field(default=b"", repr=False)
    direct: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def serves(self, name: str | None, address: Address) -> bool:
        """
        Whether a connection goes through it. One to loopback does not: that is another host's there.

        Args:
            name: whom the program has named, in lower case; None where it has named an address.
            address: what it has connected to, where it has named no name.
        """
        if name is None and meant(address).is_loopback:
            return False
        return not any(_is_direct(text, name, address) for text in self.direct)


def _is_direct(text: str, name: str | None, address: Address) -> bool:
    if text == "*":
        return True
    if name is not None:
        return name == text or name.endswith("." + text)
    try:
        network = parse_network(text)
    except ValueError:
        return False
    return address.version == network.version and address in network


def parse_proxy(value: object) -> str | None:
    """
    What a policy says of a proxy, in its one spelling.

    Raises:
        PolicyError: it says none, or a password. What was said is not repeated, for it may hold one.
    """
    if value is None or value == ENVIRONMENT:
        return None if value is None else ENVIRONMENT
    if not isinstance(value, str):
        raise PolicyError(f'is no proxy: {_WANTED}, or "{ENVIRONMENT}"')
    if "@" in value:
        raise PolicyError(
            "holds a user or a password, and a policy is printed and written to files; "
            f'write "{ENVIRONMENT}", and set HTTPS_PROXY for the harness'
        )
    return str(_parse(value))


def proxy_of(value: str | None, environment: Mapping[str, str]) -> Proxy | None:
    """
    The proxy that a policy means; None for none.

    Args:
        value: as `parse_proxy` gives it.
        environment: of the harness.

    Raises:
        PolicyError: the environment is to say it, and says none.
    """
    if value is None:
        return None
    if value != ENVIRONMENT:
        return _parse(value)
    name = next((name for name in _VARIABLES if environment.get(name)), None)
    if name is None:
        raise PolicyError(
            f'"{ENVIRONMENT}" needs HTTPS_PROXY or ALL_PROXY in the environment of the harness, and neither is set',
            key="network_proxy",
        )
    said = environment[name]
    try:
        return _parse(said if "://" in said else f"http://{said}", _exceptions(environment))
    except PolicyError as exc:
        raise PolicyError(f"{name} {exc}", key="network_proxy") from None


def _parse(text: str, direct: tuple[str, ...] = ()) -> Proxy:
    found = _URL.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise PolicyError(f"is no proxy that can be used: {_WANTED}")
    host = found["host"].lower()
    if host.startswith("["):
        host = host[1:-1]
    if not (is_name(host) or _is_address(host)):
        raise PolicyError(
            f"is no proxy that can be used: its host is neither a name nor an address; {_WANTED}"
        )
    scheme: Literal["http", "socks5"] = "http" if found["scheme"].lower() == "http" else "socks5"
    user, password = (_unquoted(found[key] or "") for key in ("user", "password"))
    if scheme == "http" and b":" in user:  # RFC 7617 section 2
        raise PolicyError("has a colon in its user's name, which HTTP cannot say")
    if len(user) > _LOGIN_BYTES_MAX or len(password) > _LOGIN_BYTES_MAX:
        raise PolicyError(f"has a user or a password of more than {_LOGIN_BYTES_MAX} bytes")
    if scheme == "socks5" and found["user"] is not None and not (user and password):
        raise PolicyError("needs a user and a password, neither of them empty: RFC 1929 section 2")
    return Proxy(scheme, host, int(found["port"]), user, password, direct)


def _unquoted(text: str) -> bytes:
    """
    Without percent-encoding. RFC 3986 section 2.1.
    """
    return re.sub(rb"%([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


def _is_address(host: str) -> bool:
    try:
        parse_address(host)
    except ValueError:
        return False
    return True


def _exceptions(environment: Mapping[str, str]) -> tuple[str, ...]:
    text = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    return tuple(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip().strip("."))
