"""
Clients of protocols that are not HTTP, and the resolvers that are not libc's, in a sandbox with a network allowlist.

The servers are in sandboxes that have the host's network; as in the other files, every name is this host.
"""

import contextlib
import shutil
import socket
import time
from pathlib import Path

import pytest

import jail
from kernel.servers import Greeter, refused, sandbox, serving

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"
SECONDS = 30.0


def free_port():
    """
    A port that nobody has now.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def running(box, command, port):
    """
    A server in a sandbox, from when it takes connections.
    """
    with box.popen(command, stderr=jail.PIPE) as server:
        deadline = time.monotonic() + SECONDS
        try:
            while not is_up(port):
                assert None is server.poll(), server.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)  # nothing is signalled when a foreign server begins to listen
            yield
        finally:
            server.kill()


def is_up(port):
    """
    Whether something listens there.
    """
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.program("initdb", "postgres", "psql")
@pytest.mark.slow
def test_psql():
    """
    `psql` asks a database by the name that is allowed, and of another hears that there is none.
    """
    port = free_port()
    programs = Path(shutil.which("initdb")).resolve().parent
    ask = ["psql", "-X", "-t", "-A", "-U", "me", "-p", str(port), "-c", "select 6 * 7", "postgres", "-h"]
    options = ["-c", "unix_socket_directories=", "-c", "fsync=off", "-p", str(port)]
    with jail.Sandbox(network="host", timeout=120) as host, sandbox(port) as box:
        host.run([programs / "initdb", "-D", "data", "-U", "me", "-A", "trust", "--no-sync"]).check()
        with running(host, [programs / "postgres", "-D", "data", "-h", "127.0.0.1", *options], port):
            allowed = box.run([*ask, "ok.test"])
            denied = box.run([*ask, "other.test"])

    assert (0, b"42\n", set()) == (allowed.exit_code, allowed.stdout, refused(allowed)), allowed.stderr
    assert (2, b"", {"other.test"}) == (denied.exit_code, denied.stdout, refused(denied))
    assert b'could not translate host name "other.test"' in denied.stderr


@pytest.mark.program("redis-server", "redis-cli")
def test_redis():
    """
    `redis-cli`.
    """
    port = free_port()
    server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    ask = ["redis-cli", "-p", str(port), "-h"]
    with jail.Sandbox(network="host", timeout=120) as host, sandbox(port) as box, running(host, server, port):
        written = box.run([*ask, "ok.test", "set", "a", "42"])
        allowed = box.run([*ask, "ok.test", "get", "a"])
        denied = box.run([*ask, "other.test", "get", "a"])

    assert (0, b"OK\n") == (written.exit_code, written.stdout), written.stderr
    assert (0, b"42\n", set()) == (allowed.exit_code, allowed.stdout, refused(allowed)), allowed.stderr
    assert (1, b"", {"other.test"}) == (denied.exit_code, denied.stdout, refused(denied))
    assert b"Name or service not known" in denied.stderr


SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
PidFile none
StrictModes no
UsePAM no
"""


@pytest.mark.program("sshd", "ssh", "ssh-keygen")
def test_ssh():
    """
    `ssh` runs a command on a host that is allowed: the server speaks first.
    """
    port = free_port()
    with jail.Sandbox(network="host", timeout=120) as host, sandbox(port) as box:
        for key in ("host", "user"):
            host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]).check()
        home = host.run(["pwd"]).stdout.text.strip()
        host.run(["tee", "config"], input=SSHD.format(port=port, home=home).encode()).check()
        box.run(
            ["install", "-m", "600", "/dev/stdin", "/tmp/key"], input=host.run(["cat", "user"]).stdout
        ).check()
        options = ["-F", "none", "-i", "/tmp/key", "-p", str(port), "-o", "BatchMode=yes"]
        options += ["-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=/tmp/hosts"]
        with running(host, [shutil.which("sshd"), "-D", "-e", "-f", f"{home}/config"], port):
            allowed = box.run(["ssh", *options, "ok.test", "echo", "hello"])
            denied = box.run(["ssh", *options, "other.test", "echo", "hello"])

    assert (0, b"hello\n", set()) == (allowed.exit_code, allowed.stdout, refused(allowed)), allowed.stderr
    assert (255, b"", {"other.test"}) == (denied.exit_code, denied.stdout, refused(denied))
    assert b"Could not resolve hostname other.test" in denied.stderr


# Each prints what it has found, one address a line, or ends with 1 and a word for a name that is not there.
C_ARES = """
require("dns").promises.resolve4(process.argv[1]).then(
    found => console.log(found.join("\\n")), error => { console.error(error.code); process.exitCode = 1 })
"""
DNSPYTHON = """
import dns.resolver, sys
tcp = len(sys.argv) > 2
try:
    print(*(found.address for found in dns.resolver.resolve(sys.argv[1], "A", tcp=tcp)), sep="\\n")
except dns.resolver.NXDOMAIN:
    sys.exit("NXDOMAIN")
"""


@pytest.mark.parametrize(
    ("command", "word"),
    [
        pytest.param(["node", "-e", C_ARES], b"ENOTFOUND", marks=pytest.mark.program("node"), id="c-ares"),
        pytest.param(
            ["busybox", "nslookup"], b"NXDOMAIN", marks=pytest.mark.program("busybox"), id="busybox"
        ),
        pytest.param([PYTHON, "-I", "-c", DNSPYTHON], b"NXDOMAIN", id="dnspython"),
    ],
)
def test_resolvers(command, word):
    """
    A resolver that makes its own packets gets an address to connect to, which is not the server's, or NXDOMAIN.
    """
    with serving(Greeter) as port, sandbox(port) as box:
        found = box.run([*command, "ok.test"])
        denied = box.run([*command, "other.test"])
        address = next(word for word in found.stdout.text.split() if word.startswith("198.18."))
        get = ["curl", "-sS", "--max-time", "20", "-H", f"Host: ok.test:{port}", f"http://{address}:{port}/"]
        reached = box.run(get)

    assert (0, set()) == (found.exit_code, refused(found)), found.stderr
    assert (1, {"other.test"}) == (denied.exit_code, refused(denied))
    assert word in denied.stdout + denied.stderr
    assert b"hello" == reached.stdout, reached.stderr
