"""
Wrong bytes to what reads a hostile program's: the resolver, the reader of first bytes, and the proxy.

JAIL_FUZZ_SECONDS is how long each takes. A failure names its seed, which brings it back.
"""

import os
import random
import time

import dns.message
import pytest

from jail.forward import HEAD_BYTES_MAX as REQUEST_BYTES_MAX
from jail.forward import BadRequestError, read_request
from jail.greeting import read_greeting
from jail.handshake import HEAD_BYTES_MAX, RefusedError, handshake
from jail.proxy import Proxy
from jail.resolver import Names, Resolver
from jail.rule import is_name

SECONDS = float(os.environ.get("JAIL_FUZZ_SECONDS", "5"))


def bent(data, dice):
    """
    The same bytes with a few of them other, gone, doubled or swapped.
    """
    data = bytearray(data)
    for _ in range(dice.randint(0, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0 if at < len(data):
                data[at] = dice.choice((0, 1, 12, 63, 64, 127, 128, 192, 255, dice.randrange(256)))
            case 1:
                del data[at : at + dice.randint(1, 8)]
            case 2:
                data[at:at] = dice.randbytes(dice.randint(1, 8))
            case 3:
                data[at:at] = data[at : at + dice.randint(1, 40)]
            case _:
                del data[at:]
    return bytes(data)


def rounds(seed):
    """
    Dice that are thrown until the time is over.
    """
    dice = random.Random(seed)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield dice


QUERIES = [
    dns.message.make_query("a.b.ok", kind, use_edns=edns, want_dnssec=edns == 0).to_wire()
    for kind in ("A", "AAAA", "HTTPS", "TXT", "SOA", "TKEY")
    for edns in (-1, 0)
] + [bytes(12), b""]
HELLO = bytes.fromhex(
    "16030100460100004203030000000000000000000000000000000000000000000000000000000000000000000000020000"
    "01000017000000090007000004612e6f6b00100006000403683268"
)
GREETINGS = [
    HELLO,
    HELLO[:5] + HELLO[5:9] + HELLO[5:],
    b"GET / HTTP/1.1\r\nHost: a.ok\r\nX: y\r\n\r\n",
    b"POST http://a.ok:80/x HTTP/1.0\nhost:a.ok\n\nbody",
    b"SSH-2.0-x\r\n",
    b"",
]
SEEDS = [pytest.param(1, id="fixed"), pytest.param(None, id="random")]


@pytest.mark.parametrize("seed", SEEDS)
def test_resolver_answers_or_does_not(seed):
    """
    Whatever is sent, no exception; each answer has the question's number, and each name with an address is one.
    """
    seed = random.getrandbits(32) if seed is None else seed
    names, asked = Names(), []
    resolver = Resolver(names, lambda name: asked.append(name) or name.endswith(".ok"))
    answers = 0
    for dice in rounds(seed):
        packet = bent(dice.choice(QUERIES), dice)
        try:
            reply = resolver.answer(packet, lambda _: None)
        except BaseException as exc:
            pytest.fail(f"seed {seed}: {packet.hex()}: {exc!r}")
        if reply is not None:
            answers += 1
            assert (packet[:2], 0x80) == (reply[:2], reply[2] & 0x80), (seed, packet.hex())
    assert answers > 100
    assert [] == [name for name in asked if not is_name(name)]


@pytest.mark.parametrize("seed", SEEDS)
def test_greeting_is_read_or_not(seed):
    """
    Whatever comes first, no exception; and what says a name that is a rule's has it in its bytes.
    """
    seed = random.getrandbits(32) if seed is None else seed
    kinds = set()
    for dice in rounds(seed):
        data = bent(dice.choice(GREETINGS), dice)
        try:
            greeting = read_greeting(data)
        except BaseException as exc:
            pytest.fail(f"seed {seed}: {data.hex()}: {exc!r}")
        kinds.add(greeting.kind)
        assert [] == [n for n in greeting.names if is_name(n) and n.encode() not in data.lower()], (
            seed,
            data,
        )
    assert {"tls", "http", "other", "more"} == kinds


REQUESTS = [
    b"CONNECT a.ok:443 HTTP/1.1\r\nHost: a.ok:443\r\n\r\n",
    b"CONNECT [::1]:1 HTTP/1.0\r\n\r\n",
    b"GET http://a.ok/x?y HTTP/1.1\r\nHost: a.ok\r\nConnection: z\r\nZ: 1\r\n\r\n",
    b"POST http://127.0.0.1:81/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT http://a.ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("seed", SEEDS)
def test_request_is_read_or_refused(seed):
    """
    Whatever a proxy is asked, no other exception; the server gets one head, that says for whom it is and where it ends
    once, and every beginning of a request that is read is one that is awaited or refused.
    """
    seed = random.getrandbits(32) if seed is None else seed
    ends = {"read": 0, "refused": 0, "more": 0}
    for dice in rounds(seed):
        data = bent(dice.choice(REQUESTS), dice)
        try:
            request = read_request(data)
        except BadRequestError as exc:
            ends["refused"] += 1
            assert exc.status in (400, 431)
            continue
        except BaseException as exc:
            pytest.fail(f"seed {seed}: {data.hex()}: {exc!r}")
        ends["more" if request is None else "read"] += 1
        if request is None:
            continue
        where = (seed, data)
        assert request.size <= REQUEST_BYTES_MAX, where
        assert (request.name is None) is not (request.address is None), where
        assert request.name is None or is_name(request.name), where
        assert read_request(data[: request.size]) == request, where
        assert read_request(data[: dice.randrange(request.size)]) is None, where
        check_head(request, where)
    assert all(ends.values()), ends


def check_head(request, where):
    """
    That no two readers differ about what a server gets.
    """
    head = request.head
    if request.is_tunnel:
        return
    lines = head.split(b"\r\n")
    names = [line.partition(b":")[0].lower() for line in lines[1:-2]]
    assert [b"", b""] == lines[-2:], where
    assert b"" not in lines[:-2], where
    assert 1 == names.count(b"host") == names.count(b"connection"), where
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, where
    assert not any(byte in head.replace(b"\r\n", b"") for byte in (b"\r", b"\n", b"\0")), where


ANSWERS = {
    "http": [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n",
        b"HTTP/1.0 407 Who\r\n\r\n",
    ],
    "socks5": [
        b"\x05\x02\x01\x00\x05\x00\x00\x01" + bytes(6),
        b"\x05\x02\x01\x00\x05\x00\x00\x03\x03abc\x00\x50",
    ],
}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_fuzz_handshake(scheme):
    """
    Whatever a proxy answers, its handshake ends in an open way or in a refusal in words, and asks for no more than a
    head at once.
    """
    proxy = Proxy(scheme, "proxy.test", 1, b"user", b"password")
    seed, end = 0, time.monotonic() + SECONDS
    ends = {"open": 0, "refused": 0, "cut": 0}
    while time.monotonic() < end:
        seed += 1
        dice = random.Random(seed)
        data = bent(b"".join(dice.choices(ANSWERS[scheme], k=dice.randint(1, 3))), dice)
        steps = handshake(proxy, "ok.test", 443)
        step = next(steps)
        try:
            while True:
                assert 0 <= step.read <= HEAD_BYTES_MAX, f"seed {seed}"
                size = step.read or data.find(b"\r\n\r\n") + 4
                if size > len(data) or (not step.read and b"\r\n\r\n" not in data):
                    ends["cut"] += 1
                    break
                taken, data = data[:size], data[size:]
                step = steps.send(taken)
        except StopIteration:
            ends["open"] += 1
        except RefusedError:
            ends["refused"] += 1
    assert all(ends.values()), ends
