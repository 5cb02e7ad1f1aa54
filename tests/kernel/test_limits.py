"""
Limits of the whole tree, where no cgroup keeps them: each hog is ended by its limit, and only by that. proc(5)

Each limit has its control: the same program, with a limit that it does not reach.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import jail

ANONYMOUS = "a = []\nwhile True: a.append(b'x' * (1 << 20))"
TMPFS = "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"
MEMFD = "import os\nwhile True: os.write(os.memfd_create('m'), b'x' * (1 << 20))"
SHARED = (
    "import mmap\na = []\nwhile True:\n m = mmap.mmap(-1, 1 << 20)\n m.write(b'x' * (1 << 20))\n a.append(m)"
)
CHILDREN = "import os, time\nfor i in range(8):\n  if os.fork() == 0:\n    x = b'x' * (20 << 20)\n    time.sleep(1000)\nos.wait()"
FORKS = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
THREADS = "import threading, time\nwhile True:\n  try: threading.Thread(target=time.sleep, args=(1000,)).start()\n  except RuntimeError: pass"
BURN = "while True: pass"
BURN_IN_MANY = "import os\nos.fork()\nos.fork()\n" + BURN
BURN_UNWAITED = "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n  if os.fork() == 0:\n    for i in range(3000000): pass\n    os._exit(0)"
FLOOD = "import os\nwhile True: os.write(1, b'x' * 65536)"
ALLOWED_LATENESS = 0.2

# Who does the same and has nothing to do with jail: what it is late, the machine is.
WITNESS = """
import sys, threading, time
latest, due = 0.0, time.monotonic() + 0.01
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
while not over.wait(max(0, due - time.monotonic())):
    latest, due = max(latest, time.monotonic() - due), time.monotonic() + 0.01
print(latest)
"""


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


def run(code, **fields):
    return jail.run(python(code), cgroup="none", timeout=60, grace=0.1, **fields)


class Ticks(threading.Thread):
    """
    A harness that does something every 10 ms, and knows how late it was at most; beside a witness.
    """

    def __init__(self):
        super().__init__()
        self.is_over = threading.Event()
        self.latest = 0.0
        self.witness = subprocess.Popen(
            [sys.executable, "-c", WITNESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self):
        """
        Tick until it is over.
        """
        due = time.monotonic() + 0.01
        while not self.is_over.wait(max(0, due - time.monotonic())):
            self.latest = max(self.latest, time.monotonic() - due)
            due = time.monotonic() + 0.01

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()
        self.excused = float(self.witness.communicate()[0])

    @property
    def is_responsive(self):
        """
        Whether no tick was late by more than is allowed, beside twice what the witness was.
        """
        return self.latest < ALLOWED_LATENESS + 2 * self.excused


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(ANONYMOUS, id="anonymous"),
        pytest.param(TMPFS, id="tmpfs"),
        pytest.param(MEMFD, id="memfd"),
        pytest.param(SHARED, id="shared"),
        pytest.param(CHILDREN, id="children"),
    ],
)
@pytest.mark.needs("userns", "proc")
def test_deny_memory(code):
    """
    Whatever kind of memory it is, and whoever has it: the program is ended soon after its tree has more.
    """
    with Ticks() as ticks:
        result = run(code, memory="100M")

    assert isinstance(result.outcome, jail.OutOfMemory)
    assert 100 << 20 == result.outcome.limit_bytes
    assert 100 << 20 < result.outcome.peak_bytes
    assert 137 == result.exit_code
    assert ticks.is_responsive
    assert {"supervised"} == {g.strength for g in result.guarantees if g.name == "memory"}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("x = b'x' * (70 << 20)", id="anonymous"),
        pytest.param("f = open('/tmp/f', 'wb')\nfor i in range(70): f.write(b'x' * (1 << 20))", id="tmpfs"),
        # Eight that share 60 MiB have 60 MiB, and no 480.
        pytest.param(
            "import os, time\nx = b'x' * (60 << 20)\nfor i in range(8):\n  if os.fork() == 0:\n    time.sleep(0.5)\n"
            "    os._exit(0)\nfor i in range(8): os.wait()",
            id="shared_by_children",
        ),
        # So has a program while a child of its vfork(2) has yet to execute something.
        pytest.param(
            "import subprocess\nx = b'x' * (60 << 20)\nfor i in range(300): subprocess.run(['/bin/true'])",
            id="lent_by_vfork",
        ),
    ],
)
@pytest.mark.needs("userns", "proc")
def test_allow_memory(code):
    """
    The control: what fits is left alone, and what is shared is counted once.
    """
    assert jail.Exited(0) == run(code, memory="100M").outcome


def test_report_ordinary_sigkill():
    """
    A SIGKILL from inside is that, whatever limits there are.
    """
    code = "import os, signal; x = b'x' * (1 << 20); os.kill(os.getpid(), signal.SIGKILL)"

    assert jail.Signalled(signal.SIGKILL) == run(code, memory="100M", cpu_seconds=5, processes=100).outcome


@pytest.mark.needs("userns", "proc")
def test_deny_memory_to_the_largest():
    """
    Of several programs the one with most is ended, and the others go on.
    """
    with jail.Sandbox(memory="100M", cgroup="none") as box:
        small = box.popen(python("x = b'x' * (20 << 20)\nimport time; time.sleep(1000)"))
        large = box.run(python(ANONYMOUS), timeout=60)

        assert isinstance(large.outcome, jail.OutOfMemory)
        assert small.poll() is None


@pytest.mark.needs("userns", "proc")
def test_deny_memory_of_one_program():
    """
    A program's own limit is its own.
    """
    with jail.Sandbox(memory="1G", cgroup="none") as box:
        less = box.run(python(ANONYMOUS), memory="50M", timeout=60)
        control = box.run(python("x = b'x' * (80 << 20)"), timeout=60)

    assert 50 << 20 == less.outcome.limit_bytes
    assert jail.Exited(0) == control.outcome


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(BURN, id="one"),
        pytest.param(BURN_IN_MANY, id="many"),
        pytest.param(BURN_UNWAITED, id="unwaited"),
    ],
)
@pytest.mark.needs("userns", "proc")
def test_deny_processor_time(code):
    """
    A program's processor time is that of all that it starts, waited for or not.
    """
    with Ticks() as ticks:
        result = run(code, cpu_seconds=0.5)

    assert isinstance(result.outcome, jail.CpuTimeExceeded)
    assert 0.5 == result.outcome.limit_seconds
    assert 152 == result.exit_code
    assert ticks.is_responsive


def test_allow_processor_time():
    """
    The control: less than that is no matter, however long it takes.
    """
    assert jail.Exited(0) == run("import time; time.sleep(0.7)", cpu_seconds=0.5).outcome


@pytest.mark.parametrize("code", [pytest.param(FORKS, id="forks"), pytest.param(THREADS, id="threads")])
@pytest.mark.needs("userns", "proc")
def test_deny_processes(code):
    """
    A bomb meets the limit: where the kernel keeps it as an event, where jail-init does as the outcome; and the
    harness goes on meanwhile.
    """
    with Ticks() as ticks, jail.Sandbox(processes=40, cgroup="none") as box:
        result = box.run(python(code), timeout=2, grace=0.1)

    met = [result.outcome, *result.events]
    assert 40 in [limit.limit for limit in met if isinstance(limit, jail.ProcessLimit)]
    assert isinstance(result.outcome, jail.ProcessLimit if os.geteuid() == 0 else jail.TimedOut)
    assert ticks.is_responsive


def test_allow_processes():
    """
    The control: fewer are no matter.
    """
    result = run(
        "import os\nfor i in range(20):\n  if os.fork() == 0: os._exit(0)\nfor i in range(20): os.wait()",
        processes=40,
    )

    assert (jail.Exited(0), ()) == (result.outcome, result.events)


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("code", "fields", "event"),
    [
        pytest.param(TMPFS, {"disk": "16M"}, jail.DiskFull(16 << 20, 16 << 20), id="bytes"),
        pytest.param(
            "for i in range(10000): open(f'/tmp/{i}', 'w')",
            {"inodes": 500},
            jail.DiskFull(500, 500, "inodes"),
            id="inodes",
        ),
    ],
)
def test_deny_disk(code, fields, event):
    """
    A full disk is ENOSPC to the program, and an event of the result.
    """
    with Ticks() as ticks:
        result = run(code, **fields)

    assert (jail.Exited(1), (event,)) == (result.outcome, result.events)
    assert b"No space left on device" in result.stderr
    assert ticks.is_responsive
    assert () == run("open('/tmp/f', 'wb').write(b'x' * (1 << 20))", **fields).events


@pytest.mark.parametrize("surface", ["run", "popen"])
def test_deny_output(surface):
    """
    A flood is ended at the limit, of both streams together; what was said before is kept.
    """
    with Ticks() as ticks, jail.Sandbox(output="1M") as box:
        if surface == "run":
            result = box.run(python(FLOOD), timeout=60)
        else:
            result = box.popen(python(FLOOD), timeout=60).result()
        control = box.run(python("import os; os.write(1, b'x' * 500000); os.write(2, b'x' * 500000)"))

    assert jail.OutputLimit(1 << 20) == result.outcome
    assert 153 == result.exit_code
    assert 1 << 20 < result.usage.output_bytes < 2 << 20
    assert ticks.is_responsive
    assert (jail.Exited(0), 1_000_000) == (control.outcome, control.usage.output_bytes)


def test_deny_processors():
    """
    A whole number of processors is kept by affinity, which a program cannot widen.
    """
    code = (
        "import os\nprint(len(os.sched_getaffinity(0)))\n"
        "try: os.sched_setaffinity(0, range(os.cpu_count()))\nexcept PermissionError as exc: print(exc.errno)\n"
        "print(len(os.sched_getaffinity(0)))"
    )

    assert "1\n1\n1\n" == run(code, cpus=1).stdout.text
    there = len(os.sched_getaffinity(0))
    assert f"{there}\n{there}\n" == run(code).stdout.text


def test_refuse_part_of_a_processor():
    """
    A part of a processor needs a cgroup, and is not rounded.
    """
    with pytest.raises(jail.UnsupportedError, match="cpu controller"):
        run("", cpus=1.5)
    waived = run("", cpus=1.5, waive=["cpu"])
    assert ["none"] == [g.strength for g in waived.guarantees if g.name == "cpu"]


@pytest.mark.parametrize("limit", ["memory", "cpus"])
def test_refuse_a_watcher_for_the_strict(limit):
    """
    Where only the kernel will do, a limit that jail-init would keep is refused.
    """
    value = {"memory": "1G", "cpus": 0.5}[limit]
    with pytest.raises(jail.UnsupportedError):
        run("", strict=True, **{limit: value})


def test_deny_life():
    """
    At the end of its sandbox's time a program is timed out, and the sandbox gone; before it, it runs.
    """
    with jail.Sandbox(wall=0.5, grace=0.1) as box:
        assert jail.Exited(0) == box.run(["true"]).outcome
        result = box.run(["sleep", "1000"])
        assert jail.TimedOut(0.5, "wall") == result.outcome
        assert 124 == result.exit_code
        with pytest.raises(jail.JailError, match=r"wall"):
            while True:
                box.run(["true"])


def test_deny_idleness(eyes):
    """
    A sandbox in which nothing runs for so long ends; while something runs it does not.
    """
    with jail.Sandbox(idle=0.3) as box:
        assert jail.Exited(0) == box.run(["sleep", "0.6"]).outcome
        inside = eyes.pidfds_below(os.getpid())
        assert [] == eyes.survivors(inside, seconds=10)
        with pytest.raises(jail.JailError, match=r"idle"):
            box.run(["true"])
