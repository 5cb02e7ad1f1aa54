"""
Who hears what at a program's terminal: jobs, Ctrl-C, and the hang-up. pty(7), credentials(7)
"""

import os
import select
import sys
import time

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
FEW = 5.0  # the same, where a program that is not told of an end would wait for ever

# Says that it is there; then waits for a signal, and tells a file which it was.
HEARER = """
import signal, sys
heard = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
print("up", flush=True)
number = signal.sigwait(heard)
open(sys.argv[1], "w").write(signal.Signals(number).name)
"""


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


def await_true(condition):
    """
    Ask until it is so.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "too late"
        select.select([], [], [], 0.01)  # nothing tells when a terminal has another foreground group


@pytest.mark.program("bash")
def test_job_control(box):
    """
    An interactive shell has jobs: Ctrl-Z stops the one in front, Ctrl-C is SIGINT to it and not to the shell.
    """
    cmd, prompt, sleep = ["bash", "--norc", "--noprofile", "-i"], b"ready> ", b"sleep 1000"
    env, ends = {"PS1": prompt.decode(), "TERM": "dumb"}, {"stdin": jail.PIPE, "stdout": jail.PIPE}
    with box.popen(cmd, pty=True, env=env, timeout=PATIENCE, **ends) as shell:

        def at_prompt(keys):
            shell.stdin.write(keys)
            return read_until(shell, prompt)

        def foreground():
            shell.stdin.write(b"fg\n")
            read_until(shell, sleep + b"\r\n")
            await_true(lambda: os.tcgetpgrp(shell.stdin.fileno()) != shell.host_pid)

        assert prompt == read_until(shell, prompt)
        assert shell.host_pid == os.tcgetpgrp(shell.stdin.fileno())
        assert b"[1]" in at_prompt(sleep + b" &\n")
        assert b"Running" in at_prompt(b"jobs\n")
        foreground()
        assert b"Stopped" in at_prompt(b"\x1a")
        foreground()
        assert b"^C\r\n" + prompt == at_prompt(b"\x03")
        assert b"130" in at_prompt(b"echo $?\n")
        shell.stdin.write(b"exit 7\n")
        assert (b"exit 7\r\nexit\r\n", 7) == (shell.stdout.read(), shell.wait(PATIENCE))


def test_interrupt(box, tmp_path):
    """
    A Ctrl-C that is written to stdin is SIGINT; without a terminal the same byte is but a byte.
    """
    heard = tmp_path / "heard"
    ends = {"stdin": jail.PIPE, "stdout": jail.PIPE}
    with jail.Sandbox(write=[tmp_path]) as writing:
        process = writing.popen([*PYTHON, HEARER, heard], pty=True, timeout=PATIENCE, **ends)
        assert b"up\r\n" == process.stdout.readline()
        process.stdin.write(b"\x03")
        assert (0, "SIGINT") == (process.wait(PATIENCE), heard.read_text())
        process.close()
    with box.popen(["cat"], **ends) as process:
        assert (b"\x03", b"") == process.communicate(b"\x03", PATIENCE)


def test_hang_up_by_the_caller(tmp_path):
    """
    Closing the caller's end is a hang-up: SIGHUP to the program.
    """
    heard = tmp_path / "heard"
    with jail.Sandbox(write=[tmp_path]) as box:
        cmd = [*PYTHON, HEARER, heard]
        process = box.popen(cmd, pty=True, stdin=jail.PIPE, stdout=jail.PIPE, timeout=FEW)
        assert b"up\r\n" == process.stdout.readline()
        process.close()

        assert (0, "SIGHUP") == (process.wait(PATIENCE), heard.read_text())


def test_hang_up_by_the_sandbox(box):
    """
    When the sandbox is closed the caller reads what there was, and the end.
    """
    process = box.popen("echo said; sleep 1000", shell=True, pty=True, stdin=jail.PIPE, stdout=jail.PIPE)
    assert b"said\r\n" == process.stdout.readline()
    box.close()

    assert (jail.Killed(), b"") == (process.outcome, process.stdout.read())
    process.close()


def test_hang_up_by_the_leader(box):
    """
    The end of the program is a hang-up to its foreground group, and is not held back by who ignores that.
    """
    line = "trap '' HUP; sleep 1000 & echo said"
    assert b"said\r\n" == box.run(line, shell=True, pty=True, timeout=FEW).stdout
    assert jail.Exited(0) == box.run(line, shell=True, pty=True, timeout=FEW).outcome


def test_several(box):
    """
    Each has a terminal of its own.
    """
    ends = {"stdin": jail.PIPE, "stdout": jail.PIPE}
    started = [box.popen("tty; cat", shell=True, pty=True, timeout=PATIENCE, **ends) for _ in range(8)]
    names = {process.stdout.readline() for process in started}
    for n, process in enumerate(started):
        process.stdin.write(b"%d\n\x04" % n)

    assert {b"/dev/pts/%d\r\n" % n for n in range(8)} == names
    assert [b"%d\r\n" % n * 2 for n in range(8)] == [process.stdout.read() for process in started]
    assert [0] * 8 == [process.wait(PATIENCE) for process in started]
    for process in started:
        process.close()
