"""
From where a sandbox may be started: any thread, any loop, any worker, however large or strange the harness is.
"""

import asyncio
import multiprocessing
import os
import resource
import signal
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

TRUE = ["true"]


def exit_code(_=None):
    """
    A run, as a worker would be given it.
    """
    return jail.run(["sh", "-c", "exit 7"]).exit_code


def test_thread():
    """
    A run works from a thread that is not the main one, even with the smallest stack that Python allows.
    """
    codes = []
    before = threading.stack_size(1 << 15)
    try:
        thread = threading.Thread(target=lambda: codes.append(exit_code()))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()

    assert [7] == codes


def test_sandbox_of_an_ended_thread():
    """
    A sandbox outlives the thread that made it.
    """
    made = []
    thread = threading.Thread(target=lambda: made.append(jail.Sandbox()))
    thread.start()
    thread.join()

    with made[0] as box:
        assert 0 == box.run(TRUE).exit_code


def test_eight_threads():
    """
    Eight threads at once start sandboxes of their own, and each gets its own answer.
    """
    answers = {}

    def work(number):
        answers[number] = [jail.run(["sh", "-c", f"exit {number + i}"]).exit_code for i in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {number: [*range(number, number + 20)] for number in range(8)} == answers


def test_asyncio():
    """
    Runs in asyncio.to_thread go on side by side, beside a child that asyncio watches itself.
    """

    async def both():
        child = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
        runs = await asyncio.gather(*(asyncio.to_thread(exit_code) for _ in range(8)))
        return await child.wait(), runs

    assert (5, [7] * 8) == asyncio.run(both())


def test_forked_worker():
    """
    A worker that os.fork() made of a harness with a live sandbox has sandboxes of its own.
    """
    with jail.Sandbox() as box:
        pid = os.fork()
        if pid == 0:
            os._exit(exit_code())
        assert 7 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert 0 == box.run(TRUE).exit_code


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, ask_harness):
    """
    So do workers of multiprocessing, however they are started.
    """
    code = """
import json, multiprocessing, sys, jail
from operator import methodcaller
with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
    results = [pool.apply_async(jail.run, (["sh", "-c", "exit 7"],)) for _ in range(4)]
    print(json.dumps([result.get().exit_code for result in results]))
"""
    assert method in multiprocessing.get_all_start_methods()
    assert [7] * 4 == ask_harness(code, method)


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
        exit_code()
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


def test_thousand_runs(eyes):
    """
    A thousand runs leave descriptors, mounts, processes and temporary files as they were, and no memory behind.
    """
    jail.run(TRUE)
    before = os.listdir("/proc/self/fd")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes = {jail.run(TRUE).exit_code for _ in range(1000)}

    assert {0} == codes
    assert before == os.listdir("/proc/self/fd")
    assert {} == eyes.pidfds_below(os.getpid())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 8 << 10  # KiB


def test_thousand_runs_in_one_sandbox():
    """
    So do a thousand runs in one sandbox: jail-init holds no more afterwards than before.
    """
    with jail.Sandbox() as box:
        box.run(TRUE)
        kib, descriptors = held_by(box._init.pid)
        assert {0} == {box.run(TRUE).exit_code for _ in range(1000)}
        kib_after, descriptors_after = held_by(box._init.pid)

    assert descriptors == descriptors_after
    assert kib_after - kib < 1 << 10


def held_by(pid):
    """
    What a process holds, as far as anyone may know: KiB mapped, room for descriptors. proc_pid_status(5)
    """
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmSize"].split()[0]), int(fields["FDSize"])
