"""
Which devices a program has. null(4), pts(4)
"""

import errno
import os

import pytest

pytestmark = pytest.mark.needs("userns", "devpts")

IN_PROC = pytest.mark.needs("proc")  # where these links lead

EXPECTED = [
    "fd",
    "full",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
]


def test_list(inside):
    """
    /dev has these, and nothing of the host's disks, memory or terminals.
    """
    assert EXPECTED == inside("import json, os; print(json.dumps(sorted(os.listdir('/dev'))))")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(
            "open('/dev/null', 'w').write('x'); assert open('/dev/null').read() == ''", 0, id="null"
        ),
        pytest.param("assert open('/dev/zero', 'rb').read(4) == bytes(4)", 0, id="zero"),
        pytest.param("assert len(open('/dev/urandom', 'rb').read(4)) == 4", 0, id="urandom"),
        pytest.param("assert len(open('/dev/random', 'rb').read(4)) == 4", 0, id="random"),
        pytest.param("open('/dev/full', 'wb', 0).write(b'x')", errno.ENOSPC, id="full"),
        pytest.param("open('/dev/stdin').read()", 0, id="stdin", marks=IN_PROC),
        pytest.param("open('/dev/stdout', 'w')", 0, id="stdout", marks=IN_PROC),
        pytest.param("assert '0' in os.listdir('/dev/fd')", 0, id="fd", marks=IN_PROC),
        pytest.param("open('/dev/tty')", errno.ENXIO, id="deny_tty_without_a_terminal"),
        pytest.param("open('/dev/kmsg')", errno.ENOENT, id="deny_kmsg"),
        pytest.param("open('/dev/mem')", errno.ENOENT, id="deny_mem"),
        pytest.param("open('/dev/fuse')", errno.ENOENT, id="deny_fuse"),
        pytest.param("open('/dev/new', 'w')", errno.EROFS, id="deny_create"),
        pytest.param("os.unlink('/dev/null')", errno.EROFS, id="deny_unlink"),
        pytest.param("os.rename('/dev/zero', '/dev/null')", errno.EROFS, id="deny_rename"),
    ],
)
def test_device(code, expected, attempt):
    """
    The harmless devices work, the others are not there, and none is added.
    """
    assert expected == attempt(code)


@pytest.mark.parametrize(
    "code",
    [
        "os.chmod(sys.argv[1], os.stat(sys.argv[1]).st_mode & 0o777)",
        "os.chown(sys.argv[1], os.getuid(), -1)",
        "os.utime(sys.argv[1])",
    ],
)
def test_attributes_of_a_device(code, tmp_path, attempt):
    """
    The mode, owner and times of a device, whose inode is the host's, cannot be set, not even to what they are.
    """
    assert 0 == attempt(code, tmp_path, write=[tmp_path])
    assert errno.EROFS == attempt(code, "/dev/null")


def test_attributes_of_standard_input(attempt):
    """
    Nor by way of a descriptor: standard input, when it is empty, is nothing of the host's.
    """
    before = os.stat("/dev/null")
    attempt("os.fchmod(0, 0o666); os.utime(0)")

    assert before == os.stat("/dev/null")


def test_pty(attempt):
    """
    A pseudoterminal can be opened, and is the first: the host's have other names in another instance.
    """
    code = """
import pty
master, slave = os.openpty()
assert os.ttyname(slave) == '/dev/pts/0'
os.write(slave, b'x')
assert os.read(master, 9) == b'x'
assert sorted(os.listdir('/dev/pts')) == ['0', 'ptmx']
"""
    assert 0 == attempt(code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("os.mknod('/tmp/f')", 0, id="allow_file"),
        pytest.param("os.mkfifo('/tmp/f')", 0, id="allow_fifo"),
        pytest.param("socket.socket(socket.AF_UNIX).bind('/tmp/f')", 0, id="allow_socket"),
        pytest.param(
            "os.mknod('/tmp/f', 0o20666, os.makedev(1, 3))", errno.EACCES, id="deny_character_device"
        ),
        pytest.param("os.mknod('/tmp/f', 0o60666, os.makedev(254, 0))", errno.EACCES, id="deny_block_device"),
    ],
)
def test_mknod(code, expected, attempt):
    """
    No device can be made, where files, pipes and sockets can.
    """
    assert expected == attempt(code)
