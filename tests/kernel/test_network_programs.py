"""
Programs with TLS stacks, resolvers and protocols of their own, in a sandbox with a network allowlist.

Each is unmodified, has no proxy variable, and is seen to reach what is allowed and not what is not.
"""

import http.server
import shutil
import ssl
import subprocess
import threading

import pytest

import jail
from kernel.servers import Greeter

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """
    The files of a self-signed certificate for ok.test and front.test, and of its key.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    place = tmp_path_factory.mktemp("tls")
    place.chmod(0o755)
    command = (
        "req -x509 -newkey rsa:2048 -nodes -days 9 -keyout key.pem -out cert.pem -subj /CN=ok.test -addext"
    )
    names = "subjectAltName=DNS:ok.test,DNS:front.test"
    subprocess.run([openssl, *command.split(), names], cwd=place, check=True, capture_output=True)
    return place / "cert.pem", place / "key.pem"


def serving(server):
    """
    Serves in a thread until the end of the test.
    """
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()


@pytest.fixture
def web():
    """
    The port of an HTTP server.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as server:
        yield from serving(server)


@pytest.fixture
def tls(certificate):
    """
    The port of an HTTPS server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        yield from serving(server)


def sandbox(port, *, word="", **fields):
    """
    One that may reach ok.test and localhost on this port; every name is this host.
    """
    rules = [f"ok.test:{port}{word}", f"127.0.0.1:{port}"]
    return jail.Sandbox(network=rules, resolver=lambda _: ["127.0.0.1"], timeout=120, **fields)


CURL = ["curl", "-sS", "--max-time", "20"]


@pytest.mark.program("curl")
def test_tls(tls, certificate):
    """
    TLS passes as it is: the server's own certificate is seen, for the name that was resolved.
    """
    cert = str(certificate[0])
    with sandbox(tls, read=[cert]) as box:
        allowed = box.run([*CURL, "--cacert", cert, f"https://ok.test:{tls}/"])
        unknown = box.run([*CURL, f"https://ok.test:{tls}/"])

    assert b"hello" == allowed.stdout, allowed.stderr
    assert (
        60 == unknown.exit_code
    )  # CURLE_PEER_FAILED_VERIFICATION: it is the server's, and nobody's in between


@pytest.mark.program("curl")
@pytest.mark.parametrize(("word", "expected"), [("", 35), (" any-name", 0)])
def test_domain_fronting(word, expected, tls, certificate):
    """
    Another name in TLS than was resolved is refused, unless the rule waives that. 35 is CURLE_SSL_CONNECT_ERROR.
    """
    cert = str(certificate[0])
    front = [f"https://front.test:{tls}/", "--connect-to", f"front.test:{tls}:ok.test:{tls}"]
    with sandbox(tls, word=word, read=[cert]) as box:
        result = box.run([*CURL, "--cacert", cert, *front])

    assert expected == result.exit_code, result.stderr
    whys = ["TLS says front.test on a connection to ok.test"] if expected else []
    assert whys == [denial.why for denial in result.denials]
    assert [f'network = ["ok.test:{tls} any-name"]'] * len(whys) == [d.cure for d in result.denials]


@pytest.mark.program("git")
def test_git(tmp_path):
    """
    `git clone` over HTTP.
    """
    git = [shutil.which("git"), "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in ("init -q one", "-C one commit -q --allow-empty -m first", "clone -q --bare one one.git",
                    "-C one.git update-server-info"):  # fmt: skip
        subprocess.run([*git, *command.split()], check=True, capture_output=True)

    class Files(http.server.SimpleHTTPRequestHandler):
        """
        The repository, as files.
        """

        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            """
            Not to standard error.
            """

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        for port in serving(server):
            with sandbox(port) as box:
                script = f"cd && git clone -q http://ok.test:{port}/one.git && git -C one log --format=%s"
                allowed = box.run(script, shell=True)
                denied = box.run(f"cd && git clone -q http://other.test:{port}/one.git two", shell=True)

    assert b"first\n" == allowed.stdout, allowed.stderr
    assert 128 == denied.exit_code
    assert b"Could not resolve host: other.test" in denied.stderr


GO = """
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	r, err := http.Get(os.Args[1])
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	b, _ := io.ReadAll(r.Body)
	fmt.Print(string(b))
}
"""


@pytest.mark.program("go")
@pytest.mark.slow
def test_static_go(web, tmp_path):
    """
    A static program with a resolver of its own.
    """
    (tmp_path / "get.go").write_text(GO)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    command = [shutil.which("go"), "build", "-o", "get", "get.go"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=250)
    get = str(tmp_path / "get")
    debug = {"GODEBUG": "netdns=go+1"}
    with sandbox(web, read=[get]) as box:
        allowed = box.run([get, f"http://ok.test:{web}/"], env=debug)
        denied = box.run([get, f"http://other.test:{web}/"])

    assert b"hello" == allowed.stdout, allowed.stderr
    assert b"using Go's DNS resolver" in allowed.stderr
    assert (1, b"", ["other.test"]) == (denied.exit_code, denied.stdout, [d.subject for d in denied.denials])
    assert b"no such host" in denied.stderr


MUSL = """
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *request = "GET / HTTP/1.0\\r\\nHost: ok.test\\r\\n\\r\\n";
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	char answer[10] = "";
	int sock, error = argc == 3 ? getaddrinfo(argv[1], argv[2], &hints, &found) : EAI_FAIL;

	if (error) {
		puts(gai_strerror(error));
		return 1;
	}
	sock = socket(found->ai_family, SOCK_STREAM, 0);
	if (connect(sock, found->ai_addr, found->ai_addrlen) < 0)
		return 2;
	if (write(sock, request, strlen(request)) < 0 || recv(sock, answer, 9, MSG_WAITALL) < 0)
		return 3;
	puts(answer);
	return 0;
}
"""


@pytest.mark.program("musl-gcc")
def test_musl(web, tmp_path):
    """
    The resolver of musl, which asks for both kinds of address at once and reads no nsswitch.conf; in a static program.
    """
    (tmp_path / "get.c").write_text(MUSL)
    subprocess.run(["musl-gcc", "-static", "-o", "get", "get.c"], cwd=tmp_path, check=True, timeout=100)
    get = str(tmp_path / "get")
    with sandbox(web, read=[get]) as box:
        allowed = box.run([get, "ok.test", str(web)])
        denied = box.run([get, "other.test", str(web)])

    assert (0, b"HTTP/1.1 \n") == (allowed.exit_code, allowed.stdout)
    assert (1, b"Name does not resolve\n") == (denied.exit_code, denied.stdout)
    assert ["other.test"] == [denial.subject for denial in denied.denials]


def test_python_ipv6_only(web):
    """
    A program that takes only IPv6 reaches a server that has only IPv4.
    """
    code = """
import socket, sys
s = socket.create_connection(socket.getaddrinfo("ok.test", int(sys.argv[1]), socket.AF_INET6)[0][4][:2], 20)
s.sendall(b"GET / HTTP/1.0\\r\\nHost: ok.test\\r\\n\\r\\n")
assert s.recv(9) == b"HTTP/1.1 "
"""
    with sandbox(web) as box:
        result = box.run([PYTHON, "-I", "-c", code, str(web)])

    assert 0 == result.exit_code, result.stderr
