"""
Whose terminal a program is at: nobody's. setsid(2), ioctl_tty(2)
"""

import contextlib
import errno
import os
import subprocess
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

TIOCSTI, TIOCLINUX, TCGETS, TIOCSCTTY, TIOCGWINSZ = 0x5412, 0x541C, 0x5401, 0x540E, 0x5413
PYTHON = (sys.executable, "-I", "-S", "-c")
IOCTL = f"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
def ioctl(request, argument):
    if libc.ioctl(0, ctypes.c_ulong(request), argument) == -1:
        sys.exit(ctypes.get_errno())
if sys.argv[2] == "1":
    ioctl({TIOCSCTTY}, 0)
ioctl(int(sys.argv[1]), ctypes.create_string_buffer(b"x", 64))
"""


@contextlib.contextmanager
def terminal():
    """
    The program's end of a pseudoterminal.
    """
    master, slave = os.openpty()
    try:
        yield slave
    finally:
        os.close(master)
        os.close(slave)


def test_session(inside):
    """
    A program leads a session and a process group of its own, and has no controlling terminal.
    """
    code = """
import json, os
try: os.open("/dev/tty", os.O_RDWR)
except OSError as exc: error = exc.errno
print(json.dumps([os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), error]))
"""
    with terminal() as slave:
        assert [True, True, errno.ENXIO] == inside(code, stdin=slave)
        assert [True, True, errno.ENXIO] == inside(code)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(TCGETS, 0, id="allow_tcgets"),  # the control
        pytest.param(TIOCGWINSZ, 0, id="allow_window_size"),
        pytest.param(TIOCSTI, errno.EPERM, id="deny_tiocsti"),
        pytest.param(TIOCLINUX, errno.EPERM, id="deny_tioclinux"),
        pytest.param(TIOCSTI | 1 << 32, errno.EPERM, id="deny_tiocsti_with_high_bits"),
    ],
)
@pytest.mark.parametrize("taken", [False, True], ids=["given", "taken_as_its_own"])
def test_ioctl(request_, expected, taken):
    """
    A terminal that is given can be asked and used; nothing can be typed into it, be it one's own or not.
    """
    with terminal() as slave:
        result = jail.run([*PYTHON, IOCTL, str(request_), str(int(taken))], stdin=slave)
        outside = subprocess.run([*PYTHON, IOCTL, str(TIOCLINUX), "0"], stdin=slave, check=False)

    assert (expected, "") == (result.exit_code, result.stderr.text)
    assert errno.ENOTTY == outside.returncode  # without a filter the terminal itself answers


def test_terminal_of_the_harness(ask_harness):
    """
    A terminal that a harness leads cannot be taken over, nor its foreground group be changed.
    """
    code = """
import fcntl, json, os, sys, jail
os.setsid()
master, slave = os.openpty()
fcntl.ioctl(slave, 0x540E, 0)
payload = '''
import fcntl, json, os
errors = []
for call in (lambda: fcntl.ioctl(0, 0x540E, 0), lambda: os.tcsetpgrp(0, os.getpgrp()), lambda: os.tcgetpgrp(0)):
    try: call(); errors.append(0)
    except OSError as exc: errors.append(exc.errno)
print(json.dumps(errors))
'''
result = jail.run([sys.executable, "-I", "-S", "-c", payload], stdin=slave)
sys.stdout.buffer.write(result.stdout)
"""
    assert [errno.EPERM, errno.ENOTTY, errno.ENOTTY] == ask_harness(code)
