"""
Which process has asked for something on the network: what is read from /proc. proc_pid_net(5), proc_pid_status(5)

The lines are those of Linux 6.18 on x86, but for the words of a big-endian machine, which are turned by hand.
"""

import ipaddress

import pytest

from jail.asker import Askers, Origin, find_inode, parse_pids

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
LITTLE = """
   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000 100 0 0 10 0
   1: 0100007F:8DDF 0B02010A:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0000000000000000 20 4 30 10 -1
   2: 0B02010A:01BB 0100007F:8DDF 01 00000000:00000000 00:00000000 00000000  1000        0 13 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:8DE0 0B02010A:01BB 06 00000000:00000000 03:000000FA 00000000     0        0 0 3 0000000000000000
"""
BIG = LITTLE.replace("0100007F", "7F000001").replace("0B02010A", "0A01020B")
LITTLE_6 = """
   0: 00000000000000000000000001000000:8DDF B80D01200000000000000000070A0000:01BB 01 0:0 00:0 0 1000 0 21 1 0 20 4 30 10 -1
   1: 0000000000000000FFFF00000100007F:8DDF 0000000000000000FFFF00000B02010A:01BB 01 0:0 00:0 0 1000 0 22 1 0 20 4 30 10 -1
"""
BIG_6 = (
    LITTLE_6.replace("000000000000000001000000", "000000000000000000000001")
    .replace("B80D01200000000000000000070A0000", "20010DB80000000000000000" + "00000A07")
    .replace("FFFF00000100007F", "0000FFFF7F000001")
    .replace("FFFF00000B02010A", "0000FFFF0A01020B")
)
TABLES = {"little": (LITTLE, LITTLE_6), "big": (BIG, BIG_6)}


def end(address, port):
    return ipaddress.ip_address(address).packed, port


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize(
    ("table", "local", "remote", "inode"),
    [
        pytest.param(0, ("127.0.0.1", 36319), ("10.1.2.11", 443), 12, id="v4"),
        pytest.param(0, ("10.1.2.11", 443), ("127.0.0.1", 36319), 13, id="the_other_end"),
        pytest.param(0, ("127.0.0.1", 36319), ("10.1.2.11", 444), None, id="other_port"),
        pytest.param(0, ("127.0.0.1", 36319), ("10.1.2.12", 443), None, id="other_address"),
        pytest.param(0, ("127.0.0.1", 36320), ("10.1.2.11", 443), None, id="closed"),
        pytest.param(0, ("127.0.0.1", 443), ("10.1.2.11", 443), None, id="who_listens_is_not_connected"),
        pytest.param(1, ("::1", 36319), ("2001:db8::a07", 443), 21, id="v6"),
        pytest.param(1, ("::ffff:127.0.0.1", 36319), ("::ffff:10.1.2.11", 443), 22, id="v4_of_a_v6_socket"),
    ],
)
def test_tcp(byteorder, table, local, remote, inode):
    """
    A connection is found by both its ends, however the kernel writes numbers.
    """
    lines = [HEAD, *TABLES[byteorder][table].splitlines()]

    assert inode == find_inode(lines, "tcp", end(*local), end(*remote), byteorder=byteorder)


def udp(local, remote, inode):
    return f"  3: {local} {remote} 07 00000000:00000000 00:00000000 00000000  1000        0 {inode} 2 0 0"


FREE = udp("00000000:8DDF", "00000000:0000", 31)
CONNECTED = udp("0100007F:8DDF", "0B02010A:01BB", 32)
BOUND = udp("0100007F:8DDF", "00000000:0000", 33)
ELSEWHERE = udp("0100007F:8DDF", "0C02010A:01BB", 34)


@pytest.mark.parametrize(
    ("lines", "inode"),
    [
        pytest.param([FREE], 31, id="bound_to_every_address"),
        pytest.param([BOUND], 33, id="bound_to_one"),
        pytest.param([FREE, BOUND, CONNECTED], 32, id="connected"),
        pytest.param([FREE, BOUND], None, id="one_of_two"),
        pytest.param([FREE, FREE], 31, id="the_same_twice"),
        pytest.param([ELSEWHERE], None, id="connected_elsewhere"),
        pytest.param([FREE.replace(" 31 ", " 0 ")], None, id="closed"),
        pytest.param(["", "1: 2", FREE.replace("31", "x"), CONNECTED[:60]], None, id="no_such_lines"),
    ],
)
def test_udp(lines, inode):
    """
    The sender of a datagram is who is connected so, or the only one who may have sent it.
    """
    found = find_inode(lines, "udp", end("127.0.0.1", 36319), end("10.1.2.11", 443), byteorder="little")

    assert inode == found


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"Name:\tcurl\nTgid:\t812\nPid:\t815\nNStgid:\t812\t3\nNSpid:\t815\t6\n", (812, 3)),
        (b"Name:\tcurl\nTgid:\t812\nPid:\t812\nNStgid:\t812\n", (812, 812)),
        (b"Name:\tx\\nNStgid:\\t1\nTgid:\t812\nNStgid:\t812\t3\n", (812, 3)),
        (b"Name:\tcurl\nTgid:\t812\nPid:\t812\n", None),
        (b"", None),
    ],
)
def test_pids(status, expected):
    """
    A process has one pid for us, and one of its own; none is known of a kernel that does not tell.
    """
    assert expected == parse_pids(status)


def test_looks_are_a_small_part_of_the_time():
    """
    Whoever is refused without end is looked for in a tenth of a second, and in a twentieth of the time after that.
    """
    calls, looks = [], []

    def clock():
        calls.append(None)
        return len(calls) * 0.03

    askers = Askers(0, lambda: bool(looks.append(None)), clock)
    origin = Origin("tcp", ("127.0.0.1", 1), ("127.0.0.1", 2))
    for _ in range(3):
        askers.find(origin)

    assert 3 == len(looks)
    for _ in range(10_000):
        askers.find(origin)
    assert 0.048 < len(looks) / len(calls) < 0.052
