"""
Whom a hostile program can talk to: over the network, through sockets that have names, through memory and queues.
"""

import contextlib
import ctypes
import errno
import os
import socket

import pytest

from escape.verdicts import Unpromised

POLICYS_OWN = "what lies in a visible directory is the policy's to show; Landlock rules over it from ABI 9 on"
NO_SOCKET = "EPERM"


@contextlib.contextmanager
def listening(family, address, kind=socket.SOCK_STREAM):
    """
    Somebody on the host who listens.
    """
    with socket.socket(family, kind) as server:
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
        yield server.getsockname()


CONNECT = """
family, address = int(sys.argv[1]), eval(sys.argv[2])
s = socket.socket(family, int(sys.argv[3]))
s.settimeout(5)
s.connect(address)
if int(sys.argv[3]) == socket.SOCK_DGRAM: s.send(b"x")
"""
HOSTS = {
    "ipv4": (socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_STREAM, "ECONNREFUSED"),
    "ipv6": (socket.AF_INET6, ("::1", 0), socket.SOCK_STREAM, "ECONNREFUSED"),
    "abstract": (socket.AF_UNIX, "\0jail-test-abstract", socket.SOCK_STREAM, "ECONNREFUSED"),
    "abstract_datagram": (socket.AF_UNIX, "\0jail-test-datagram", socket.SOCK_DGRAM, "ECONNREFUSED"),
}


@pytest.mark.parametrize("name", HOSTS)
def test_listeners_on_the_host(name, tier, outside):
    """
    Nobody who listens on the host's loopback or under an abstract name can be reached.
    """
    family, address, kind, in_own_namespace = HOSTS[name]
    with listening(family, address, kind) as bound:
        args = (int(family), repr(bound), int(kind))
        assert "done" == outside(CONNECT, *args)
        verdict = tier.attempt(CONNECT, *args)

    assert (NO_SOCKET if tier.tier == "Landlock" else in_own_namespace) == verdict


@pytest.mark.parametrize("name", ["abstract", "abstract_datagram"])
def test_abstract_names_on_the_hosts_network(name, tier):
    """
    With the host's network its abstract names are there, and still refused; its ports are not.
    """
    family, address, kind, _ = HOSTS[name]
    with listening(family, address, kind) as bound:
        assert "EPERM" == tier.attempt(CONNECT, int(family), repr(bound), int(kind), network="host")
    family, address, kind, _ = HOSTS["ipv4"]
    with listening(family, address, kind) as bound:
        assert "done" == tier.attempt(CONNECT, int(family), repr(bound), int(kind), network="host")


FAR = {
    "metadata": ("AF_INET", "('169.254.169.254', 80)"),
    "metadata_alibaba": ("AF_INET", "('100.100.100.200', 80)"),
    "metadata_azure": ("AF_INET", "('168.63.129.16', 80)"),
    "metadata_ipv6": ("AF_INET6", "('fd00:ec2::254', 80)"),
    "resolver": ("AF_INET", "('8.8.8.8', 53)"),
    "private": ("AF_INET", "('10.0.0.1', 80)"),
    "broadcast": ("AF_INET", "('255.255.255.255', 80)"),
    "link_local": ("AF_INET6", "('fe80::1', 80, 0, 2)"),
}


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("name", FAR)
def test_far_away(name, kind, tier):
    """
    No address is on the way to anywhere: neither a cloud's metadata nor a resolver.
    """
    family, address = FAR[name]
    act = f"s = socket.socket(socket.{family}, socket.{kind}); s.settimeout(5); s.connect({address}); s.send(b'x')"
    elsewhere = {"broadcast": ("ENETUNREACH", "EACCES"), "link_local": ("ENODEV", "ENETUNREACH", "EINVAL")}

    assert tier.attempt(act) in (
        (NO_SOCKET,) if tier.tier == "Landlock" else elsewhere.get(name, ("ENETUNREACH",))
    )


def test_names(tier):
    """
    No name is resolved, whoever asks.
    """
    act = (
        "try: socket.getaddrinfo('example.com', 80); print('resolved')\nexcept socket.gaierror: print('not')"
    )

    assert ["not"] == tier.output(act)
    assert ["done"] == [tier.attempt("socket.getaddrinfo('127.0.0.1', 80)")]


FAMILIES = {
    "raw": ("socket.AF_INET, socket.SOCK_RAW, 1", "EPERM"),
    "raw_ipv6": ("socket.AF_INET6, socket.SOCK_RAW, 58", "EPERM"),
    "packet": ("socket.AF_PACKET, socket.SOCK_RAW, 0", "EPERM"),
    "packet_datagram": ("socket.AF_PACKET, socket.SOCK_DGRAM, 0", "EPERM"),
    "ping": ("socket.AF_INET, socket.SOCK_DGRAM, 1", "EPERM"),
    "sctp": ("socket.AF_INET, socket.SOCK_STREAM, 132", "EPERM"),
    "sctp_packets": ("socket.AF_INET, socket.SOCK_SEQPACKET, 132", "EPERM"),
    "dccp": ("socket.AF_INET, 6, 33", "EPERM"),
    "mptcp": ("socket.AF_INET, socket.SOCK_STREAM, 262", "EPERM"),
    "vsock": ("40, socket.SOCK_STREAM, 0", "EPERM"),
    "vsock_datagram": ("40, socket.SOCK_DGRAM, 0", "EPERM"),
    "alg": ("38, socket.SOCK_SEQPACKET, 0", "EPERM"),
    "key": ("15, socket.SOCK_RAW, 2", "EPERM"),
    "bluetooth": ("31, socket.SOCK_RAW, 1", "EPERM"),
    "can": ("29, socket.SOCK_RAW, 1", "EPERM"),
    "tipc": ("30, socket.SOCK_SEQPACKET, 0", "EPERM"),
    "rds": ("21, socket.SOCK_SEQPACKET, 0", "EPERM"),
    "xdp": ("44, socket.SOCK_RAW, 0", "EPERM"),
    "nfc": ("39, socket.SOCK_RAW, 0", "EPERM"),
    "qrtr": ("42, socket.SOCK_DGRAM, 0", "EPERM"),
    "smc": ("43, socket.SOCK_STREAM, 0", "EPERM"),
    "netlink_audit": ("socket.AF_NETLINK, socket.SOCK_RAW, 9", "EPERM"),
    "netlink_uevent": ("socket.AF_NETLINK, socket.SOCK_RAW, 15", "EPERM"),
    "netlink_netfilter": ("socket.AF_NETLINK, socket.SOCK_RAW, 12", "EPERM"),
    "netlink_crypto": ("socket.AF_NETLINK, socket.SOCK_RAW, 21", "EPERM"),
    "netlink_generic": ("socket.AF_NETLINK, socket.SOCK_RAW, 16", "EPERM"),
    "netlink_diag": ("socket.AF_NETLINK, socket.SOCK_RAW, 4", "EPERM"),
}


@pytest.mark.parametrize("network", ["none", "host"])
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name, network, tier):
    """
    Of all that a socket can be only Unix, TCP, UDP and routing questions are left, however the family is spelled.
    """
    arguments, verdict = FAMILIES[name]
    domain, rest = arguments.split(", ", 1)
    x86_64 = os.uname().machine == "x86_64"
    high = f"syscall({41 if x86_64 else 198}, ({domain}) | 1 << 32, {rest})"

    assert verdict == tier.attempt(f"socket.socket({arguments})", network=network)
    assert verdict == tier.attempt(high, network=network)
    plain = tier.attempt("socket.socket(socket.AF_INET, socket.SOCK_STREAM)", network=network)
    assert (NO_SOCKET if (tier.tier, network) == ("Landlock", "none") else "done") == plain


CHANGES_TO_THE_NETWORK = {
    "address": "fcntl.ioctl(s, 0x8916, struct.pack('16sHH4s8x', b'lo', 2, 0, bytes(4)))",
    "interface_down": "fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 0))",
    "route": "fcntl.ioctl(s, 0x890B, bytes(120))",
    "bridge": "fcntl.ioctl(s, 0x89A0, b'jailbr0\\0' + bytes(8))",
}


@pytest.mark.parametrize("name", CHANGES_TO_THE_NETWORK)
def test_changes_to_the_network(name, tier):
    """
    Not even the sandbox's own interface can be changed.
    """
    act = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); " + CHANGES_TO_THE_NETWORK[name]

    assert "EPERM" == tier.attempt(act)
    alone = tier.attempt(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); fcntl.ioctl(s, 0x8913, b'lo' + bytes(38))"
    )
    assert (NO_SOCKET if tier.tier == "Landlock" else "done") == alone


def test_only_lo(tier):
    """
    There is one interface, which leads nowhere.
    """
    table = {"namespaces": "['lo']", "privileged": "['lo']", "Landlock": "EPERM"}
    act = "try: print([name for _, name in socket.if_nameindex()])\nexcept OSError as exc: print(errno.errorcode[exc.errno])"

    assert [table[tier.tier]] == tier.output(act)


# ---- sockets and FIFOs that lie in the tree -------------------------------------------------------

BY_NAME = {
    "namespaces": Unpromised("done", POLICYS_OWN),
    "privileged": Unpromised("done", POLICYS_OWN),
    "Landlock": "EPERM",
}


@pytest.mark.parametrize("network", ["none", "host"])
def test_socket_in_a_visible_directory(network, tier, place, workspace):
    """
    A daemon's socket that lies in a directory that is shown can be connected to; one that does not lie there cannot.
    """
    verdicts = {}
    for folder in (workspace, place / "outside"):
        path = str(folder / "docker.sock")
        with listening(socket.AF_UNIX, path):
            args = (int(socket.AF_UNIX), repr(path), int(socket.SOCK_STREAM))
            verdicts[folder] = tier.attempt(CONNECT, *args, workspace=str(workspace), network=network)

    assert tier.expect(BY_NAME) == verdicts[workspace]
    assert ("EPERM" if tier.tier == "Landlock" else "ENOENT") == verdicts[place / "outside"]


DAEMONS = (
    "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "/run/systemd/journal/socket", "/run/snapd.socket", "/tmp/.X11-unix/X0",
    "/run/user/{uid}/bus", "/run/user/{uid}/gnupg/S.gpg-agent", "/run/user/{uid}/wayland-0", "/dev/log",
)  # fmt: skip


@pytest.mark.parametrize("path", DAEMONS)
def test_daemons(path, tier):
    """
    The default view has none of the sockets that daemons listen on, whether this host has the daemon or not.
    """
    act = "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"

    assert ("EPERM" if tier.tier == "Landlock" else "ENOENT") == tier.attempt(
        act, path.format(uid=os.getuid())
    )


# ---- memory, queues, keys -------------------------------------------------------------------------

IPC = {
    "shm_by_id": ("call('shmctl', int(sys.argv[1]), 2, ctypes.c_void_p(at(bytes(256))))", "EINVAL"),
    "shm_attach": ("call('shmat', int(sys.argv[1]), None, 0)", "EINVAL"),
    "shm_by_key": ("call('shmget', int(sys.argv[2]), 0, 0)", "ENOENT"),
    "sem_by_key": ("call('semget', int(sys.argv[2]), 0, 0)", "ENOENT"),
    "msg_by_key": ("call('msgget', int(sys.argv[2]), 0)", "ENOENT"),
    "mq_by_name": ("call('mq_open', b'/jail-test', os.O_RDONLY)", "ENOENT"),
}


@pytest.fixture
def host_ipc():
    """
    Shared memory, a semaphore, a queue and a message queue of the host's: the id of the first, and their key.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x6A000000 | os.getpid() & 0xFFFFFF
    shm = libc.shmget(key, 4096, 0o1600)
    sem = libc.semget(key, 1, 0o1600)
    msg = libc.msgget(key, 0o1600)
    queue = libc.mq_open(b"/jail-test", os.O_RDWR | os.O_CREAT, 0o600, None)
    assert -1 not in (shm, sem, msg, queue)
    yield shm, key
    os.close(queue)
    libc.mq_unlink(b"/jail-test")
    libc.shmctl(shm, 0, None)
    libc.semctl(sem, 0, 0)
    libc.msgctl(msg, 0, None)


@pytest.mark.parametrize("name", IPC)
def test_ipc(name, tier, host_ipc, outside):
    """
    The host's shared memory, semaphores and queues are not there, by number or by name.
    """
    act, verdict = IPC[name]

    assert "done" == outside(act, *host_ipc)
    assert ("EPERM" if tier.tier == "Landlock" else verdict) == tier.attempt(act, *host_ipc)


def test_shared_memory_by_path(tier, outside):
    """
    Nor is what the host's programs share in /dev/shm.
    """
    path = f"/dev/shm/jail-test-{os.getpid()}"
    with open(path, "w") as file:
        file.write("secret")
    try:
        assert "done" == outside("open(sys.argv[1])", path)
        assert ("EACCES" if tier.tier == "Landlock" else "ENOENT") == tier.attempt("open(sys.argv[1])", path)
    finally:
        os.unlink(path)


def test_two_sandboxes_share_nothing(tier):
    """
    What one sandbox leaves in its places another does not find.
    """
    write = "open(os.environ['TMPDIR'] + '/note', 'w').write('x'); open(os.environ['HOME'] + '/note', 'w').write('x')"
    source = """
with jail.Sandbox(**policy_fields({})) as one, jail.Sandbox(**policy_fields({})) as other:
    answer = [attempt(act, box=box)[0] for act, box in ((write, one), (found, one), (found, other))]
"""
    found = "sys.exit(any(os.path.exists(os.environ[n] + '/note') for n in ('TMPDIR', 'HOME')) and 3)"
    verdicts = tier.ask(source, write=write, found=found)

    assert ["done", errno.errorcode[3], "done"] == verdicts


@pytest.mark.needs("keyring")
def test_keys(tier, outside):
    """
    No key of the caller's can be searched for or read.
    """
    x86_64 = os.uname().machine == "x86_64"
    act = f"syscall({250 if x86_64 else 219}, 0, -3, 1)"  # KEYCTL_GET_KEYRING_ID of the session keyring

    assert "done" == outside(act)
    assert "EPERM" == tier.attempt(act)


def test_datagrams_between_pairs(tier):
    """
    A pair of sockets serves for talk within the sandbox, and cannot be turned to somebody outside.
    """
    name = "\0jail-test-turned"
    turn = f"a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.connect({name!r})"
    talk = "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'"
    with listening(socket.AF_UNIX, name, socket.SOCK_DGRAM):
        verdict = tier.attempt(turn)

    assert ("EPERM" if tier.tier == "Landlock" else "ECONNREFUSED") == verdict
    assert "done" == tier.attempt(talk)
