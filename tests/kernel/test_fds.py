"""
Which descriptors a program starts with. close_range(2)
"""

import contextlib
import os
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

# Tries each number itself: /proc/self/fd would show the descriptor that lists it.
OPEN = """
import json, os, sys
found = []
for fd in range(int(sys.argv[1])):
    try: found.append([fd, os.fstat(fd).st_mode >> 12])
    except OSError: pass
print(json.dumps(found))
"""
FIFO, FILE, CHARACTER = 1, 8, 2


@contextlib.contextmanager
def inheritable(count, flags=os.O_RDONLY):
    """
    Descriptors of the harness that a child would inherit.
    """
    fds = [os.open(__file__, flags) for _ in range(count)]
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def test_only_three(inside):
    """
    Whatever the harness holds open, and would let a child inherit, a program has 0, 1 and 2.
    """
    with inheritable(50) as fds:
        inherited = os.spawnl(
            os.P_WAIT, sys.executable, sys.executable, "-c", f"import os; os.fstat({fds[-1]})"
        )
        for _ in range(2):
            assert [0, 1, 2] == [fd for fd, _ in inside(OPEN, str(max(fds) + 100))]
    assert 0 == inherited  # the control


def test_only_three_in_a_used_sandbox(inside):
    """
    Nor has a later program anything of an earlier one, nor of one that runs beside it.
    """
    with jail.Sandbox() as box:
        box.run("sleep 60 & exec true", shell=True)
        assert [0, 1, 2] == [fd for fd, _ in inside(OPEN, "1000", box=box)]


def test_given_descriptor(tmp_path, inside):
    """
    A file that is given is read by the harness from the place where it is, and comes through a pipe.
    """
    (tmp_path / "f").write_bytes(b"0123456789")
    with open(tmp_path / "f", "rb", buffering=0) as file:
        file.seek(3)
        assert "3456" == inside(
            "import json, os; print(json.dumps(os.read(0, 4).decode()))", stdin=file.fileno()
        )
        assert [[0, FIFO], [1, FIFO], [2, FIFO]] == inside(OPEN, "100", stdin=file.fileno())


def test_input_is_a_pipe(inside):
    """
    Input given as bytes comes through a pipe, which the program cannot write to.
    """
    result = jail.run([sys.executable, "-I", "-S", "-c", "import os; os.write(0, b'x')"], input=b"in")

    assert b"Bad file descriptor" in result.stderr


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_refuse_closed_descriptor(name):
    """
    A descriptor that is not open is the OSError of fstat(2), and the sandbox goes on.
    """
    others = {other: jail.PIPE for other in ("stdin", "stdout", "stderr") if other != name}
    read_end, write_end = os.pipe()
    with jail.Sandbox() as box, open(read_end, "rb"), open(write_end, "wb"):
        number = os.dup(0)
        os.close(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            box.run(["true"], **{name: number})
        with pytest.raises(OSError, match="Bad file descriptor"):
            box.popen(["true"], **others, **{name: number})
        with pytest.raises(OSError, match="Bad file descriptor"):
            box.popen(["true"], **{**others, "stdin": read_end, name: number})
        assert 0 == box.run(["true"]).exit_code
