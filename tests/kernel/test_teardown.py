"""
Nothing inside outlives its sandbox, nor its harness, however that one ends. pid_namespaces(7)
"""

import os
import signal
import uuid

import pytest

pytestmark = pytest.mark.needs("userns")

# A daemon by the book, deaf to every signal that can be ignored, and then a program that waits.
# It prints a line when all of that is up, and its arguments name it.
DAEMON = """
import os, signal, sys
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in set(range(1, 65)) - {9, 19, 32, 33}:
            signal.signal(number, signal.SIG_IGN)
        os.write(done, b"1")
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import signal; signal.sigwait([])", sys.argv[1]])
    os._exit(0)
os.read(ready, 1)
print("up", flush=True)
if sys.argv[2:] != ["and leave"]:
    signal.pause()
"""

# Where a harness is when it is killed. Each prints "here" and waits there.
HARNESS = """
import jail, os, signal, sys
marker, stage, payload = sys.argv[1:]
daemon = [sys.executable, "-I", "-S", "-c", payload, marker]
def here(*_):
    print("here", flush=True)
    signal.pause()
"""
STAGES = {
    "cloned": "jail.spawn.Init.request = here; jail.Sandbox()",  # before the plan is sent
    "told": "jail.spawn.Init.await_ready = here\nwith jail.Sandbox(): pass",
    "ready": "with jail.Sandbox(): here()",
    "running": "jail.run(daemon, on_stdout=here)",
    "between": "with jail.Sandbox() as box: box.run([*daemon, 'and leave']); here()",
    "closing": """
os.waitid = here
with jail.Sandbox() as box: box.run([*daemon, 'and leave'])
""",
}
RUNS_SOMETHING = ("running", "between")


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    """
    Where there are no mounts, the scratch directories of harnesses: what a dead one leaves, a later one sweeps.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def marker():
    """
    An argument that no other process has.
    """
    return str(uuid.uuid4())


@pytest.fixture
def stage(harness, marker):
    """
    Starts a harness and waits until it is at its stage.
    """

    def stage(name, source=HARNESS, **options):
        started = harness(source + STAGES.get(name, name), marker, name, DAEMON, **options)
        assert "here" == started.await_line()
        return started

    return stage


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.needs("userns")] * (name == "closing")) for name in STAGES]
)
def test_dead_harness(name, number, stage, marker, eyes):
    """
    When the harness is killed everything inside is gone at once, wherever the harness was.
    """
    killed = stage(name)
    inside = killed.descendants()

    assert (name in RUNS_SOMETHING) == bool(eyes.named(marker)[1:])
    assert -number == killed.kill(number)
    assert [] == eyes.survivors(inside)
    assert [] == eyes.named(marker)


def test_daemon_outlives_a_harness_without_jail(stage, marker, eyes):
    """
    The control: the same daemon, started without a sandbox, lives on when its harness is killed.
    """
    killed = stage(
        "import subprocess; subprocess.Popen(daemon, stdout=subprocess.PIPE).stdout.readline(); here()"
    )
    killed.kill()
    left = eyes.named(marker)
    pidfds = {pid: os.pidfd_open(pid) for pid in left}
    for pidfd in pidfds.values():
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    assert 2 == len(left)
    assert [] == eyes.survivors(pidfds)


@pytest.mark.parametrize(
    "ending",
    ["sys.exit(3)", "os._exit(3)", "raise RuntimeError", "os.abort()", "os.execv('/bin/false', ['false'])"],
)
def test_ending_harness(ending, harness, marker, eyes):
    """
    So it is when the harness ends by itself, without a word to the sandbox.
    """
    source = HARNESS + f"box = jail.Sandbox(); box.run([*daemon, 'and leave']); here(); {ending}"
    source = source.replace("signal.pause()\n", "sys.stdin.read()\n", 1)
    ending_one = harness(source, marker, "ending", DAEMON, stdin=-1, stderr=-1)
    ending_one.await_line()
    inside = ending_one.descendants()
    assert 1 == len(eyes.named(marker)) - 1
    ending_one.process.stdin.close()

    assert 0 != ending_one.process.wait(timeout=10)
    assert [] == eyes.survivors(inside)
    assert [] == eyes.named(marker)


FORK = """
box = jail.Sandbox()
box.run([*daemon, 'and leave'])
"""


def test_forked_child_that_ends_first(ask_harness, marker):
    """
    A forked child of the harness takes nothing along when it ends: the sandbox goes on.
    """
    source = HARNESS + FORK + "if os.fork() == 0: sys.exit(0)\nos.wait(); print(box.run(['true']).exit_code)"

    assert 0 == ask_harness(source, marker, "fork", DAEMON)


def test_forked_child_cannot_run(ask_harness, marker):
    """
    Nor can it use the sandbox: that is a JailError that says why.
    """
    source = (
        HARNESS
        + FORK
        + """
if os.fork() == 0:
    try: box.run(["true"])
    except jail.JailError as exc: os._exit(7 if "belongs to another process" in str(exc) else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    )

    assert 7 == ask_harness(source, marker, "fork", DAEMON)


@pytest.mark.parametrize(
    "fork", ["os.fork()", "ctypes.CDLL(None).fork()"], ids=["by_python", "unknown_to_python"]
)
def test_forked_child_that_lives_on(fork, stage, marker, eyes):
    """
    A forked child that outlives the harness does not keep the sandbox alive, not even if it holds the socket.
    """
    killed = stage(
        FORK + f"import ctypes\nr, w = os.pipe()\nif {fork} == 0: os.read(r, 1); os._exit(0)\nhere()"
    )
    below = killed.descendants()
    child = next(pid for pid in eyes.named(marker) if pid != killed.process.pid and is_fork(pid))
    child_fd = {child: below.pop(child)}
    killed.kill()

    assert [] == eyes.survivors(below)
    assert [child] == eyes.named(marker)
    signal.pidfd_send_signal(child_fd[child], signal.SIGKILL)
    assert [] == eyes.survivors(child_fd)


def is_fork(pid):
    """
    Whether a process is a harness: it has the stage's source among its arguments, as no daemon does.
    """
    with open(f"/proc/{pid}/cmdline") as file:
        return "import jail" in file.read()


def test_interrupt(harness, marker, eyes):
    """
    Ctrl-C during a run is a KeyboardInterrupt, after which nothing is left.
    """
    source = HARNESS + "jail.run(daemon, on_stdout=lambda _: print('here', flush=True))"
    interrupted = harness(source, marker, "interrupt", DAEMON, stderr=-1)
    interrupted.await_line()
    inside = interrupted.descendants()

    assert -signal.SIGINT == interrupted.kill(signal.SIGINT)
    assert [] == eyes.survivors(inside)
    assert [] == eyes.named(marker)
