"""
Whom a program says it talks to, in the first bytes that it sends: the server name of TLS, the Host of HTTP.

Pure. The bytes are a hostile program's. What cannot be told yet asks for more; what is neither TLS nor HTTP names
nobody; what is one of them and does not say a name, or says two, is refused by who compares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["GREETING_BYTES_MAX", "Greeting", "read_greeting"]

# A ClientHello with post-quantum keys has under 2 KiB, and servers take headers of 8 KiB.
GREETING_BYTES_MAX = 16384

_HANDSHAKE, _CLIENT_HELLO = 22, 1  # RFC 8446, sections 5.1 and 4
_SERVER_NAME = 0  # RFC 6066 section 3
_RECORD_BYTES_MAX = 16384

# RFC 9110 section 9: the methods in use, and the preface of HTTP/2 (RFC 9113 section 3.4).
_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
    b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT", b"SEARCH",
)  # fmt: skip
_LONGEST_METHOD = 10
_HOST = re.compile(rb"host[ \t]*:[ \t]*(.*?)[ \t]*", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(rb"[A-Za-z]+ [a-z]+://(?:[^/?# ]*@)?([^/?# ]*)")


@dataclass(frozen=True, slots=True)
class Greeting:
    """
    What the first bytes are.

    Args:
        kind: "tls", "http"; "other", which names nobody; "more", when it takes more of them to tell.
        names: every name that is said, in lower case, without port and last dot.
    """

    kind: Literal["tls", "http", "other", "more"]
    names: tuple[str, ...] = ()


_MORE = Greeting("more")
_OTHER = Greeting("other")


class _Cut(Exception):  # noqa: N818 - no error: more is to come
    """
    The bytes end before what is to be read.
    """


def read_greeting(data: bytes) -> Greeting:
    """
    What the first bytes of a connection say. Never raises.

    Args:
        data: all that has come so far.
    """
    if not data:
        return _MORE
    try:
        if data[0] == _HANDSHAKE:
            return _read_tls(data)
        return _read_http(data)
    except _Cut:
        return (
            _MORE if len(data) < GREETING_BYTES_MAX else Greeting("tls" if data[0] == _HANDSHAKE else "http")
        )


class _Reader:
    """
    Takes bytes from the beginning of some, which have to be there.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if len(self.data) < count:
            raise _Cut
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> _Reader:
        """
        What a length of so many bytes stands before.
        """
        return _Reader(self.take(self.number(size)))


def _read_tls(data: bytes) -> Greeting:
    """
    The server names of a ClientHello, which may lie in several records.
    """
    hello = _Reader(b"")
    records = _Reader(data)
    while len(hello.data) < 4 or len(hello.data) < 4 + int.from_bytes(hello.data[1:4], "big"):
        kind, version, length = records.number(1), records.take(2), records.number(2)
        if kind != _HANDSHAKE or version[0] != 3 or not 0 < length <= _RECORD_BYTES_MAX:
            return Greeting("tls")
        hello.data += records.take(length)
    try:
        return Greeting("tls", tuple(_server_names(hello)))
    except _Cut:  # of a whole message: its lengths contradict each other
        return Greeting("tls")


def _server_names(hello: _Reader) -> list[str]:
    if hello.number(1) != _CLIENT_HELLO:
        return []
    body = hello.block(3)
    body.take(2 + 32)  # version, random
    body.block(1)  # session
    body.block(2)  # cipher suites
    body.block(1)  # compression
    extensions = body.block(2)
    names = []
    while extensions.data:
        kind, extension = extensions.number(2), extensions.block(2)
        if kind == _SERVER_NAME:
            entries = extension.block(2)
            while entries.data:
                entries.take(1)
                names.append(_name(entries.block(2).data))
    return names


def _read_http(data: bytes) -> Greeting:
    """
    The Host of a request, and the authority of its target where that has one.
    """
    method, space, _ = data[: _LONGEST_METHOD + 1].partition(b" ")
    if not space and any(known.startswith(method) for known in _METHODS):
        raise _Cut
    if method not in _METHODS:
        return _OTHER
    head, end, _ = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end:
        raise _Cut
    first, *lines = head.split(b"\n")
    if any(line[:1] in (b" ", b"\t") for line in lines):  # obs-fold, RFC 9112 section 5.2: read in two ways
        return Greeting("http")
    names = [_name(_without_port(found[1])) for line in lines if (found := _HOST.fullmatch(line))]
    if found := _AUTHORITY.match(first):
        names.append(_name(_without_port(found[1])))
    return Greeting("http", tuple(names))


def _without_port(authority: bytes) -> bytes:
    return re.sub(rb":[0-9]*\Z", b"", authority)


def _name(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").lower().removesuffix(".")
