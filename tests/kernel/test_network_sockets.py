"""
A socket of a sandbox's network, in the harness's hands. `Session.make_socket`; network_namespaces(7)
"""

import errno
import socket

import pytest

import jail
from jail.session import Session

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"
SERVE = "import socket; s = socket.create_server(('127.0.0.1', 7000)); c, _ = s.accept(); c.sendall(b'hello')"


@pytest.fixture
def session():
    session = Session("default", {})
    yield session
    session.close()


def test_allow_socket_to_connect(session):
    """
    It connects to what a program listens on, though the harness has another loopback.
    """
    with jail.Sandbox() as box, box.popen([PYTHON, "-I", "-c", SERVE]):
        for _ in range(500):
            with box._session.make_socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                if sock.connect_ex(("127.0.0.1", 7000)) == 0:
                    assert b"hello" == sock.recv(10)
                    return
    pytest.fail("nobody listens")


def test_allow_socket_to_listen_on_any_port(session):
    """
    The harness made the user namespace, and may do there what it likes: capabilities(7), user_namespaces(7).
    """
    with session.make_socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("", 443))
        sock.listen()
        assert ("0.0.0.0", 443) == sock.getsockname()


def test_deny_socket_to_reach_the_host(session):
    """
    It is as shut in as a program's.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        with session.make_socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            assert errno.ECONNREFUSED == sock.connect_ex(server.getsockname())
        with session.make_socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            assert errno.ENETUNREACH == sock.connect_ex(("192.0.2.1", 80))


def test_report_what_socket_gave(session):
    """
    The error is the kernel's.
    """
    with pytest.raises(OSError, match="socket") as caught:
        session.make_socket(socket.AF_INET, socket.SOCK_RAW)
    assert errno.EPERM == caught.value.errno
