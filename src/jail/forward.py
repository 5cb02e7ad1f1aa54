"""
What the proxy of a sandbox is asked for, and what it says where it does not do it. RFC 9112, RFC 9110 section 9.3.6

Pure. The bytes are a hostile program's. What could be read in two ways is refused: then the server, who gets the head
anew and the body byte by byte, reads in it what was read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from .address import parse_address
from .rule import LOCALHOST, is_name

if TYPE_CHECKING:
    from .address import Address

__all__ = ["ESTABLISHED", "HEAD_BYTES_MAX", "BadRequestError", "Request", "read_request", "render_answer"]

HEAD_BYTES_MAX = 16384  # servers take 8 KiB; it fits into what a new connection may send at once
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # RFC 9110 section 5.6.2
_LINE = re.compile(rb"(%b{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)
_ABSOLUTE = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:@\[\]]+)(?::([1-9][0-9]{0,4}))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")

# What says where a request ends, and for whom it is: once, or it is two requests to somebody.
_ONCE = (b"host", b"content-length", b"transfer-encoding")
# RFC 9110 section 7.6.1: of this connection, and not for the server. Transfer-Encoding stays, with the chunks.
_HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"upgrade",
}  # fmt: skip

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
}


class BadRequestError(Exception):
    """
    It is no request that a proxy carries out; the text says why, in words of ours.

    Args:
        why: a few words.
        status: of the answer.
    """

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """
    Whom to connect to, and what to say there.

    Args:
        name: as a rule has it; None where an address is asked for.
        address: None where a name is.
        port: from 1.
        size: of the head; whatever comes behind it is passed on. Unit: bytes.
        head: what the server gets instead; empty for CONNECT, where it gets nothing of ours.
    """

    name: str | None
    address: Address | None
    port: int
    size: int
    head: bytes = b""

    @property
    def is_tunnel(self) -> bool:
        """
        Whether it is CONNECT.
        """
        return not self.head


class _Target(NamedTuple):
    name: str | None
    address: Address | None
    port: int
    authority: str  # in its one spelling, as Host has it


class _Fields(NamedTuple):
    kept: list[bytes]  # whole lines
    once: dict[bytes, bytes]


def read_request(data: bytes) -> Request | None:
    """
    The request that stands at the beginning of a connection; None while its head has not come whole.

    Args:
        data: all that has come so far.

    Raises:
        BadRequestError: it is none.
    """
    head, end, _ = data[:HEAD_BYTES_MAX].partition(_END)
    line, is_whole, rest = head.partition(b"\r\n")
    if not end and not is_whole and b"\n" not in line and re.match(_TOKEN + rb"|\Z", line):
        _refuse_long(data)
        return None
    found = _LINE.fullmatch(line)
    if not found:
        _refuse("this is an HTTP proxy, and that is no request line of HTTP/1.1 or 1.0")
    if not end:
        _refuse_long(data)
        return None
    method, version, size = found[1].decode(), found[3], len(head) + len(_END)
    fields = _read_fields(rest.split(b"\r\n") if rest else [], is_old=version == b"0")
    if method == "CONNECT":
        target = _read_authority(found[2].decode(), None)
        if fields.once.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields.once:
            _refuse("CONNECT has no body")
        return Request(target.name, target.address, target.port, size)
    if version == b"1" and b"host" not in fields.once:
        _refuse("there is no Host")
    target, path = _read_absolute(method, found[2].decode())
    lines = [f"{method} {path} HTTP/1.{version.decode()}".encode(), f"Host: {target.authority}".encode()]
    head = b"\r\n".join((*lines, *fields.kept, b"Connection: close"))
    return Request(target.name, target.address, target.port, size, head + _END)


def _refuse(why: str) -> NoReturn:
    raise BadRequestError(why)


def _refuse_long(data: bytes) -> None:
    if len(data) >= HEAD_BYTES_MAX:
        raise BadRequestError(f"its head has more than {HEAD_BYTES_MAX} bytes", 431)


def _read_absolute(method: str, text: str) -> tuple[_Target, str]:
    """
    Whom an absolute form means, and the origin form of the rest. RFC 9112 section 3.2
    """
    found = _ABSOLUTE.fullmatch(text)
    if not found:
        _refuse("a proxy is asked for http://host/path, or by CONNECT host:port")
    path = found[2]
    if not path:
        path = "*" if method == "OPTIONS" else "/"
    elif path.startswith("?"):
        path = f"/{path}"
    return _read_authority(found[1], 80), path


def _read_authority(text: str, default_port: int | None) -> _Target:
    found = _AUTHORITY.fullmatch(text.lower())
    port = int((found and found[2]) or default_port or 0)
    if not found or not 1 <= port <= 65535:
        _refuse("its target is no host with a port")
    host = found[1].removesuffix(".")
    authority = host if port == default_port else f"{host}:{port}"
    if host != "localhost" and is_name(host):
        return _Target(host, None, port, authority)
    try:
        address = parse_address(LOCALHOST[0] if host == "localhost" else host.strip("[]"))
    except ValueError:
        _refuse("its target is neither a name nor an address")
    if (address.version == 6) != host.startswith("["):
        _refuse("its target is neither a name nor an address")
    return _Target(None, address, port, authority)


def _read_fields(lines: list[bytes], *, is_old: bool) -> _Fields:
    """
    The fields of a head, without those that are not for the server.

    Args:
        lines: of the head, but for the first.
        is_old: it is HTTP/1.0, which has no chunks (RFC 9112 section 6.1).
    """
    once: dict[bytes, bytes] = {}
    named = {*_HOP_BY_HOP}
    fields = []
    for line in lines:
        found = _FIELD.fullmatch(line)
        if not found:
            _refuse("a line of its head is no field")
        name = found[1].lower()
        if name in once:
            _refuse(f"there is more than one {name.decode()}")
        if name in _ONCE:
            once[name] = found[2]
        if name == b"connection":
            named |= {option.strip(b" \t").lower() for option in found[2].split(b",")}
        fields.append((name, line))
    if named.intersection(_ONCE):
        _refuse("its Connection takes away what says where it ends, or for whom it is")
    _refuse_framing(once, is_old=is_old)
    kept = [line for name, line in fields if name not in named and name != b"host"]
    return _Fields(kept, once)


def _refuse_framing(once: dict[bytes, bytes], *, is_old: bool) -> None:
    """
    Refuse what does not say, in one way, where a body ends. RFC 9112 section 6.3
    """
    length, coding = once.get(b"content-length"), once.get(b"transfer-encoding")
    if length is not None and not _LENGTH.fullmatch(length):
        _refuse("its Content-Length is no number")
    if coding is not None and (length is not None or is_old or coding.lower() != b"chunked"):
        _refuse("its Transfer-Encoding is not chunked alone")


def render_answer(status: int, why: str, text: str) -> bytes:
    """
    What a program is told instead of what it has asked for.

    Args:
        status: 400, 403, 431 or 502.
        why: a few words for the status line, which is what most clients show.
        text: for the body.
    """
    words = re.sub(r"[^\x20-\x7e]", "?", f"{_REASONS[status]} (jail: {why})")
    body = f"jail: {text}\n".encode()
    head = f"HTTP/1.1 {status} {words}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
