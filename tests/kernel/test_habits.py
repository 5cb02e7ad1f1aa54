"""
How strange a harness may be: large, not dumpable, without descriptors, careless with its children.
"""

import os
import resource
import signal

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

TRUE = ["true"]


@pytest.mark.slow
def test_large_harness(ask_harness):
    """
    A harness that holds 4 GiB starts a sandbox, and none of its memory is in there.
    """
    code = """
import json, mmap, jail
held = mmap.mmap(-1, 4 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, 4 << 30, 4096):
    held[page] = 1
result = jail.run(["true"])
print(json.dumps([result.exit_code, result.usage.memory_peak_bytes < 64 << 20]))
"""
    assert [0, True] == ask_harness(code)


def test_undumpable_harness(ask_harness):
    """
    A harness that is not dumpable, and so owns none of its own files in /proc, starts sandboxes as any other.
    """
    code = """
import ctypes, json
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
import jail
print(jail.run(["sh", "-c", "exit 7"]).exit_code)
"""
    assert 7 == ask_harness(code)


def test_harness_without_new_privileges(ask_harness):
    """
    So does one that has set no_new_privs.
    """
    code = "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); import jail; print(jail.run(['sh', '-c', 'exit 7']).exit_code)"

    assert 7 == ask_harness(code)


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2), (1, 2)], ids=str)
def test_harness_without_standard_descriptors(closed, ask_harness):
    """
    So does one without standard input, output or error: what it opens in their place is not mistaken for them.
    """
    code = f"""
import os
out = os.dup(1)
for fd in {closed}: os.close(fd)
import jail
result = jail.run(["sh", "-c", "cat; echo out; echo err >&2; exit 7"], input="in")
os.write(out, b"%d" % (result.exit_code if (result.stdout, result.stderr) == (b"inout\\n", b"err\\n") else 99))
"""
    assert 7 == ask_harness(code)


@pytest.mark.parametrize(
    "habit",
    [
        pytest.param("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", id="ignores"),
        pytest.param("signal.signal(signal.SIGCHLD, take_all)", id="takes_all_in_a_handler"),
        pytest.param(
            "threading.Thread(target=take_all_for_good, daemon=True).start()", id="takes_all_in_a_thread"
        ),
    ],
)
def test_harness_and_its_children(habit, ask_harness):
    """
    A harness may ignore SIGCHLD, or wait for any child, jail-init among them: a run does not mind.
    """
    code = f"""
import json, os, signal, sys, threading, jail
def take_all(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
def take_all_for_good():
    while True: take_all()
sys.setswitchinterval(1e-5)
{habit}
codes = [jail.run(["sh", "-c", "exit 7"]).exit_code for _ in range(5)]
print(json.dumps(codes))
"""
    assert [7] * 5 == ask_harness(code)


def test_kill_of_what_was_reaped():
    """
    jail-init ended, and a harness that waits for any child took it: to kill it is harmless, and so is to close.
    """
    box = jail.Sandbox()
    box.run(["true"])
    init = box._session.init
    os.kill(init.pid, signal.SIGKILL)
    assert init.pid == os.waitpid(init.pid, 0)[0]
    init.kill()
    box.close()


def test_harness_with_handlers(ask_harness):
    """
    Signals that a harness handles in the middle of a run are handled, and the run goes on.
    """
    code = """
import json, signal, jail
got = []
signal.signal(signal.SIGALRM, lambda *_: got.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
codes = {jail.run(["sh", "-c", "echo x; exit 7"], input=b"x" * 200000).exit_code for _ in range(50)}
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([list(codes), len(got) > 1]))
"""
    assert [[7], True] == ask_harness(code)


def test_blocked_signals_stay_blocked():
    """
    A run leaves the signal mask of its thread as it was.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        jail.run(TRUE)
        assert before | {signal.SIGUSR1} == signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_without_descriptors(tree):
    """
    A harness that has no descriptor left gets an OSError, and all of them back.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    jail.run(TRUE)
    for room in range(24):
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + room, before[1]))
        try:
            assert 0 == jail.run(TRUE, read=[tree]).exit_code
            break
        except OSError as exc:
            assert 24 == exc.errno  # EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    else:
        pytest.fail("never enough descriptors")
    assert room > 0
