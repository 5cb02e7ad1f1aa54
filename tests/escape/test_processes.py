"""
What a hostile program can do to processes: to those outside, to jail's own, and by being many, deaf or orphaned.
"""

import contextlib
import os
import select
import subprocess
import sys
import time

import psutil
import pytest

from escape.verdicts import Unpromised

SEEN = (
    "without a PID namespace the host's processes have numbers, and Landlock has no right for this question"
)

# On a process of the host, whose pid is the first argument: what a stranger of the same user may do, and the
# verdict where the pid can be named at all.
ACTS = {
    "kill": ("os.kill(pid, 0)", "EPERM"),
    "tgkill": ("syscall(234 if x86 else 131, pid, pid, 0)", "EPERM"),
    "tkill": ("syscall(200 if x86 else 130, pid, 0)", "EPERM"),
    "sigqueue": (
        "syscall(129 if x86 else 138, pid, signal.SIGUSR1, at(struct.pack('iii116x', 10, 0, -1)))",
        "EPERM",
    ),
    "pidfd_send_signal": ("signal.pidfd_send_signal(os.pidfd_open(pid), 0)", "EPERM"),
    "pidfd_getfd": ("syscall(438, os.pidfd_open(pid), 0, 0)", "EPERM"),
    "prlimit": ("resource.prlimit(pid, resource.RLIMIT_CPU)", "EPERM"),
    "prlimit_high_bits": ("syscall(302 if x86 else 261, pid | 1 << 32, 0, 0, at(bytes(16)))", "EPERM"),
    "setpriority": ("os.setpriority(os.PRIO_PROCESS, pid, 19)", "EPERM"),
    "setpriority_user": ("os.setpriority(os.PRIO_USER, os.getuid(), 19)", "EPERM"),
    "sched_setscheduler": ("os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))", "EPERM"),
    "sched_setparam": ("os.sched_setparam(pid, os.sched_param(0))", "EPERM"),
    "sched_setaffinity": ("os.sched_setaffinity(pid, os.sched_getaffinity(0))", "EPERM"),
    "sched_setattr": (
        "syscall(314 if x86 else 274, pid, at(struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 0, 0, 0)), 0)",
        "EPERM",
    ),
    "ioprio_set": ("syscall(251 if x86 else 30, 1, pid, 3 << 13)", "EPERM"),
    "ptrace": ("call('ptrace', 0x4206, pid, 0, 0)", "EPERM"),
    "process_vm_readv": ("call('process_vm_readv', pid, None, 0, None, 0, 0)", "EPERM"),
    "process_vm_writev": ("call('process_vm_writev', pid, None, 0, None, 0, 0)", "EPERM"),
    "process_madvise": ("syscall(440, os.pidfd_open(pid), 0, 0, 21, 0)", "EPERM"),
    "process_mrelease": ("syscall(448, os.pidfd_open(pid), 0)", "EPERM"),
    "kcmp": ("syscall(312 if x86 else 272, pid, pid, 0, 0, 0)", "EPERM"),
    "move_pages": ("syscall(279 if x86 else 239, pid, 0, 0, 0, 0, 0)", "EPERM"),
    "migrate_pages": ("syscall(256 if x86 else 238, pid, 0, 0, 0)", "EPERM"),
    "perf_event_open": ("syscall(298 if x86 else 241, at(bytes(128)), pid, -1, -1, 0)", "EPERM"),
    "get_robust_list": ("syscall(274 if x86 else 100, pid, at(bytes(8)), at(bytes(8)))", "EPERM"),
    "setpgid": ("os.setpgid(pid, pid)", "ESRCH"),
    "core_scheduling": ("call('prctl', 62, 2, pid, 0, 0)", ("EPERM", "ENODEV", "EINVAL", "ESRCH")),
    "memory": ("open(f'/proc/{pid}/mem', 'rb')", "EACCES"),
    "environment": ("open(f'/proc/{pid}/environ', 'rb')", "EACCES"),
    "descriptors": ("os.listdir(f'/proc/{pid}/fd')", "EACCES"),
    "working_directory": ("os.chdir(f'/proc/{pid}/cwd')", "EACCES"),
    "root": ("os.chdir(f'/proc/{pid}/root')", "EACCES"),
}
WITHOUT_PID = frozenset(("setpriority_user",))
DENIED_BY_NAME = frozenset((
    "pidfd_getfd", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
    "move_pages", "migrate_pages", "perf_event_open",
))  # fmt: skip


@pytest.fixture
def bystander():
    """
    A process of the same user, outside, that minds its own business.
    """
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    assert None is process.poll()
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", ACTS)
def test_processes_outside(name, tier, bystander):
    """
    Nothing can be done to a process outside: where there is a PID namespace it has no number, elsewhere it is EPERM.
    """
    act, on_landlock = ACTS[name]
    verdict = tier.attempt(
        "x86 = os.uname().machine == 'x86_64'; pid = int(sys.argv[1])\n" + act, bystander.pid
    )
    if tier.tier == "Landlock" or not isinstance(on_landlock, str):
        expected = on_landlock
    elif name in WITHOUT_PID:
        expected = "done"  # every process of the user, of those there are in the namespace
    elif "/proc/" in act:
        expected = "ENOENT"
    elif name in DENIED_BY_NAME and "pidfd_open" not in act:
        expected = "EPERM"
    else:
        expected = "ESRCH"

    assert verdict in ((expected,) if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    "name", ["kill", "tgkill", "sigqueue", "setpriority", "sched_setscheduler", "ioprio_set", "prlimit"]
)
def test_processes_outside_without_a_sandbox(name, bystander, outside):
    """
    The control: without a sandbox the same acts are done.
    """
    prelude = "x86 = os.uname().machine == 'x86_64'; pid = int(sys.argv[1])\n"
    act = "" if name == "sigqueue" else ACTS[name][0]  # that one would end it

    assert "done" == outside(prelude + act, bystander.pid)


QUESTIONS = {
    "kill": "os.kill(pid, 0)",
    "getpgid": "os.getpgid(pid)",
    "getsid": "os.getsid(pid)",
    "getpriority": "os.getpriority(os.PRIO_PROCESS, pid)",
    "sched_getaffinity": "os.sched_getaffinity(pid)",
    "pidfd_open": "os.pidfd_open(pid)",
    "stat": "os.stat(f'/proc/{pid}')",
    "list": "os.listdir(f'/proc/{pid}')",
}
ASKED = {
    "namespaces": ["ESRCH"] * 6 + ["ENOENT"] * 2,
    "privileged": ["ESRCH"] * 6 + ["ENOENT"] * 2,
    "Landlock": Unpromised(["EPERM"] + ["done"] * 6 + ["EACCES"], SEEN),
}


def test_questions_about_processes_outside(tier, bystander):
    """
    Where there is a PID namespace nobody outside can even be asked about.
    """
    asked = [tier.attempt("pid = int(sys.argv[1])\n" + q, bystander.pid) for q in QUESTIONS.values()]

    assert tier.expect(ASKED) == asked


def test_everybody(tier, bystander):
    """
    A signal to everybody reaches everybody in the sandbox, and nobody outside: not even another sandbox.
    """
    source = """
with jail.Sandbox(**policy_fields({})) as other:
    victim = attempt("print(1)", box=other)
    first = attempt("os.kill(-1, signal.SIGKILL); print('alone')")
    answer = victim, first, attempt("print(2)", box=other)
"""
    child = "c = os.fork() or os.execv('/bin/sleep', ['sleep', '1000']); os.kill(-1, signal.SIGKILL); print(os.waitpid(c, 0)[1])"

    assert [["done", "1\n"], ["done", "alone\n"], ["done", "2\n"]] == tier.ask(source)
    assert ["9"] == tier.output(child)


def test_signals_by_way_of_a_descriptor(tier):
    """
    Nor can the kernel be made to send one in the program's stead, when a descriptor it owns becomes ready.
    """
    act = """
fcntl.fcntl(1, 10, signal.SIGUSR1)  # F_SETSIG
fcntl.fcntl(1, fcntl.F_SETOWN, int(sys.argv[1]))
fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
try:
    while True: os.write(1, bytes(1 << 16))
except BlockingIOError: pass
"""
    source = """
import os, signal
hits = []
before = signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
verdict = attempt(act, os.getpid())[0]
signal.signal(signal.SIGUSR1, before)
answer = [verdict, len(hits)]
"""
    control = f"""
hits = []
signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
r, w = os.pipe(); os.dup2(w, 1); sys.argv[1] = os.getpid()
{act}
os.read(r, 1 << 20)
sys.exit(0 if hits else 1)
"""
    verdict, hits = tier.ask(source, act=act)

    assert ("done" if tier.tier == "Landlock" else "ESRCH", 0) == (verdict, hits)
    done = subprocess.run(
        [sys.executable, "-c", "import fcntl, os, signal, sys\nsys.argv.append('')\n" + control], check=False
    )
    assert 0 == done.returncode


# ---- many, deaf and orphaned ----------------------------------------------------------------------

DAEMON = """
alive, held = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(held)
        os.read(alive, 1)  # until the program that started it has ended
        for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
        WHAT
        os._exit(0)
    os._exit(0)
"""
STAYS = {
    "deaf": "os.execv('/bin/sleep', ['sleep', '1000', sys.argv[1]])",
    "stopped": "os.spawnv(os.P_NOWAIT, '/bin/sleep', ['sleep', '1000', sys.argv[1]]); os.kill(os.getpid(), signal.SIGSTOP)",
    "subreaper": "libc.prctl(36, 1, 0, 0, 0)\n        for _ in range(20):\n            if os.fork() == 0: os.setsid(); os.execv('/bin/sleep', ['sleep', '1000', sys.argv[1]])\n        signal.pause()",
    "stopping": "stop(int(sys.argv[2]))",
    "forking": "end = time.monotonic() + 20\n        while time.monotonic() < end:\n            if os.fork(): os._exit(0)\n            os.setsid()",
}
STOPPING = """
def stop(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try: os.kill(-1, signal.SIGSTOP)
        except OSError: pass
"""


def daemon(name):
    """
    A program that leaves a daemon behind and ends.
    """
    return STOPPING + DAEMON.replace("WHAT", STAYS[name])


def left(marker):
    """
    The processes that have `marker` among their arguments, but not those that sent it there.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                marker in process.cmdline()[1:]
                and process.pid != os.getpid()
                and process.status() != "zombie"
            ):
                found.append(process.pid)
    return found


def gone(marker, seconds):
    """
    Whether no process with the marker is left within a time. Only pidfds are waited for.
    """
    end = time.monotonic() + seconds
    while pids := left(marker):
        poll = select.poll()
        fds = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fds.append(os.pidfd_open(pid))
                poll.register(fds[-1], select.POLLIN)
        ready = poll.poll(max(end - time.monotonic(), 0) * 1000)
        for fd in fds:
            os.close(fd)
        if not ready and time.monotonic() >= end:
            return False
    return True


@pytest.mark.parametrize("name", STAYS)
def test_daemon_when_the_sandbox_is_closed(name, tier, tmp_path):
    """
    A daemon ends with its sandbox, be it deaf, stopped, many, a subreaper, stopping everybody else, or ever another.
    """
    source = """
with jail.Sandbox(**policy_fields({})) as box:
    answer = attempt(act, marker, 20, box=box, timeout=10)[0]
"""
    started = time.monotonic()

    assert "done" == tier.ask(source, act=daemon(name), marker=str(tmp_path))
    assert time.monotonic() - started < 10
    assert gone(str(tmp_path), 1)


@pytest.mark.parametrize("name", STAYS)
def test_daemon_when_the_harness_is_killed(name, lone, tmp_path):
    """
    So it is when the harness is killed while it waits for its next program.
    """
    source = """
import time
box = jail.Sandbox(**policy_fields({}))
attempt(act, marker, 20, box=box, timeout=10)
answer = "up"
box_kept = globals().setdefault("kept_box", box)
import builtins; builtins.kept_box = box
"""
    assert "up" == lone.ask(source, act=daemon(name), marker=str(tmp_path))
    children = [os.pidfd_open(child.pid) for child in psutil.Process(lone.pid).children(recursive=True)[:1]]
    lone.tell("attempt('time.sleep(1000)', box=__import__('builtins').kept_box, timeout=1000)")
    lone.process.kill()
    ended = [bool(select.select([fd], [], [], 5)[0]) for fd in children]
    for fd in children:
        os.close(fd)

    assert [True] == ended
    assert gone(str(tmp_path), 1)


@pytest.mark.parametrize("name", ["deaf", "stopping"])
def test_next_program_of_a_sandbox_with_a_daemon(name, lone):
    """
    What one program left behind cannot keep the harness from the next one's end, nor from its timeout.
    """
    source = """
import time
with jail.Sandbox(**policy_fields({})) as box:
    attempt(act, "x", 20, box=box, timeout=5)
    started = time.monotonic()
    verdicts = {attempt("time.sleep(1000)", box=box, timeout=0.2)[0] for _ in range(5)}
    answer = sorted(verdicts), time.monotonic() - started < 15
"""
    verdicts, in_time = lone.ask(source, act=daemon(name), seconds=30)

    assert (True, ["timed out"]) == (in_time, verdicts)


HUNTER = """
if os.fork() == 0:
    os.setsid()
    for fd in range(3): os.close(fd)
    me = os.getpid()
    while True:
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if pid > me and open(f"/proc/{pid}/comm").read() == "jail-init\\n": os.kill(pid, signal.SIGKILL)
            except OSError: pass
os._exit(0)
"""


def test_hunter_of_jails_own_processes(lone):
    """
    A program that kills whatever of jail's it finds does not get rid of anybody's timeout.
    """
    source = """
import time
with jail.Sandbox(**policy_fields({})) as box:
    attempt(act, box=box, timeout=5)
    slowest = 0.0
    for _ in range(20):
        started = time.monotonic()
        attempt("time.sleep(3)", box=box, timeout=0.2)
        slowest = max(slowest, time.monotonic() - started)
    answer = slowest < 2
"""
    if lone.tier == "Landlock":
        assert "EACCES" == lone.attempt("os.listdir('/proc')")
        return

    assert True is lone.ask(source, act=HUNTER, seconds=90)


def test_timeout_takes_everybody_along(tier, tmp_path):
    """
    When a program's time is over all that it started is killed, sessions of their own or not.
    """
    act = daemon("deaf") + "\nsignal.pause()"
    source = """
with jail.Sandbox(**policy_fields({})) as box:
    answer = attempt(act, marker, box=box, timeout=0.5)[0], seen(marker)
"""
    source = (
        "import psutil\ndef seen(m): return sum(m in p.info['cmdline'][1:] for p in psutil.process_iter(['cmdline']) if p.info['cmdline'])\n"
        + source
    )

    assert ["timed out", 0] == tier.ask(source, act=act, marker=str(tmp_path))


STORM = """
signal.alarm(15)
end = time.monotonic() + 10
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid(); signal.alarm(15); signal.pause(); os._exit(0)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        os.setsid()
        while time.monotonic() < end:
            if os.fork(): os._exit(0)
        os._exit(0)
signal.pause()
"""


COUNT = """
n = 1
try:
    while os.fork(): n += 1
    time.sleep(1000)
except BlockingIOError:
    print(n, flush=True)
os.kill(-1, signal.SIGKILL)
"""
# By the kernel as many as were said; where it does not count, who has more is ended: RLIMIT_NPROC does not bind root,
# and without a user namespace it would count the user's other processes.
PIDS = {"namespaces": "16", "privileged": "ProcessLimit", "Landlock": "ProcessLimit"}


def test_bounded_number_of_processes(tier):
    """
    There are as many processes as the policy allows, or an end of it, and the harness goes on all the while.
    """
    verdict = tier.ask(
        "v, text = attempt(act, processes=16, cgroup='none'); answer = text.strip() if v == 'done' else v",
        act=COUNT,
    )

    is_roots = os.geteuid() == 0 and tier.tier == "namespaces"
    assert (PIDS["privileged"] if is_roots else tier.expect(PIDS)) == verdict
    assert "done" == tier.attempt("for _ in range(32): os.fork() or time.sleep(1000)")


EXECUTIONS = {
    "copy": "import shutil; p = os.environ['TMPDIR'] + '/true'; shutil.copyfile('/bin/true', p); os.chmod(p, 0o755); os.execv(p, ['true'])",
    "memory": "fd = os.memfd_create('x'); os.write(fd, open('/bin/true', 'rb').read()); os.execve(fd, ['true'], {})",
    "loader": "p = {'x86_64': '/lib64/ld-linux-x86-64.so.2', 'aarch64': '/lib/ld-linux-aarch64.so.1'}; os.execv(p[os.uname().machine], ['ld', '/bin/true'])",
}


@pytest.mark.parametrize("way", EXECUTIONS)
def test_any_program_can_be_executed(way, tier):
    """
    There is no list of programs: whoever can read a file can have it executed, by one way or another.
    """
    table = dict.fromkeys(
        ("namespaces", "privileged", "Landlock"), Unpromised("done", "no policy of execution")
    )
    table["Landlock"] = "EPERM" if way == "copy" else table["Landlock"]  # chmod(2)

    assert tier.expect(table) == tier.attempt(EXECUTIONS[way])
