"""
Whom a signal reaches that is sent from outside: a program, its process group, or all that descends from it. kill(2)
"""

import os
import signal
import sys
import time

import psutil
import pytest

import jail

pytestmark = pytest.mark.needs("userns", "proc")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

# A program, a child in its process group, a child in one of its own, and a daemon by the book. Each says its
# name to a pipe when it is there, and again for each SIGUSR1; all but the daemon end by SIGTERM.
FAMILY = """
import os, signal, sys
def live(name, mask=()):
    for number in mask: signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.write(1, name + b"\\n")
    while True:
        signal.sigwait({signal.SIGUSR1})
        os.write(1, name + b"\\n")
if os.fork() == 0: live(b"child")
if os.fork() == 0:
    os.setpgid(0, 0)
    live(b"group")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: live(b"daemon", {signal.SIGTERM, signal.SIGHUP})
    os._exit(0)
os.wait()
live(b"program")
"""
ALL = {b"program", b"child", b"group", b"daemon"}


@pytest.fixture
def family():
    """
    A family that is up, its sandbox, and the names it says next.
    """

    def names(count):
        return {process.stdout.readline().strip() for _ in range(count)}

    with jail.Sandbox() as box:
        process = box.popen([sys.executable, "-I", "-S", "-c", FAMILY], stdout=jail.PIPE)
        assert names(4) == ALL
        yield box, process, names
    process.close()


def relatives(process):
    """
    All that descends from a program's shepherd, as the harness sees it.
    """
    shepherd = psutil.Process(process.host_pid).parent()
    return shepherd.children(recursive=True)


def states(processes):
    """
    The states of processes, by the kernel's letter.
    """
    letters = set()
    for process in processes:
        with open(f"/proc/{process.pid}/stat") as file:
            letters.add(file.read().rsplit(")", 1)[1].split()[0])
    return letters


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("process", {b"program"}),
        ("group", {b"program", b"child"}),
        ("tree", ALL),
    ],
)
def test_scope(scope, expected, family):
    """
    A signal reaches the program alone, its process group, or also what left that, daemons included.
    """
    _, process, names = family
    process.signal(signal.SIGUSR1, scope)
    answered = names(len(expected))
    # What came first comes first: had anybody else been reached he would have answered by now, or twice.
    process.signal(signal.SIGUSR1, "tree")

    assert expected == answered
    assert names(4) == ALL


def test_scope_by_default(family):
    """
    Without a scope it is the program alone, as subprocess has it.
    """
    _, process, names = family
    process.signal(signal.SIGUSR1)

    assert {b"program"} == names(1)


def test_unknown_scope(family):
    """
    A scope that does not exist is refused and signals nobody.
    """
    _, process, names = family
    with pytest.raises((KeyError, ValueError)):
        process.signal(signal.SIGUSR1, "session")
    process.signal(signal.SIGUSR1, "tree")

    assert names(4) == ALL


def test_terminate(family, eyes):
    """
    Terminate is SIGTERM to the tree: the outcome is the signal, and who ignores it goes on.
    """
    _, process, _ = family
    pidfds = {one.pid: os.pidfd_open(one.pid) for one in relatives(process)}
    process.terminate()

    assert (143, jail.Signalled(signal.SIGTERM)) == (process.wait(PATIENCE), process.outcome)
    left = eyes.survivors(pidfds)
    assert 1 == len(left)
    assert signal.SIGTERM in ignored(left[0])


def ignored(pid):
    """
    The signals that a process ignores.
    """
    with open(f"/proc/{pid}/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn"))
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_kill(family, eyes):
    """
    Kill is SIGKILL to the tree: nobody is left, the outcome says who did it, and its sandbox goes on.
    """
    box, process, _ = family
    pidfds = {one.pid: os.pidfd_open(one.pid) for one in relatives(process)}
    process.kill()

    assert (137, jail.Killed()) == (process.wait(PATIENCE), process.outcome)
    assert (4, []) == (len(pidfds), eyes.survivors(pidfds))
    assert 0 == box.run(["true"]).exit_code


def test_kill_spares_others(family):
    """
    What other programs of the sandbox do is none of its business.
    """
    box, process, names = family
    with box.popen(["sleep", "1000"]) as other:
        other.kill()

    assert jail.Killed() == other.outcome
    process.signal(signal.SIGUSR1, "tree")
    assert names(4) == ALL


@pytest.mark.parametrize("act", ["signal", "terminate", "kill", "pause", "resume"])
def test_after_the_end(act, family):
    """
    Signals to what has ended are harmless, and change nothing of its outcome.
    """
    box, _, names = family
    process = box.popen(["true"])
    process.wait(PATIENCE)
    getattr(process, act)(*[signal.SIGKILL] * (act == "signal"))

    assert jail.Exited(0) == process.outcome
    family[1].signal(signal.SIGUSR1, "tree")
    assert names(4) == ALL


def test_pause_and_resume(family):
    """
    Pause stops all that descends from the program, and resume lets all of it go on.
    """
    _, process, names = family
    process.pause()
    deadline = time.monotonic() + PATIENCE
    # A stop on another processor is nobody's event but its parent's; so it is looked for.
    while (paused := states(relatives(process))) != {"T"} and time.monotonic() < deadline:
        os.sched_yield()
    process.signal(signal.SIGUSR1, "tree")
    process.resume()
    answered = names(4)

    assert {"T"} == paused
    assert ALL == answered
    assert states(relatives(process)) <= {"S", "R"}


@pytest.mark.parametrize("act", ["terminate", "kill"])
def test_end_of_a_paused(act, family, eyes):
    """
    What is stopped can be killed as it is; SIGTERM waits until it goes on.
    """
    _, process, _ = family
    process.pause()
    pidfds = {one.pid: os.pidfd_open(one.pid) for one in relatives(process)}
    getattr(process, act)()
    process.resume()

    assert {"terminate": 143, "kill": 137}[act] == process.wait(PATIENCE)
    assert {"terminate": 1, "kill": 0}[act] == len(eyes.survivors(pidfds))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGRTMIN])
def test_report_signal(number):
    """
    A signal sent by number is the outcome, as one from elsewhere would be: only kill is the caller's own.
    """
    with jail.Sandbox() as box, box.popen(["sleep", "1000"]) as process:
        process.signal(number)
        assert (jail.Signalled(number), 128 + number) == (
            process.wait(PATIENCE) and process.outcome,
            process.exit_code,
        )
