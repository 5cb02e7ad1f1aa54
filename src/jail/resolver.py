"""
What a sandbox's resolver answers: an address of its own for each name that is allowed, and NXDOMAIN for the rest.

Without any input or output: packets in, packets out. Nobody is asked: what a name stands for is looked up when a
program connects to its address. RFC 1035; the parsing is dnspython's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from .rule import LOCALHOST, is_name

if TYPE_CHECKING:
    import dns.message
    import dns.name

__all__ = ["Names", "Resolver"]

_TTL = 60
_HEADER_BYTES = 12
_QUERY_BYTES_MAX = 1232  # what goes over UDP everywhere: DNS flag day 2020
_FORMERR = b"\x80\x01" + bytes(8)  # the rest of a header, RFC 1035 section 4.1.1
NAMES_MAX = 16384
_KNOWN_MAX = 1024

# The first few of each prefix are nobody's.
_FIRST = 16
_V4 = 198 << 24 | 18 << 16
_V6 = "fd00::"


class Names:
    """
    The names that were asked for, each with an address of IPv4 and one of IPv6 that stand for it.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[str, str]] = {}
        self._names: dict[str, str] = {}

    def addresses(self, name: str) -> tuple[str, str] | None:
        """
        The two of a name, new ones where it has none yet; None where there are too many.
        """
        found = self._addresses.get(name)
        if found is None and len(self._addresses) < NAMES_MAX:
            number = _FIRST + len(self._addresses)
            found = ".".join(map(str, (_V4 + number).to_bytes(4, "big"))), f"{_V6}{number:x}"
            self._addresses[name] = found
            self._names.update(dict.fromkeys(found, name))
        return found

    def name_of(self, address: str) -> str | None:
        """
        The name that an address stands for, if it does.
        """
        return self._names.get(address)


class Resolver:
    """
    One sandbox's.

    Args:
        names: where the addresses come from.
        allows: whether a name is to be answered.
    """

    def __init__(self, names: Names, allows: Callable[[str], bool]) -> None:
        self._names = names
        self._allows = allows
        self.has_ipv6 = False
        self._known: dict[bytes, bytes] = {}  # questions that have an answer, both without their number

    def forget(self) -> None:
        """
        The rules have changed: what was answered may be answered in another way.
        """
        self._known.clear()

    def answer(self, packet: bytes, on_refused: Callable[[str], object]) -> bytes | None:
        """
        The answer to a packet; None where it deserves none. Never raises.

        Args:
            packet: as it came.
            on_refused: told of a name that is not allowed, as text; of no reverse look-up, for that asks what an
                address is called.
        """
        import dns.exception  # noqa: PLC0415 - takes 50 ms, which sandboxes without a network do not pay
        import dns.flags  # noqa: PLC0415 - as above
        import dns.message  # noqa: PLC0415 - as above
        import dns.opcode  # noqa: PLC0415 - as above
        import dns.rcode  # noqa: PLC0415 - as above

        if len(packet) < _HEADER_BYTES or packet[2] & 0x80:  # an answer to nobody's question
            return None
        if known := self._known.get(packet[2:]):
            return packet[:2] + known
        if not _is_plain(packet):
            return packet[:2] + _FORMERR
        try:
            query = dns.message.from_wire(packet)
            reply = dns.message.make_response(query, recursion_available=True)
            reply.set_rcode(self._fill(query, reply, on_refused))
            wire = reply.to_wire()
        except (dns.exception.DNSException, ValueError):  # ValueError: a number that no enumeration takes
            return packet[:2] + _FORMERR
        if reply.answer and len(self._known) < _KNOWN_MAX:
            self._known[packet[2:]] = wire[2:]
        return wire

    def _fill(
        self, query: dns.message.Message, reply: dns.message.Message, on_refused: Callable[[str], object]
    ) -> dns.rcode.Rcode:
        import dns.opcode  # noqa: PLC0415 - see answer
        import dns.rcode  # noqa: PLC0415 - see answer
        import dns.rdataclass  # noqa: PLC0415 - see answer
        import dns.rdatatype  # noqa: PLC0415 - see answer
        import dns.rrset  # noqa: PLC0415 - see answer

        if query.opcode() != dns.opcode.QUERY:
            return dns.rcode.NOTIMP
        if len(query.question) != 1:
            return dns.rcode.FORMERR
        question = query.question[0]
        if question.rdclass != dns.rdataclass.IN:
            return dns.rcode.REFUSED
        name = _text(question.name)
        if name is None or not (name == "localhost" or self._allows(name)):
            return self._refuse(name, question.name.to_text(omit_final_dot=True), on_refused)
        addresses = LOCALHOST if name == "localhost" else self._names.addresses(name)
        if addresses is None:
            return dns.rcode.SERVFAIL
        # HTTPS and SVCB (RFC 9460) have nothing to say: no other port, and no key that would hide the name in TLS.
        wanted = {dns.rdatatype.A: addresses[0]}
        if self.has_ipv6:
            wanted[dns.rdatatype.AAAA] = addresses[1]
        if question.rdtype in wanted:
            text = wanted[question.rdtype]
            reply.answer.append(dns.rrset.from_text(question.name, _TTL, "IN", question.rdtype, text))
        return dns.rcode.NOERROR

    def _refuse(self, name: str | None, text: str, on_refused: Callable[[str], object]) -> dns.rcode.Rcode:
        import dns.rcode  # noqa: PLC0415 - see answer

        if name is not None and self._is_service(name):
            return dns.rcode.NOERROR
        if name is None or not name.endswith(".arpa"):
            on_refused(name or text)
        return dns.rcode.NXDOMAIN

    def _is_service(self, name: str) -> bool:
        """
        Whether it is one of a host that may be reached, as in ``_http._tcp.pypi.org`` (RFC 2782): there is none, and
        who asks goes on with the host.
        """
        service, protocol, host = (*name.split(".", 2), "", "")[:3]
        return service[:1] == protocol[:1] == "_" and self._allows(host)


def _is_plain(packet: bytes) -> bool:
    """
    Whether a packet is one question, with an OPT record (RFC 6891) at most: of more, names can be made that take long.
    """
    questions, answers, authorities, others = struct.unpack_from("!4H", packet, 4)
    return len(packet) <= _QUERY_BYTES_MAX and questions == 1 and answers == authorities == 0 and others <= 1


def _text(name: dns.name.Name) -> str | None:
    """
    A name as rules have it; None where none can be meant: a label with a dot or NUL in it is no label of two names.
    """
    text = b".".join(label.lower() for label in name.labels[:-1])
    is_plain = all(b"." not in label for label in name.labels)
    return text.decode() if is_plain and text.isascii() and is_name(text.decode()) else None
