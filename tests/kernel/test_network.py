"""
What a sandbox with a network allowlist reaches, by unmodified programs. network_namespaces(7)

Servers are on the host's loopback, and names are given by a resolver of the test's own.
"""

import contextlib
import errno
import http.server
import resource
import socket
import socketserver
import subprocess
import threading

import pytest

import jail
from jail import sniffer

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"


class Greeter(http.server.BaseHTTPRequestHandler):
    """
    Says who was asked for.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """
        See the class.
        """
        body = f"hello {self.headers['Host'].partition(':')[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """
        Not to standard error.
        """


@pytest.fixture
def web():
    """
    The port of an HTTP server on 127.0.0.1.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def local(name):
    """
    A resolver for which every name is this host, but for one that nobody has.
    """
    if name == "nobody.test":
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return ["127.0.0.1"]


@pytest.fixture
def box(web):
    """
    A sandbox that may reach ok.test and what is below it.test, on the server's port; and not denied.it.test.
    """
    rules = [f"{name}:{web}" for name in ("ok.test", "*.it.test", "nobody.test", "127.0.0.1")]
    with jail.Sandbox(network=rules, deny_network=["denied.it.test"], resolver=local) as box:
        yield box


def python(box, code, *args):
    return box.run([PYTHON, "-I", "-c", code, *map(str, args)], timeout=60)


FETCH = (
    "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=20).read().decode())"
)
CONNECT = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    s.sendall(b"GET / HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % sys.argv[3].encode())
    sys.exit(0 if s.recv(9) == b"HTTP/1.1 " else 1)
except socket.gaierror as exc:
    sys.exit(200 - exc.errno)
except OSError as exc:
    sys.exit(exc.errno)
"""
NO_NAME = 200 - socket.EAI_NONAME
NO_DATA = 200 - socket.EAI_NODATA


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("ok.test", 0, id="allow_name"),
        pytest.param("OK.test", 0, id="allow_upper_case"),
        pytest.param("ok.test.", 0, id="allow_last_dot"),
        pytest.param("a.it.test", 0, id="allow_below"),
        pytest.param("127.0.0.1", 0, id="allow_address"),
        pytest.param("it.test", NO_NAME, id="deny_bare_name"),
        pytest.param("denied.it.test", NO_NAME, id="deny_denied"),
        pytest.param("other.test", NO_NAME, id="deny_other"),
        pytest.param("nobody.test", errno.ECONNRESET, id="deny_what_nobody_has"),
        pytest.param("127.0.0.2", errno.ECONNRESET, id="deny_other_loopback"),
        pytest.param("::1", errno.ECONNRESET, id="deny_other_loopback_of_ipv6"),
        pytest.param("169.254.169.254", errno.ECONNRESET, id="deny_metadata"),
        pytest.param("8.8.8.8", errno.ECONNRESET, id="deny_public_address"),
    ],
)
def test_connect(name, expected, box, web):
    """
    What a rule allows is reached; another name does not exist, and another address resets.
    """
    said = name.rstrip(".")

    assert expected == python(box, CONNECT, name, web, said).exit_code


def test_other_port(box):
    """
    On a port that no rule allows nobody listens.
    """
    assert errno.ECONNREFUSED == python(box, CONNECT, "ok.test", 1, "ok.test").exit_code


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["curl", "-sS", "--max-time", "20"], marks=pytest.mark.program("curl"), id="curl"),
        pytest.param(["wget", "-qO-", "-T", "20"], marks=pytest.mark.program("wget"), id="wget"),
        pytest.param([PYTHON, "-I", "-c", FETCH], id="python"),
        pytest.param(
            ["node", "-e", "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))"],
            marks=pytest.mark.program("node"),
            id="node",
        ),
    ],
)
def test_programs(command, box, web):
    """
    Unmodified programs reach what is allowed, without a proxy variable; and not what is not.
    """
    allowed = box.run([*command, f"http://ok.test:{web}/"], timeout=60)
    denied = box.run([*command, f"http://other.test:{web}/"], timeout=60)

    assert b"hello ok.test\n" == allowed.stdout, allowed.stderr
    assert b"" == denied.stdout
    assert 0 != denied.exit_code
    assert ["other.test"] == [denial.subject for denial in denied.denials]


def test_denials(box, web):
    """
    Each refusal is told once, with the line of policy that would allow it, to the program's own result.
    """
    for _ in range(2):
        result = python(box, CONNECT, "other.test", web, "other.test")
        assert ['network = ["other.test"]'] == [denial.cure for denial in result.denials]
    address = python(box, CONNECT, "10.0.0.1", web, "10.0.0.1").denials
    denied = python(box, CONNECT, "denied.it.test", web, "x").denials

    assert [("10.0.0.1", web, f'network = ["10.0.0.1:{web}"]')] == [
        (d.subject, d.port, d.cure) for d in address
    ]
    assert [("denied.it.test", "denied.it.test")] == [(d.subject, d.rule) for d in denied]
    assert () == python(box, CONNECT, "ok.test", web, "ok.test").denials


def test_host_of_http(box, web):
    """
    A request says the name that was resolved; any-name waives that.
    """
    assert errno.ECONNRESET == python(box, CONNECT, "ok.test", web, "other.test").exit_code
    rules = [f"ok.test:{web} any-name", f"127.0.0.1:{web}"]
    with jail.Sandbox(network=rules, resolver=local) as waived:
        assert 0 == python(waived, CONNECT, "ok.test", web, "other.test").exit_code


SAY = """
import errno, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
try:
    for piece in sys.argv[3:]:
        s.sendall(piece.encode().decode("unicode_escape").encode())
        time.sleep(0.1)
    print(s.recv(99).decode())
except ConnectionResetError as exc:
    sys.exit(exc.errno)
"""


@pytest.mark.parametrize(
    "begin",
    [
        [r"\r\nGET / HTTP/1.1\r\n"],
        [r"\r\n", r"GET / HTTP/1.1\r\n"],
        [r"GET  / HTTP/1.1\r\n"],
        [r"get", r" / HTTP/1.1\r\n"],
        [r"PURGE / HTTP/1.1\r\n"],
        [r"PUR", r"GE", r" / HTTP/1.1\r\n"],
    ],
)
def test_host_of_a_request_that_is_odd(begin, web):
    """
    However a request is written, and in whatever pieces it comes, a server that would take it is not reached by it.
    """
    with jail.Sandbox(network=[f"ok.test:{web}", f"127.0.0.1:{web}"], resolver=local) as box:
        denied = python(box, SAY, "ok.test", web, *begin, r"Host: other.test\r\n\r\n")
        allowed = python(box, SAY, "ok.test", web, *begin, r"Host: ok.test\r\n\r\n")

    assert errno.ECONNRESET == denied.exit_code
    assert ["HTTP says other.test on a connection to ok.test"] == [denial.why for denial in denied.denials]
    assert (0, ()) == (allowed.exit_code, allowed.denials), allowed.stderr


def test_a_word_that_may_become_a_request(monkeypatch):
    """
    A first word without an end is held back for some time, and then refused with its cure; an end of line, an end of
    file or any-name lets it go.
    """
    monkeypatch.setattr(sniffer, "_SECONDS", 0.5)
    with answering(b"PURGE") as port:
        rules = [f"127.0.0.1:{port}", f"ok.test:{port}", f"waived.test:{port} any-name"]
        with jail.Sandbox(network=rules, resolver=local) as box:
            denied = python(box, SAY, "ok.test", port, "PURGE")
            allowed = [
                python(box, SAY, "ok.test", port, r"PURGE\n").stdout,
                python(box, SAY, "waived.test", port, "PURGE").stdout,
                python(box, SAY + "\n", "127.0.0.1", port, "PURGE").stdout,
                python(box, SAY.replace("time.sleep(0.1)", "s.shutdown(1)"), "ok.test", port, "PURGE").stdout,
            ]

    assert errno.ECONNRESET == denied.exit_code
    assert [f'network = ["ok.test:{port} any-name"]'] == [denial.cure for denial in denied.denials]
    assert [b"yes\n"] * 4 == allowed


@contextlib.contextmanager
def answering(word):
    """
    A server on this host that says yes to a word. Yields the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as conn, contextlib.suppress(ConnectionError):
                        conn.sendall(b"yes" if conn.recv(99).startswith(word) else b"no")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_name_of_a_private_address(web):
    """
    A name that resolves to an address of no rule leads nowhere, whoever has said that.
    """
    with jail.Sandbox(network=[f"ok.test:{web}"], resolver=local) as box:
        result = python(box, CONNECT, "ok.test", web, "ok.test")

    assert errno.ECONNRESET == result.exit_code
    assert ["127.0.0.1 is loopback, and no rule names it"] == [denial.why for denial in result.denials]


def test_files_about_names(box):
    """
    Programs are told to ask the sandbox's own resolver, and nobody else.
    """
    result = box.run(["cat", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"], text=True)

    assert "nameserver 127.0.0.1\n" in result.stdout
    assert "127.0.0.1 localhost jail\n" in result.stdout
    assert "hosts: files dns\n" in result.stdout


ECHO_BYTES = 3_000_000
ECHO = """
import hashlib, socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
data = bytes(range(256)) * (int(sys.argv[3]) // 256)
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
got = b"".join(iter(lambda: s.recv(65536), b""))
sys.exit(0 if got == data + b"end" else 1)
"""


def test_half_close_is_kept():
    """
    Bytes pass both ways unchanged, and an end of file in one direction leaves the other open.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            conn, _ = server.accept()
            with conn:
                while data := conn.recv(65536):
                    conn.sendall(data)
                conn.sendall(b"end")

        thread = threading.Thread(target=serve)
        thread.start()
        with jail.Sandbox(network=[f"localhost:{port}"]) as box:
            assert 0 == python(box, ECHO, "localhost", port, ECHO_BYTES).exit_code
        thread.join()


def test_server_that_speaks_first():
    """
    What a server says before the program has said anything is passed on.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            conn, _ = server.accept()
            with conn:
                conn.sendall(b"220 ready\r\n")
                assert b"QUIT\r\n" == conn.recv(99)

        thread = threading.Thread(target=serve)
        thread.start()
        code = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
assert s.recv(99) == b"220 ready\\r\\n"
s.sendall(b"QUIT\\r\\n")
assert s.recv(99) == b""
"""
        with jail.Sandbox(network=[f"ok.test:{port}", f"127.0.0.1:{port}"], resolver=local) as box:
            result = python(box, code, "ok.test", port)
        thread.join()
    assert 0 == result.exit_code, result.stderr


def test_no_thread_and_no_descriptor_is_left(box, web):
    """
    The threads exist while some sandbox has an allowlist.
    """
    assert 0 == python(box, CONNECT, "ok.test", web, "ok.test").exit_code
    names = {thread.name for thread in threading.enumerate()}
    box.close()
    left = {thread.name for thread in threading.enumerate()}

    assert {"jail-network", "jail-traffic"} <= names
    assert set() == left & {"jail-network", "jail-traffic"}


def test_sandbox_without_an_allowlist_has_no_thread():
    """
    What is not asked for costs nothing.
    """
    with jail.Sandbox() as box:
        assert 0 == box.run(["true"]).exit_code
        assert set() == {t.name for t in threading.enumerate()} & {"jail-network", "jail-traffic"}


@pytest.mark.parametrize("change", [{"network": "none"}, {}])
def test_one_program_with_less(change, box, web):
    """
    One program of a sandbox with an allowlist can have no network.
    """
    expected = errno.EPERM if change else 0
    code = "import socket, sys\ntry:\n    socket.socket()\nexcept OSError as e:\n    sys.exit(e.errno)\n"

    assert expected == box.run([PYTHON, "-I", "-c", code], **change).exit_code


def test_refuse_more_than_the_sandbox(box):
    """
    A program cannot ask for other rules than its sandbox's.
    """
    with pytest.raises(jail.PolicyError, match=r"^network: "):
        box.run(["true"], network=["other.test"])


HOLD = """
import socket, sys
kept = []
for n in range(int(sys.argv[2])):
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
        s.sendall(b"x")
        kept.append(s.recv(1))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(n)
    kept.append(s)
"""


@pytest.fixture
def echo():
    """
    The port of a server that sends back what it gets, to many at once.
    """

    class Echo(socketserver.BaseRequestHandler):
        """
        One connection.
        """

        def handle(self):
            """
            Until its end.
            """
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(65536):
                    self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("limit", "expected"), [(5, 5), (9, 0)])
def test_connections_are_bounded(limit, expected, echo):
    """
    What comes beyond is reset, and told of.
    """
    with jail.Sandbox(network=[f"localhost:{echo}"], network_connections=limit) as box:
        result = python(box, HOLD, echo, 8)

    assert expected == result.exit_code
    whys = [denial.why for denial in result.denials]
    assert (["it has 5 connections already"] if expected else []) == whys
    assert ({"more than network_connections = 5"} if expected else set()) == {d.cure for d in result.denials}


@pytest.mark.parametrize(("limit", "expected"), [("1M", errno.ECONNRESET), ("100M", 0)])
def test_bytes_are_bounded(limit, expected, echo):
    """
    When more were moved, connections are cut.
    """
    code = """
import socket, sys
s = socket.create_connection(("localhost", int(sys.argv[1])), 20)
try:
    for n in range(300):
        s.sendall(bytes(10000))
        left = 10000
        while left:
            left -= len(s.recv(left))
except OSError as exc:
    sys.exit(exc.errno)
"""
    with jail.Sandbox(network=[f"localhost:{echo}"], network_bytes=limit) as box:
        result = python(box, code, echo)
        after = python(box, code, echo)

    assert expected == result.exit_code == after.exit_code
    told = {(denial.why, denial.cure) for denial in after.denials}  # a program may try both addresses
    cut = {("it has moved 1048576 bytes already", "more than network_bytes = 1048576")}
    assert (cut if expected else set()) == told
    assert 1_000_000 < result.usage.network_bytes <= 6_000_000
    assert expected or 12_000_000 == box.usage.network_bytes


def test_idle_connections_are_cut(echo):
    """
    One that moves nothing ends; one that does goes on.
    """
    code = """
import socket, sys, time
a, b = (socket.create_connection(("localhost", int(sys.argv[1])), 20) for _ in range(2))
a.sendall(b"x"); a.recv(1)
end = time.monotonic() + 4
while time.monotonic() < end:
    b.sendall(b"x"); assert b.recv(1) == b"x"
    time.sleep(0.1)
try:
    a.recv(1)
except OSError as exc:
    sys.exit(exc.errno)
"""
    with jail.Sandbox(network=[f"localhost:{echo}"], network_idle=1.5) as box:
        assert errno.ECONNRESET == python(box, code, echo).exit_code


def test_refuse_more_connections_than_descriptors():
    """
    A limit that the harness could not keep up with is refused, with the cure.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with pytest.raises(jail.UnsupportedError, match="RLIMIT_NOFILE of 1024"):
            jail.Sandbox(network=["a.org"], network_connections=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


ECHO_ONCE = """
import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c = s.accept()[0]
while d := c.recv(65536):
    c.sendall(d)
"""


def test_interpreter_that_is_busy(echo):
    """
    Bytes pass while the harness holds the interpreter's lock.
    """
    code = """
import socket, sys, time
s = socket.create_connection(("localhost", int(sys.argv[1])), 20)
s.sendall(b"x"); s.recv(1)
print("up", flush=True); sys.stdin.readline()
slowest = 0
for _ in range(200):
    began = time.monotonic()
    s.sendall(b"x" * 1000)
    assert s.recv(1000, socket.MSG_WAITALL)
    slowest = max(slowest, time.monotonic() - began)
print(slowest)
"""
    # The server must not need the lock either: it is another process.
    server = subprocess.Popen([PYTHON, "-I", "-c", ECHO_ONCE], stdout=subprocess.PIPE, text=True)
    with server, server.stdout as said:
        port = said.readline().strip()
        with (
            jail.Sandbox(network=[f"localhost:{port}"]) as box,
            box.popen(
                [PYTHON, "-I", "-c", code, port], stdin=jail.PIPE, stdout=jail.PIPE, text=True
            ) as process,
        ):
            assert "up\n" == process.stdout.readline()
            process.stdin.write("go\n")
            process.stdin.flush()
            held = sum(range(60_000_000))  # one call that keeps the lock, for half a second and more
            slowest = float(process.stdout.readline())

    assert held
    assert slowest < 0.3
