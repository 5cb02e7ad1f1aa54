"""
What of the host's shared memory, queues and sockets a program can reach. ipc_namespaces(7), unix(7)
"""

import contextlib
import ctypes
import errno
import os
import socket

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

KEY = 0x4A41494C
IPC_CREAT, IPC_RMID = 0o1000, 0
LIBC = ctypes.CDLL(None, use_errno=True)

CONNECT = "socket.socket(socket.AF_UNIX).connect(sys.argv[1].replace('@', chr(0)))"


@pytest.fixture
def segment():
    """
    A System V shared memory segment of the host, by its id.
    """
    number = LIBC.shmget(KEY, 4096, IPC_CREAT | 0o666)
    assert number >= 0
    yield number
    LIBC.shmctl(number, IPC_RMID, None)


@contextlib.contextmanager
def listening(address):
    """
    A Unix socket on the host that listens.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        yield


def test_shared_memory(segment, attempt):
    """
    The host's segments have no key and no id inside, where one's own can be made.
    """
    assert segment == LIBC.shmget(KEY, 0, 0)
    assert errno.ENOENT == attempt(f"call('shmget', {KEY}, 0, 0)")
    assert errno.EINVAL == attempt(
        f"call('shmctl', {segment}, 2, ctypes.create_string_buffer(512))"
    )  # IPC_STAT
    assert 0 == attempt(f"call('shmget', {KEY}, 4096, 0o1600); call('shmget', {KEY}, 0, 0)")


def test_own_objects(attempt):
    """
    Semaphores, message queues and POSIX shared memory can be made inside, and end with the sandbox.
    """
    code = """
call('semget', 7, 1, 0o1600)
call('msgget', 7, 0o1600)
os.close(os.open('/dev/shm/jail', os.O_CREAT | os.O_EXCL))
"""
    assert 0 == attempt(code)
    assert 0 == attempt("call('semget', 7, 1, 0o3600)")  # IPC_EXCL: it is not there yet
    assert -1 == LIBC.semget(7, 1, 0)
    assert not os.path.exists("/dev/shm/jail")


@pytest.mark.needs("landlock")
def test_posix_queue(attempt):
    """
    A POSIX message queue is a file of a file system that is mounted nowhere, so Landlock allows none.
    """
    assert errno.EACCES == attempt("call('mq_open', b'/jail', os.O_CREAT | os.O_RDWR, 0o600, None)")


@pytest.mark.parametrize("network", ["none", pytest.param("host", marks=pytest.mark.needs("landlock_abi_6"))])
def test_abstract_socket(network, attempt):
    """
    A listener of the host's on an abstract name cannot be reached, on whichever network; one's own can.
    """
    name = f"jail-test-{os.getpid()}"
    own = (
        "s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'own'); s.listen(); sys.argv[1] = '@own'; "
        + CONNECT
    )
    with listening(f"\0{name}"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{name}")
        expected = errno.EPERM if network == "host" else errno.ECONNREFUSED
        assert expected == attempt(CONNECT, f"@{name}", network=network)
    assert 0 == attempt(own, "", network=network)


def test_named_socket(tmp_path, attempt):
    """
    A listener of the host's on a path that is not shown cannot be reached; one's own can.
    """
    own = (
        "s = socket.socket(socket.AF_UNIX); s.bind('/tmp/own'); s.listen(); sys.argv[1] = '/tmp/own'; "
        + CONNECT
    )
    path = str(tmp_path / "s")
    with listening(path):
        assert errno.ENOENT == attempt(CONNECT, path)
    assert 0 == attempt(own, "")


@pytest.mark.parametrize("key", ["read", "write"])
def test_socket_in_a_tree(key, tmp_path, attempt):
    """
    A listener in a tree that is shown is shown: who lists a directory lists its sockets. A deny hides them. From
    Landlock ABI 9 on one has to be named, too.
    """
    host = jail.probe()
    unnamed = errno.EACCES if host.landlock_abi >= 9 and host.has("proc") else 0
    path = str(tmp_path / "s")
    with listening(path):
        assert unnamed == attempt(CONNECT, path, **{key: [tmp_path]})
        assert errno.EACCES == attempt(CONNECT, path, **{key: [tmp_path]}, deny=[path])


@pytest.mark.parametrize(
    "code",
    ["call('syscall', KEYCTL, 0, -3, 0)", "call('syscall', ADD_KEY, b'user', b'jail', b'x', 1, -3)"],
    ids=["keyctl", "add_key"],
)
def test_keys(code, attempt):
    """
    No key of the kernel's can be read or added.
    """
    numbers = "KEYCTL, ADD_KEY = {'x86_64': (250, 248), 'aarch64': (219, 217)}[os.uname().machine]\n"

    assert errno.EPERM == attempt(numbers + code)
