"""
The proxy of a sandbox without a network namespace: a port of the host's loopback, for its own programs. `jail.door`
"""

import json
import socket
import subprocess

import pytest

from jail.door import Door
from jail.reactor import Reactor
from kernel.conftest import CONTAINER
from kernel.proxied import PYTHON, RUN, get, talk

pytestmark = pytest.mark.needs("landlock_abi_6", "libseccomp", "seccomp_notify")

TWO = """
import json, jail, sys
port, *talk = sys.argv[1:]
def box(*rules):
    return jail.Sandbox(resolver=lambda _: ["127.0.0.1"], timeout=60, proxy_variables=True, network=list(rules))
def run(box, **env):
    result = box.run(talk, env=env)
    return result.stdout.text[:12] + result.stderr.text.strip().rpartition("\\n")[2]
with box("ok.test:" + port, "127.0.0.1:" + port) as wide:
    url = wide.run(["sh", "-c", "echo $http_proxy"]).stdout.text.strip()
    print(url, flush=True)
    sys.stdin.readline()
    with box() as narrow, box(url.removeprefix("http://")) as named:
        print(json.dumps([run(wide), run(narrow), run(narrow, http_proxy=url), run(named, http_proxy=url), run(wide)]))
"""


def test_strangers(web, harness):
    """
    A user of the host and another sandbox find the port, and are reset; the sandbox's own programs are served.
    """
    pipe = subprocess.PIPE
    one = harness(CONTAINER + TWO, str(web), *talk(get(f"http://ok.test:{web}/")), stdin=pipe)
    host, _, port = one.await_line().removeprefix("http://").partition(":")
    with pytest.raises(ConnectionError), socket.create_connection((host, int(port)), 20) as stranger:
        while True:
            stranger.sendall(get(f"http://ok.test:{web}/").encode())
    one.process.stdin.write("\n")
    one.process.stdin.flush()
    own, narrow, other, named, again = json.loads(one.await_line())
    assert 0 == one.process.wait()

    assert ("HTTP/1.1 200", "HTTP/1.1 403") == (own, narrow)
    assert "PermissionError: [Errno 13] Permission denied" == other
    assert "(reset)" in named or "ConnectionResetError" in named or "BrokenPipeError" in named
    assert own == again


def test_direct_connections(web, ask_harness, container):
    """
    What a rule names by address is connected to without the proxy, as ever; and a name is none without it.
    """
    code = (
        "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]) + int(sys.argv[2])), 20)"
    )
    rules = [f"ok.test:{web}", f"127.0.0.1:{web}"]
    source, options = container
    fields = {"proxy_variables": True, "network": rules}
    commands = [[*PYTHON, code, str(web), add] for add in "01"]
    allowed, denied = ask_harness(source + RUN, *map(json.dumps, (fields, *commands)), **options)

    assert (0, [], None) == (allowed["code"], allowed["denials"], allowed["bytes"])
    assert (1, 1) == (denied["code"], len(denied["denials"]))


@pytest.mark.parametrize(
    ("is_connected", "expected"),
    [pytest.param(True, b"let in", id="allow_own"), pytest.param(False, b"", id="deny_left_address")],
)
def test_address_that_was_left(is_connected, expected):
    """
    Who has the address of a program's socket that is not connected is not let in for it.
    """
    reactor = Reactor("test")
    door = Door(reactor, lambda sock: (sock.sendall(b"let in"), sock.close()))
    with socket.socket() as program, socket.socket() as stranger:
        for sock in (program, stranger):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        program.bind(("127.0.0.1", 0))
        stranger.bind(program.getsockname())

        def begin():
            door.await_one()
            (program if is_connected else stranger).connect(door.place)
            door.expect(program)

        try:
            reactor.call(begin)
            seen = (program if is_connected else stranger).recv(9)
        except ConnectionResetError:
            seen = b""
        finally:
            door.close()
            reactor.stop()

    assert expected == seen
