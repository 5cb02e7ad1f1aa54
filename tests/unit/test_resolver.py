"""
What a sandbox's resolver answers. Packets in, packets out.
"""

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

import jail.resolver
from jail.resolver import Names, Resolver


class Fixture:
    """
    A resolver that allows what is below "ok", and notes what it refuses.
    """

    def __init__(self):
        self.refused = []
        self.names = Names()
        self.resolver = Resolver(self.names, lambda name: name.endswith(".ok"))
        self.resolver.has_ipv6 = True

    def ask(self, name, kind="A", **options):
        """
        The answer's code, and the texts of its records.
        """
        query = dns.message.make_query(name, kind, **options)
        reply = dns.message.from_wire(self.resolver.answer(query.to_wire(), self.refused.append))
        assert query.is_response(reply)
        records = [str(record) for rrset in reply.answer for record in rrset]
        return dns.rcode.to_text(reply.rcode()), *records


@pytest.fixture
def resolver():
    return Fixture()


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("a.ok", "A", ("NOERROR", "198.18.0.16")),
        ("A.OK.", "A", ("NOERROR", "198.18.0.16")),
        ("a.ok", "AAAA", ("NOERROR", "fd00::10")),
        ("a.ok", "HTTPS", ("NOERROR",)),
        ("a.ok", "SVCB", ("NOERROR",)),
        ("a.ok", "MX", ("NOERROR",)),
        ("a.ok", "TXT", ("NOERROR",)),
        ("a.ok", "ANY", ("NOERROR",)),
        ("localhost", "A", ("NOERROR", "127.0.0.1")),
        ("localhost", "AAAA", ("NOERROR", "::1")),
        ("a.other", "A", ("NXDOMAIN",)),
        ("a.other", "TXT", ("NXDOMAIN",)),
        ("16.0.18.198.in-addr.arpa", "PTR", ("NXDOMAIN",)),
        (".", "NS", ("NXDOMAIN",)),
    ],
)
def test_answer(name, kind, expected, resolver):
    """
    An allowed name has an address of its own, and nothing else; the rest do not exist.
    """
    assert expected == resolver.ask(name, kind)


def test_each_name_has_its_own(resolver):
    """
    Names do not share addresses, and keep theirs.
    """
    first = [resolver.ask(f"{n}.ok")[1] for n in range(300)]

    assert 300 == len(set(first))
    assert first == [resolver.ask(f"{n}.ok")[1] for n in range(300)]
    assert ["0.ok", "299.ok"] == [resolver.names.name_of(first[0]), resolver.names.name_of(first[-1])]
    assert "299.ok" == resolver.names.name_of(resolver.ask("299.ok", "AAAA")[1])


def test_without_ipv6(resolver):
    """
    Where the kernel has no IPv6 there are no addresses of it.
    """
    resolver.resolver.has_ipv6 = False

    assert ("NOERROR",) == resolver.ask("a.ok", "AAAA")


def test_refusals_are_told(resolver):
    """
    Every refused name is told of, but reverse look-ups.
    """
    for name in ("a.other", "secret.evil.com", "1.0.0.10.in-addr.arpa", "a.ok"):
        resolver.ask(name)

    assert ["a.other", "secret.evil.com"] == resolver.refused


@pytest.mark.parametrize(
    "labels",
    [
        (b"evil.com", b"ok"),
        (b"evil\0", b"ok"),
        (b"evil\r\n", b"ok"),
        (b"\xff", b"ok"),
        (b"*", b"ok"),
        (b"a b", b"ok"),
    ],
)
def test_labels_that_are_none(labels, resolver):
    """
    A label that holds a dot, a NUL or a line's end is nobody's, though the name ends as one that is allowed.
    """
    assert ("NXDOMAIN",) == resolver.ask(dns.name.Name((*labels, b"")))
    assert 1 == len(resolver.refused)


def test_names_are_bounded(resolver, monkeypatch):
    """
    A program cannot have names without end; those that it has stay.
    """
    monkeypatch.setattr(jail.resolver, "NAMES_MAX", 2)
    answers = [resolver.ask(f"{n}.ok")[0] for n in (0, 1, 2, 1)]

    assert ["NOERROR", "NOERROR", "SERVFAIL", "NOERROR"] == answers


QUERY = dns.message.make_query("a.ok", "A").to_wire()
LONG = dns.message.make_query("a.ok", "A", use_edns=0, pad=1300, payload=4096).to_wire()


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(QUERY[:11], None, id="no_header"),
        pytest.param(QUERY[:2] + b"\x80" + QUERY[3:], None, id="an_answer"),
        pytest.param(QUERY[:12], dns.rcode.FORMERR, id="no_question"),
        pytest.param(QUERY[:-1], dns.rcode.FORMERR, id="cut"),
        pytest.param(QUERY + b"x", dns.rcode.FORMERR, id="more_than_it_says"),
        pytest.param(QUERY[:12] + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR, id="pointer_to_itself"),
        pytest.param(QUERY[:5] + b"\2" + QUERY[6:] + QUERY[12:], dns.rcode.FORMERR, id="two_questions"),
        pytest.param(QUERY[:7] + b"\1" + QUERY[8:], dns.rcode.FORMERR, id="an_answer_in_a_question"),
        pytest.param(QUERY[:11] + b"\2" + QUERY[12:] + bytes(22), dns.rcode.FORMERR, id="two_more_records"),
        pytest.param(LONG, dns.rcode.FORMERR, id="long"),
        pytest.param(QUERY[:-2] + b"\0\3", dns.rcode.REFUSED, id="another_class"),
        pytest.param(QUERY[:2] + b"\x10" + QUERY[3:], dns.rcode.NOTIMP, id="another_opcode"),
    ],
)
def test_packets_that_are_no_query(packet, expected, resolver):
    """
    Garbage gets an error, or no answer; never an exception.
    """
    reply = resolver.resolver.answer(packet, resolver.refused.append)

    assert expected == (None if reply is None else reply[3] & 15)
    assert reply is None or (packet[:2], 0x80) == (reply[:2], reply[2] & 0x80)


@pytest.mark.parametrize(
    ("name", "code", "refused"),
    [
        ("_http._tcp.a.ok", "NOERROR", []),
        ("_http._tcp.b.ok", "NXDOMAIN", ["_http._tcp.b.ok"]),
        ("_http.tcp.a.ok", "NXDOMAIN", ["_http.tcp.a.ok"]),
        ("_x._http._tcp.a.ok", "NXDOMAIN", ["_x._http._tcp.a.ok"]),
        ("x._http._tcp.a.ok", "NXDOMAIN", ["x._http._tcp.a.ok"]),
    ],
)
def test_services_of_a_host(name, code, refused):
    """
    A host that may be reached has none, and to ask is no refusal; another name below it is one.
    """
    told = []
    resolver = Resolver(Names(), lambda name: name == "a.ok")
    query = dns.message.make_query(name, "SRV")
    reply = dns.message.from_wire(resolver.answer(query.to_wire(), told.append))

    assert (code, [], refused) == (dns.rcode.to_text(reply.rcode()), reply.answer, told)
