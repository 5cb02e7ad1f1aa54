"""
A program at a terminal of its own: what it is to the program, what is typed there and shown. pty(7), tty(4)
"""

import errno
import os
import sys

import pytest

import jail

PYTHON = (sys.executable, "-I", "-S", "-c")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

ATTEMPT = """
import ctypes, fcntl, os, sys, termios
try: exec(sys.argv.pop(1))
except OSError as exc: sys.exit(exc.errno)
"""

# A harness: has terminals itself, the name of one is the program's argument. The sandbox's own are numbered from 0.
HARNESS = """
import jail, json, os, sys
name = max((os.ttyname(os.openpty()[1]) for _ in range(9)), key=lambda name: int(name.rpartition("/")[2]))
cmd = [sys.executable, "-I", "-S", "-c", *sys.argv[1:], name]
with jail.Sandbox() as box, box.popen(cmd, pty=True) as process:
    results = [jail.run(cmd, pty=True), process.result()]
print(json.dumps([[result.exit_code, result.stdout.text, result.stderr.text] for result in results]))
"""

namespaces = pytest.mark.needs("userns")


@pytest.fixture(
    params=[
        pytest.param("namespaces", marks=namespaces),
        pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
    ]
)
def at_terminal(request, container, ask_harness):
    """
    Runs a line of Python at a terminal, by run and popen: its errno by the tier's name, and what it showed.
    """

    def at_terminal(code):
        source, options = container if request.param == "landlock" else ("", {})
        by_run, by_popen = ask_harness(source + HARNESS, ATTEMPT, code, **options)
        assert by_run == by_popen
        assert "" == by_run[2]
        return {request.param: by_run[0]}, by_run[1]

    return at_terminal


def read_until(process, text):
    """
    What is shown, up to this.
    """
    shown = b""
    while text not in shown:
        piece = process.stdout.read1(4096)
        assert piece, f"{text!r} is not in {shown!r}"
        shown += piece
    return shown


BOTH = {"namespaces": 0, "landlock": 0}
NEITHER = {"namespaces": errno.EPERM, "landlock": errno.EPERM}
ABSENT = {"namespaces": errno.ENOENT, "landlock": errno.EACCES}
CLOSED = {"namespaces": errno.EBADF, "landlock": errno.EBADF}
OWN = "os.getpid() == os.getsid(0) == os.tcgetpgrp(0)"


@pytest.mark.parametrize(
    ("code", "expected", "shown"),
    [
        pytest.param("print([os.isatty(fd) for fd in range(3)])", BOTH, "[True, True, True]\r\n", id="tty"),
        pytest.param("print(os.ttyname(0)[:9])", BOTH, "/dev/pts/\r\n", id="name"),
        pytest.param("print(os.get_terminal_size()[::-1])", BOTH, "(24, 80)\r\n", id="size"),
        pytest.param(f"print({OWN})", BOTH, "True\r\n", id="controlling"),
        pytest.param("os.write(os.open('/dev/tty', os.O_RDWR), b'at it')", BOTH, "at it", id="allow_dev_tty"),
        pytest.param("termios.tcsetattr(0, 0, termios.tcgetattr(0))", BOTH, "", id="allow_attributes"),
        pytest.param("fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))", BOTH, "", id="allow_ioctl"),
        pytest.param("fcntl.ioctl(0, termios.TIOCSTI, b'x')", NEITHER, "", id="deny_tiocsti"),
        pytest.param("fcntl.ioctl(0, termios.TIOCLINUX, bytes([2]))", NEITHER, "", id="deny_tioclinux"),
        pytest.param("os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)", ABSENT, "", id="deny_host_terminal"),
        pytest.param("os.write(2, b'error')", BOTH, "error", id="all_is_stdout"),
        pytest.param("print(os.fstat(2).st_ino == os.fstat(0).st_ino)", BOTH, "True\r\n", id="one_for_all"),
        pytest.param("os.fstat(3)", CLOSED, "", id="absent_fourth"),
    ],
)  # fmt: skip
def test_what_it_is(code, expected, shown, at_terminal):
    """
    It is the controlling terminal, on all three; nothing can be typed there from inside, and no other be had.
    """
    verdict, text = at_terminal(code)

    assert (verdict.items() & expected.items(), shown) == (verdict.items(), text)


@namespaces
def test_names(box):
    """
    In the sandbox's /dev/pts there are its own, and none of the host's; at no terminal there is none.
    """
    ends = {"pty": True, "stdin": jail.PIPE, "stdout": jail.PIPE}
    master, slave = os.openpty()
    assert os.path.basename(os.ttyname(slave)) in os.listdir("/dev/pts")
    with box.popen("ls -1 /dev/pts; cat", shell=True, timeout=PATIENCE, **ends) as first:
        assert [b"0\r\n", b"ptmx\r\n"] == [first.stdout.readline() for _ in range(2)]
        assert [b"0", b"1", b"ptmx"] == box.run(["ls", "/dev/pts"], pty=True).stdout.split()
        first.kill()
    os.close(master)
    os.close(slave)

    assert b"ptmx\n" == jail.run(["ls", "/dev/pts"]).stdout


@namespaces
def test_gone_with_its_program(box):
    """
    It is gone when its program has ended, also where that has left behind somebody who does not have it.
    """
    line = "trap '' HUP; sleep 1000 <&- >&- 2>&- & tty"
    assert b"/dev/pts/0\r\n" == box.run(line, shell=True, pty=True).stdout
    assert b"ptmx\n" == box.run(["ls", "/dev/pts"]).stdout


@namespaces
@pytest.mark.parametrize(
    ("given", "count"),
    [
        pytest.param({}, b"0", id="none"),
        pytest.param({"stdin": jail.DEVNULL}, b"0", id="devnull"),
        pytest.param({"input": b""}, b"0", id="empty"),
        pytest.param({"input": b"line\n"}, b"5", id="line"),
        pytest.param({"input": "line\ncut"}, b"8", id="cut"),
        pytest.param({"input": b"%063d\n" % 7 * 20_000}, b"1280000", id="long"),
    ],
)
def test_input(given, count, box):
    """
    What is typed ends, with a last newline or without, and nothing typed does too; it is echoed.
    """
    results = [run(["wc", "-c"], pty=True, timeout=PATIENCE, **given) for run in (jail.run, box.run)]
    results.append(box.popen(["wc", "-c"], pty=True, timeout=PATIENCE, **given).result())
    for result in results:
        assert (0, b"") == (result.exit_code, result.stderr)
        assert result.stdout.endswith(count + b"\r\n")
    assert given.get("input") != b"line\n" or b"line\r\n5\r\n" == results[0].stdout


@namespaces
def test_size_and_resize(box):
    """
    It has the size that was asked for, and a change of that is SIGWINCH and seen by stty; later it is harmless.
    """
    code = "import signal, os; signal.pthread_sigmask(0, [28]); print('up', flush=True)\n"
    code += "while signal.sigwait([28]): os.system('stty size')"
    assert b"30 100\r\n" == box.run(["stty", "size"], pty=True, size=(30, 100)).stdout
    with box.popen([*PYTHON, code], pty=True, stdout=jail.PIPE, size=(30, 100)) as process:
        read_until(process, b"up\r\n")
        for rows, columns in (31, 101), (1, 65535):
            process.resize(rows, columns)
            assert b"%d %d\r\n" % (rows, columns) == read_until(process, b"\n")
        process.kill()
    process.resize(2, 2)
