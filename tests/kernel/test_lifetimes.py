"""
However a sandbox ends, and whoever lives in it, nobody is left within a second. ptrace(2), vfork(2), credentials(7)

Daemons alone are in test_teardown.py, test_close.py and tests/escape/test_processes.py: this is everybody else, and
all together, in both tiers.
"""

import os
import select
import signal
import sys
import time
import uuid

import psutil
import pytest

PYTHON = (sys.executable, "-I", "-S", "-c")
SECONDS = 30.0

# Starts one of each kind, and waits. The last two arguments of each are the marker and its kind.
HOUSE = r"""
import os, signal, sys
marker, kinds = sys.argv[1], sys.argv[3:]
def deaf():
    for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
def daemon():
    deaf()
    os.setsid()
    if os.fork(): os._exit(0)
def start(kind, code, before=lambda: None):
    if os.fork() == 0:
        before()
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, marker, kind])
WAIT = "import signal; signal.sigwait([])"
TRACER = '''
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
def ptrace(*args):
    if libc.ptrace(*args) == -1: raise OSError(ctypes.get_errno(), "ptrace")
traced = os.fork()
if not traced:
    ptrace(0, 0, 0, 0)  # PTRACE_TRACEME: from now on execve(2) stops it
    os.execv(sys.executable, [*sys.orig_argv[:4], "import signal; signal.sigwait([])", sys.argv[1], "traced"])
os.waitpid(traced, 0)
ptrace(0x4200, traced, 0, 0x40)  # PTRACE_SETOPTIONS, PTRACE_O_TRACEEXIT: it stops again when it is killed
signal.sigwait([])
'''
start("daemon", WAIT, daemon)
start("deaf", WAIT, deaf)
start("stopped", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
start("tracer", TRACER, deaf)
# The child is there and never executes anything, so that its parent is not woken. Both have these arguments.
start("vfork", "import ctypes, signal; ctypes.CDLL(None).vfork(); signal.sigwait([])", deaf)
if kinds != ["and leave"]: print("up", flush=True)
signal.sigwait([])
"""

WAIT = "import signal; print('up', flush=True); signal.sigwait([])"
LEAVE = (
    "import os, signal; os.fork() and os._exit(0); os.setsid(); os.close(1); os.close(2); signal.sigwait([])"
)

# Those who live in the sandbox, and how they wait where that is not the usual sleep.
IN_THE_HOUSE = {
    "house": ["sleeping"],
    "daemon": ["sleeping"],
    "deaf": ["sleeping"],
    "stopped": ["stopped"],
    "tracer": ["sleeping"],
    "traced": ["tracing-stop"],
    "vfork": ["disk-sleep", "sleeping"],
}
EVERYBODY = IN_THE_HOUSE | {name: ["sleeping"] for name in ("background", "terminal", "left")}

# Reads the marker, so as not to have it among its arguments; says when all are there, and when it is told so
# ends what it can.
HARNESS = r"""
import asyncio, gc, jail, jail.aio, os, signal, sys, threading
tier, house, wait, leave = sys.argv[1:]
python = [sys.executable, "-I", "-S", "-c"]
marker = sys.stdin.readline().strip()
background = (
    ([*python, house, marker, "house"], {"stdout": jail.PIPE}),
    ([*python, wait, marker, "background"], {"stdin": jail.PIPE, "stdout": jail.PIPE, "stderr": jail.PIPE}),
    ([*python, wait, marker, "terminal"], {"stdin": jail.PIPE, "stdout": jail.PIPE, "pty": True}),
)
left = [*python, leave, marker, "left"]
def furnish(box):
    assert (box.plan.tier.value == "Landlock") == (tier == "Landlock")
    for command, streams in background:
        process = box.popen(command, **streams)
        assert process.stdout.readline().strip() == b"up"
        yield process
    assert box.run(left).ok
async def furnish_aio(box):
    assert (box.plan.tier.value == "Landlock") == (tier == "Landlock")
    processes = [await box.popen(command, **streams) for command, streams in background]
    for process in processes:
        assert (await process.stdout.readline()).strip() == b"up"
    assert (await box.run(left)).ok
    return processes
def here(what="here"):
    print(what, flush=True)
    sys.stdin.readline()
"""
MAKE = "box = jail.Sandbox(allow_syscalls=['ptrace'])\nprocesses = list(furnish(box))\nhere()\n"
WITHOUT_JAIL = r"""
import subprocess
command = [*python, house, marker, "house"]
process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
assert process.stdout.readline().strip() == b"up"
here()
"""

# How the sandbox ends while its harness lives, and no exit is what ended it.
ENDINGS = {
    "close": MAKE + "box.close()",
    "close_by_another_thread": MAKE
    + "thread = threading.Thread(target=box.close); thread.start(); thread.join()",
    "exception": """
try:
    with jail.Sandbox(allow_syscalls=['ptrace']) as box:
        processes = list(furnish(box))
        here()
        raise KeyError
except KeyError: pass
""",
    "exception_through_all": """
try:
    with jail.Sandbox(allow_syscalls=['ptrace']) as box:
        first, second, third = furnish(box)
        with first, second, third:
            here()
            raise KeyError
except KeyError: pass
""",
    "garbage": MAKE + "del box, processes; gc.collect()",
    "aio_exception": """
async def main():
    async with jail.aio.Sandbox(allow_syscalls=['ptrace']) as box:
        processes = await furnish_aio(box)
        here()
        raise KeyError
try: asyncio.run(main())
except KeyError: pass
""",
    "aio_cancelled": """
async def main():
    async with jail.aio.Sandbox(allow_syscalls=['ptrace']) as box:
        processes = await furnish_aio(box)
        here()
        asyncio.current_task().cancel()
        await box.run(['sleep', '1000'])
try: asyncio.run(main())
except asyncio.CancelledError: pass
""",
    "aio_end_of_the_loop": """
async def main():
    box = jail.aio.Sandbox(allow_syscalls=['ptrace'])
    processes = await furnish_aio(box)
    here()
asyncio.run(main())
gc.collect()
""",
}

# How the harness ends, and with which status.
EXITS = {
    "sys_exit": ("sys.exit(3)", 3),
    "os__exit": ("os._exit(3)", 3),
    "sys_exit_with_a_child": ("sys.exit(3)", 3),
    "os__exit_with_a_child": ("os._exit(3)", 3),
}
FORK = """
child = os.fork()
if child == 0:
    signal.sigwait([])
here(child)
"""

TIERS = [
    pytest.param("namespaces", marks=pytest.mark.needs("userns", "libseccomp")),
    pytest.param("Landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
]


class Occupied:
    """
    A harness with a sandbox in which everybody lives.
    """

    def __init__(self, started, marker, eyes, expected):
        self.started = started
        self.marker = marker
        started.process.stdin.write(f"{marker}\n")
        started.process.stdin.flush()
        started.await_line()
        deadline = time.monotonic() + SECONDS
        while expected != self.inside():
            assert time.monotonic() < deadline, self.inside()
        self.pidfds = eyes.pidfds_below(started.process.pid)

    def inside(self):
        """
        Who is there with the marker, by kind, and how they wait.
        """
        found = {}
        for process in psutil.process_iter():
            try:
                *_, marker, kind = ["", "", *process.cmdline()]
                if marker == self.marker:
                    found.setdefault(kind, []).append(process.status())
            except psutil.Error:
                continue
        return {kind: sorted(found[kind]) for kind in sorted(found)}

    def go_on(self):
        """
        Have the harness do what comes next.
        """
        self.started.process.stdin.write("\n")
        self.started.process.stdin.flush()


@pytest.fixture(params=TIERS)
def occupied(request, harness, container, eyes):
    """
    Starts a harness, and a sandbox in it, and waits until everybody is there.
    """
    contained, options = container

    def occupied(source, expected=EVERYBODY):
        source = HARNESS + source
        if request.param == "Landlock":
            source = contained + source
        started = harness(source, request.param, HOUSE, WAIT, LEAVE, stdin=-1, **options)
        return Occupied(started, str(uuid.uuid4()), eyes, {kind: expected[kind] for kind in sorted(expected)})

    return occupied


@pytest.mark.parametrize("name", ENDINGS)
def test_end_of_the_sandbox(name, occupied, eyes):
    """
    When the sandbox ends all inside have ended, whatever they were doing; the harness lives on.
    """
    one = occupied(ENDINGS[name] + "\nhere('ended')")
    one.go_on()

    assert "ended" == one.started.await_line()
    assert {} == one.inside()
    assert [] == eyes.survivors(one.pidfds)
    assert None is one.started.process.poll()
    one.go_on()
    assert 0 == one.started.process.wait(timeout=10)


@pytest.mark.parametrize("name", EXITS)
def test_end_of_the_harness(name, occupied, eyes):
    """
    So it is when the harness ends, with the sandbox as it is; and when it leaves a forked child behind.
    """
    code, status = EXITS[name]
    has_child = name.endswith("_with_a_child")
    one = occupied(MAKE + (FORK if has_child else "") + code)
    one.go_on()
    child = forked(one) if has_child else {}
    if has_child:
        one.go_on()

    assert status == one.started.process.wait(timeout=10)
    assert [] == eyes.survivors(one.pidfds)
    assert {} == one.inside()
    end(child, eyes)


@pytest.mark.parametrize("with_a_child", [False, True], ids=["alone", "with_a_child"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killed_harness(number, with_a_child, occupied, eyes):
    """
    So it is when the harness is killed; and when a forked child of it lives on.
    """
    one = occupied(MAKE + (FORK if with_a_child else ""))
    child = {}
    if with_a_child:
        one.go_on()
        child = forked(one)

    assert -number == one.started.kill(number)
    assert [] == eyes.survivors(one.pidfds)
    assert {} == one.inside()
    end(child, eyes)


def test_end_of_a_forked_child(occupied, eyes):
    """
    A forked child that ends, by exit or by a signal, takes nobody along.
    """
    ending = """
for end in (lambda: sys.exit(0), lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGTERM)):
    if (child := os.fork()) == 0: end()
    os.waitpid(child, 0)
"""
    one = occupied(MAKE + ending + "here('ended'); box.close()")
    one.go_on()

    assert "ended" == one.started.await_line()
    assert {kind: EVERYBODY[kind] for kind in sorted(EVERYBODY)} == one.inside()
    one.go_on()
    assert 0 == one.started.process.wait(timeout=10)
    assert [] == eyes.survivors(one.pidfds)


@pytest.mark.parametrize("occupied", TIERS[:1], indirect=True)
def test_without_a_sandbox(occupied, eyes):
    """
    The control: without a sandbox they all live on when their harness is killed.
    """
    one = occupied(WITHOUT_JAIL, IN_THE_HOUSE)
    one.started.kill()
    left = one.inside()
    pidfds = {pid: os.pidfd_open(pid) for pid in eyes.named(one.marker)}  # a daemon is below nobody
    for pidfd in pidfds.values():
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    assert {kind: IN_THE_HOUSE[kind] for kind in sorted(IN_THE_HOUSE)} == left
    assert [[], []] == [eyes.survivors(pidfds), eyes.survivors(one.pidfds)]
    assert {} == one.inside()


def forked(one):
    """
    A pidfd for the harness's forked child, which lives.
    """
    pid = int(one.started.await_line())
    return {pid: os.pidfd_open(pid)}


def end(child, eyes):
    """
    The forked child has outlived all: end it.
    """
    for pid, pidfd in child.items():
        assert [] == select.select([pidfd], [], [], 0)[0], f"the forked child {pid} has ended"
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert [] == eyes.survivors(child)
