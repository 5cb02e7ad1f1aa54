"""
The one thread that waits for all that runs in the background. epoll(7), fork(2)
"""

import os
import select
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


def pumps():
    """
    The threads that wait.
    """
    return [thread for thread in threading.enumerate() if thread.name == "jail-pump"]


def test_one_thread_while_something_runs():
    """
    There is one thread for all sandboxes while something runs in the background, and none before and after.
    """
    assert [] == pumps()
    with jail.Sandbox() as box, jail.Sandbox() as other:
        box.run(["true"])
        assert [] == pumps()
        processes = [each.popen(["cat"], stdin=jail.PIPE) for each in (box, other, box)]
        (thread,) = pumps()
        for process in processes:
            process.stdin.close()
            process.wait(PATIENCE)
        thread.join(PATIENCE)
        assert [] == pumps()
        assert 0 == box.popen(["true"]).wait(PATIENCE)  # and another where it is wanted again


def await_readable(fd):
    """
    Wait until there is something to read, or the end.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)


def reuse(box, fd):
    """
    Programs that say nothing, the last of which is read from a descriptor of this number.
    """
    silent, taken = [], []
    while (lowest := os.dup(0)) < fd:
        taken.append(lowest)
    os.close(lowest)
    while not any(fd in process._exchange.streams.readers for process in silent):
        os.close(taken.pop())
        silent.append(box.popen(["sleep", "1000"]))
    for left in taken:
        os.close(left)
    return silent


@pytest.mark.timeout(60)
def test_reused_descriptor():
    """
    A descriptor that is closed and used anew while the pump still has an event of the old one does not mislead it.
    """
    entered, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def halt(number):
        entered[number].set()
        leave[number].wait()

    def say(box, number):
        process = box.popen("read x; echo x", shell=True, stdin=jail.PIPE, on_stdout=lambda _: halt(number))
        process.stdin.write(b"\n")
        return process

    read_end, write_end = os.pipe()
    with jail.Sandbox() as box:
        try:
            first = say(box, 0)
            entered[0].wait()  # the pump stands still, and three events come together, in this order:
            brief = box.popen("exec 3<&0; cat <&3 & exit 0", shell=True, stdin=read_end)
            await_readable(brief._exchange._status.fileno())  # an end, which closes brief's descriptors,
            second = say(box, 1)
            await_readable(second._exchange._status.fileno())  # a pause, in which they get new owners,
            os.write(write_end, b"late\n")
            stale = next(iter(brief._exchange.streams.readers))
            await_readable(stale)  # and output, on a descriptor of before.
            leave[0].set()
            entered[1].wait()
            silent = reuse(box, stale)
        finally:
            for event in leave:
                event.set()

        assert 0 == box.popen(["true"]).wait(timeout=5)
        for process in (first, second, *silent):
            process.close()
            process.kill()
    os.close(read_end)
    os.close(write_end)


FORK = """
import jail, os, sys, threading
box = jail.Sandbox()
process = box.popen(["cat"], stdin=jail.PIPE, stdout=jail.PIPE)
child = os.fork()
if child == 0:
    seen = []
    for act in (lambda: box.popen(["true"]), lambda: box.run(["true"]), lambda: process.wait(1)):
        try: seen.append(repr(act()))
        except jail.JailError as exc: seen.append("belongs to another process" in str(exc))
    with jail.Sandbox() as own:  # one of its own is another thing
        seen.append(own.popen(["true"]).wait(20))
    os._exit(0 if seen == [True, True, True, 0] else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
process.stdin.write(b"mine")
print([status, process.communicate(timeout=20)[0] == b"mine" and process.wait(20)])
box.close()
"""


def test_forked_child(ask_harness):
    """
    A forked child of the harness can use neither sandbox nor process, but make its own; the parent's go on.
    """
    assert [0, 0] == ask_harness(FORK)


KILL = """
if os.fork() == 0:
    seen = []
    for act in (process.kill, process.terminate, lambda: process.signal(9)):
        try: act(); seen.append("nothing")
        except jail.JailError as exc: seen.append("belongs to another process" in str(exc))
    box.close()
    os._exit(0 if seen == [True] * 3 else 1)
status = os.waitstatus_to_exitcode(os.wait()[1])
"""


def test_forked_child_cannot_kill(ask_harness):
    """
    Nor can it signal or close what is the parent's: a JailError says why.
    """
    source = FORK.split("child =", maxsplit=1)[0] + KILL + FORK.split("child, 0)[1])")[1]

    assert [0, 0] == ask_harness(source)
