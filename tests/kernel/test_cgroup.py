"""
A sandbox in cgroups of its own. cgroup-v2.rst

These run where a cgroup v2 directory is the caller's to divide: `tests/vm` has kernels with one.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import jail
from jail.delegation import find_place, sweep

pytestmark = pytest.mark.needs("cgroup")

HOG = "a = []\nwhile True: a.append(b'x' * (1 << 20))"
TMPFS_HOG = "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"
MEMFD_HOG = "import os\nwhile True: os.write(os.memfd_create('m'), b'x' * (1 << 20))"
SHARED_HOG = (
    "import mmap\na = []\nwhile True:\n m = mmap.mmap(-1, 1 << 20)\n m.write(b'x' * (1 << 20))\n a.append(m)"
)
BOMB = "import os\nwhile True:\n  try: os.fork()\n  except OSError: break"
BURN = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


def place():
    return Path(jail.probe().cgroup.path)


@pytest.fixture(autouse=True)
def _nothing_left():
    """
    The place has no cgroup of ours before and after.
    """
    before = {path.name for path in place().iterdir() if path.is_dir()}
    yield
    assert before == {path.name for path in place().iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(HOG, id="anonymous"),
        pytest.param(TMPFS_HOG, id="tmpfs", marks=pytest.mark.needs("userns")),  # it has a /tmp of its own
        pytest.param(MEMFD_HOG, id="memfd"),
        pytest.param(SHARED_HOG, id="shared"),
    ],
)
def test_deny_memory(code):
    """
    Whatever kind of memory it is, the kernel ends the program at the limit, and the outcome says so.
    """
    result = jail.run(python(code), memory="64M", timeout=120, open_files=4096)

    assert isinstance(result.outcome, jail.OutOfMemory)
    assert 64 << 20 == result.outcome.limit_bytes
    assert 60 << 20 <= result.outcome.peak_bytes <= 65 << 20  # the kernel charges in batches
    assert 137 == result.exit_code
    assert {("memory", "cgroup v2", "kernel")} == {
        (g.name, g.mechanism, g.strength) for g in result.guarantees if g.name == "memory"
    }


def test_allow_memory_below_the_limit():
    """
    The control: what fits is left alone, and its peak is known.
    """
    result = jail.run(python("x = b'x' * (32 << 20)"), memory="64M")

    assert jail.Exited(0) == result.outcome
    assert 32 << 20 <= result.usage.memory_peak_bytes <= 64 << 20
    assert "cgroup memory.peak" == result.usage.sources["memory_peak_bytes"]


def test_report_ordinary_sigkill():
    """
    A SIGKILL that a program sends itself is no lack of memory.
    """
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

    assert jail.Signalled(signal.SIGKILL) == jail.run(python(code), memory="64M").outcome


def test_a_program_ends_whole_and_alone():
    """
    The kernel ends all that a program has started, and no other program of the sandbox.
    """
    code = f"import os\nif os.fork(): os.wait()\nelse:\n  exec({HOG!r})"
    with jail.Sandbox(memory="64M") as box:
        other = box.popen(["sleep", "1000"])
        result = box.run(python(code))

        assert isinstance(result.outcome, jail.OutOfMemory)
        assert other.poll() is None


def test_deny_memory_of_one_program():
    """
    A program with a lower limit of its own ends at that; its sandbox's others have theirs.
    """
    with jail.Sandbox(memory="256M") as box:
        less = box.run(python(HOG), memory="48M")
        control = box.run(python("x = b'x' * (100 << 20)"))

    assert 48 << 20 == less.outcome.limit_bytes
    assert jail.Exited(0) == control.outcome


def test_deny_processes():
    """
    fork(2) is EAGAIN at the limit, and the result has the event.
    """
    result = jail.run(python(BOMB), processes=20, timeout=60)

    event = next(event for event in result.events if isinstance(event, jail.ProcessLimit))
    assert 20 == event.limit
    assert 20 == event.peak
    assert () == jail.run(["true"], processes=20).events


def test_deny_processors():
    """
    Half a processor: a second of wall-clock time gives about half a second of the other, and the rest is throttled.
    """
    result = jail.run(python(BURN.format(1)), cpus=0.5)

    assert 0.3 < result.usage.cpu_seconds / result.usage.wall_seconds < 0.7
    assert result.usage.throttled_seconds > 0.2
    control = jail.run(python(BURN.format(1)))
    assert control.usage.cpu_seconds / control.usage.wall_seconds > 0.7


def test_report_usage_as_the_files_have_it():
    """
    The figures are the cgroup's own, of children that nobody waited for, too.
    """
    code = f"import os, time\nif os.fork():\n  time.sleep(1.5)\nelse:\n  exec({BURN.format(1)!r})"
    result = jail.run(python(code))

    assert result.usage.cpu_seconds > 0.7
    assert "cgroup cpu.stat" == result.usage.sources["user_seconds"]
    assert result.usage.pressure is None or result.usage.pressure.cpu_seconds >= 0


def test_report_timeline_from_the_files():
    """
    Samples are of the program's own cgroup.
    """
    result = jail.run(python("import time\nx = b'x' * (32 << 20)\ntime.sleep(1)"), timeline=0.1)

    assert len(result.timeline) > 4
    assert max(result.timeline.memory_bytes) >= 32 << 20


def test_a_program_cannot_leave(tmp_path):
    """
    Inside there is no cgroup file system to write to, and clone3(2) does not exist.
    """
    code = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall(435, 0, 0)\nprint(ctypes.get_errno())"
    result = jail.run([sys.executable, "-c", code])

    assert f"{errno.ENOSYS}\n" == result.stdout.text
    mounts = jail.run(["cat", "/proc/mounts"]).stdout.text.splitlines()
    assert set() == {line.split()[2] for line in mounts} & {"cgroup", "cgroup2"}


def test_a_dead_harness_is_swept():
    """
    What a killed harness leaves is removed by the next; what a live one has is not.
    """
    code = (
        "import jail, sys, signal\n"
        "box = jail.Sandbox(); box.__enter__()\n"
        "print(box._session.group.path, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as harness:
        path = Path(harness.stdout.readline().strip())
        sweep(os.fspath(place()))
        assert path.is_dir()
        harness.kill()
    found = jail.run(["true"]).exit_code  # jail-init may still be ending
    while path.is_dir():
        sweep(os.fspath(place()))

    assert 0 == found


def test_a_place_by_name():
    """
    A directory that is named is used, and refused in words when it is no place.
    """
    facts, _ = find_place(os.fspath(place()))
    assert os.fspath(place()) == facts.path
    with pytest.raises(jail.UnsupportedError, match="cannot be written"):
        find_place("/sys/fs/cgroup/../cgroup/nowhere")


def test_none_is_none():
    """
    Without a cgroup a watcher keeps the limit, and says that it does.
    """
    result = jail.run(["true"], memory="64M", cgroup="none")

    assert {"supervised"} == {g.strength for g in result.guarantees if g.name == "memory"}


def test_no_cgroups_are_left_after_many():
    """
    A hundred programs in one sandbox leave no directory behind while it lives.
    """
    with jail.Sandbox() as box:
        for _ in range(100):
            assert 0 == box.run(["true"]).exit_code
        programs = Path(box._session.group.path) / "programs"
        assert len([path for path in programs.iterdir() if path.is_dir()]) < 5


def test_programs_that_start_at_once_have_a_cgroup_each():
    """
    That of a program is not taken for one that is over before it has started, nor before it was read.
    """
    outcomes = []
    with jail.Sandbox() as box:

        def work():
            outcomes.extend(box.run(["true"]).outcome for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        processes = [box.popen(["true"]) for _ in range(30)]
        outcomes += [process.result().outcome for process in processes]
        sources = [process.result().usage.sources["user_seconds"] for process in processes]

    assert [jail.Exited(0)] * 150 == outcomes
    assert {"cgroup cpu.stat"} == set(sources)


def test_a_program_that_cannot_be_asked_for_leaves_nothing():
    """
    Its cgroup is made before that is known: its descriptor is closed, its directory removed by the next.
    """
    with jail.Sandbox() as box:
        for _ in range(3):
            with pytest.raises(jail.PolicyError, match="NUL"):
                box.run(["true", "a\0b"])
        box.run(["true"])
        programs = Path(box._session.group.path) / "programs"
        assert 1 == len([path for path in programs.iterdir() if path.is_dir()])


def test_json():
    """
    All of it goes into the JSON of a result.
    """
    found = json.loads(jail.run(["true"], processes=5).to_json())

    assert found["usage"]["sources"]["processes_peak"] in (
        "cgroup pids.peak",
        "what jail-init saw as it looked",
    )
