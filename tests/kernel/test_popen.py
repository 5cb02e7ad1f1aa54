"""
A program in the background, in the words of subprocess.Popen: its end, what is known of it. pipe(7)
"""

import errno
import os
import subprocess
import sys

import psutil
import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
WAIT = "import sys; sys.stdin.read()"
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


@pytest.mark.parametrize(
    ("code", "expected", "as_subprocess_has_it"),
    [
        ("pass", jail.Exited(0), 0),
        ("raise SystemExit(7)", jail.Exited(7), 7),
        ("import os; os.kill(os.getpid(), 15)", jail.Signalled(15), -15),
    ],
)
def test_end(code, expected, as_subprocess_has_it, box):
    """
    Poll says None until the end and then what wait says: the exit code, for a signal 128 and its number.
    """
    code = "import sys; sys.stdin.read(); " + code
    with subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE) as other:
        assert None is other.poll()
        other.communicate(b"")
    process = box.popen([*PYTHON, code], stdin=jail.PIPE)
    before = process.poll(), process.exit_code, process.outcome, process.usage
    process.stdin.close()

    assert as_subprocess_has_it == other.returncode
    assert (None, None, None, None) == before
    assert expected.exit_code == process.wait(PATIENCE) == process.poll() == process.exit_code
    assert expected == process.outcome == process.result().outcome
    assert 0 < process.usage.user_seconds + process.usage.system_seconds < 2 * process.usage.wall_seconds
    assert ((*PYTHON, code), process.usage) == (process.args, process.result().usage)


@pytest.mark.parametrize("who", ["subprocess", "jail"])
def test_timeout_of_a_wait(who, box):
    """
    Wait and communicate raise subprocess.TimeoutExpired, and the program goes on and can be awaited again.
    """
    start = {"subprocess": subprocess.Popen, "jail": box.popen}[who]
    read_end, write_end = os.pipe()
    with start(["cat"], stdin=read_end, stdout=subprocess.PIPE) as process:
        os.close(read_end)
        for wait in (process.wait, process.communicate, process.communicate):
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                wait(timeout=0.01)
            assert (["cat"], 0.01) == (caught.value.cmd, caught.value.timeout)
        assert None is process.poll()
        os.write(write_end, b"said")
        os.close(write_end)

        assert b"said" == process.communicate(timeout=PATIENCE)[0]
        assert 0 == process.wait(0)


def test_result_before_the_end(box):
    """
    Result waits as wait does.
    """
    with box.popen(["cat"], stdin=jail.PIPE) as process, pytest.raises(subprocess.TimeoutExpired):
        process.result(timeout=0.01)


def test_context_manager(box):
    """
    The with statement closes standard input, waits, and closes the streams.
    """
    with box.popen(["cat"], stdin=jail.PIPE, stdout=jail.PIPE, stderr=jail.PIPE) as process:
        assert None is process.poll()

    assert 0 == process.poll()
    assert [True] * 3 == [stream.closed for stream in (process.stdin, process.stdout, process.stderr)]


def test_context_manager_with_an_exception(box):
    """
    An exception that passes through kills the program, and stays the exception it is.
    """
    with pytest.raises(KeyError, match="mine"), box.popen(["sleep", "1000"]) as process:
        raise KeyError("mine")

    assert (jail.Killed(), 137) == (process.outcome, process.poll())


def test_pids(box):
    """
    Pid is the program's own inside, host_pid the same process outside, and None when it has ended.
    """
    with box.popen(
        [*PYTHON, f"import os; print(os.getpid(), flush=True); {WAIT}"], stdin=-1, stdout=-1
    ) as process:
        inside = int(process.stdout.readline())
        outside = psutil.Process(process.host_pid)

        assert inside == process.pid != process.host_pid
        assert (list(process.args), outside.pid) == (outside.cmdline(), process.host_pid)
        assert os.getpid() in [parent.pid for parent in outside.parents()]
    assert (inside, None) == (process.pid, process.host_pid)
    assert not outside.is_running()


def test_order_of_both_streams(box):
    """
    With stderr=STDOUT both are one stream, in the order of writing.
    """
    line = "for n in 1 2 3; do echo out$n; echo err$n >&2; done"
    with box.popen(line, shell=True, stdout=jail.PIPE, stderr=jail.STDOUT) as process:
        written = process.stdout.read()

    assert b"out1\nerr1\nout2\nerr2\nout3\nerr3\n" == written
    assert None is process.stderr


def test_pipe_of_the_caller(box):
    """
    A pipe of the caller's is handed over as it is, and ends when the program has ended.
    """
    read_end, write_end = os.pipe()
    process = box.popen([*PYTHON, "import os; print(os.fstat(1).st_ino)"], stdout=write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        assert os.fstat(read_end).st_ino == int(file.read())
    assert (0, b"") == (process.wait(PATIENCE), process.output()[0])


@pytest.mark.parametrize("streams", [{}, {"stdin": -1, "stdout": -1, "stderr": -1}], ids=["kept", "piped"])
def test_missing_program(streams, box):
    """
    What cannot be started is a SetupError there and then, and leaves neither descriptor nor process.
    """
    before = os.listdir("/proc/self/fd")
    with pytest.raises(jail.SetupError) as caught:
        box.popen("no-such-program", **streams)

    assert (errno.ENOENT, ()) == (caught.value.errno, box.processes)
    assert before == os.listdir("/proc/self/fd")


def test_repr(box):
    """
    Repr says which it is, and how it is.
    """
    with box.popen(["cat"], stdin=jail.PIPE) as process:
        assert f"<Process {process.id} 'cat': running>" == repr(process)
    assert f"<Process {process.id} 'cat': exited with 0>" == repr(process)
