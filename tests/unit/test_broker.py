"""Connections without a network namespace: the filter, the addresses, and what is refused. No kernel is asked."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from jail.broker import judge_target
from jail.network import Rules
from jail.notification import Target, parse_target
from jail.notify import CONNECT, SOCKET, is_brokered, notify_op, why_not_brokered
from jail.plan import choose_filter
from jail.policy import Policy
from jail.rule import parse_rule
from unit import hosts
from unit.bpf import ALLOW, EPERM, NOTIFY, judge, parse

UNIX, INET, INET6, NETLINK, VSOCK = 1, 2, 10, 16, 40
STREAM, DATAGRAM, RAW = 1, 2, 3
FLAGS = 0o2004000  # SOCK_CLOEXEC | SOCK_NONBLOCK
FASTOPEN = 0x20000000
X86 = {
    "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "setsockopt": 54, "sendmmsg": 307, "io_uring_setup": 425,
    "read": 0, "accept": 43, "shutdown": 48, "socket": SOCKET["x86_64"], "connect": CONNECT["x86_64"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("call", "args", "expected"),
    [
        ("socket", (INET, STREAM), NOTIFY),
        ("socket", (INET6, STREAM | FLAGS, 6), NOTIFY),
        ("socket", (INET + (1 << 32), STREAM), NOTIFY),
        ("socket", (INET, DATAGRAM), EPERM),
        ("socket", (INET6, RAW, 58), EPERM),
        ("socket", (UNIX, STREAM), EPERM),
        ("socket", (NETLINK, RAW), EPERM),
        ("socket", (VSOCK, STREAM), EPERM),
        ("connect", (3, 0, 16), NOTIFY),
        ("bind", (3, 0, 16), EPERM),
        ("listen", (3, 1), EPERM),
        ("sendto", (3, 0, 1, 0x4000, 0, 0), ALLOW),
        ("sendto", (3, 0, 1, FASTOPEN | 0x4000, 0, 16), EPERM),
        ("sendmsg", (3, 0, 0), ALLOW),
        ("sendmsg", (3, 0, FASTOPEN), EPERM),
        ("sendmmsg", (3, 0, 1, 0), ALLOW),
        ("sendmmsg", (3, 0, 1, FASTOPEN), EPERM),
        ("setsockopt", (3, 6, 1), ALLOW),  # TCP_NODELAY
        ("setsockopt", (3, 6, 30), EPERM),
        ("setsockopt", (3, 6, 31), EPERM),
        ("setsockopt", (3, 0, 1), ALLOW),  # IP_TOS
        ("setsockopt", (3, 0, 4), EPERM),
        ("setsockopt", (3, 41, 26), ALLOW),  # IPV6_V6ONLY
        ("setsockopt", (3, 41, 57), EPERM),
        ("setsockopt", (3, 1, 4), ALLOW),  # SO_ERROR's number, of another level
        ("io_uring_setup", (8, 0), EPERM),
        ("accept", (3, 0, 0), ALLOW),
        ("shutdown", (3, 1), ALLOW),
        ("read", (3, 0, 1), ALLOW),
    ],
)
def test_filter(call, args, expected):
    """
    TCP is asked for, other sockets and other ways to connect are EPERM, and all else is the built-in filter's matter.
    """
    assert expected == judge(parse(notify_op("x86_64").data), "x86_64", X86[call], args)


def test_filter_of_the_other_architecture():
    """
    It has the same calls by other numbers.
    """
    program = parse(notify_op("aarch64").data)

    assert NOTIFY == judge(program, "aarch64", SOCKET["aarch64"], (INET, STREAM))
    assert NOTIFY == judge(program, "aarch64", CONNECT["aarch64"], (3, 0, 16))
    assert EPERM == judge(program, "aarch64", 200, (3, 0, 16))
    assert ALLOW == judge(program, "aarch64", 202, (3, 0, 0))


def inet(text, port):
    return struct.pack("=H", INET) + struct.pack("!H", port) + socket.inet_aton(text) + bytes(8)


def inet6(text, port, scope=b""):
    packed = socket.inet_pton(socket.AF_INET6, text)
    return (
        struct.pack("=H", INET6) + struct.pack("!HI", port, 0xFFF00007) + packed + scope
    )  # no more than 20 bits are the label


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (inet("10.1.2.3", 443), Target(INET, "10.1.2.3", 443)),
        (inet("10.1.2.3", 443) + bytes(112), Target(INET, "10.1.2.3", 443)),
        (inet("0.0.0.0", 80), Target(INET, "127.0.0.1", 80)),
        (inet6("2001:db8::1", 443), Target(INET6, "2001:db8::1", 443, 7)),
        (inet6("fe80::1", 443, b"\2\0\0\0"), Target(INET6, "fe80::1", 443, 7, 2)),
        (inet6("::", 80), Target(INET6, "::1", 80, 7)),
        (inet6("::ffff:0.0.0.0", 80), Target(INET6, "::ffff:127.0.0.1", 80, 7)),
        (b"", errno.EINVAL),
        (b"\2", errno.EINVAL),
        (inet("10.1.2.3", 443)[:15], errno.EINVAL),
        (inet6("::1", 443)[:23], errno.EINVAL),
        (bytes(16), errno.EAFNOSUPPORT),
        (b"\1\0/run/docker.sock\0", errno.EAFNOSUPPORT),
    ],
)
def test_parse_target(data, expected):
    """
    An address is read as the kernel would read it; nobody's address is the loopback's.
    """
    if isinstance(expected, Target):
        assert expected == parse_target(data)
        return
    with pytest.raises(OSError) as caught:
        parse_target(data)
    assert expected == caught.value.errno


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("10.1.2.3", 5432, True),
        ("::ffff:10.1.2.3", 5432, True),
        ("10.1.2.3", 5433, False),
        ("10.1.3.3", 5432, False),
        ("10.1.2.66", 5432, False),
        ("::ffff:10.1.2.66", 5432, False),
        ("127.0.0.1", 8080, True),
        ("::1", 8080, True),
        ("127.0.0.2", 8080, False),
        ("8.8.8.8", 443, False),
    ],
)
def test_judge_target(address, port, expected):
    """
    By address alone, and a mapped one as what it means.
    """
    allow = tuple(map(parse_rule, ("10.1.2.0/24:5432", "localhost:8080")))
    deny = Policy(network=["10.1.2.0/24:1"], deny_network=["10.1.2.66"]).deny_network
    family = INET6 if ":" in address else INET

    assert expected is judge_target(Rules(allow, deny), Target(family, address, port)).allowed


@pytest.mark.parametrize(
    ("host", "fields", "expected"),
    [
        pytest.param(hosts.DOCKER, {"network": ["10.0.0.1:80", "localhost:1"]}, None, id="allow_addresses"),
        pytest.param(hosts.DOCKER_OLD, {"network": ["10.0.0.1:80"]}, None, id="allow_abi_5"),
        pytest.param(hosts.DOCKER, {"network": ["pypi.org"]}, '"pypi.org', id="refuse_name"),
        pytest.param(hosts.DOCKER, {"network": ["pypi.org"]}, "proxy_variables", id="refuse_name_with_cure"),
        pytest.param(
            hosts.DOCKER,
            {"network": ["pypi.org", "*.a.org", "*"], "proxy_variables": True},
            None,
            id="allow_names_by_proxy",
        ),
        pytest.param(
            hosts.DOCKER,
            {"network": ["pypi.org"], "proxy_variables": True, "network_bytes": 1},
            "network_bytes",
            id="refuse_bytes_by_proxy",
        ),
        pytest.param(hosts.DOCKER, {"network": ["*:80"]}, '"*:80"', id="refuse_everybody"),
        pytest.param(
            hosts.DOCKER, {"network": ["10.0.0.1:80"], "network_bytes": 1}, "network_bytes", id="refuse_bytes"
        ),
        pytest.param(
            hosts.DOCKER, {"network": ["10.0.0.1:80"], "network_idle": 1}, "network_idle", id="refuse_idle"
        ),
    ],
)
def test_why_not(host, fields, expected):
    """
    Addresses are kept where there are no namespaces; what only a relay can do is refused by name.
    """
    policy = Policy(**fields)
    why = why_not_brokered(policy, host)

    assert (expected is None) is is_brokered(policy, host)
    assert why is expected or expected in why
    assert ("no-namespaces" + "+network" * (expected is None)) == choose_filter(policy, host)


def test_not_with_namespaces():
    """
    Where there is a network namespace, the relay serves.
    """
    assert not is_brokered(Policy(network=["10.0.0.1:80"]), hosts.FULL)
