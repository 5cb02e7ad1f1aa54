"""
What goes into a program and what comes out of it. pipe(7)
"""

import contextlib
import os
import sys
import uuid

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
BIG = 10 << 20


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, BIG])
def test_input(size):
    """
    Input of any size arrives whole and ends; without any, standard input is empty.
    """
    sent = os.urandom(size)

    assert sent == jail.run(["cat"], input=sent).stdout
    assert b"" == jail.run(["cat"]).stdout


def test_input_that_is_not_read():
    """
    A program that closes its standard input, or never reads it, is no error and ends as it likes.
    """
    for code in ("pass", "import os; os.close(0); print(1)", "import os; os.read(0, 1)"):
        assert 0 == jail.run([*PYTHON, code], input=b"x" * BIG).exit_code


def test_both_streams():
    """
    Both streams are read at once: ten megabytes on each arrive whole, in any order.
    """
    code = f"""
import os, sys, threading
def write(fd, byte):
    left = {BIG}
    while left: left -= os.write(fd, byte * min(left, 50_000))
writers = [threading.Thread(target=write, args=a) for a in ((1, b"o"), (2, b"e"))]
for writer in writers: writer.start()
for writer in writers: writer.join()
"""
    result = jail.run([*PYTHON, code])

    assert (b"o" * BIG == result.stdout, b"e" * BIG == result.stderr) == (True, True)


def test_sinks():
    """
    With sinks the output arrives in pieces, all of it, and the result keeps none.
    """
    code = "import os; os.write(1, b'out'); os.write(2, b'err')"
    got = {1: [], 2: []}
    result = jail.run([*PYTHON, code], on_stdout=got[1].append, on_stderr=got[2].append)

    assert {1: b"out", 2: b"err"} == {fd: b"".join(pieces) for fd, pieces in got.items()}
    assert (b"", b"") == (result.stdout, result.stderr)


def test_sink_of_a_large_pipe(eyes):
    """
    A sink gets all that a program left in a pipe, which it made larger, before it ended.
    """
    code = "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20); os.write(1, b'x' * (1 << 20))"  # F_SETPIPE_SZ
    sizes, marker = [], str(uuid.uuid4())

    def slow(piece):
        running = {}
        for pid in eyes.named(marker):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                running[pid] = os.pidfd_open(pid)
        assert [] == eyes.survivors(running)
        sizes.append(len(piece))

    jail.run([*PYTHON, code, marker], on_stdout=slow)
    assert 1 << 20 == sum(sizes)
