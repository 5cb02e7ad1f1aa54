"""
Whom a program says it talks to, in the first bytes that it sends: the server name of TLS, the Host of HTTP.

Pure. The bytes are a hostile program's. What cannot be told yet asks for more; what is neither TLS nor HTTP names
nobody; what is one of them and does not say a name, or says two, is refused by who compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["GREETING_BYTES_MAX", "Greeting", "read_greeting"]

# A ClientHello with post-quantum keys has under 2 KiB, and servers take headers of 8 KiB.
GREETING_BYTES_MAX = 16384

_HANDSHAKE, _CLIENT_HELLO = 22, 1  # RFC 8446, sections 5.1 and 4
_RECORDS = range(20, 25)  # all of its kinds; some servers pass over an alert before a ClientHello
_SERVER_NAME = 0  # RFC 6066 section 3
_RECORD_BYTES_MAX = 16384

# RFC 9112 section 3: a method is any token (RFC 9110 section 5.6.2), and servers take other blanks than a space. No
# pattern here has two ways to match the same bytes: what is matched is chosen to take long.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_BEGINNING = re.compile(_TOKEN + rb"(?:[ \t\v\f\r][^\x00-\x08\n\x0e-\x1f\x7f]*)?")
_VERSION = re.compile(rb"HTTP/[0-9.]+", re.IGNORECASE)
_AUTHORITY = re.compile(rb"[a-z][a-z0-9+.-]*://(?:[^/?#]*@)?([^/?#]*)", re.IGNORECASE)


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
        if data[0] in _RECORDS or data[0] & 0x80:
            return _read_tls(data)
        return _read_http(data)
    except _Cut:
        return _MORE if len(data) < GREETING_BYTES_MAX else Greeting("tls" if data[0] in _RECORDS else "http")


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
    if (
        data[0] & 0x80
    ):  # a ClientHello as SSL 2.0 has it, which has no place for a name: RFC 5246 appendix E.2
        return Greeting("tls") if _Reader(data).take(5)[2:4] in (b"\1\3", b"\1\0") else _OTHER
    if data[0] != _HANDSHAKE and _Reader(data).take(2)[1] != 3:
        return _OTHER
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
    data = data.lstrip()  # servers pass over empty lines (RFC 9112 section 2.2), and some over blanks
    line, end, _ = data.partition(b"\n")
    if not end:
        if data and not _BEGINNING.fullmatch(data):
            return _OTHER
        raise _Cut
    words = line.split()
    if not _is_request(words):
        return _OTHER
    head, end, _ = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end:
        raise _Cut
    if b"\r" in head or b"\\" in line:  # some take the one for the end of a line, or the other for a slash
        return Greeting("http")
    lines = head.split(b"\n")[1:]
    if any(line[:1] in (b" ", b"\t") for line in lines):  # obs-fold, RFC 9112 section 5.2: read in two ways
        return Greeting("http")
    return Greeting("http", tuple(_name(_without_port(text)) for text in _authorities(words, lines)))


def _is_request(words: list[bytes]) -> bool:
    """
    Whether a line of these is one that HTTP begins with; of HTTP/0.9, too.
    """
    if not words or not re.fullmatch(_TOKEN, words[0]):
        return False
    if words[0].upper() == b"GET" and len(words) == 2:
        return words[1].startswith(b"/")
    return len(words) > 2 and _VERSION.fullmatch(words[-1]) is not None


def _authorities(words: list[bytes], lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and name.strip().lower() == b"host":
            yield value.strip()
    if words[0].upper() == b"CONNECT":
        yield words[1]
    elif found := _AUTHORITY.match(words[1]):
        yield found[1]


def _without_port(authority: bytes) -> bytes:
    return re.sub(rb":[0-9]*\Z", b"", authority)


def _name(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").lower().removesuffix(".")
