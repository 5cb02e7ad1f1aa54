"""
How long a program in the background lives, who may ask for it, and what waits for it meanwhile. epoll(7), fork(2)
"""

import gc
import os
import select
import signal
import sys
import threading
import uuid
import weakref

import pytest

import jail
from jail.loop import pump

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


@pytest.fixture(autouse=True)
def _idle_pump():
    """
    When nothing runs in the background no thread waits for it, and the descriptors of that are gone.
    """
    yield
    if thread := pump.thread:
        thread.join(PATIENCE)
    assert [] == [thread.name for thread in threading.enumerate() if thread.name == "jail-pump"]


def test_outlives_its_call(box):
    """
    A program goes on when nobody holds its Process; the sandbox lists it, and finds it by its number.
    """
    number = box.popen(["cat"], stdin=jail.PIPE).id
    gc.collect()
    found = box.process(number)

    assert (None, (found,)) == (found.poll(), box.processes)
    found.stdin.close()
    assert 0 == found.wait(PATIENCE)
    assert ((), found) == (box.processes, box.process(number))


def test_processes(box):
    """
    Those that run are listed in the order of their start; one that run has started is none of them.
    """
    started = [box.popen(["sleep", "1000"]) for _ in range(3)]
    box.run(["true"])

    assert tuple(started) == box.processes
    started[1].kill()
    started[1].wait(PATIENCE)
    assert (started[0], started[2]) == box.processes
    for number in (0, started[2].id + 1, started[2].id + 100):
        with pytest.raises(KeyError):
            box.process(number)


def test_end_of_the_sandbox(eyes):
    """
    It dies with its sandbox: the outcome is Killed, wait gives 137, and nobody knows what it cost.
    """
    marker = str(uuid.uuid4())
    with jail.Sandbox() as box:
        process = box.popen("echo said; exec sleep 1000", shell=True, stdout=jail.PIPE)
        other = box.popen([*PYTHON, "import signal; signal.pause()", marker])
        assert b"said\n" == process.stdout.readline()
        assert 1 == len(eyes.named(marker))

    assert [] == eyes.named(marker)
    for ended in (process, other):
        assert (jail.Killed(), 137, 137) == (ended.outcome, ended.wait(0), ended.poll())
        assert (None, None) == (ended.usage, ended.host_pid)
        with pytest.raises(jail.JailError, match="ended with its sandbox"):
            ended.result()
    assert b"" == process.stdout.read()
    process.close()
    with pytest.raises(jail.JailError, match="closed"):
        box.popen(["true"])


def test_sandbox_that_nobody_holds(eyes):
    """
    A sandbox that is dropped without a word takes what runs in it along.
    """
    marker = str(uuid.uuid4())
    box = jail.Sandbox()
    box.popen([*PYTHON, "import signal; print(1, flush=True); signal.pause()", marker])
    assert 1 == len(eyes.named(marker))
    gone = weakref.ref(box)
    del box
    gc.collect()

    assert None is gone()
    assert [] == eyes.named(marker)


def test_killed_jail_init(box):
    """
    When jail-init is killed from outside the wait is a JailError, and no Killed by the caller.
    """
    process = box.popen(["sleep", "1000"])
    os.kill(process_of_init(process), signal.SIGKILL)

    with pytest.raises(jail.JailError):
        process.wait(PATIENCE)


def process_of_init(process):
    """
    The pid of jail-init: the parent of a program's shepherd.
    """
    pid = process.host_pid
    for _ in range(2):
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rsplit(")", 1)[1].split()[1])
    return pid


def test_chatty(box):
    """
    A program that says a megabyte to each stream, which nobody reads, ends all the same; all of it is kept.
    """
    code = "import os; [os.write(fd, bytes([fd]) * 1024) for _ in range(1024) for fd in (1, 2)]"
    process = box.popen([*PYTHON, code])

    assert 0 == process.wait(PATIENCE)
    assert (True, True) == (
        process.output()[0] == b"\1" * (1 << 20),
        process.output()[1] == b"\2" * (1 << 20),
    )


def test_short_ones(box):
    """
    One that ends before popen has returned is like any other.
    """
    assert [0] * 300 == [box.popen(["true"]).wait(PATIENCE) for _ in range(300)]


def test_many(box):
    """
    Fifty run at once, and each has its own end and its own output.
    """
    processes = [box.popen(f"echo {n}; read x; exit {n}", shell=True, stdin=jail.PIPE) for n in range(50)]
    assert tuple(processes) == box.processes
    for process in processes:
        process.stdin.close()

    assert list(range(50)) == [process.wait(PATIENCE) for process in processes]
    assert [b"%d\n" % n for n in range(50)] == [process.output()[0] for process in processes]


def test_threads(box):
    """
    Eight threads start, feed and await programs in one sandbox, and none gets what is another's.
    """
    failed, together = [], threading.Barrier(8)

    def use(thread):
        together.wait()
        for n in range(20):
            said = b"%d %d" % (thread, n)
            try:
                with box.popen("cat; exit 3", shell=True, stdin=jail.PIPE, stdout=jail.PIPE) as process:
                    got = process.communicate(said, timeout=PATIENCE)
                assert (said, b"", 3) == (*got, process.poll())
            except Exception as exc:
                failed.append(exc)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failed


def test_sink(box):
    """
    on_stdout is given each piece as it comes, without anybody waiting.
    """
    pieces, came = [], threading.Event()
    process = box.popen(
        "read x; echo out; read x",
        shell=True,
        stdin=jail.PIPE,
        on_stdout=lambda piece: (pieces.append(piece), came.set()),
    )
    process.stdin.write(b"\n")
    assert came.wait(PATIENCE)

    assert (None, [b"out\n"]) == (process.poll(), pieces)
    process.stdin.close()
    assert (1, b"") == (process.wait(PATIENCE), process.output()[0])


def test_exception_in_a_sink(box):
    """
    What a sink raises ends the program, and is raised by each wait; others go on.
    """

    def sink(piece):
        raise KeyError(piece)

    other = box.popen(["cat"], stdin=jail.PIPE)
    process = box.popen("read x; echo out; exec sleep 1000", shell=True, stdin=jail.PIPE, on_stdout=sink)
    pidfd = os.pidfd_open(process.host_pid)
    process.stdin.write(b"\n")
    for _ in range(2):
        with pytest.raises(KeyError, match="out"):
            process.wait(PATIENCE)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)

    ended = [fd for fd, _ in poll.poll(PATIENCE * 1000)]  # POLLHUP comes with it once it was waited for
    os.close(pidfd)
    assert [pidfd] == ended
    process.close()
    assert (None, b"ok\n") == (other.poll(), box.run(["echo", "ok"]).stdout)
    other.stdin.close()
    assert 0 == other.wait(PATIENCE)
