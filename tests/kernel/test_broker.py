"""
An allowlist where no network namespace is to be had: the harness makes and connects programs' sockets.
seccomp_unotify(2), landlock(7)

Servers are on the host's loopback, which is the sandbox's, too.
"""

import contextlib
import errno
import functools
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from jail.connector import Connector
from jail.reactor import Reactor
from kernel.servers import full_server

pytestmark = pytest.mark.needs("landlock_abi_6", "libseccomp", "seccomp_notify")

# Prints how a program ended that ran under some rules, what it said, and what it was refused.
RUN = """
import json, jail, os, sys
rules, cmd = json.loads(sys.argv[1]), sys.argv[2:]
try:
    result = jail.run(cmd, timeout=60, **rules)
except jail.UnsupportedError as exc:
    print(json.dumps({"feature": exc.feature, "needs": exc.needs, "cure": exc.cure or ""}))
else:
    kept = next(g for g in result.guarantees if g.name == "network")
    print(json.dumps({"code": result.exit_code, "out": result.stdout.text, "err": result.stderr.text,
                      "denials": [str(d) for d in result.denials],
                      "askers": [[d.comm, d.pid] for d in result.denials], "strength": kept.strength,
                      "bytes": result.usage.network_bytes}))
"""
ATTEMPT = """
import errno, os, select, signal, socket, struct, sys, threading, time
P = int(sys.argv[2])
try: exec(sys.argv[1])
except OSError as exc: sys.exit(exc.errno or 99)  # a timeout of Python's own has none
"""


@pytest.fixture
def asked(ask_harness, container):
    """
    Runs a program in a container under some rules and gives all that came of it.
    """
    source, options = container
    return lambda cmd, **rules: ask_harness(source + RUN, json.dumps(rules), *cmd, **options)


@pytest.fixture
def attempted(asked, python):
    """
    The same, but gives the errno that a line of Python ended with, or 0; P in it is a port.
    """

    def attempted(code, port, **rules):
        seen = asked([*python, ATTEMPT, code, str(port)], **rules)
        assert "" == seen["err"]
        return seen["code"]

    return attempted


@pytest.fixture
def python():
    """
    An interpreter inside.
    """
    return sys.executable, "-I", "-S", "-c"


@pytest.fixture
def server():
    """
    The port of a server on every address of this host, IPv4 and IPv6, that says "hello".
    """
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512) as listener:
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as sock:
                    sock.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield port
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.fixture
def full():
    """
    A server with no place in its queue: who connects now waits.
    """
    with full_server() as listener:
        yield listener


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


CALL = "s = socket.create_connection(({!r}, P), 20); sys.exit(0 if s.recv(9) == b'hello' else 1)"
CALL6 = (
    "s = socket.socket(socket.AF_INET6); s.connect(({!r}, P)); sys.exit(0 if s.recv(9) == b'hello' else 1)"
)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(CALL.format("127.0.0.1"), 0, id="allow_address"),
        pytest.param(CALL.format("127.0.9.7"), 0, id="allow_network"),
        pytest.param(CALL.format("127.0.9.8"), errno.EACCES, id="deny_denied"),
        pytest.param(CALL.format("127.0.0.2"), errno.EACCES, id="deny_other_address"),
        pytest.param(CALL.format("0.0.0.0"), 0, id="allow_nobody_as_loopback"),
        pytest.param(CALL6.format("::1"), 0, id="allow_ipv6"),
        pytest.param(CALL6.format("::"), 0, id="allow_nobody_as_loopback_of_ipv6"),
        pytest.param(CALL6.format("::ffff:127.0.0.1"), 0, id="allow_mapped"),
        pytest.param(CALL6.format("::ffff:127.0.0.2"), errno.EACCES, id="deny_mapped"),
        pytest.param("socket.create_connection(('127.0.0.1', P ^ 1))", errno.EACCES, id="deny_other_port"),
        pytest.param("socket.create_connection(('8.8.8.8', 443))", errno.EACCES, id="deny_public"),
        pytest.param("socket.create_connection(('169.254.169.254', 80))", errno.EACCES, id="deny_metadata"),
    ],
)
def test_connect(code, expected, server, attempted):
    """
    What a rule names is connected to, and the bytes pass; all else is EACCES.
    """
    rules = [f"localhost:{server}", f"127.0.9.0/24:{server}"]

    assert expected == attempted(code, server, network=rules, deny_network=["127.0.9.8"])


def test_refused_by_the_other_side(attempted):
    """
    Where nobody listens, an allowed address is ECONNREFUSED, and the socket can be tried again.
    """
    port = closed_port()
    code = """
s = socket.socket()
assert s.connect_ex(("127.0.0.1", P)) == errno.ECONNREFUSED
s.connect(("127.0.0.1", P))
"""
    assert errno.ECONNREFUSED == attempted(code, port, network=[f"127.0.0.1:{port}"])


def test_report(server, asked, python):
    """
    The result says who decides, that nobody counts bytes, and what would allow what was refused.
    """
    cmd = [*python, ATTEMPT, CALL.format("127.0.0.2"), str(server)]
    seen = asked(cmd, network=[f"127.0.0.1:{server}"])

    assert ("supervised", None) == (seen["strength"], seen["bytes"])
    assert [True] == [f'network = ["127.0.0.2:{server}"]' in text for text in seen["denials"]]


ASKER = """
import ctypes
name = lambda comm: ctypes.CDLL(None).prctl(15, comm, 0, 0, 0)  # PR_SET_NAME
def act():
    name(b"another name")
    s.connect_ex(("127.0.0.2", P))
s = socket.socket()
name(b"\\x1b[2J\\n")
print(os.getpid())
{act}
"""


@pytest.mark.parametrize(
    ("act", "comm"),
    [
        pytest.param("act()", "another name", id="process"),
        pytest.param("t = threading.Thread(target=act); t.start(); t.join()", "^[[2J^J", id="thread"),
    ],
)
def test_report_asker(act, comm, server, asked, python):
    """
    A denial has the process that has asked, as inert text; which thread of it has is not told.
    """
    seen = asked([*python, ATTEMPT, ASKER.format(act=act), str(server)], network=[f"127.0.0.1:{server}"])

    assert ("", 0) == (seen["err"], seen["code"])
    assert [[comm, int(seen["out"])]] == seen["askers"]


@pytest.mark.parametrize(
    ("rules", "needs"),
    [
        pytest.param({"network": ["pypi.org"]}, "names", id="refuse_name"),
        pytest.param({"network": ["10.0.0.1:80"], "network_bytes": 1000}, "network_bytes", id="refuse_bytes"),
    ],
)
@pytest.mark.needs("userns")  # so that the container is what refuses them
def test_refuse(rules, needs, asked):
    """
    What only a relay can keep is an UnsupportedError that says what would help.
    """
    seen = asked(["true"], **rules)

    assert "network" == seen["feature"]
    assert needs in seen["needs"]
    assert "seccomp=unconfined" in seen["cure"]


@pytest.mark.parametrize(
    ("code", "with_list", "with_host"),
    [
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", errno.EPERM, 0, id="udp"),
        pytest.param("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", errno.EPERM, 0, id="netlink"),
        pytest.param("socket.socket().bind(('127.0.0.1', 0))", errno.EPERM, 0, id="bind"),
        pytest.param("socket.socket().listen()", errno.EPERM, 0, id="listen"),
        pytest.param(
            "socket.socket(10).setsockopt(41, 57, bytes([0, 2, 4, *bytes(21)]))", errno.EPERM, 0, id="route"
        ),
        pytest.param("socket.socket().setsockopt(0, 4, bytes([1, 1, 1, 1]))", errno.EPERM, 0, id="options"),
        pytest.param("socket.socket().setsockopt(6, 30, 1)", errno.EPERM, 0, id="fast_open_connect"),
        pytest.param("socket.socket().setsockopt(6, 1, 1)", 0, 0, id="nodelay"),
    ],
)
def test_other_ways(code, with_list, with_host, attempted):
    """
    There is no socket but TCP, none that listens, and no option that leads elsewhere. The control has the host's network.
    """
    assert with_list == attempted(code, 1, network=["127.0.0.1:1"])
    assert with_host == attempted(code, 1, network="host")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("s.connect(A)", 0, id="interrupted_by_nobody"),
        pytest.param(
            "s.setsockopt(1, socket.SO_SNDTIMEO, struct.pack('=qq', 0, 200000)); s.connect(A)",
            errno.EINPROGRESS,
            id="timeout_of_the_socket",
        ),
        pytest.param("s.setblocking(False); s.connect(A)", errno.EINPROGRESS, id="not_blocking"),
        pytest.param(
            "s.setblocking(False); s.connect_ex(A); s.connect(A)", errno.EALREADY, id="not_blocking_again"
        ),
        pytest.param(
            "signal.signal(14, lambda *_: (_ for _ in ()).throw(OSError(errno.EINTR, '')));"
            "signal.setitimer(0, 0.2); s.connect(A)",
            errno.EINTR,
            id="signal",
        ),
        pytest.param(
            "s.setblocking(False); s.connect_ex(A); print('at it', flush=True);"
            "select.select([], [s], []); assert s.getsockopt(1, 4) == 0; assert s.connect_ex(A) == 0; s.connect(A)",
            errno.EISCONN,
            id="finished",
        ),
    ],
)
def test_waiting(code, expected, full, harness, container, python):
    """
    Who connects to a server that is busy waits as he would alone: by blocking, by polling, for a time, until a signal.
    """
    source, options = container
    start = """
import jail, sys
with jail.Sandbox(network=["127.0.0.1:" + sys.argv[1]]) as box:
    process = box.popen(sys.argv[2:], stdout=jail.PIPE)
    print(process.stdout.readline(), flush=True)
    print(process.wait(), flush=True)
"""
    address = f"A = ('127.0.0.1', P); s = socket.socket(); print('now', flush=True); {code}"
    port = full.getsockname()[1]
    one = harness(source + start, str(port), *python, ATTEMPT, address, str(port), **options)
    one.await_line()
    if expected in (0, errno.EISCONN):
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(full.accept()[0])
            assert str(expected) == one.await_line()
    else:
        assert str(expected) == one.await_line()


def test_blocking_stays_blocking(server, attempted):
    """
    What a program has set on its socket is as it was: the harness has connected the very same one.
    """
    code = """
for blocks in (True, False):
    s = socket.socket()
    s.setsockopt(6, 1, 1)
    s.setblocking(blocks)
    s.connect_ex(("127.0.0.1", P))
    assert os.get_blocking(s.fileno()) is blocks
    assert s.getsockopt(6, 1)
"""
    assert 0 == attempted(code, server, network=[f"127.0.0.1:{server}"])


def test_close(attempted):
    """
    A connection ends with the program's close: nobody else has it open.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def accept():
            with listener.accept()[0] as first:
                ended = first.recv(1)
            with listener.accept()[0] as second:
                second.sendall(b"ended" if ended == b"" else b"said")

        thread = threading.Thread(target=accept)
        thread.start()
        code = """
socket.create_connection(("127.0.0.1", P)).close()
sys.exit(0 if socket.create_connection(("127.0.0.1", P), 5).recv(9) == b"ended" else 1)
"""
        seen = attempted(code, port, network=[f"127.0.0.1:{port}"])
        thread.join(10)

    assert 0 == seen


def test_many_at_once(server, attempted):
    """
    Threads and forked children connect at once, each for itself.
    """
    code = """
def call():
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", P), 20) as s: assert s.recv(9) == b"hello"
    done.append(1)
pids = [os.fork() for _ in range(2)]
done = []
threads = [threading.Thread(target=call) for _ in range(20)]
for t in threads: t.start()
for t in threads: t.join()
if len(done) != 20: os._exit(99)
if 0 in pids: os._exit(0)
sys.exit(sum(os.waitpid(pid, 0)[1] for pid in pids))
"""
    assert 0 == attempted(code, server, network=[f"127.0.0.1:{server}"])


def test_many_unconnected(server, attempted):
    """
    Of sockets that nobody connects the harness keeps the latest; the rest are EACCES, and new ones work.
    """
    code = """
import resource; resource.setrlimit(7, (2048, 2048))
few = [socket.socket() for _ in range(200)]
assert few[0].connect_ex(("127.0.0.1", P)) == 0
many = [socket.socket() for _ in range(1100)]
assert many[0].connect_ex(("127.0.0.1", P)) == errno.EACCES
assert many[-1].connect_ex(("127.0.0.1", P)) == 0
socket.create_connection(("127.0.0.1", P))
"""
    assert 0 == attempted(code, server, network=[f"127.0.0.1:{server}"])


def test_errors_of_the_call(server, attempted):
    """
    What makes no sense gives what the kernel would have given.
    """
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def connect(fd, address, size):
    return libc.connect(fd, address, size) and ctypes.get_errno()
s, other = socket.socket(), socket.socket(10)
good = struct.pack("=H", 2) + struct.pack("!H", P) + bytes([127, 0, 0, 1]) + bytes(8)
seen = [connect(99, good, 16), connect(os.open("/dev/null", 0), good, 16), connect(s.fileno(), None, 16),
        connect(s.fileno(), ctypes.c_void_p(-4096), 16), connect(s.fileno(), good, 8), connect(s.fileno(), good, -1),
        connect(s.fileno(), bytes(16), 16), connect(other.fileno(), good, 16), connect(s.fileno(), good, 16)]
want = [errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EFAULT, errno.EINVAL, errno.EINVAL,
        errno.EAFNOSUPPORT, errno.EAFNOSUPPORT, 0]
if seen != want: print(seen, file=sys.stderr)
"""
    assert 0 == attempted(code, server, network=[f"127.0.0.1:{server}"])


def test_death_of_the_harness(full, harness, container, python, eyes):
    """
    A program that waits for a dead harness does not: it ends with it.
    """
    source, options = container
    start = """
import jail, sys
with jail.Sandbox(network=["127.0.0.1:" + sys.argv[1]]) as box:
    process = box.popen(sys.argv[2:], stdout=jail.PIPE)
    print(process.stdout.readline(), flush=True)
    process.wait()
"""
    port = full.getsockname()[1]
    code = "print('now', flush=True); socket.create_connection(('127.0.0.1', P))"
    one = harness(source + start, str(port), *python, ATTEMPT, code, str(port), **options)
    one.await_line()
    below = one.descendants()
    one.kill()

    assert [] == eyes.survivors(below, 5)


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl(asked):
    """
    Curl fetches from an allowed address, and from no other.
    """

    class Greeter(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        port = web.server_port
        seen = [
            asked(["curl", "-sS", f"http://{host}:{port}/"], network=[f"127.0.0.1:{port}"])
            for host in ("127.0.0.1", "127.0.0.2")
        ]
        web.shutdown()
        thread.join()

    assert [(0, "hello"), (7, "")] == [(one["code"], one["out"]) for one in seen]


def test_sharing(server, ask_harness, container, python):
    """
    Two sandboxes, one of asyncio, and a forked copy of the harness: each has its own rules; a program can have none.
    """
    source, options = container
    code = """
import asyncio, jail, jail.aio, json, os, sys
port, cmd = sys.argv[1], sys.argv[2:]
async def other():
    async with jail.aio.Sandbox(network=["127.0.0.2:" + port]) as box:
        return (await box.run([*cmd, "127.0.0.1", port])).exit_code, (await box.run([*cmd, "127.0.0.2", port])).exit_code
with jail.Sandbox(network=["127.0.0.1:" + port]) as box:
    def run(**fields): return box.run([*cmd, "127.0.0.1", port], **fields).exit_code
    pid = os.fork()
    if not pid: os._exit(0)
    os.waitpid(pid, 0)
    seen = [run(), run(network="none"), run(deny_syscalls=["sendto"]), *asyncio.run(other()), run(), box.usage.network_bytes]
print(json.dumps(seen))
"""
    program = (
        "import socket, sys\ntry: socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "except OSError as exc: sys.exit(exc.errno)"
    )
    expected = [0, errno.EPERM, 0, errno.EACCES, 0, 0, None]

    assert expected == ask_harness(source + code, str(server), *python, program, **options)


def test_two_threads(full, harness, container, python):
    """
    Two threads that connect one socket are both told when it is.
    """
    source, options = container
    start = """
import jail, sys
with jail.Sandbox(network=["127.0.0.1:" + sys.argv[1]]) as box:
    process = box.popen(sys.argv[2:], stdout=jail.PIPE)
    print(process.stdout.readline(), flush=True)
    print(process.wait(), flush=True)
"""
    code = """
s = socket.socket()
seen = []
threads = [threading.Thread(target=lambda: seen.append(s.connect_ex(("127.0.0.1", P)))) for _ in range(2)]
for t in threads: t.start()
time.sleep(0.2)
print("now", flush=True)
for t in threads: t.join()
sys.exit(sum(seen))
"""
    port = full.getsockname()[1]
    one = harness(source + start, str(port), *python, ATTEMPT, code, str(port), **options)
    one.await_line()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(full.accept()[0])
        assert "0" == one.await_line()


def test_end_on_the_way(full, server, harness, container, python):
    """
    A sandbox that ends while a connection of its is on its way leaves the harness's others alone.
    """
    source, options = container
    start = """
import jail, sys
busy, port, cmd = sys.argv[1], sys.argv[2], sys.argv[3:]
with jail.Sandbox(network=["127.0.0.1:" + busy], wall=0.5) as box:
    try: box.run([*cmd, busy])
    except jail.JailError: pass
    print("ended", flush=True)
    sys.stdin.readline()
    with jail.Sandbox(network=["127.0.0.1:" + port]) as other:
        print(other.run([*cmd, port]).exit_code, flush=True)
"""
    pipe = subprocess.PIPE
    cmd = [*python, "import socket, sys; P = int(sys.argv[1]); " + CALL.format("127.0.0.1")]
    one = harness(
        source + start, str(full.getsockname()[1]), str(server), *cmd, stdin=pipe, stderr=pipe, **options
    )
    assert "ended" == one.await_line()
    with full.accept()[0]:  # there is a place in its queue now, for whoever is still on his way
        one.process.stdin.write("\n")
        one.process.stdin.flush()
        assert "0" == one.await_line()

    assert "" == one.process.communicate(timeout=30)[1]


def test_nobody_else_waits(full, server, harness, container, python):
    """
    A program that takes O_NONBLOCK away in the moment before its socket is connected waits alone: another sandbox has
    its connections meanwhile, and its own ends at once.
    """
    source, options = container
    start = """
import functools, jail, os, sys
os.set_blocking = functools.partial(lambda real, fd, blocks: real(fd, True), os.set_blocking)
busy, port, cmd = sys.argv[1], sys.argv[2], sys.argv[3:]
with jail.Sandbox(network=["127.0.0.1:" + port]) as other:
    with jail.Sandbox(network=["127.0.0.1:" + busy]) as box:
        process = box.popen([*cmd, busy], stdout=jail.PIPE)
        print(process.stdout.readline(), flush=True)
        print(other.run([*cmd, port]).exit_code, process.poll(), flush=True)
    print("closed", other.run([*cmd, port]).exit_code, flush=True)
"""
    call = "s = socket.socket(); s.connect(('127.0.0.1', P)); sys.exit(0 if s.recv(9) == b'hello' else 1)"
    cmd = [*python, f"import socket, sys; P = int(sys.argv[1]); print(flush=True); {call}"]
    one = harness(source + start, str(full.getsockname()[1]), str(server), *cmd, **options)
    one.await_line()

    assert "0 None" == one.await_line()
    assert "closed 0" == one.await_line()


def test_connector():
    """
    Each call has its answer, whatever becomes of it; and what the thread was given is closed when it has ended.
    """
    reactor, errors, told = Reactor("jail-test"), [], threading.Semaphore(0)

    def on_error(error):
        errors.append(error)
        told.release()

    connector = Connector(reactor)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        where = listener.getsockname()[:2]
        socks = [socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(3)]
        socks[1].close()
        for sock, address in zip(socks, [(*where, 1 << 20, 0), where, where], strict=True):
            reactor.call(functools.partial(connector.connect, sock, address, on_error))
            assert told.acquire(timeout=30)
    reactor.call(lambda: [connector.drop(sock) for sock in socks])
    reactor.call(connector.close)
    connector.join()
    reactor.stop()

    assert [errno.EIO, errno.EBADF, errno.EINPROGRESS] == errors
    assert [-1] * 3 == [sock.fileno() for sock in socks]
    assert [] == [thread.name for thread in threading.enumerate() if thread.name == "jail-connect"]
