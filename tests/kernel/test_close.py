"""
A sandbox that is closed, or whose time is over, leaves nothing behind. pidfd_send_signal(2)
"""

import gc
import os
import select
import signal
import sys
import uuid
import weakref

import pytest

import jail

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


@pytest.fixture
def marker():
    """
    An argument that no other process has.
    """
    return str(uuid.uuid4())


def daemon(marker, *args):
    """
    The command for `DAEMON`.
    """
    return [sys.executable, "-I", "-S", "-c", DAEMON, marker, *args]


def test_close(marker, eyes):
    """
    Closing ends a daemon that outlived its own run, and closing again changes nothing.
    """
    with jail.Sandbox() as box:
        assert b"up\n" == box.run(daemon(marker, "and leave")).stdout
        assert 1 == len(eyes.named(marker))
        box.close()
        assert [] == eyes.named(marker)
        box.close()
    with pytest.raises(jail.JailError, match="closed"):
        box.run(["true"])


def test_exception(marker, eyes):
    """
    An exception in the with statement ends everything inside and stays the exception it is.
    """
    with pytest.raises(KeyError, match="mine"), jail.Sandbox() as box:
        box.run(daemon(marker, "and leave"))
        raise KeyError("mine")

    assert [] == eyes.named(marker)


def test_exception_in_a_sink(marker, eyes):
    """
    So does one that is raised while a program runs.
    """

    def sink(piece):
        raise KeyError(piece)

    with pytest.raises(KeyError, match="up"):
        jail.run(daemon(marker), on_stdout=sink)
    assert [] == eyes.named(marker)


def test_timeout(marker, eyes):
    """
    When its time is over a program is killed with all that it started, and the outcome says so.
    """
    seen = []
    result = jail.run(
        daemon(marker), timeout=0.5, on_stdout=lambda _: seen.append(eyes.pidfds_below(os.getpid()))
    )

    assert (jail.TimedOut(0.5), 124) == (result.outcome, result.exit_code)
    assert [] == eyes.survivors(seen[0])
    assert [] == eyes.named(marker)


def test_timeout_in_a_sandbox(marker, eyes):
    """
    It is killed with all that it started, daemons too; what other runs of the sandbox have left goes on.
    """
    other = str(uuid.uuid4())
    with jail.Sandbox() as box:
        box.run(daemon(other, "and leave"))
        result = box.run(daemon(marker), timeout=0.5)

        assert jail.TimedOut(0.5) == result.outcome
        assert 1 == len(eyes.named(other))
        assert [] == eyes.survivors({pid: os.pidfd_open(pid) for pid in eyes.named(marker)})
        assert b"again\n" == box.run(["echo", "again"]).stdout


def test_end_of_a_one_shot(marker, eyes):
    """
    A run ends with its program: a daemon that holds the output open neither delays it nor stays.
    """
    result = jail.run(daemon(marker, "and leave"), timeout=30)

    assert (jail.Exited(0), b"up\n") == (result.outcome, result.stdout)
    assert [] == eyes.named(marker)


def test_garbage(marker, eyes):
    """
    A sandbox that nobody holds any more is closed.
    """
    box = jail.Sandbox()
    box.run(daemon(marker, "and leave"))
    gone = weakref.ref(box)
    del box
    gc.collect()

    assert None is gone()
    assert [] == eyes.named(marker)


def test_killed_jail_init(eyes):
    """
    When jail-init is killed from outside the run is a JailError, and the sandbox is of no more use.
    """
    with jail.Sandbox() as box:
        assert 0 == box.run(["true"]).exit_code
        signal.pidfd_send_signal(box._session.init.pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(box._session.init.pidfd, select.POLLIN)
        poll.poll()
        with pytest.raises(jail.JailError, match="ended before"):
            box.run(["true"])
