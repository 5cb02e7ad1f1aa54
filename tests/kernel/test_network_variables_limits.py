"""
The proxy of a sandbox with a network namespace: its limits, the rules as they change, and what else there is to reach.
"""

import os
import socketserver
import threading

import pytest

import jail
from jail.rule import PROXY
from kernel.proxied import PYTHON, TALK, connect, get, sandbox, status, talk
from kernel.test_network_proxy import Http

pytestmark = pytest.mark.needs("userns", "netns")


def test_idle_head(web):
    """
    A head that does not come ends by the limit of what is idle; one that comes is answered.
    """
    with sandbox(web, network_idle=1) as box:
        whole = box.run(talk(get(f"http://ok.test:{web}/")))
        served = box._session.gateway.reactor._serve
        before = {*served}
        half = box.run(talk("GET http://ok.t"))
        assert before == {*served}  # what is closed is not watched, though a forked copy had it open

    assert 200 == status(whole.stdout.text)
    assert b"(reset)\n" == half.stdout


def test_bytes_of_heads(web):
    """
    What is said in heads counts among the bytes of the sandbox, and has their limit.
    """
    request = get(f"http://ok.test:{web}/", "A: " + "b" * 10000)
    with sandbox(web, network_bytes=25000) as box:
        seen = [status(box.run(talk(request)).stdout.text) for _ in range(4)]
        moved = box.usage.network_bytes

    assert [200, 200, None, None] == seen
    assert 3 * 10000 < moved < 3 * 10000 + 2000


def test_connections(web):
    """
    Who has not asked yet is counted, too.
    """
    code = """
import os, socket, sys
host, port = os.environ["http_proxy"].removeprefix("http://").split(":")
kept = [socket.create_connection((host, int(port))) for _ in range(int(sys.argv[2]))]
for s in kept[:-1]: s.sendall(b"GET ")
try:
    kept[-1].sendall(sys.argv[1].encode())
    print(kept[-1].recv(12))
except ConnectionError: print("reset")
"""
    request = get(f"http://ok.test:{web}/")
    with sandbox(web, network_connections=8) as box:
        seen = [box.run([*PYTHON, code, request, count]).stdout for count in ("8", "9")]

    assert [b"b'HTTP/1.1 200'\n", b"reset\n"] == seen


def test_ask(web):
    """
    What no rule decides is asked of the harness, for a request as for a connection: of ports that some rule has.
    """
    asked = []

    def ask(question):
        asked.append((question.subject, question.port))
        return question.subject == "new.test"

    with sandbox(web, ask=ask) as box:
        new, other = (box.run(talk(get(f"http://{name}.test:{web}/"))) for name in ("new", "other"))
        elsewhere = [
            box.run(talk(connect(f"new.test:{port}"))).stdout.text for port in (53, 1024, PROXY[1] + 1)
        ]

    assert [("new.test", web), ("other.test", web)] == asked
    assert [403] * 3 == [status(text) for text in elsewhere]
    assert 200 == status(new.stdout.text)
    assert "403 Forbidden (jail: the harness was asked, and did not allow it)" in other.stdout.text


class Echo(Http):
    """
    What the far side says is what was said to it, once.
    """

    def echo(self):
        """
        See the class.
        """
        data = b""
        while not data.endswith(b"(end)"):
            data += self.request.recv(4096)
        self.request.sendall(data)


def test_upstream():
    """
    The way out leads through the host's own proxy, for both forms.
    """
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.asked, server.login = [], False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with sandbox(7777, network_proxy=url) as box:
            plain = box.run(talk(get("http://ok.test:7777/") + "(end)"))
            tunnel = box.run(talk(connect("ok.test:7777"), "SSH-(end)"))
            denied = box.run(talk(connect("no.test:7777")))
        server.shutdown()
        thread.join()

    assert (
        "hello GET / HTTP/1.1\r\nHost: ok.test:7777\r\nConnection: close\r\n\r\n(end)\n" == plain.stdout.text
    )
    assert tunnel.stdout.text.endswith("hello SSH-(end)\n")
    assert 403 == status(denied.stdout.text)
    assert ["ok.test:7777"] * 2 == server.asked


def test_peer():
    """
    Another sandbox is reached by the name that leads there, and by no "*".
    """
    serve = """
import socket
s = socket.create_server(("", 8080))
print("up", flush=True)
while True:
    with s.accept()[0] as conn:
        conn.recv(4096)
        conn.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\npeer")
"""
    with (
        jail.Sandbox() as other,
        other.popen([*PYTHON, serve], stdout=jail.PIPE) as server,
        jail.Sandbox(network=["db:8080", "*:8081"], peers={"db": other}, proxy_variables=True) as box,
    ):
        assert b"up\n" == server.stdout.readline()
        seen = [box.run(talk(get(f"http://db:{port}/"))).stdout.text for port in (8080, 8081)]
        server.kill()

    assert seen[0].endswith("peer\n")
    assert 403 == status(seen[1])


def test_changes(web):
    """
    A rule that is added or taken back is obeyed at once, open tunnels included; the proxy stays, with the port for it.
    """
    hold = TALK.replace("s.sendall(first)", "s.sendall(first); print('sent', s.recv(12), flush=True)")
    with sandbox(web) as box:
        box.network.allow(f"new.test:{PROXY[1]}", f"new.test:{web}")
        assert 200 == status(box.run(talk(get(f"http://new.test:{web}/"))).stdout.text)
        with box.popen([*PYTHON, hold, connect(f"new.test:{web}").encode().hex()], stdout=jail.PIPE) as held:
            assert b"sent b'HTTP/1.1 200'\n" == held.stdout.readline()
            box.network.revoke(f"new.test:{PROXY[1]}", f"new.test:{web}")
            assert held.stdout.read().endswith(b"(reset)\n")
        assert 403 == status(box.run(talk(get(f"http://new.test:{web}/"))).stdout.text)
        assert 200 == status(box.run(talk(get(f"http://ok.test:{web}/"))).stdout.text)
        with pytest.raises(jail.PolicyError, match="that of the proxy inside"):
            box.network.allow(f"localhost:{PROXY[1]}")
        with pytest.raises(jail.PolicyError, match="way out"):
            box.connect(PROXY[1])


def test_a_rule_with_the_same_port(web):
    """
    On another address the port of the proxy is what it is without one: a way out that the rules decide on.
    """
    code = "import socket, sys; s = socket.create_connection((sys.argv[1], 1003), 20); s.send(b'\\5'); print(s.recv(12))"
    with sandbox(web, more=["ok.test:1003"]) as box:
        seen = [box.run([*PYTHON, code, host]) for host in ("ok.test", "10.1.2.3", "127.0.0.1")]

    assert [{"ok.test"}, {"10.1.2.3"}, set()] == [{d.subject for d in one.denials} for one in seen]
    assert [b"", b"", b"b'HTTP/1.1 400'\n"] == [one.stdout for one in seen]


def test_one_program_without(web):
    """
    A program that is to have no network has the variables, and nothing that they lead to.
    """
    with sandbox(web) as box:
        seen = [box.run(talk(get(f"http://ok.test:{web}/")), **less) for less in ({}, {"network": "none"})]

    assert [0, 1] == [one.exit_code for one in seen]
    assert "PermissionError" in seen[1].stderr.text


def test_nothing_is_left(web):
    """
    However requests end, no descriptor of the harness's is left.
    """
    url = f"http://ok.test:{web}/"
    pieces = [
        get(url),
        get("http://no.test/"),
        "GET ",
        connect(f"ok.test:{web}"),
        connect("no.test:1"),
        "\x05",
    ]
    leave = TALK.partition("got = b")[0]
    before = len(os.listdir("/proc/self/fd"))
    with sandbox(web) as box:
        for piece in pieces * 3:
            assert box.run([*PYTHON, leave, piece.encode().hex()]).ok
        seen = [
            status(box.run(talk(piece)).stdout.text) for piece in (get(url), get("http://no.test/"), "\x05")
        ]

    assert [200, 403, 400] == seen
    assert before == len(os.listdir("/proc/self/fd"))
