"""What a sandbox reaches through a proxy of the host's. RFC 9110 section 9.3.6, RFC 1928"""

import errno
import logging
import socket
import socketserver
import threading

import pytest

import jail
from jail import tunnel

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"
PORT = 7777  # of nobody on the host: what answers there can only be a proxy
SIZE = 3 << 20
TALK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    s.sendall(bytes(int(sys.argv[3])))
    s.shutdown(socket.SHUT_WR)
    got = 0
    while data := s.recv(65536):
        got += len(data)
    print(got)
except OSError as exc:
    sys.exit(exc.errno)
"""


class Upstream(socketserver.BaseRequestHandler):
    """
    A proxy that notes whom it is asked for and then gives back what it is sent, after the other side's end as well.
    """

    def setup(self):
        """
        The stream, without a buffer: what comes behind the handshake is not its.
        """
        self.stream = self.request.makefile("rb", 0)

    def echo(self):
        """
        Be the far side, from "hello " at once to the program's end.
        """
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Http(Upstream):
    """
    By CONNECT, with the first bytes of the far side in the packet of the answer.
    """

    def handle(self):
        """
        See the class.
        """
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.stream.read(1)
        self.server.asked.append(head.split(b" ")[1].decode())
        if self.server.login and b"Proxy-Authorization: Basic bWU6cHc=\r\n" not in head:
            self.request.sendall(b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 yes\r\nVia: x\r\n\r\nhello ")
        self.echo()


class Socks(Upstream):
    """
    By SOCKS5.
    """

    def handle(self):
        """
        See the class.
        """
        _, count = self.stream.read(2)
        methods = self.stream.read(count)
        method = 2 if self.server.login else 0
        if method not in methods:
            self.request.sendall(b"\x05\xff")
            return
        self.request.sendall(bytes([5, method]))
        if method:
            assert self.stream.read(7) == b"\x01\x02me\x02pw"
            self.request.sendall(b"\x01\x00")
        kind = self.stream.read(4)[3]
        text = (
            self.stream.read(self.stream.read(1)[0]).decode()
            if kind == 3
            else socket.inet_ntoa(self.stream.read(4))
        )
        self.server.asked.append(f"{text}:{int.from_bytes(self.stream.read(2), 'big')}")
        self.request.sendall(b"\x05\x00\x00\x01" + bytes(6) + b"hello ")
        self.echo()


class Garbage(Upstream):
    """
    Says what is no answer.
    """

    def handle(self):
        """
        See the class.
        """
        self.request.sendall(b"\r\n\r\n" * 9)


class Flood(Upstream):
    """
    Begins an answer that does not end.
    """

    def handle(self):
        """
        See the class.
        """
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                self.request.sendall(b"HTTP/1.1 200 yes\r\nVia: " + b"x" * 4096)


class Silent(Upstream):
    """
    Waits for the other side's end.
    """

    def handle(self):
        """
        See the class.
        """
        while self.request.recv(4096):
            pass


@pytest.fixture
def upstream():
    """
    A function that starts a proxy on 127.0.0.1 and gives it; `asked` has whom it was asked for.
    """
    servers = []

    def start(handler, *, login=False):
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        server.asked, server.login = [], login
        servers.append((server, threading.Thread(target=server.serve_forever, args=(0.02,))))
        servers[-1][1].start()
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def nobody(name):
    """
    A resolver that must not be asked.
    """
    raise AssertionError(name)


def talk(box, host, port=PORT, size=1):
    """
    Send so much, end, and hear all of it back.
    """
    return box.run([PYTHON, "-I", "-c", TALK, host, str(port), str(size)], timeout=60)


RULES = [f"ok.test:{PORT}", f"8.8.8.0/24:{PORT}", f"10.1.2.3:{PORT}"]


@pytest.mark.parametrize(("scheme", "handler"), [("http", Http), ("socks5", Socks)])
@pytest.mark.parametrize("login", [False, True], ids=["open", "password"])
def test_allow_through_proxy(scheme, handler, login, upstream, monkeypatch):
    """
    Names reach the proxy as names and addresses as addresses; all of a stream passes, both ways, to its half-closed
    end; and what no rule allows does not reach the proxy.
    """
    server = upstream(handler, login=login)
    monkeypatch.setenv("all_proxy", f"{scheme}://{'me:pw@' * login}127.0.0.1:{server.server_address[1]}")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with jail.Sandbox(network=RULES, network_proxy="environment", resolver=nobody) as box:
        allowed = [talk(box, host, size=SIZE).stdout for host in ("ok.test", "8.8.8.8", "10.1.2.3")]
        denied = talk(box, "10.1.2.4")

    assert [b"%d\n" % (SIZE + len("hello "))] * 3 == allowed
    assert (errno.ECONNRESET, ["10.1.2.4"]) == (denied.exit_code, [d.subject for d in denied.denials])
    assert [f"ok.test:{PORT}", f"8.8.8.8:{PORT}", f"10.1.2.3:{PORT}"] == server.asked


def test_loopback_is_reached_without_proxy(upstream):
    """
    The host's loopback is dialled by the host, and its proxy hears nothing of it.
    """
    server, other = upstream(Http), upstream(Silent)
    port = other.server_address[1]
    with jail.Sandbox(
        network=[f"localhost:{port}"], network_proxy=f"http://127.0.0.1:{server.server_address[1]}"
    ) as box:
        result = talk(box, "localhost", port)

    assert (b"0\n", []) == (result.stdout, server.asked)


@pytest.mark.parametrize(
    ("handler", "login", "words"),
    [
        pytest.param(Http, True, "HTTP status 407", id="deny_password"),
        pytest.param(Garbage, False, "no HTTP", id="deny_garbage"),
        pytest.param(Flood, False, "more than 8192 bytes", id="deny_flood"),
        pytest.param(Silent, False, "not answered within 1 seconds", id="deny_silence"),
    ],
)
def test_deny_by_proxy(handler, login, words, upstream, monkeypatch, caplog):
    """
    A proxy that does not open the way resets the program's connection; the log says why, and no denial does: the
    policy allows it. Nothing is connected to instead.
    """
    monkeypatch.setattr(tunnel, "_GIVE_UP_SECONDS", 1.0)
    server = upstream(handler, login=login)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with (
        caplog.at_level(logging.WARNING, "jail"),
        jail.Sandbox(network=RULES, network_proxy=url, resolver=nobody) as box,
    ):
        result = talk(box, "ok.test")

    assert (errno.ECONNRESET, ()) == (result.exit_code, result.denials)
    assert [True] == [words in record.getMessage() for record in caplog.records]
    assert f"the proxy {url} has not connected to ok.test, port {PORT}: " in caplog.text


def test_deny_no_proxy(caplog):
    """
    Where no proxy listens nothing is reached without it.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with jail.Sandbox(network=RULES, network_proxy=url, resolver=nobody) as box:
        result = talk(box, "ok.test")

    assert errno.ECONNRESET == result.exit_code
    assert "nobody answers there" in caplog.text


def test_refuse_no_variable(monkeypatch):
    """
    The environment's proxy is refused in words where there is none.
    """
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(jail.PolicyError, match="neither is set"):
        jail.Sandbox(network=RULES, network_proxy="environment")


@pytest.mark.parametrize("is_proxied", [False, True], ids=["allow_without_proxy", "deny_behind_proxy"])
def test_nothing_is_dialled_beside_proxy(is_proxied, upstream):
    """
    A server that the host could connect to, and does without a proxy, hears nothing when the proxy refuses.
    """
    server, other = upstream(Http, login=True), upstream(Http)
    port = other.server_address[1]
    url = f"http://localhost:{server.server_address[1]}" if is_proxied else None
    rules = [f"ok.test:{port} any-name", f"127.0.0.1:{port}"]
    code = (
        "import socket, sys\n"
        "s = socket.create_connection(('ok.test', int(sys.argv[1])), 30)\n"
        "try:\n"
        "    s.sendall(b'CONNECT direct HTTP/1.1\\r\\n\\r\\n')\n"
        "    sys.exit(not s.recv(1))\n"
        "except OSError as exc:\n"
        "    sys.exit(exc.errno)\n"
    )
    with jail.Sandbox(network=rules, network_proxy=url, resolver=lambda _: ["127.0.0.1"]) as box:
        result = box.run([PYTHON, "-I", "-c", code, str(port)], timeout=60)
        promise = next(g.promise for g in result.guarantees if g.name == "network")

    expected = (errno.ECONNRESET, [f"ok.test:{port}"], []) if is_proxied else (0, [], ["direct"])
    assert expected == (result.exit_code, server.asked, other.asked)
    assert is_proxied == ("which judges what names resolve to" in promise)
