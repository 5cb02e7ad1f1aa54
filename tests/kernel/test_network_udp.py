"""
UDP through an allowlist. udp(7), ip(7)
"""

import errno
import os
import socket
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"

# Sends to an address and a port, and says what comes back and from where; exits with the errno, 110 for nothing.
ASK = """
import errno, socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[4]))
try:
    s.connect((host, port))
    for _ in range(2):  # ECONNREFUSED comes with the next call
        s.send(b"x" * size)
    data, sender = s.recvfrom(65535)
    print(len(data), sender[0])
except TimeoutError:
    sys.exit(errno.ETIMEDOUT)
except socket.gaierror as exc:
    sys.exit(200 - exc.errno)
except OSError as exc:
    sys.exit(exc.errno)
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request):
    """
    An address and a port at which somebody sends back what comes; and the senders that it has seen.
    """
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    seen = set()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((request.param, 0))

        def serve():
            while True:
                data, sender = sock.recvfrom(65535)
                if data == b"end":
                    return
                seen.add(sender[:2])
                sock.sendto(data, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield request.param, sock.getsockname()[1], seen
        sock.sendto(b"end", sock.getsockname())
        thread.join()


def rule(host, port):
    return f"[{host}]:{port}/udp" if ":" in host else f"{host}:{port}/udp"


def ask(box, host, port, size=5, seconds=20):
    return box.run([PYTHON, "-I", "-c", ASK, host, str(port), str(size), str(seconds)], timeout=60)


@pytest.mark.parametrize("size", [0, 1, 1400, 60000])
def test_allow_address(size, server):
    """
    What is sent comes whole, and the answer from whom it was sent to.
    """
    host, port, _ = server
    with jail.Sandbox(network=[rule(host, port)]) as box:
        result = ask(box, host, port, size)

    assert (0, f"{size} {host}\n") == (result.exit_code, result.stdout.text), result.stderr
    assert () == result.denials
    assert 4 * size >= result.usage.network_bytes >= 2 * size


def test_allow_name(server):
    """
    A name leads to what it resolves to, if both may be reached, and answers from the address that stands for it.
    """
    host, port, _ = server
    rules = [f"ok.test:{port}/udp any-name", rule(host, port)]
    with jail.Sandbox(network=rules, resolver=lambda _name: [host]) as box:
        result = ask(box, "ok.test", port)
    with jail.Sandbox(network=rules[:1], resolver=lambda _name: [host]) as box:
        denied = ask(box, "ok.test", port, seconds=0.5)

    assert (0, "5 198.18.") == (result.exit_code, result.stdout.text[:9])
    assert errno.ETIMEDOUT == denied.exit_code
    assert [f"{host} is loopback, and no rule names it"] == [denial.why for denial in denied.denials]


def test_deny_address(server):
    """
    Another address on that port gets nothing and is told of; a port that only TCP has does not exist.
    """
    host, port, seen = server
    other = "127.0.0.2" if host == "127.0.0.1" else "fd00:1::1"
    with jail.Sandbox(network=[rule(host, port), "127.0.0.1:9", "[::1]:9"]) as box:
        result = ask(box, other, port, seconds=0.5)
        assert errno.ECONNREFUSED == ask(box, host, 9).exit_code
        assert 0 == ask(box, host, port).exit_code

    assert errno.ETIMEDOUT == result.exit_code
    cure = f'network = ["{rule(other, port)}"]'
    assert [(other, port, cure)] == [(denial.subject, denial.port, denial.cure) for denial in result.denials]
    assert 1 == len(seen)


def test_many_flows(server):
    """
    Each socket of a program's has its own answers; beyond the limit the one that was idle longest is forgotten.
    """
    host, port, seen = server
    code = f"""
import socket
made = [socket.socket({int(socket.AF_INET6 if ":" in host else socket.AF_INET)}, socket.SOCK_DGRAM) for _ in range(32)]
for number, s in enumerate(made):
    s.settimeout(20)
    s.connect(({host!r}, {port}))
    s.send(b"%d" % number)
    assert s.recv(9) == b"%d" % number
"""
    with jail.Sandbox(network=[rule(host, port)], network_connections=8) as box:
        result = box.run([PYTHON, "-I", "-c", code], timeout=60)
        assert 0 == result.exit_code, result.stderr
        descriptors = len(os.listdir("/proc/self/fd"))
        assert 0 == box.run([PYTHON, "-I", "-c", code], timeout=60).exit_code
        assert descriptors == len(os.listdir("/proc/self/fd"))
    assert 56 < len(seen) <= 64  # the kernel may give a port that was let go of again


def test_only_who_was_sent_to_answers(server):
    """
    A datagram from elsewhere does not come in, though it is sent to the very port outside.
    """
    host, port, seen = server
    code = f"""
import socket
s = socket.socket({int(socket.AF_INET6 if ":" in host else socket.AF_INET)}, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(({host!r}, {port}))
s.send(b"one")
print(s.recv(9).decode(), flush=True)
input()
s.send(b"two")
print(s.recv(9).decode(), flush=True)
"""
    with (
        jail.Sandbox(network=[rule(host, port)]) as box,
        box.popen([PYTHON, "-I", "-c", code], text=True, stdin=jail.PIPE, stdout=jail.PIPE) as process,
    ):
        assert "one\n" == process.stdout.readline()
        (outside,) = seen
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"forged", outside)
        process.stdin.write("\n")
        process.stdin.flush()
        assert "two\n" == process.stdout.readline()


def test_too_many_bytes(server):
    """
    The limit of bytes is for both protocols, together.
    """
    host, port, _ = server
    with jail.Sandbox(network=[rule(host, port)], network_bytes="100K") as box:
        assert 0 == ask(box, host, port, 40000).exit_code
        result = ask(box, host, port, 40000, seconds=0.5)

    assert errno.ETIMEDOUT == result.exit_code
    told = {(denial.why, denial.cure) for denial in result.denials}
    assert {("it has moved 102400 bytes already", "more than network_bytes = 102400")} == told


def test_too_many_bytes_at_once(server, caplog):
    """
    A datagram that is more than all that may pass is lost, and its flow ends; that is no error of ours.
    """
    host, port, _ = server
    with jail.Sandbox(network=[rule(host, port)], network_bytes=1000) as box:
        assert errno.ETIMEDOUT == ask(box, host, port, 2000, seconds=0.5).exit_code

    assert [] == caplog.messages


def test_too_many_bytes_that_wait(server, caplog):
    """
    The same, of datagrams that have waited for a name to be looked up.
    """
    host, port, _ = server
    sent = threading.Event()

    def resolve(_):
        sent.wait(60)
        return [host]

    code = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("ok.test", {port}))
for _ in range(3): s.send(bytes(600))
print(flush=True)
s.settimeout(0.5)
try: s.recv(9)
except TimeoutError: print("nothing")
"""
    rules = [f"ok.test:{port}/udp any-name", rule(host, port)]
    with (
        jail.Sandbox(network=rules, network_bytes=1000, resolver=resolve) as box,
        box.popen([PYTHON, "-I", "-c", code], text=True, stdout=jail.PIPE) as process,
    ):
        assert "\n" == process.stdout.readline()
        sent.set()
        assert "nothing\n" == process.stdout.read()
        assert 1200 == box.usage.network_bytes

    assert [] == caplog.messages


def test_rules_that_change(server):
    """
    A rule that is added has a port that is listened on; one that is taken back has none.
    """
    host, port, _ = server
    with jail.Sandbox(network=[]) as box:
        assert errno.ECONNREFUSED == ask(box, host, port).exit_code
        box.network.allow(rule(host, port))
        assert 0 == ask(box, host, port).exit_code
        box.network.revoke(rule(host, port))
        assert errno.ECONNREFUSED == ask(box, host, port).exit_code


def test_flood_leaves_others_their_turn(server):
    """
    Who sends without end keeps nobody else from an answer.
    """
    host, port, _ = server
    family = int(socket.AF_INET6 if ":" in host else socket.AF_INET)
    flood = f"""
import socket
s = socket.socket({family}, socket.SOCK_DGRAM)
s.connect(({host!r}, {port}))
print(flush=True)
while True:
    s.send(b"x" * 1000)
"""
    with (
        jail.Sandbox(network=[rule(host, port)]) as hostile,
        jail.Sandbox(network=[rule(host, port)]) as box,
        hostile.popen([PYTHON, "-I", "-c", flood], text=True, stdout=jail.PIPE) as process,
    ):
        assert "\n" == process.stdout.readline()
        results = [ask(box, host, port) for _ in range(3)]
        process.kill()
    assert [0, 0, 0] == [result.exit_code for result in results]


def test_name_of_a_peer(server):
    """
    It is looked up by nobody, and leads nowhere by UDP, though a rule allows it; another name does.
    """
    host, port, seen = server
    rules = [f"db:{port}/udp any-name", f"ok.test:{port}/udp any-name", "db:5432", rule(host, port)]
    asked = []

    def look(name):
        asked.append(name)
        return [host]

    with jail.Sandbox() as db, jail.Sandbox(network=rules, resolver=look, peers={"db": db}) as box:
        denied = ask(box, "db", port, seconds=0.5)
        assert 0 == ask(box, "ok.test", port).exit_code

    assert errno.ETIMEDOUT == denied.exit_code
    assert ["it is another sandbox, and those are reached by TCP"] == [d.why for d in denied.denials]
    assert (["ok.test"], 1) == (asked, len(seen))
