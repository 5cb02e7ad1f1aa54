"""
What goes into a program in the background and what comes out of it. pipe(7)
"""

import os
import signal
import socket
import subprocess
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
WAIT = "import sys; sys.stdin.read()"
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_conversation(text, box):
    """
    Lines arrive as they are written: each is answered before the program writes the next.
    """
    code = "for n in range(100): print(n, flush=True); assert input() == str(n * n)"
    answer = "{}\n".format if text else lambda n: b"%d\n" % n
    with box.popen([*PYTHON, code], stdin=jail.PIPE, stdout=jail.PIPE, text=text) as process:
        for line in process.stdout:
            process.stdin.write(answer(int(line) ** 2))

    assert (0, "") == (process.wait(), process.output()[1].text if not text else process.output()[1])


@pytest.mark.needs("proc")
def test_communicate(box):
    """
    Communicate writes the input and reads both streams to their ends, more than any pipe holds.
    """
    sent = os.urandom(1 << 20)
    with box.popen(
        "tee /dev/stderr", shell=True, stdin=jail.PIPE, stdout=jail.PIPE, stderr=jail.PIPE
    ) as process:
        got = process.communicate(sent, timeout=PATIENCE)

    assert (True, True) == (sent == got[0], sent == got[1])
    assert got == process.communicate() == process.output()


def test_communicate_with_one_that_does_not_read(box):
    """
    Input that is not read is no error.
    """
    with box.popen(["true"], stdin=jail.PIPE) as process:
        assert (b"", b"") == process.communicate(b"x" * (1 << 20), timeout=PATIENCE)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("who", ["subprocess", "jail"])
def test_timeout_of_communicate(who, box):
    """
    Its timeout is one of the writing too: a program that reads nothing does not hold it back.
    """
    start = {"subprocess": subprocess.Popen, "jail": box.popen}[who]
    process = start(["sleep", "1000"], stdin=subprocess.PIPE)
    with process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(b"x" * (1 << 20), timeout=0.1)
        process.kill()


@pytest.mark.parametrize("who", ["subprocess", "jail"])
def test_interrupted_communicate(who, box):
    """
    A signal that the caller handles meanwhile takes nothing from the input: it is written whole.
    """
    start = {"subprocess": subprocess.Popen, "jail": box.popen}[who]
    code = "import os, sys; os.read(1, 1); os.write(2, b'%d' % len(sys.stdin.buffer.read()))"
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, lambda *_: ours.send(b"now"))
    try:
        with ours, theirs, start([*PYTHON, code], stdin=-1, stdout=theirs, stderr=subprocess.PIPE) as process:
            signal.setitimer(signal.ITIMER_REAL, 0.2)  # by then the pipe is full; the program reads after it
            assert b"1048576" == process.communicate(b"x" * (1 << 20), timeout=PATIENCE)[1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_streams(box):
    """
    Where no PIPE was asked for there is no file, and the output is kept as it comes.
    """
    with box.popen("echo out; echo err >&2; cat", shell=True) as process:
        assert (None, None, None) == (process.stdin, process.stdout, process.stderr)

    assert (b"out\n", b"err\n") == process.output()
    assert (b"out\n", b"err\n") == (process.result().stdout, process.result().stderr)


def test_devnull(box):
    """
    DEVNULL is an empty input, and output that is taken and forgotten.
    """
    null = jail.DEVNULL
    result = box.popen(
        "cat; echo out; echo err >&2", shell=True, stdin=null, stdout=null, stderr=null
    ).result()

    assert (0, b"", b"") == (result.exit_code, result.stdout, result.stderr)
    assert ("", "") == (result.stdout.text, result.stderr.text)


WHAT_IT_IS = (
    "import os, stat, sys; os.write(1, b'regular' if stat.S_ISREG(os.fstat(1).st_mode) else b'no file')"
)


def test_file(box, tmp_path):
    """
    A regular file is written by the harness; the program has a pipe, and cannot chmod the file by it.
    """
    with open(tmp_path / "out", "wb") as file:
        before = os.fstat(file.fileno()).st_mode
        process = box.popen([*PYTHON, f"import os; os.fchmod(1, 0); {WHAT_IT_IS}"], stdout=file)
        code = process.wait(PATIENCE)

        assert (0, b"no file") == (code, (tmp_path / "out").read_bytes())
        assert before == os.fstat(file.fileno()).st_mode
        subprocess.run([*PYTHON, WHAT_IT_IS], stdout=file, check=True)  # the control: a program that has it
    assert b"no fileregular" == (tmp_path / "out").read_bytes()
