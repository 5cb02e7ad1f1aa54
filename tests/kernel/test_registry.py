"""
Sandboxes that have a name: who has it, for how long, and where that is written down. flock(2)
"""

import gc
import os
import select
import subprocess
import sys
import time

import pytest

import jail
from jail.registry import Record, Registration, find, records

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

NAMED = """
import jail, os, signal, sys
box = jail.Sandbox(name="one")
print("up", flush=True)
"""
LONG = "x" * 63
# A record that no sandbox stands behind.
STRAY = Record(
    name="stray",
    harness_pid=1,
    init_pid=1,
    init_started=1,
    created_seconds=0.0,
    tier="none",
    directory="/",
    policy="",
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """
    Where the names of this test are.
    """
    monkeypatch.setenv("JAIL_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def names():
    """
    The names that are taken.
    """
    return [record.name for record in records()]


def names_left(seconds=5):
    """
    The names that are still there after this time: the end of a harness is learnt by its sandbox, and then seen.
    """
    deadline = time.monotonic() + seconds
    while (left := names()) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return left


def test_record(tmp_path):
    """
    A named sandbox is found with what is known of it; one without a name is not listed.
    """
    with (
        jail.Sandbox(name="two", workspace=tmp_path) as two,
        jail.Sandbox(name="one"),
        jail.Sandbox(),
    ):
        assert ["one", "two"] == names()
        found = find("two")

        assert (os.getpid(), two._session.init.pid) == (found.harness_pid, found.init_pid)
        assert (str(tmp_path), two.plan.tier) == (found.directory, found.tier)
        assert two.policy.to_toml() == found.policy
    assert [] == records()


def test_name_of_one_run():
    """
    A run of its own may have a name, too, and gives it back at its end.
    """
    seen = []
    jail.run("echo", name="one", on_stdout=lambda _: seen.append(names()))

    assert ([["one"]], []) == (seen, names())


@pytest.mark.parametrize("name", ["a", "0", LONG, "a.b-c_D", "A..b"])
def test_name(name):
    """
    A name is letters, digits, dots, hyphens and underscores, at most 63 of them.
    """
    with jail.Sandbox(name=name):
        assert [name] == names()


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "_a", "a/b", "../a", "a b", "a\n", "a\0", "ä", LONG + "x"]
)
def test_no_name(name, place):
    """
    Anything else is a PolicyError about the name, for whoever takes it and for whoever looks for it.
    """
    for use in (lambda: jail.Sandbox(name=name), lambda: find(name)):
        with pytest.raises(jail.PolicyError) as caught:
            use()
        assert "name" == caught.value.key
    assert [] == names() == os.listdir(place)


def test_taken():
    """
    A name that is taken is a PolicyError, and remains whose it is.
    """
    with jail.Sandbox(name="one") as box:
        with pytest.raises(jail.PolicyError, match="running"):
            jail.Sandbox(name="one")
        with jail.Sandbox(name="other"):
            assert ["one", "other"] == names()
        assert (["one"], b"hi\n") == (names(), box.run(["echo", "hi"]).stdout)


@pytest.mark.parametrize("end", ["close", "collect"])
def test_free_again(end, place):
    """
    A name is free when its sandbox was closed, or collected, and nothing is left of it.
    """
    box = jail.Sandbox(name="one")
    box.run(["true"])
    assert ["one.json", "one.sock"] == sorted(os.listdir(place))
    if end == "close":
        box.close()
    del box
    gc.collect()

    assert [] == os.listdir(place)
    with pytest.raises(jail.JailError, match="no sandbox"):
        find("one")
    with jail.Sandbox(name="one"):
        assert ["one"] == names()


def test_killed_harness(harness, place):
    """
    The name of a killed harness is free, and what it left is swept by whoever looks.
    """
    killed = harness(NAMED + "signal.pause()")
    assert "up" == killed.await_line()
    assert ["one"] == names()
    killed.kill()

    assert ["one.json", "one.sock"] == sorted(os.listdir(place))
    assert [] == names() == os.listdir(place)
    with jail.Sandbox(name="one"):
        assert ["one"] == names()


def test_killed_harness_that_nobody_swept(harness):
    """
    It is free for the next that wants it, even if nobody has looked meanwhile.
    """
    killed = harness(NAMED + "signal.pause()")
    killed.await_line()
    killed.kill()

    with jail.Sandbox(name="one"):
        assert [os.getpid()] == [record.harness_pid for record in records()]


@pytest.mark.parametrize(
    "fork",
    [
        "os.fork()",
        pytest.param("__import__('ctypes').CDLL(None).fork()", id="unknown_to_python"),
    ],
)
def test_forked_child(fork, harness):
    """
    A forked child of the harness neither keeps the name when that dies, nor takes it along when it ends itself.
    """
    read_end, write_end = os.pipe()
    source = (
        NAMED
        + f"if {fork} == 0: os.read(int(sys.argv[1]), 1); os._exit(0)\nprint('forked', flush=True); os.wait(); print('over', flush=True); signal.pause()"
    )
    first = harness(source, str(read_end), pass_fds=[read_end])
    assert ["up", "forked"] == [first.await_line(), first.await_line()]
    os.write(write_end, b"x")
    assert "over" == first.await_line()
    assert ["one"] == names()
    first.kill()
    second = harness(source, str(read_end), pass_fds=[read_end])
    assert ["up", "forked"] == [second.await_line(), second.await_line()]
    second.kill()
    left = names_left()
    os.write(write_end, b"x")
    os.close(write_end)
    os.close(read_end)

    assert [] == left


def test_ended_sandbox():
    """
    A sandbox that was ended from outside lives no more: it is not listed, although its harness has not noticed.
    """
    with jail.Sandbox(name="one") as box:
        box.run(["true"])
        subprocess.run([sys.executable, "-m", "jail", "kill", "one"], check=True)
        with pytest.raises(jail.JailError, match="from outside"):
            box.run(["true"])

        assert [] == names()


def test_names_that_are_looked_at(harness):
    """
    Whoever lists the names takes none, not even for a moment: a name that nobody has can be taken.
    """
    looking = "from jail.registry import records\nprint('up', flush=True)\nwhile True: records()"
    for one in (harness(looking), harness(looking)):
        assert "up" == one.await_line()
    for _ in range(1000):
        Registration(STRAY).close()


def test_moved_directory(place, monkeypatch):
    """
    A name is given back where it was taken, wherever names are by then.
    """
    with jail.Sandbox(name="one") as first:
        monkeypatch.setenv("JAIL_RUNTIME_DIR", f"{place}-other")
        with jail.Sandbox(name="one"):
            first.close()

            assert ["one"] == names()
            assert [] == os.listdir(place)
