"""
What becomes of a program whose time is over, and of all that it started. kill(2), clock_gettime(2)
"""

import json
import os
import select
import signal
import sys
import time
import uuid

import pytest

import jail

PYTHON = (sys.executable, "-I", "-S", "-c")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

# A program, a child that has stopped itself, and a daemon that ignores what can be ignored. Argument 2 is what
# the program does with SIGTERM; then it prints a line and does argument 3.
FAMILY = """
import os, signal, sys
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    signal.pause()
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in set(range(1, 65)) - {9, 19, 32, 33}:
            signal.signal(number, signal.SIG_IGN)
        os.write(done, b"1")
        while True: signal.sigwait([])
    os._exit(0)
os.read(ready, 1)
def bye(*_):
    print("bye", flush=True)
    os._exit(3)
handler = {"die": signal.SIG_DFL, "ignore": signal.SIG_IGN, "clean up": bye}[sys.argv[2]]
signal.signal(signal.SIGTERM, handler)
print("up", flush=True)
exec(sys.argv[3])
"""
WAIT = "while True: signal.pause()"

# In a harness: runs a family to its deadline, and says what came of it; then how many of it are left.
HARNESS = """
import jail, json, os, sys, time
marker, family, handler, act, timeout, grace = sys.argv[1:]
python = [sys.executable, "-I", "-S", "-c"]
box = jail.Sandbox()
start = time.monotonic()
result = box.run([*python, family, marker, handler, act], timeout=float(timeout), grace=float(grace))
seconds = time.monotonic() - start
code = box.run(["true"]).exit_code
print(json.dumps([str(result.outcome), result.exit_code, result.stdout.text, result.stderr.text, seconds, code]))
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture
def marker():
    """
    An argument that no other process has.
    """
    return str(uuid.uuid4())


@pytest.fixture(
    params=[
        pytest.param("namespaces", marks=pytest.mark.needs("userns", "proc")),
        pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
    ]
)
def tier(request, container):
    """
    Source for a harness that has one tier or the other, and options to start it with.
    """
    return container if request.param == "landlock" else ("", {})


@pytest.fixture
def outcome_of(tier, harness, marker, eyes):
    """
    Runs a family to its deadline: the outcome, what it wrote, how long that took; and who is left of it.
    """

    def outcome_of(handler, act=WAIT, *, timeout=0.5, grace=0.3):
        source, options = tier
        running = harness(
            source + HARNESS, marker, FAMILY, handler, act, str(timeout), str(grace), stdin=-1, **options
        )
        outcome, code, out, err, seconds, again = json.loads(running.await_line())
        left = len(eyes.named(marker)) - 1  # the harness has the marker too
        running.process.stdin.close()
        assert (0, "", 0) == (running.process.wait(PATIENCE), err, again)
        assert [] == eyes.named(marker)
        return outcome, code, out, seconds, left

    return outcome_of


@pytest.mark.parametrize(
    ("handler", "said"), [("die", "up\n"), ("clean up", "up\nbye\n"), ("ignore", "up\n")]
)
def test_family(handler, said, outcome_of):
    """
    SIGTERM comes first and can be acted on, SIGKILL after the grace; nobody is left, and the outcome is one.
    """
    outcome, code, out, seconds, left = outcome_of(handler)

    assert ("timed out after 0.5 seconds (timeout)", 124, said, 0) == (outcome, code, out, left)
    assert 0.8 <= seconds < 5  # the daemon has its grace whatever the program does


@pytest.mark.parametrize("handler", ["die", "ignore"])
def test_stopped(handler, outcome_of):
    """
    A program that has stopped itself is woken to act on SIGTERM, and killed if it does not.
    """
    act = f"os.kill(os.getpid(), signal.SIGSTOP)\n{WAIT}"

    outcome, code, out, seconds, left = outcome_of(handler, act)

    assert ("timed out after 0.5 seconds (timeout)", 124, "up\n", 0) == (outcome, code, out, left)
    assert seconds < 5


def test_no_grace(outcome_of):
    """
    Without a grace SIGKILL follows at once.
    """
    outcome, code, _, seconds, left = outcome_of("ignore", grace=0)

    assert ("timed out after 0.5 seconds (timeout)", 124, 0) == (outcome, code, left)
    assert seconds < 3


def test_in_time(outcome_of):
    """
    A program that ends in time has its own outcome, and what it leaves behind goes on: stopped child and daemon.
    """
    outcome, code, out, seconds, left = outcome_of("die", "sys.exit(5)", timeout=5)

    assert ("exited with 5", 5, "up\n", 2) == (outcome, code, out, left)
    assert seconds < 4


@pytest.mark.needs("userns")
def test_daemon_beyond_the_deadline(marker, eyes):
    """
    What a program left behind that ended in time outlives the deadline too.
    """
    with jail.Sandbox() as box:
        result = box.run([*PYTHON, FAMILY, marker, "die", "sys.exit(0)"], timeout=1, grace=0.1)
        assert 0 == result.exit_code
        # jail-init has one clock for all: when a later deadline has passed, so has that one.
        assert jail.TimedOut(1.2) == box.run(["sleep", "1000"], timeout=1.2).outcome
        assert 2 == len(eyes.named(marker))


@pytest.mark.needs("userns")
def test_file_of_the_clean_up(tree):
    """
    What SIGTERM makes a program write is there.
    """
    line = f"trap 'echo saved > {tree}/saved; exit 0' TERM; echo up; sleep 1000"
    result = jail.run(["bash", "-c", line], write=[tree], timeout=0.4)

    assert (jail.TimedOut(0.4), "saved\n") == (result.outcome, (tree / "saved").read_text())


@pytest.mark.needs("userns")
def test_popen():
    """
    The deadline of a program in the background needs nobody who waits; others have their own.
    """
    with jail.Sandbox() as box:
        other = box.popen(["cat"], stdin=jail.PIPE)
        process = box.popen(["sleep", "1000"], timeout=0.3)
        pidfd = os.pidfd_open(process.host_pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        os.close(pidfd)

        assert (124, jail.TimedOut(0.3)) == (process.wait(PATIENCE), process.outcome)
        assert (None, 0) == (other.poll(), box.run(["true"], timeout=5).exit_code)
        other.stdin.close()
        assert 0 == other.wait(PATIENCE)


@pytest.mark.needs("userns")
def test_paused():
    """
    A paused program has its time run on.
    """
    with jail.Sandbox() as box:
        process = box.popen(["sleep", "1000"], timeout=0.4, grace=PATIENCE)
        process.pause()
        assert (124, jail.TimedOut(0.4)) == (process.wait(5), process.outcome)


@pytest.mark.needs("userns")
@pytest.mark.parametrize("timeout", [0, 1e-6, 1e-3])
def test_short(timeout):
    """
    However short the time is: it is over, and no grace is waited for by a program that does not need it.
    """
    with jail.Sandbox() as box:
        start = time.monotonic()
        assert jail.TimedOut(timeout) == box.run(["sleep", "1000"], timeout=timeout, grace=3).outcome
        assert time.monotonic() - start < 2


STOPPED = """
import jail, os, signal
box = jail.Sandbox()
process = box.popen(["sleep", "1000"], timeout=1)
print(process.host_pid, flush=True)
print(process.wait(), flush=True)
box.close()
"""


def test_stopped_harness(tier, harness):
    """
    The deadline is kept while the harness is stopped; it learns of it when it goes on.
    """
    source, options = tier
    stopped = harness(source + STOPPED, **options)
    pidfd = os.pidfd_open(int(stopped.await_line()))
    stopped.process.send_signal(signal.SIGSTOP)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(PATIENCE * 1000)
    os.close(pidfd)
    stopped.process.send_signal(signal.SIGCONT)

    assert ended
    assert "124" == stopped.await_line()
    assert 0 == stopped.process.wait(PATIENCE)
