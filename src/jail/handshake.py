"""
What is said to a proxy, and what it has to answer, before a connection through it begins.

Pure. A handshake is a generator: it gives what is to be sent and how much is to be read, is given exactly that, and
returns when the way is open. So not one byte of what comes behind it is read. The answers are whoever's who sits
there: they are bounded, and nothing of their text is repeated.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from .address import parse_address

if TYPE_CHECKING:
    from .proxy import Proxy

__all__ = ["HEAD_BYTES_MAX", "Handshake", "RefusedError", "Step", "handshake"]

HEAD_BYTES_MAX = 8192
_END_OF_HEAD = 0
_INTERIM_MAX = 8
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_STATUS_WORDS = {403: " (it forbids this)", 407: " (it wants another user or password)"}

# RFC 1928, sections 3 to 6.
_VERSION, _CONNECT = 5, 1
_NO_AUTHENTICATION, _PASSWORD, _NONE_ACCEPTABLE = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REPLIES = (
    "", "general failure", "not allowed by its rules", "network unreachable", "host unreachable",
    "connection refused", "TTL expired", "command not supported", "address type not supported",
)  # fmt: skip


class RefusedError(Exception):
    """
    The proxy does not open the way; the text says why, in words of ours.
    """


class Step(NamedTuple):
    """
    What comes next.

    Args:
        send: first.
        read: so many bytes then; 0 for all to the empty line that ends a head.
    """

    send: bytes
    read: int = _END_OF_HEAD


Handshake = Generator[Step, bytes, None]


def handshake(proxy: Proxy, host: str, port: int) -> Handshake:
    """
    How this proxy is asked for a connection.

    Args:
        proxy: whose kind, user and password count.
        host: a name, or an address without brackets.
        port: there.

    Raises:
        RefusedError: while it runs: the proxy says no, or what is no answer.
    """
    return _http(proxy, host, port) if proxy.scheme == "http" else _socks5(proxy, host, port)


def _http(proxy: Proxy, host: str, port: int) -> Handshake:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode()
    if proxy.user or proxy.password:
        request += (
            b"Proxy-Authorization: Basic " + base64.b64encode(proxy.user + b":" + proxy.password) + b"\r\n"
        )
    head = yield Step(request + b"\r\n")
    for _ in range(_INTERIM_MAX):
        found = _STATUS.match(head)
        if not found:
            raise RefusedError("its answer is no HTTP")
        status = int(found[1])
        if status == 101 or status >= 300:
            raise RefusedError(f"HTTP status {status}{_STATUS_WORDS.get(status, '')}")
        if status >= 200:
            return
        head = yield Step(b"")
    raise RefusedError("it sends interim answers without end")


def _socks5(proxy: Proxy, host: str, port: int) -> Handshake:
    method = _PASSWORD if proxy.user else _NO_AUTHENTICATION
    version, chosen = yield Step(bytes([_VERSION, 1, method]), 2)
    if version != _VERSION:
        raise RefusedError("its answer is no SOCKS5")
    if chosen != method:
        raise RefusedError(
            "it wants a user and a password" if method != _PASSWORD else "it takes no password"
        )
    if method == _PASSWORD:
        login = b"\x01" + _counted(proxy.user) + _counted(proxy.password)
        _, status = yield Step(login, 2)
        if status:
            raise RefusedError("it wants another user or password")
    request = bytes([_VERSION, _CONNECT, 0]) + _target(host) + port.to_bytes(2, "big")
    version, reply, _, kind = yield Step(request, 4)
    if version != _VERSION:
        raise RefusedError("its answer is no SOCKS5")
    if reply:
        words = f" ({_REPLIES[reply]})" if reply < len(_REPLIES) else ""
        raise RefusedError(f"SOCKS reply {reply}{words}")
    yield from _skip_address(kind)


def _skip_address(kind: int) -> Handshake:
    """
    Where the proxy has connected from, which nobody needs.
    """
    sizes = {_IPV4: 4, _IPV6: 16}
    if kind == _NAME:
        (size,) = yield Step(b"", 1)
    elif kind in sizes:
        size = sizes[kind]
    else:
        raise RefusedError("its answer has an address of no known type")
    yield Step(b"", size + 2)


def _counted(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _target(host: str) -> bytes:
    try:
        address = parse_address(host)
    except ValueError:
        return bytes([_NAME]) + _counted(host.encode("ascii"))
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed
