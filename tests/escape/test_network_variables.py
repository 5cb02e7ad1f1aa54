"""
What a hostile program tries against the proxy of its sandbox: spellings, two requests in one, rebinding, exhaustion.

Each denial is beside its control. Servers note whatever reaches them: the good one may be reached, the bad one not.
"""

import os
import socket

import pytest

import jail
from escape.harness import ACT, PYTHON
from escape.test_network import attempt
from jail.rule import PROXY

pytestmark = pytest.mark.needs("userns", "netns")

# Says something to the proxy; gives the status of the answer, which is 0 for none.
HELPERS = """
import socket, sys
def say(*pieces):
    with socket.create_connection(("127.0.0.1", 1003), 20) as s:
        for piece in pieces: s.sendall(piece)
        s.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while data := s.recv(65536): got += data
        except ConnectionResetError: pass
    return got
def status(answer): return int(answer[9:12] or 0) if answer.startswith(b"HTTP/1.1 ") else 0
"""


@pytest.fixture
def box(world):
    """
    A sandbox that may reach the good one of them, and has a proxy.
    """
    with world.sandbox(proxy_variables=True) as box:
        yield box


def statuses(box, *requests):
    """
    What the proxy answers to each.
    """
    act = "print([status(say(bytes.fromhex(text))) for text in sys.argv[1:]])"
    texts = [request.encode("latin-1").hex() for request in requests]
    result = box.run([*PYTHON, ACT, HELPERS + act, *texts], timeout=60)
    assert (0, b"") == (result.exit_code, result.stderr)
    return eval(result.stdout)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("ok.test", 200, id="allow_name"),
        pytest.param("127.0.0.1", 200, id="allow_address"),
        pytest.param("[::ffff:7f00:1]", 200, id="allow_mapped"),
        pytest.param("127.0.0.2", 403, id="deny_address"),
        pytest.param("[::ffff:127.0.0.2]", 403, id="deny_mapped"),
        pytest.param("[::127.0.0.2]", 403, id="deny_compatible"),
        pytest.param("[64:ff9b::127.0.0.2]", 403, id="deny_translated"),
        pytest.param("[2002:7f00:2::]", 403, id="deny_6to4"),
        pytest.param("[::1]", 403, id="deny_other_loopback"),
        pytest.param("0.0.0.0", 403, id="deny_nobody"),
        pytest.param("[::]", 403, id="deny_nobody_of_ipv6"),
        pytest.param("169.254.169.254", 403, id="deny_metadata"),
        pytest.param("[fd00:ec2::254]", 403, id="deny_metadata_of_ipv6"),
        pytest.param("198.18.255.255", 403, id="deny_address_of_no_name"),
        pytest.param("metadata.google.internal", 403, id="deny_metadata_by_name"),
        pytest.param("ok.test.evil.com", 403, id="deny_as_prefix"),
        pytest.param("0177.0.0.2", 400, id="refuse_octal"),
        pytest.param("0x7f.2", 400, id="refuse_hexadecimal"),
        pytest.param("2130706434", 400, id="refuse_decimal"),
        pytest.param("127.0.0.2.", 403, id="deny_last_dot"),
        pytest.param("127.0.0.2%00.ok.test", 400, id="refuse_nul_in_percent"),
        pytest.param("127.0.0.2\0.ok.test", 400, id="refuse_nul"),
        pytest.param("ok.test@127.0.0.2", 400, id="refuse_user"),
        pytest.param("127.0.0.2\\.ok.test", 400, id="refuse_backslash"),
        pytest.param("127.0.0.2#.ok.test", 400, id="refuse_fragment"),
        pytest.param("ok.test 127.0.0.2", 400, id="refuse_space"),
        pytest.param("ok.test\t127.0.0.2", 400, id="refuse_tab"),
        pytest.param("ok.test\r\nHost: 127.0.0.2", 400, id="refuse_line"),
        pytest.param("[fe80::1%lo]", 400, id="refuse_zone"),
        pytest.param("\xf0k.test", 400, id="refuse_homograph"),
    ],
)
def test_spellings(host, expected, box, world):
    """
    However a target is spelled, and in either form, it is judged as what it means, or means nothing.
    """
    target = f"{host}:{world.port}"
    tunnel = f"CONNECT {target} HTTP/1.1\r\nHost: ok.test\r\n\r\n"
    plain = f"GET http://{target}/ HTTP/1.1\r\nHost: ok.test\r\n\r\n"
    seen = statuses(box, tunnel, plain)

    assert [expected, 0 if expected == 200 else expected] == seen  # the server speaks no HTTP
    assert (expected == 200) is (b"GET / HTTP/1.1" in world.heard["good"])
    assert b"" == world.heard["bad"]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("GET {url} HTTP/1.1\r\nHost: ok.test\r\nHost: evil.test\r\n\r\n", id="two_hosts"),
        pytest.param("GET {url} HTTP/1.1\r\nHost: ok.test\r\n Host: evil.test\r\n\r\n", id="folded_host"),
        pytest.param(
            "GET {url} HTTP/1.1\r\nHost: ok.test\r\nHost : evil.test\r\n\r\n", id="space_before_colon"
        ),
        pytest.param("GET {url} HTTP/1.1\r\nHost: ok.test\rHost: evil.test\r\n\r\n", id="bare_cr"),
        pytest.param("GET {url} HTTP/1.1\nHost: ok.test\n\nGET /evil HTTP/1.1\r\n\r\n", id="bare_lf"),
        pytest.param(
            "GET {url} HTTP/1.1\r\nHost: ok.test\r\nA: b\n\nGET /evil HTTP/1.1\r\n\r\n", id="end_by_lf"
        ),
        pytest.param("GET {url}evil HTTP/1.1\r\nX: y\r\n\r\n", id="no_host"),
        pytest.param("GET {url} HTTP/1.1 evil HTTP/1.1\r\nHost: ok.test\r\n\r\n", id="two_versions"),
        pytest.param("GET {url}\x0bevil HTTP/1.1\r\nHost: ok.test\r\n\r\n", id="vertical_tab"),
        pytest.param("GET {url}\xa0evil HTTP/1.1\r\nHost: ok.test\r\n\r\n", id="no_break_space"),
        pytest.param(
            "POST {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
            id="two_lengths",
        ),
        pytest.param(
            "POST {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil",
            id="length_and_chunks",
        ),
        pytest.param(
            "POST {url} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /evil",
            id="odd_chunked",
        ),
        pytest.param(
            "POST {url} HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 9\r\n\r\nGET /evil",
            id="length_of_the_hop",
        ),
        pytest.param(
            "CONNECT ok.test:{port} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET /evil",
            id="body_of_connect",
        ),
        pytest.param("GET https://ok.test:{port}/evil HTTP/1.1\r\nHost: a\r\n\r\n", id="tls_for_us"),
        pytest.param("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nevil", id="http2"),
        pytest.param("\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x02evil", id="socks5"),
        pytest.param("\x16\x03\x01evil", id="tls"),
    ],
)
def test_two_requests_in_one(head, box, world):
    """
    What two readers could take for two things is refused before anybody has heard a byte; the same head without it is not.
    """
    url = f"http://ok.test:{world.port}/"
    control = f"GET {url} HTTP/1.1\r\nHost: ok.test\r\n\r\n"

    assert [400, 0] == statuses(box, head.format(url=url, port=world.port), control)
    assert world.heard["good"].startswith(b"GET / HTTP/1.1\r\nHost: ok.test:")
    assert b"evil" not in world.heard["good"] + world.heard["bad"]


def test_a_second_request(box, world):
    """
    What comes behind a request goes where the first has gone, whomever it is for.
    """
    first = f"GET http://ok.test:{world.port}/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 1\r\n\r\nx"
    second = f"GET http://127.0.0.2:{world.port}/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"

    assert [0, 403] == statuses(box, first + second, second)
    assert b"Connection: close" in world.heard["good"]
    assert b"" == world.heard["bad"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(["127.0.0.1"], 0, id="allow_what_is_listed"),
        pytest.param(["169.254.169.254", "127.0.0.2", "127.0.0.1"], 0, id="allow_the_listed_one"),
        pytest.param(["127.0.0.2"], 403, id="deny_other"),
        pytest.param(["::ffff:127.0.0.2", "64:ff9b::7f00:2"], 403, id="deny_mapped"),
        pytest.param(["127.0.0.2%lo", "evil.com", ""], 502, id="deny_no_address"),
        pytest.param([], 502, id="deny_nothing"),
    ],
)
def test_rebinding(answer, expected, box, world):
    """
    What a name resolves to is judged, each address by itself, and nothing else is dialled.
    """
    world.answers["a.it.test"] = answer
    request = f"GET http://a.it.test:{world.port}/ HTTP/1.1\r\nHost: a\r\n\r\n"

    assert [expected] == statuses(box, request)
    assert b"" == world.heard["bad"]


def test_names_are_asked_of_nobody(box, world):
    """
    A name that is not allowed leaves the sandbox by no request; one that is has been looked up, for the control.
    """
    names = [f"secret{n}.evil.com" for n in range(20)]
    requests = [
        f"{form} HTTP/1.0\r\n\r\n" for n in names for form in (f"CONNECT {n}:443", f"GET http://{n}/")
    ]

    assert [403] * 40 == statuses(box, *requests)
    assert [] == world.asked
    assert [200] == statuses(box, f"CONNECT ok.test:{world.port} HTTP/1.0\r\n\r\n")
    assert ["ok.test"] == world.asked


def test_the_proxy_itself(box):
    """
    It leads to no proxy: neither to itself, nor to the host's loopback where it is inside.
    """
    requests = [f"CONNECT {host}:1003 HTTP/1.0\r\n\r\n" for host in ("127.0.0.1", "localhost", "[::1]")]

    assert [403] * 3 == statuses(box, *requests)


def test_exhaustion(world):
    """
    Heads that never end, answers that nobody reads and bodies without end hold up their own sandbox and no other.
    """
    hog = """
kept = []
for n in range(600):
    s = socket.create_connection(("127.0.0.1", 1003), 20)
    s.setblocking(False)
    kept.append(s)
    try:
        s.send((b"GET http://", b"CONNECT no.test:1 HTTP/1.1\\r\\n\\r\\n", b"\\5")[n % 3])
        for _ in range(9): s.send(b"a" * 65536)
    except OSError: pass
print("full", flush=True)
sys.stdin.read()
"""
    before = len(os.listdir("/proc/self/fd"))
    request = f"CONNECT ok.test:{world.port} HTTP/1.1\r\n\r\n"
    pipes = {"stdin": jail.PIPE, "stdout": jail.PIPE}
    with world.sandbox(proxy_variables=True) as one, world.sandbox(proxy_variables=True) as other:
        with one.popen([*PYTHON, ACT, HELPERS + hog.replace("\\\\", "\\")], **pipes) as process:
            assert b"full\n" == process.stdout.readline()
            assert [200] == statuses(other, request)
            process.kill()
        assert [200] == statuses(one, request)
    assert before == len(os.listdir("/proc/self/fd"))


def test_way_in_by_the_host(world):
    """
    Nobody on the host finds the proxy of a sandbox that has a network of its own.
    """
    act = "socket.create_connection(('127.0.0.1', 1003), 20)"
    with world.sandbox(proxy_variables=True) as own, world.sandbox() as other, jail.Sandbox() as none:
        seen = [attempt(box, act) for box in (own, other, none)]

    assert ["done", "ECONNREFUSED", "ECONNREFUSED"] == seen
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PROXY[1]))
