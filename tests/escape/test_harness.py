"""
What a hostile program can do to the harness that runs it, and to jail-init, which stands between them.
"""

import os
import stat
import time

import pytest

from escape.verdicts import Unpromised

# ---- through the streams --------------------------------------------------------------------------

FLOODS = {
    "stdout": "while True: os.write(1, bytes(1 << 20))",
    "stderr": "while True: os.write(2, bytes(1 << 20))",
    "both": "os.fork()\nwhile True: os.write(1, bytes(1 << 16)); os.write(2, bytes(1 << 16))",
    "large_pipe": "fcntl.fcntl(1, 1031, 1 << 20)\nwhile True: os.write(1, bytes(1 << 20))",
}
MEASURED = """
import resource, time
def high_water(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before, started = high_water(), time.monotonic()
outcome = ACT_RESULT
seconds = time.monotonic() - started
answer = outcome, high_water() - before, seconds
"""
MOST_KEPT_MIB = 64


@pytest.mark.parametrize("name", FLOODS)
def test_flood(name, lone):
    """
    Output without end costs the harness neither its memory nor the program's timeout.
    """
    source = MEASURED.replace("ACT_RESULT", "attempt(act, timeout=1)[0]")
    outcome, grown, seconds = lone.ask(source, act=FLOODS[name])

    assert "timed out" == outcome
    assert grown < MOST_KEPT_MIB
    assert seconds < 3


def test_flood_by_a_daemon(lone):
    """
    A daemon that goes on writing when its program has ended keeps the harness neither busy nor filling up.
    """
    act = """
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        fcntl.fcntl(1, 1031, 1 << 20)
        end = time.monotonic() + 20
        while time.monotonic() < end: os.write(1, bytes(1 << 16))
        os._exit(0)
time.sleep(0.3)
os._exit(0)
"""
    run_in_session = "(lambda b: (attempt(act, box=b, timeout=5)[0], b.close())[0])(jail.Sandbox(**policy_fields({})))"
    outcome, grown, seconds = lone.ask(MEASURED.replace("ACT_RESULT", run_in_session), act=act)

    assert "done" == outcome
    assert grown < MOST_KEPT_MIB
    assert seconds < 2


STOLEN = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
int main(void) {
	int back = open("/proc/self/fd/1", O_RDONLY | O_NONBLOCK);
	char taken[64];
	struct timespec nap = { 0, 200000 };
	for (int i = 0; i < 1500; i++) {
		for (int k = 0; k < 5 + i % 50; k++) {
			if (write(1, "x", 1) < 0) return 1;
			for (volatile int q = 0; q < (i * 37 + k * 11) % 3000; q++);
			if (read(back, taken, sizeof(taken)) > 64) return 2;
		}
		nanosleep(&nap, 0);
	}
	pause();
}
"""


@pytest.fixture(scope="session")
def stealer(tmp_path_factory):
    """
    A program that writes to its output and takes it back, so that the harness finds nothing where there was something.
    """
    import subprocess

    place = tmp_path_factory.mktemp("stealer")
    place.chmod(0o755)
    (place / "stealer.c").write_text(STOLEN)
    subprocess.run(["gcc", "-O1", "-o", place / "stealer", place / "stealer.c"], check=True)
    return str(place / "stealer")


@pytest.mark.program("gcc")
@pytest.mark.parametrize("turn", range(3))
def test_output_taken_back(turn, lone, stealer):
    """
    A program that takes its output back before the harness has read it cannot make it wait beyond the timeout.
    """
    del turn
    source = MEASURED.replace("ACT_RESULT", "describe(run([path], read=[path], timeout=2))")
    outcome, _, seconds = lone.ask(source, path=stealer, seconds=20)

    assert outcome in ("timed out", "exit 1")  # without /proc it cannot open the pipe again
    assert seconds < 4


STREAMS = {
    "closed": ("for fd in range(3): os.close(fd)\ntime.sleep(0.1)", "done"),
    "closed_and_stays": ("for fd in range(3): os.close(fd)\ntime.sleep(1000)", "timed out"),
    "input_unread": ("time.sleep(1000)", "timed out"),
    "input_closed": ("os.close(0); time.sleep(0.1)", "done"),
    "input_read_slowly": ("for _ in range(20): os.read(0, 1); time.sleep(0.01)", "done"),
    "output_not_blocking": ("fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK)\ntry:\n while True: os.write(1, bytes(1 << 16))\nexcept BlockingIOError: pass", "done"),
    "output_is_input": ("os.dup2(1, 0); time.sleep(0.1)", "done"),
    "smallest_pipe": ("fcntl.fcntl(1, 1031, 4096); os.write(1, bytes(1 << 20))", "done"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name, tier):
    """
    Whatever a program does with its streams, the harness has its end or its timeout.
    """
    act, verdict = STREAMS[name]
    source = """
import time
started = time.monotonic()
result = run([*PYTHON, ACT, act], input=bytes(1 << 20), timeout=1)
answer = describe(result), time.monotonic() - started < 4
"""
    assert [verdict, True] == tier.ask(source, act=act)


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL"])
def test_closed_input_and_sigpipe(handler, lone):
    """
    A program that closes its input does not kill a harness whose SIGPIPE does what it does by default.
    """
    source = f"""
import signal
signal.signal(signal.SIGPIPE, signal.{handler})
answer = describe(run([*PYTHON, ACT, "os.close(0); time.sleep(0.2)"], input=bytes(1 << 22), timeout=10))
"""
    assert "done" == lone.ask(source)


def test_all_output_arrives(tier):
    """
    The control: what a program writes before it ends is there to the last byte, with a sink or without.
    """
    act = "fcntl.fcntl(1, 1031, 1 << 20); os.write(1, bytes(1000000)); os._exit(0)"
    source = """
taken = []
kept = run([*PYTHON, ACT, act], timeout=10).stdout
run([*PYTHON, ACT, act], timeout=10, on_stdout=taken.append)
answer = len(kept), sum(map(len, taken))
"""
    assert [1000000, 1000000] == tier.ask(source, act=act)


# ---- jail-init ------------------------------------------------------------------------------------

AT_INIT = {
    "kill": "os.kill(init, signal.SIGKILL)",
    "term": "os.kill(init, signal.SIGTERM)",
    "stop": "os.kill(init, signal.SIGSTOP)",
    "segv": "os.kill(init, signal.SIGSEGV)",
    "kill_everybody": "os.kill(-1, signal.SIGKILL)",
    "queue": "for n in range(1000): libc.sigqueue(init, 34 + n % 30, 0)",
    "pidfd": "signal.pidfd_send_signal(os.pidfd_open(init), signal.SIGKILL)",
    "cpu_limit": "resource.prlimit(init, resource.RLIMIT_CPU, (0, 0))",
    "descriptor_limit": "resource.prlimit(init, resource.RLIMIT_NOFILE, (0, 0))",
    "memory_limit": "resource.prlimit(init, resource.RLIMIT_AS, (0, 0))",
    "idle": "os.sched_setscheduler(init, os.SCHED_IDLE, os.sched_param(0))",
    "nice": "os.setpriority(os.PRIO_PROCESS, init, 19)",
}
CHURN = "\nfor _ in range(2000):\n    if os.fork() == 0: os._exit(0)\n    os.wait()\n"


@pytest.mark.parametrize("name", AT_INIT)
def test_jail_init(name, tier):
    """
    Whatever a program tries on jail-init, that goes on: its own end is reported, and the next program starts.
    """
    prelude = "init = os.getppid() if sys.argv[1:] == ['parent'] else 1\ntry:\n "
    act = prelude + AT_INIT[name] + "\nexcept OSError: pass" + CHURN
    source = """
with jail.Sandbox(**policy_fields({})) as box:
    answer = [attempt(a, *args, box=box, timeout=20)[0] for a in (act, "pass") for args in (["init"], ["parent"])]
"""
    assert ["done"] * 4 == tier.ask(source, act=act)


OF_INIT = ("mem", "exe", "environ", "maps", "cwd", "root", "fd/0", "fd/3", "ns/mnt", "stack", "auxv", "pagemap", "io", "fdinfo/3")


@pytest.mark.parametrize("name", OF_INIT)
def test_files_of_jail_init(name, tier):
    """
    Nothing of jail-init can be read or written by its files in /proc.
    """
    path = f"/proc/1/{name}"

    assert tier.attempt("os.read(os.open(sys.argv[1], os.O_RDONLY), 1)", path) in ("EACCES", "ENOENT", "EPERM", "EIO")
    assert tier.attempt("os.open(sys.argv[1], os.O_WRONLY)", path) in ("EACCES", "ENOENT", "EPERM", "EROFS")
    own = tier.attempt("os.open(sys.argv[1], os.O_RDONLY)", "/proc/self/mem")
    assert ("EACCES" if tier.tier == "Landlock" else "done") == own


@pytest.mark.parametrize("act", ["call('ptrace', 0x4206, 1, 0, 0)", "call('ptrace', 16, 1, 0, 0)", "call('process_vm_readv', 1, None, 0, None, 0, 0)"])
def test_tracing_jail_init(act, tier, outside):
    """
    It cannot be traced; a child can, without a sandbox.
    """
    child = "pid = os.fork()\nif pid == 0: signal.pause()\ntry: call('ptrace', 0x4206, pid, 0, 0)\nfinally: os.kill(pid, 9)"

    assert "EPERM" == tier.attempt(act)
    assert "done" == outside(child)


def test_no_way_to_speak_for_jail_init(tier):
    """
    An event that the harness takes for jail-init's has to come over a socket that no program holds.
    """
    act = "print([fd for fd in range(3, 4096) if os.path.exists(f'/dev/fd/{fd}')] if os.path.exists('/dev/fd/0') else [])"
    forged = "for fd in range(3, 256):\n try: socket.socket(fileno=fd).send(bytes(64))\n except OSError: pass\nsys.exit(7)"

    assert ["[]"] == tier.output(act)
    assert "E2BIG" == tier.attempt(forged)  # 7, its own


def test_ten_thousand_orphans(tier):
    """
    Ten thousand orphans are reaped, and the harness hears of nothing but its program.
    """
    act = """
for _ in range(10000):
    pid = os.fork()
    if pid == 0:
        if os.fork(): os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
left = 0
while libc.wait4(-1, None, 1, None) > 0: left += 1
print(left)
"""
    zombies = "time.sleep(0); print(sum('State:\\tZ' in open(f'/proc/{p}/status').read() for p in os.listdir('/proc') if p.isdigit()))"
    assert ["0"] == tier.output(act)
    if tier.tier != "Landlock":
        source = """
with jail.Sandbox(**policy_fields({})) as box:
    answer = [attempt(a, box=box)[1] for a in (act, zombies)]
"""
        assert ["0\n", "0\n"] == tier.ask(source, act=act, zombies=zombies)


def test_many_programs_in_one_sandbox(tier):
    """
    Programs that leave a daemon each do not use up what jail-init keeps of them: the next one still starts.
    """
    source = """
daemon = "if os.fork() == 0: os.setsid(); [os.close(n) for n in range(3)]; time.sleep(60); os._exit(0)\\nos._exit(0)"
with jail.Sandbox(**policy_fields({"open_files": 64})) as box:
    answer = {attempt(daemon, box=box, timeout=20)[0] for _ in range(60)} | {attempt("pass", box=box)[0]}
answer = sorted(answer)
"""
    assert ["done"] == tier.ask(source)


# ---- what is left for the harness to clear up -----------------------------------------------------

LITTER = {
    "no_permission": "os.mkdir('d', 0o700); os.mkdir('d/e', 0o700); open('d/e/f', 'w').close(); os.umask(0o777); os.mkdir('n')",
    "no_permission_with_content": "os.mkdir('d', 0o300); os.mkdir('d/e', 0o300); open('d/e/f', 'w').close()",
    "unsearchable": "os.mkdir('d', 0)",
    "deep": "for _ in range(3000): os.mkdir('d'); os.chdir('d')",
    "long_names": "for _ in range(40): os.mkdir('d' * 255); os.chdir('d' * 255)",
    "links": "os.symlink('/etc', 'etc'); os.symlink('/', 'root'); os.symlink('loop', 'loop')",
    "special": "os.mkfifo('fifo'); s = socket.socketpair()",
    "strange_names": "os.mkdir(b'\\xff\\xfe'); open('-rf', 'w').close(); open('a\\nb', 'w').close()",
    "many": "for n in range(20000): open(str(n), 'w').close()",
}


@pytest.mark.parametrize("name", LITTER)
def test_litter(name, lone, tmp_path):
    """
    Whatever a program leaves in its home, the sandbox ends, nothing of it stays, and the next one starts.
    """
    victim = tmp_path / "cwd"
    for folder in ("d", "n", "victim"):
        (victim / folder).mkdir(parents=True)
        (victim / folder).chmod(0o755)
    source = """
import glob, os, tempfile
os.chdir(cwd)
answer = [attempt(act)[0], attempt("pass")[0], glob.glob(tempfile.gettempdir() + "/jail-*")]
"""
    act = "os.chdir(os.environ['HOME'])\n" + LITTER[name]

    assert ["done", "done", []] == lone.ask(source, act=act, cwd=str(victim), seconds=90)
    assert [0o755] * 3 == [stat.S_IMODE(folder.stat().st_mode) for folder in sorted(victim.iterdir())]


def test_swept_after_a_harness_that_was_killed(lone, tmp_path):
    """
    What a killed harness could not clear up the next one does, hostile litter and all.
    """
    source = "import builtins\nbuiltins.box = jail.Sandbox(**policy_fields({}))\nanswer = attempt(act, box=builtins.box)[0]"
    act = "os.chdir(os.environ['HOME']); os.mkdir('d', 0)\nfor _ in range(1500): os.mkdir('e'); os.chdir('e')"

    assert "done" == lone.ask(source, act=act)
    lone.process.kill()
    lone.process.wait()
    again = type(lone)(lone.tier, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")})
    try:
        assert "done" == again.attempt("pass")
    finally:
        again.end()
    assert [] == list((tmp_path / "scratch").glob("jail-*"))


TABLE_OF_COSTS = {
    "namespaces": "done",
    "privileged": "done",
    "Landlock": Unpromised("done", "SIGKILL to all at once, and no bound on how many there are"),
}


def test_end_of_a_crowd(tier):
    """
    A thousand processes, each deaf and in a session of its own, end with their sandbox, soon.
    """
    act = """
for _ in range(1000):
    if os.fork() == 0:
        os.setsid()
        for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)
os._exit(0)
"""
    started = time.monotonic()

    assert tier.expect(TABLE_OF_COSTS) == tier.attempt(act, timeout=30)
    assert time.monotonic() - started < 15


# ---- the library itself ---------------------------------------------------------------------------


def test_the_library_in_the_workspace(tier, tmp_path):
    """
    A workspace that holds the library does not let a program change what the next sandbox is made by.
    """
    import shutil
    import subprocess
    import sys

    import jail

    package = tmp_path / "checkout" / "jail"
    shutil.copytree(os.path.dirname(jail.__file__), package, symlinks=False)
    act = "import os, sys; os.close(os.open(sys.argv[1], os.O_WRONLY))"
    code = f"""
import jail, sys
for name in ("bin/jail-init", "filters/namespaces.x86_64.bpf", "__init__.py"):
    path = {str(package)!r} + "/" + name
    try: print(jail.run([sys.executable, "-I", "-S", "-c", {act!r}, path], workspace={str(tmp_path / "checkout")!r}, workspace_access="write").exit_code)
    except jail.JailError as exc: print(type(exc).__name__)
"""
    if tier.tier != "namespaces":
        return  # what is shown, and how, is decided before the tier
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "checkout")}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)

    assert ("1\n1\n1\n", "") == (ended.stdout, ended.stderr)
