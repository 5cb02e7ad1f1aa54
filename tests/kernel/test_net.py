"""
What a program can reach on the network. network_namespaces(7)
"""

import errno
import socket
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "netns")

# Before ABI 6 nobody keeps abstract sockets of the host's network out.
HOST_NETWORK = pytest.mark.needs("landlock_abi_6")

CONNECT = "socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)"


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["ipv4", "ipv6"])
def listener(request):
    """
    The address of a listener on the host.
    """
    family, host = request.param
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        yield host, str(server.getsockname()[1])


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param("host", 0, id="allow_host_network", marks=HOST_NETWORK),  # the control
        pytest.param("none", errno.ECONNREFUSED, id="deny_no_network"),
        pytest.param([], errno.ECONNREFUSED, id="deny_empty_list"),
    ],
)
def test_connect_to_loopback(network, expected, listener, attempt):
    """
    A listener on the host's loopback answers through the host's network; in a network of one's own nobody listens.
    """
    assert expected == attempt(CONNECT, *listener, network=network)


@pytest.mark.skipif(jail.probe().landlock_abi >= 6, reason="Landlock keeps abstract sockets out here")
def test_host_network_without_scopes(listener, attempt):
    """
    Where abstract sockets cannot be kept out, the host's network is refused, unless that is waived.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        attempt(CONNECT, *listener, network="host")

    assert "ipc" == caught.value.feature
    assert f"Landlock ABI {jail.probe().landlock_abi}" == caught.value.found
    assert 0 == attempt(CONNECT, *listener, network="host", waive=["ipc"])


@pytest.mark.parametrize(
    "address", ["198.51.100.1", "8.8.8.8", "169.254.169.254", "2001:db8::1", "255.255.255.255"]
)
@pytest.mark.parametrize("kind", ["STREAM", "DGRAM"])
def test_connect_elsewhere(address, kind, attempt):
    """
    There is no route to any other address, by TCP or UDP.
    """
    family = "AF_INET6" if ":" in address else "AF_INET"
    code = f"socket.socket(socket.{family}, socket.SOCK_{kind}).connect((sys.argv[1], 53))"

    assert errno.ENETUNREACH == attempt(code, address)


def test_own_loopback(attempt):
    """
    Programs in one sandbox talk to each other over lo, on any address and port.
    """
    code = """
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.9.9.9"), (socket.AF_INET6, "::1")):
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        with socket.create_connection(server.getsockname()[:2]) as client:
            client.sendall(b"x")
            assert server.accept()[0].recv(9) == b"x"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("127.0.0.1", 0))
    one.sendto(b"y", one.getsockname())
    assert one.recv(9) == b"y"
"""
    assert 0 == attempt(code)


@pytest.mark.needs("proc")
def test_interfaces(inside):
    """
    There is no interface but lo, and the host's are not in /proc or /sys.
    """
    code = """
import json, os, socket
routes = open("/proc/self/net/route").read().splitlines()
print(json.dumps([[name for _, name in socket.if_nameindex()], routes[1:], os.path.exists("/sys/class/net")]))
"""
    assert [["lo"], [], False] == inside(code)


def test_two_sandboxes(attempt):
    """
    Two sandboxes can listen on the same port, and neither hears the other.
    """
    serve = "s = socket.socket(); s.bind(('127.0.0.1', 7777)); s.listen(); print('up', flush=True); sys.stdin.read()"
    with jail.Sandbox() as one, jail.Sandbox() as other:
        up = threading.Event()
        python = [jail.probe().bin_directory + "/python3", "-I", "-S", "-c", "import socket, sys; " + serve]
        thread = threading.Thread(
            target=one.run, args=(python,), kwargs={"timeout": 3, "on_stdout": lambda _: up.set()}
        )
        thread.start()
        assert up.wait(10)
        assert errno.ECONNREFUSED == attempt(CONNECT, "127.0.0.1", "7777", box=other)
        one.close()
        thread.join()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("socket.socket(socket.AF_INET)", 0, id="allow_tcp"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", 0, id="allow_udp"),
        pytest.param("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", errno.EPERM, id="deny_raw"),
        pytest.param("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", errno.EPERM, id="deny_packet"),
        pytest.param("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", 0, id="allow_netlink_route"),
        pytest.param(
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)", errno.EPERM, id="deny_netfilter"
        ),
        pytest.param("socket.socket(socket.AF_VSOCK)", errno.EPERM, id="deny_vsock"),
        pytest.param("socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", errno.EPERM, id="deny_alg"),
    ],
)
@pytest.mark.parametrize("network", ["none", pytest.param("host", marks=HOST_NETWORK)])
def test_kinds_of_socket(code, expected, network, attempt):
    """
    Internet sockets can be made and nothing lower, on whichever network.
    """
    assert expected == attempt(code, network=network)


def test_lo_stays_as_it_is(attempt):
    """
    No address or route can be added: there is no capability to do it with.
    """
    code = "import fcntl; s = socket.socket(); fcntl.ioctl(s, {}, b'lo' + bytes(38))"

    assert 0 == attempt(code.format("0x8913"))  # SIOCGIFFLAGS
    assert errno.EPERM == attempt(code.format("0x8914"))  # SIOCSIFFLAGS
    assert errno.EPERM == attempt(code.format("0x8916"))  # SIOCSIFADDR
