"""
What a hostile program tries where there are ways into sandboxes: other sandboxes' ports, and those of the host.

Each denial is beside its control.
"""

import errno
import socket

import pytest

import jail
from escape.harness import ACT, PYTHON
from kernel.test_inbound import serving, visit

pytestmark = pytest.mark.needs("userns", "netns")

CONNECT = "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20); s.recv(1)"
ASK = f"{CONNECT.partition(' s.')[0]} s.sendall(b'w\\n'); s.recv(1) == b'w' or sys.exit(200)"


def attempt(box, address, port, act=CONNECT):
    """
    The errno of what is tried.
    """
    return box.run([*PYTHON, ACT, act, address, str(port)], timeout=60).exit_code


@pytest.fixture
def box():
    """
    A sandbox with a published port, on which a server answers.
    """
    with jail.Sandbox(publish=["0:8080"]) as box, serving(box):
        assert b"wordend" == visit(box.published[8080])
        yield box


def test_deny_own_published_port(box):
    """
    Where the host has it is not inside; nor in another sandbox, with a list or without.
    """
    address, port = box.published[8080]
    assert errno.ECONNREFUSED == attempt(box, address, port)
    with jail.Sandbox() as other:
        assert errno.ECONNREFUSED == attempt(other, address, port)
        assert errno.ECONNREFUSED == attempt(other, "127.0.0.1", 8080)
    with jail.Sandbox(network=[f"a.test:{port}"]) as other:
        assert errno.ECONNRESET == attempt(other, address, port)
        assert errno.ECONNREFUSED == attempt(other, "127.0.0.1", 8080)


def test_allow_published_port_that_is_listed(box):
    """
    The control: on the host's loopback it is like any server there.
    """
    address, port = box.published[8080]
    with jail.Sandbox(network=[f"{address}:{port}"]) as other:
        assert 0 == attempt(other, address, port, ASK)


def test_deny_ports_of_a_peer_that_are_not_listed(box):
    """
    A peer's name is for the ports of its rule; its other ones, and the host's by its name, stay closed.
    """
    with serving(box, 9000), jail.Sandbox(network=["web:8080"], peers={"web": box}) as other:
        assert 0 == attempt(other, "web", 8080, ASK)
        assert errno.ECONNREFUSED == attempt(other, "web", 9000)
        assert errno.ECONNREFUSED == attempt(other, "web", box.published[8080][1])
        assert errno.ECONNREFUSED == attempt(box, "127.0.0.1", 53)


def test_deny_way_back(box):
    """
    Who is entered gets no further for it: what comes in is a connection, and no network.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert b"wordend" == visit(box.published[8080])
        assert errno.ECONNREFUSED == attempt(box, *server.getsockname())
        assert errno.ENETUNREACH == attempt(box, "192.0.2.1", 80)


def test_report_hostile_server(box):
    """
    One that takes the connection and the port away resets its visitor, and the next finds a new server.
    """
    rude = (
        "import socket, struct; s = socket.create_server(('127.0.0.1', 9000)); print('up', flush=True); c = s.accept()[0]; "
        "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()"
    )
    with jail.Sandbox(publish=["0:9000"]) as other:
        with other.popen([*PYTHON, rude], stdout=jail.PIPE) as server:
            server.stdout.readline()
            assert errno.ECONNRESET == visit(other.published[9000])
        with serving(other, 9000):
            assert b"wordend" == visit(other.published[9000])
        assert b"wordend" == visit(box.published[8080])
