"""
What the programs of a sandbox with a network allowlist are let reach: servers on the host's loopback, in threads.
"""

import contextlib
import functools
import http.server
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import jail

CA = "req -x509 -newkey rsa:2048 -nodes -days 9 -keyout ca.key -out ca.pem -subj /CN=authority"
REQUEST = "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=ok.test"
SIGN = (
    "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -out cert.pem -extfile names"
)


class Greeter(http.server.BaseHTTPRequestHandler):
    """
    Says hello.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """
        See the class.
        """
        body = self.body()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        """
        What it says.
        """
        return b"hello"

    def log_message(self, *_):
        """
        Not to standard error.
        """


class Files(http.server.SimpleHTTPRequestHandler):
    """
    A directory.
    """

    def log_message(self, *_):
        """
        Not to standard error.
        """


def files_of(directory):
    """
    The handler of a server of a directory's files.
    """
    return functools.partial(Files, directory=str(directory))


@contextlib.contextmanager
def serving(handler, context=None, *, joins=False):
    """
    Serves in a thread, over TLS where there is a context; at its end it may wait for all that it has begun to serve.
    Yields the port.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = not joins
        if context:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def full_server():
    """
    A server on 127.0.0.1 with no place in its queue: who connects now waits. Yields its socket.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.2)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        sock.close()
        yield listener


def make_authority(place):
    """
    Make an authority, ca.pem, and a certificate of its for ok.test and other.test. The context of a server with that.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("not installed: openssl")
    (place / "names").write_text("subjectAltName=DNS:ok.test,DNS:other.test")
    for command in (CA, REQUEST, SIGN):
        subprocess.run([openssl, *command.split()], cwd=place, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    return context


def sandbox(port, **fields):
    """
    One that may reach ok.test on this port; every name is this host.
    """
    rules = [f"ok.test:{port}", f"127.0.0.1:{port}"]
    return jail.Sandbox(network=rules, resolver=lambda _: ["127.0.0.1"], timeout=120, **fields)


def refused(result):
    """
    The names that a program was refused.
    """
    return {denial.subject for denial in result.denials}
