"""
From where a sandbox may be started: any thread, any loop, any worker, however large or strange the harness is.
"""

import asyncio
import multiprocessing
import os
import resource
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
        kib, descriptors = held_by(box._session.init.pid)
        assert {0} == {box.run(TRUE).exit_code for _ in range(1000)}
        kib_after, descriptors_after = held_by(box._session.init.pid)

    assert descriptors == descriptors_after
    assert kib_after - kib < 1 << 10


def held_by(pid):
    """
    What a process holds, as far as anyone may know: KiB mapped, room for descriptors. proc_pid_status(5)
    """
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmSize"].split()[0]), int(fields["FDSize"])
