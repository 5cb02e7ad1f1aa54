"""
Which signals a program starts with, and what becomes of those that end it. signal(7)
"""

import signal
import subprocess
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

# Not Python, which changes dispositions before it could read them.
STATUS = ["cat", "/proc/self/status"]
FIELDS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


@pytest.fixture
def strange_harness():
    """
    A harness that blocks, ignores and handles signals.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN})
    handlers = {
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda *_: None),
    }
    assert signal.SIG_IGN == signal.getsignal(signal.SIGPIPE)  # Python does so
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def signals_of(status):
    """
    What a program's own status says of signals: pending, blocked, ignored, caught.
    """
    fields = dict(line.split(":\t", 1) for line in status.text.splitlines())
    return {name: int(fields[name], 16) for name in FIELDS}


@pytest.mark.needs("proc")
def test_defaults(strange_harness):
    """
    Every signal is unblocked and has its default action, whatever the harness blocks, ignores or handles.
    """
    outside = signals_of(jail.Output(subprocess.run(STATUS, stdout=subprocess.PIPE, check=True).stdout))
    with jail.Sandbox() as box:
        inside = [signals_of(box.run(STATUS).stdout) for _ in range(2)]

    assert outside["SigBlk"]  # the control
    assert outside["SigIgn"]
    assert [dict.fromkeys(FIELDS, 0)] * 2 == inside


def test_broken_pipe():
    """
    A program that writes to a pipe which nobody reads ends by SIGPIPE, without a word.
    """
    result = jail.run("yes | head -n 1", shell=True)

    assert (b"y\n", b"", 0) == (result.stdout, result.stderr, result.exit_code)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP, signal.SIGRTMIN]
)
def test_report_signal(number):
    """
    A signal that ends the program is its outcome, with the exit code that shells give it.
    """
    result = jail.run(f"kill -{int(number)} $$", shell=True)

    assert (jail.Signalled(int(number)), 128 + number) == (result.outcome, result.exit_code)


def test_stopped_program_times_out():
    """
    A program that stops itself is killed when its time is over.
    """
    result = jail.run("kill -STOP $$", shell=True, timeout=0.2)

    assert jail.TimedOut(0.2) == result.outcome


@pytest.mark.parametrize("victims", ["-1", "1 2"], ids=["all", "jail_init_and_first"])
def test_program_that_stops_all(victims):
    """
    One that stops everything it may signal is killed all the same, and so is what it started.
    """
    with jail.Sandbox() as box:
        result = box.run(f"sleep 1000 & kill -STOP {victims}; kill -STOP $$", shell=True, timeout=0.2)
        assert jail.TimedOut(0.2) == result.outcome
        assert 0 == box.run(["true"]).exit_code


def test_program_that_kills_all():
    """
    One that kills everything it may signal ends nothing but its own sandbox's programs.
    """
    with jail.Sandbox() as box:
        code = "import os; os.kill(-1, 9); print('alone')"
        result = box.run([sys.executable, "-I", "-S", "-c", code], timeout=20)
        assert (jail.Exited(0), b"alone\n") == (result.outcome, result.stdout)
        assert 0 == box.run(["true"]).exit_code
