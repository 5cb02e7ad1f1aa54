"""
What a hostile program finds open, and what it can make of its standard streams and of a terminal.
"""

import errno
import json
import os
import pty
import socket
import stat
import subprocess
import sys

import pytest

LIST = """
import json
open_fds = []
for fd in range(1024):
    try: open_fds.append([fd, stat.S_IFMT(os.fstat(fd).st_mode)])
    except OSError: pass
print(json.dumps(open_fds))
"""
PIPE, DEVICE = stat.S_IFIFO, stat.S_IFCHR


def test_nothing_is_inherited(tier, outside):
    """
    Whatever the harness has open, inheritable or not, a program has its three streams and nothing else.
    """
    source = """
import fcntl, os, socket
fds = [os.open("/", os.O_RDONLY | os.O_DIRECTORY), os.open("/etc/passwd", os.O_RDONLY), *os.pipe()]
pair = socket.socketpair()
for fd in (*fds, *(s.fileno() for s in pair)):
    os.set_inheritable(fd, True)
fds += [fcntl.fcntl(fds[0], fcntl.F_DUPFD, number) for number in (7, 200)]
try:
    with jail.Sandbox(**policy_fields({})) as box:
        answer = [attempt(act, box=box)[1] for _ in range(2)]
finally:
    for fd in fds: os.close(fd)
    for s in pair: s.close()
"""
    for text in tier.ask(source, act=LIST):
        found = json.loads(text)
        assert [0, 1, 2] == [fd for fd, _ in found]
        assert all(kind in (PIPE, DEVICE) for _, kind in found)
    r, w = os.pipe()
    control = subprocess.run(
        [sys.executable, "-c", f"import os, sys; os.fstat({r})"],
        pass_fds=[r],
        check=False,
        capture_output=True,
    )
    os.close(r)
    os.close(w)
    assert 0 == control.returncode


@pytest.mark.parametrize(
    "directory",
    [*(f"/proc/self/fd/{n}" for n in range(12)), "/proc/1/cwd", "/proc/1/root", "/proc/self/fd/7/../.."],
)
def test_working_directory_by_descriptor(directory, tier):
    """
    No descriptor that is open while a program is started can be its working directory. CVE-2024-21626
    """
    source = """
import fcntl, os
fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, number) for number in range(12)]
try:
    run(["pwd"], cwd=directory); answer = "done"
except jail.SetupError as exc:
    answer = exc.errno
finally:
    for one in (fd, *copies): os.close(one)
"""
    assert tier.ask(source, directory=directory) in (errno.ENOTDIR, errno.EACCES, errno.ENOENT)
    assert "done" == tier.ask(source, directory="/usr")


STREAM_ACTS = {
    "reopen_to_write": ("os.open('/proc/self/fd/0', os.O_RDWR)", "EACCES"),
    "chmod": ("os.fchmod(0, 0o4777)", "EPERM"),
    "chmod_plain": ("os.fchmod(0, 0o777)", "EPERM"),
    "utime": ("os.utime(0, (1, 1))", "EPERM"),
    "setxattr": ("os.setxattr(0, 'user.x', b'x')", "EPERM"),
    "truncate": ("os.ftruncate(0, 0)", "EINVAL"),
}


def test_directory_as_standard_input(tier, place):
    """
    A directory as standard input is no door to the host's tree: nothing in it can be opened.
    """
    source = """
import os
fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
try: answer = run(["sh", "-c", act], stdin=fd).stdout.text
except jail.PolicyError: answer = "refused"
finally: os.close(fd)
"""
    act = "cd /proc/self/fd/0/ && cat secret; ls"
    fd = os.open(place / "outside", os.O_RDONLY)
    control = subprocess.run(["sh", "-c", act], stdin=fd, capture_output=True, text=True, check=False)
    os.close(fd)

    assert "outside/secretsecret\n" == control.stdout
    assert tier.ask(source, path=str(place / "outside"), act=act) in ("", "refused")


TERMINAL = {
    "TIOCSTI": "fcntl.ioctl(0, 0x5412, b'x')",
    "TIOCSTI_high_bits": "syscall(16 if os.uname().machine == 'x86_64' else 29, 0, 1 << 32 | 0x5412, at(b'x'))",
    "TIOCLINUX": "fcntl.ioctl(0, 0x541C, b'\\x02')",
    "TIOCLINUX_high_bits": "syscall(16 if os.uname().machine == 'x86_64' else 29, 0, 0xFFFFFFFF << 32 | 0x541C, at(b'\\x02'))",
    "TIOCSETD": "fcntl.ioctl(0, 0x5423, struct.pack('i', 13))",
}


@pytest.mark.parametrize("name", TERMINAL)
def test_terminal(name, tier):
    """
    Into a terminal that is a program's standard input nothing can be typed, nor can its line discipline be changed.
    """
    source = """
import os, pty
master, slave = pty.openpty()
try: answer = attempt(act, stdin=slave)[0], attempt("os.isatty(0) or sys.exit('no terminal')", stdin=slave)[0]
finally: os.close(master); os.close(slave)
"""
    assert ["EPERM", "done"] == tier.ask(source, act=TERMINAL[name])


def test_terminal_without_a_sandbox():
    """
    The control: in a terminal of its own a program reaches the kernel with TIOCSTI; what that says is another errno.
    """
    act = (
        "import fcntl, os, sys, errno\n"
        "os.setsid(); fcntl.ioctl(0, 0x540E, 0)\n"  # TIOCSCTTY
        "try: fcntl.ioctl(0, 0x5412, b'x')\n"
        "except OSError as exc: sys.exit(exc.errno)\n"
    )
    master, slave = pty.openpty()
    ended = subprocess.run([sys.executable, "-c", act], stdin=slave, check=False)
    os.close(master)
    os.close(slave)

    assert ended.returncode in (0, errno.EIO)  # sysctl dev.tty.legacy_tiocsti


def test_no_controlling_terminal(tier):
    """
    The harness's terminal is not the program's: there is none to open, and it leads a session of its own.
    """
    assert "ENXIO" == tier.attempt("os.open('/dev/tty', os.O_RDWR)")
    assert ["True"] == tier.output("print(os.getsid(0) == os.getpgid(0) == os.getpid())")


def test_descriptors_sent_over(tier):
    """
    No stream is a socket: nobody can send a descriptor over it.
    """
    act = "socket.socket(fileno=os.dup(int(sys.argv[1])))"

    assert ["ENOTSOCK"] * 3 == [tier.attempt(act, fd) for fd in range(3)]
    ours, theirs = socket.socketpair()
    control = subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(fileno=0)"], stdin=theirs, check=False
    )
    ours.close()
    theirs.close()
    assert 0 == control.returncode


def test_exhausted_descriptors(tier):
    """
    A program can have as many descriptors as the policy allows, and raise that no more.
    """
    act = "fds = []\ntry:\n while True: fds.append(os.dup(0))\nexcept OSError as exc: print(exc.errno == errno.EMFILE, fds[-1])"

    assert ["True 63"] == tier.output(act, open_files=64)
    assert ["True"] == tier.output(
        "try: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 65)); print(False)\nexcept (ValueError, OSError): print(True)",
        open_files=64,
    )
