"""
The caller's end of a program's terminal: read, written and closed. pty(7), `jail.process`
"""

import os
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
FEW = 5.0  # the same, where a program that is not told of an end would wait for ever


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_read_to_the_end(text, box):
    """
    Read gives all and lines come one by one, up to an end of file that is no error.
    """
    expected = [f"line {n}\r\n" if text else b"line %d\r\n" % n for n in range(1000)]
    start = [*PYTHON, "for n in range(1000): print('line', n)"]
    with box.popen(start, pty=True, stdout=jail.PIPE, text=text) as process:
        assert expected == list(process.stdout)
    with box.popen(start, pty=True, stdout=jail.PIPE, text=text) as process:
        joined = ("" if text else b"").join(expected)
        assert (joined, joined[:0]) == (process.stdout.read(), process.stdout.read())
    with box.popen(start, pty=True, stdout=jail.PIPE, text=text) as process:
        assert (joined, joined[:0]) == process.communicate(timeout=PATIENCE)
    assert 0 == process.poll()


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_conversation(text, box):
    """
    What is written to stdin is typed, and echoed.
    """
    line, echoed = ("née\n", "née\r\n") if text else (b"typed\n", b"typed\r\n")
    ends = {"stdin": jail.PIPE, "stdout": jail.PIPE}
    with box.popen(["cat"], pty=True, text=text, timeout=PATIENCE, **ends) as process:
        for _ in range(100):
            process.stdin.write(line)
            assert [echoed] * 2 == [process.stdout.readline(), process.stdout.readline()]
        process.stdin.write("\x04" if text else b"\x04")
        assert 0 == process.wait(PATIENCE)


@pytest.mark.parametrize("ends", [{"stdin": jail.PIPE}, {"stdin": jail.PIPE, "stdout": jail.PIPE}])
def test_end_of_input_by_with(ends, box):
    """
    The with statement closes standard input, which is its end to the program here too.
    """
    with box.popen(["cat"], pty=True, timeout=FEW, **ends) as process:
        pass

    assert jail.Exited(0) == process.outcome


@pytest.mark.parametrize(("data", "count"), [(None, b"0"), (b"line\n", b"5"), (b"line\ncut", b"8")])
def test_communicate(data, count, box):
    """
    Communicate ends the input after what it has written, as it does with a pipe.
    """
    process = box.popen(["wc", "-c"], pty=True, timeout=FEW, stdin=jail.PIPE, stdout=jail.PIPE)
    shown, nothing = process.communicate(data, timeout=PATIENCE)

    assert (jail.Exited(0), b"") == (process.outcome, nothing)
    assert shown.endswith(count + b"\r\n")


def test_closed_and_opened_again(box):
    """
    A program that closes its terminal and opens it again is read on.
    """
    code = """
import os, select
name = os.ttyname(0)
for fd in range(3): os.close(fd)
select.select([], [], [], 0.3)
os.write(os.open(name, os.O_RDWR), b"x" * 300_000)
"""
    result = box.run([*PYTHON, code], pty=True, timeout=FEW)

    assert (jail.Exited(0), 300_000) == (result.outcome, len(result.stdout))


def test_nothing_is_lost(box):
    """
    What was written just before the end is read.
    """
    code = "import os; os.write(1, b'x' * 3000 + b'end'); os._exit(0)"
    seen = {box.run([*PYTHON, code], pty=True).stdout for _ in range(30)}

    assert {b"x" * 3000 + b"end"} == seen


def test_refuse_a_reader_that_may_be_slow(box):
    """
    A pipe that gets what is shown could hold up everything in the background, and is refused.
    """
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(jail.PolicyError, match="but for a regular file") as caught:
            box.popen(["yes"], pty=True, stdout=write_end)
        assert "pty" == caught.value.key
    finally:
        os.close(read_end)
        os.close(write_end)


def test_output_elsewhere(box, tmp_path):
    """
    What is shown goes where the caller wants it: a file, a function, nowhere.
    """
    pieces = []
    with open(tmp_path / "out", "wb") as file:
        assert b"" == box.run(["echo", "shown"], pty=True, stdout=file).stdout
    assert b"" == box.run(["echo", "shown"], pty=True, on_stdout=pieces.append).stdout
    assert b"" == box.run(["echo", "shown"], pty=True, stdout=jail.DEVNULL).stdout

    assert [b"shown\r\n"] * 2 == [(tmp_path / "out").read_bytes(), b"".join(pieces)]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"stderr": jail.PIPE}, "pty"),
        ({"stderr": jail.STDOUT}, "pty"),
        ({"on_stderr": print}, "pty"),
        ({"stdin": sys.__stdout__}, "pty"),
        ({"stdout": jail.PIPE, "input": b""}, "pty"),
        ({"stdin": jail.PIPE, "input": b""}, "input"),
        ({"size": (0, 80)}, "size"),
    ],
)
def test_refuse(fields, key, box):
    """
    What a terminal cannot have is refused by its key, and nothing is started.
    """
    for start in (box.run, box.popen, jail.run):
        with pytest.raises(jail.PolicyError) as caught:
            start(["true"], pty=True, **fields)
        assert key == caught.value.key
    assert 1 == box.popen(["true"]).id


def test_missing_program(box):
    """
    What cannot be started leaves no descriptor.
    """
    before = os.listdir("/proc/self/fd")
    for streams in ({}, {"stdin": jail.PIPE, "stdout": jail.PIPE}):
        with pytest.raises(jail.SetupError):
            box.popen("no-such-program", pty=True, **streams)
        with pytest.raises(jail.SetupError):
            box.run("no-such-program", pty=True)
    assert before == os.listdir("/proc/self/fd")
