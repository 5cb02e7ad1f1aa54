"""
What a hostile program tries where the harness connects its sockets: races, other sockets, other ways to connect.
seccomp_unotify(2), "NOTES"

Each has its control: the same program reaches the same server when it has the host's network.
"""

import contextlib
import errno
import json
import socket
import subprocess
import sys
import threading

import pytest

from kernel.conftest import ATTEMPT, CONTAINER

pytestmark = pytest.mark.needs("landlock_abi_6", "libseccomp", "seccomp_notify")

# The harness has no capability, whoever its user is: what it may see of a program, any user's may.
RUN = """
import ctypes, json, jail, sys
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
network, cmd = json.loads(sys.argv[1]), sys.argv[2:]
result = jail.run(cmd, timeout=60, network=network)
print(json.dumps([result.exit_code, result.stderr.text]))
"""
# A: the address that is allowed, F: the one that is not; as struct sockaddr_in.
BEGIN = """
import errno, struct, threading, time
GOOD, BAD = int(sys.argv[1]), int(sys.argv[2])
def address(port): return struct.pack("=H", 2) + struct.pack("!H", port) + bytes([127, 0, 0, 1]) + bytes(8)
"""


class Forbidden:
    """
    A server that nobody is to reach, and how many have.
    """

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]

    def reached(self):
        """
        How many have connected.
        """
        self.listener.setblocking(False)
        number = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.listener.accept()[0].close()
                number += 1
        return number


@pytest.fixture
def forbidden():
    """
    That server.
    """
    server = Forbidden()
    yield server
    server.listener.close()


@pytest.fixture
def allowed():
    """
    The port of a server that closes each connection.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.fixture
def tried(allowed, forbidden):
    """
    Runs a program that may reach the one server, or what the host reaches, and gives the errno it ended with.
    """

    def tried(code, *, everything=False):
        network = "host" if everything else [f"127.0.0.1:{allowed}"]
        cmd = [sys.executable, "-I", "-S", "-c", ATTEMPT, BEGIN + code, str(allowed), str(forbidden.port)]
        harness = [sys.executable, "-c", CONTAINER + RUN, json.dumps(network), *cmd]
        done = subprocess.run(harness, capture_output=True, text=True, check=False, timeout=90)
        assert (0, "") == (done.returncode, done.stderr)
        seen, errors = json.loads(done.stdout)
        assert "" == errors
        return seen

    return tried


REWRITE = """
buffer = ctypes.create_string_buffer(address(GOOD), 16)
good, bad = address(GOOD)[2:4], address(BAD)[2:4]
is_over = False
def rewrite():
    while not is_over:
        for port in (bad, good):
            buffer[2:4] = port  # and no longer than until the other thread may go on
threading.Thread(target=rewrite, daemon=True).start()
sys.setswitchinterval(1e-6)
for _ in range(3000):
    with socket.socket() as s: libc.connect(s.fileno(), buffer, 16)
"""
EXCHANGE = """
import ctypes
buffer = address(BAD)
fds = [socket.socket() for _ in range(2)]
place = os.dup(fds[0].fileno())
is_over = False
def exchange():
    while not is_over:
        for s in fds: os.dup2(s.fileno(), place)
threading.Thread(target=exchange, daemon=True).start()
for number in range(2000):
    libc.connect(place, address(GOOD) if number % 2 else buffer, 16)
    for i in (0, 1):
        fds[i] = socket.socket()
"""


@pytest.mark.parametrize(
    "code", [pytest.param(REWRITE, id="address"), pytest.param(EXCHANGE, id="descriptor")]
)
def test_race(code, tried, forbidden):
    """
    Whatever a thread writes over the address, or puts in the descriptor's place, nobody gets to the other server.
    """
    assert 0 == tried(code)
    assert 0 == forbidden.reached()

    assert 0 == tried(code, everything=True)
    assert 0 < forbidden.reached()


@pytest.mark.parametrize(
    ("code", "expected", "control"),
    [
        pytest.param("socket.create_connection(('127.0.0.1', BAD))", errno.EACCES, 0, id="connect"),
        pytest.param(
            "s = socket.socket(); s.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', BAD))",
            errno.EPERM, 0, id="fast_open",
        ),
        pytest.param(
            "s = socket.socket(); s.sendmsg([b'x'], [], socket.MSG_FASTOPEN, ('127.0.0.1', BAD))",
            errno.EPERM, 0, id="fast_open_by_message",
        ),
        pytest.param(
            "s = socket.create_connection(('127.0.0.1', GOOD)); call('connect', s.fileno(), bytes(16), 16);"
            "s.connect(('127.0.0.1', BAD))",
            errno.EISCONN, 0, id="dissolved",
        ),
        pytest.param(
            "a, b = socket.socketpair(); s = socket.socket(); socket.send_fds(a, [b'x'], [s.fileno()]);"
            "fd = socket.recv_fds(b, 1, 1)[1][0]; s.close(); call('connect', fd, address(GOOD), 16);"
            "s = socket.socket(); socket.send_fds(a, [b'x'], [s.fileno()]);"
            "fd = socket.recv_fds(b, 1, 1)[1][0]; s.close(); call('connect', fd, address(BAD), 16)",
            errno.EACCES, 0, id="passed_on",
        ),
        pytest.param(
            "s = socket.socket(socket.AF_INET6); s.connect(('::ffff:127.0.0.1', BAD))",
            errno.EACCES, 0, id="mapped",
        ),
        pytest.param(
            "pid = os.fork()\nif not pid: s = socket.socket(); call('connect', s.fileno(), address(BAD), 16)\n"
            "else: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
            errno.EACCES, 0, id="child",
        ),
    ],
)  # fmt: skip
def test_other_way(code, expected, control, tried, forbidden):
    """
    By no other call, socket or process.
    """
    assert expected == tried(code)
    assert 0 == forbidden.reached()

    assert control == tried(code, everything=True)
    assert 0 < forbidden.reached()


@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        pytest.param("AF_INET", "SOCK_DGRAM", 0, id="udp"),
        pytest.param("AF_INET", "SOCK_RAW", 1, id="raw"),
        pytest.param("AF_INET", "SOCK_DGRAM", 1, id="ping"),
        pytest.param("AF_INET", "SOCK_STREAM", 262, id="mptcp"),
        pytest.param("AF_INET", "SOCK_STREAM", 132, id="sctp"),
        pytest.param("AF_INET6", "SOCK_DGRAM", 0, id="udp_of_ipv6"),
        pytest.param("AF_NETLINK", "SOCK_RAW", 0, id="netlink"),
        pytest.param("AF_VSOCK", "SOCK_STREAM", 0, id="vsock"),
        pytest.param("AF_PACKET", "SOCK_RAW", 0, id="packet"),
        pytest.param("AF_UNIX", "SOCK_STREAM", 0, id="unix"),
    ],
)
def test_other_socket(family, kind, protocol, tried):
    """
    Nor with any other socket: there is none. TCP is the control.
    """
    code = f"socket.socket(socket.{family}, socket.{kind}, {protocol})"

    assert errno.EPERM == tried(code)
    assert 0 == tried(
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 6).close(); socket.socket(10).close()"
    )


def test_without_a_supervisor(tried):
    """
    A program can put no listener of its own on top, nor look at what waits; io_uring is as absent as ever.
    """
    assert errno.EPERM == tried(
        "call('syscall', {'x86_64': 317, 'aarch64': 277}[os.uname().machine], 1, 8, None)"
    )
    assert errno.EPERM == tried("call('syscall', 425, 8, None)")


def test_undumpable(tried, forbidden):
    """
    Who is not for the harness to see is connected nowhere.
    """
    code = "call('prctl', 4, {}, 0, 0, 0); socket.create_connection(('127.0.0.1', GOOD))"

    assert 0 == tried(code.format(1))
    assert errno.EACCES == tried(code.format(0))
