"""
What a hostile program can become: root, capable, dumped, favoured, or heir to what its harness has.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = os.geteuid() == 0
NAMES = ("namespaces", "privileged", "Landlock")

SETS = """
header = struct.pack("Ii", 0x20080522, 0)
data = ctypes.create_string_buffer(24)
check(libc.capget(header, data))
print(any(data.raw), libc.prctl(39, 0, 0, 0, 0), any(libc.prctl(47, 1, c, 0, 0) for c in range(41)))
"""


def test_no_capabilities(tier):
    """
    No capability is in any set, and no_new_privs is on.
    """
    assert ["False 1 False"] == tier.output(SETS)


def test_nothing_is_bound(tier):
    """
    Where capabilities could be dropped from the bounding set it is empty, and the securebits are locked.
    """
    act = "print([c for c in range(41) if libc.prctl(23, c, 0, 0, 0) == 1] == [], hex(libc.prctl(27, 0, 0, 0, 0)))"
    locked = ["True 0xef"]  # NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, all locked, and KEEP_CAPS_LOCKED

    assert tier.output(act) == locked or (tier.tier == "Landlock" and not ROOT)


BECOME = {
    "setuid_root": (
        "os.setuid(0)",
        {"namespaces": "EINVAL EPERM", "privileged": "done", "Landlock": "EPERM"},
    ),
    "setuid_other": (
        "os.setuid(12345)",
        {"namespaces": "EINVAL", "privileged": "EINVAL EPERM", "Landlock": "EPERM"},
    ),
    "setgid_other": (
        "os.setgid(12345)",
        {"namespaces": "EINVAL", "privileged": "EINVAL EPERM", "Landlock": "EPERM"},
    ),
    "setgroups": ("os.setgroups([])", dict.fromkeys(NAMES, "EPERM")),
    "capset": (
        "check(libc.capset(struct.pack('Ii', 0x20080522, 0), struct.pack('6I', *[1 << 21] * 6)))",
        dict.fromkeys(NAMES, "EPERM"),
    ),
    "ambient": ("call('prctl', 47, 2, 21, 0, 0)", dict.fromkeys(NAMES, "EPERM")),
    "securebits": ("call('prctl', 28, 0, 0, 0, 0)", dict.fromkeys(NAMES, "EPERM")),
    "new_privileges": ("call('prctl', 38, 0, 0, 0, 0)", dict.fromkeys(NAMES, "EINVAL")),
}


@pytest.mark.parametrize("name", BECOME)
def test_become(name, tier):
    """
    No identity and no privilege is to be had, and none of what was given up comes back.
    """
    act, table = BECOME[name]
    verdict = tier.attempt(act)
    if ROOT and tier.tier == "Landlock" and name == "setuid_root":
        assert "done" == verdict  # it is root that it was, with no capability
        return

    assert verdict in table[tier.tier].split()


def test_identity(tier):
    """
    Where there is a user namespace root is nobody inside: its programs are told that they are user 1000.
    """
    ids = tier.output("print(os.getuid(), os.geteuid(), os.getgid())")
    uid = 1000 if ROOT else os.getuid()

    assert [f"{uid} {uid} {1000 if ROOT else os.getgid()}"] == ids or tier.tier != "namespaces"


@pytest.mark.skipif(not ROOT, reason="only root can make a program that belongs to root")
def test_set_user_id_program(tier, workspace):
    """
    A program with the set-user-ID bit makes nobody its owner, in a tree that is shown as it is.
    """
    program = workspace / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    os.chown(program, 12345, 12345)
    program.chmod(0o6755)
    act = "import subprocess; print(subprocess.run([sys.argv[1], '-u'], capture_output=True, text=True).stdout.strip())"
    inside = tier.output(act, program, workspace=str(workspace))

    assert "12345" not in inside
    assert "12345\n" == subprocess.run([program, "-u"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("program", ["/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd"])
def test_set_user_id_programs_of_the_system(program, tier):
    """
    Nor do the system's own: whoever executes them stays who he is.
    """
    if not os.path.exists(program) or not os.stat(program).st_mode & stat.S_ISUID:
        pytest.skip(f"no set-user-ID {program}")
    act = """
pid = os.fork()
if pid == 0:
    fd = os.open("/dev/null", os.O_RDWR)
    for n in range(3): os.dup2(fd, n)
    os.execv(sys.argv[1], [sys.argv[1], "--help"])
os.waitpid(pid, 0)
print(os.getresuid()[0] == os.getresuid()[2])
"""
    assert ["True"] == tier.output(act, program)


# ---- dumps ----------------------------------------------------------------------------------------


def test_core_limit(tier):
    """
    The limit on core files is 1 and not 0: only 1 keeps the kernel from feeding a pipe that core_pattern names.

    Source: core(5); fs/coredump.c, "RLIMIT_CORE is set to 1"
    """
    assert ["(1, 1)"] == tier.output("print(resource.getrlimit(resource.RLIMIT_CORE))")


def test_no_dump(tier, workspace):
    """
    A program that crashes is reported by its signal, without a dump, which it would leave outside.
    """
    source = "r = run(cmd, workspace=place, workspace_access='write'); answer = r.outcome.signal, r.outcome.core_dumped"
    act = "import os, resource, sys; os.chdir(sys.argv[1]); resource.setrlimit(4, (sys.maxsize,) * 2) if sys.argv[2:] else 0; os.abort()"
    cmd = [sys.executable, "-I", "-S", "-c", act, str(workspace)]
    before = sorted(workspace.iterdir())

    assert [6, False] == tier.ask(source, cmd=cmd, place=str(workspace))
    assert before == sorted(workspace.iterdir())
    assert tier.attempt("resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))") != "done"


# ---- what is inherited ----------------------------------------------------------------------------

LIMITS = {
    "RLIMIT_CORE": 1,
    "RLIMIT_NOFILE": 100,
    "RLIMIT_FSIZE": 1 << 20,
    "RLIMIT_DATA": 1 << 30,
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_cannot_be_raised(name, tier):
    """
    A limit of the policy's is hard: a program can lower it, and cannot raise it.
    """
    fields = {"open_files": 100, "file_size": 1 << 20, "memory": 1 << 30, "cgroup": "none"}
    raise_it = f"n = resource.{name}; soft, hard = resource.getrlimit(n); print(soft == hard)\ntry: resource.setrlimit(n, (hard, hard + 1)); print('raised')\nexcept (OSError, ValueError): print('kept')"
    lower_it = f"n = resource.{name}; resource.setrlimit(n, (0, 0)) if n != resource.RLIMIT_DATA else None"

    assert ["True", "kept"] == tier.output(raise_it, **fields)
    assert "done" == tier.attempt(lower_it, **fields)


def test_file_size(tier, workspace):
    """
    A file grows to the policy's size, and its program is told by a signal; without the limit it grows on.
    """
    act = "fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); signal.signal(signal.SIGXFSZ, signal.SIG_DFL); os.pwrite(fd, b'xx', (1 << 20) - 1); os.write(fd, b'x'); os.pwrite(fd, b'x', 1 << 20)"
    fields = {"workspace": str(workspace), "workspace_access": "write"}

    assert "SIGXFSZ" == tier.attempt(act, workspace / "big", file_size=1 << 20, **fields)
    assert 1 << 20 == (workspace / "big").stat().st_size
    assert "done" == tier.attempt(act, workspace / "big", **fields)


def test_memory(tier):
    """
    A program uses as much memory as the policy allows, alone or with others, and is ended for more.
    """
    alone = "x = b'x' * (int(sys.argv[1]) << 20); time.sleep(float(sys.argv[2]))"
    shared = (
        "for _ in range(3):\n if os.fork() == 0:\n  " + alone + "; os._exit(0)\nfor _ in range(3): os.wait()"
    )
    for act, much, less in ((alone, 300, 100), (shared, 100, 40)):
        assert "OutOfMemory" == tier.attempt(act, much, 1000, memory="256M")
        assert "done" == tier.attempt(act, less, 0, memory="256M")


HARNESS_STATE = {
    "umask": ("os.umask(0)", "print(os.umask(0))", "18"),
    "ignored_signals": (
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "print(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)", "True"
    ),
    "blocked_signals": ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", "print(signal.pthread_sigmask(0, []))", "set()"),
    "personality": ("libc.personality(0x0040000)", "print(libc.personality(ctypes.c_ulong(0xFFFFFFFF)))", "0"),
    "working_directory": ("os.chdir('/usr/share')", "print(os.getcwd() == '/usr/share')", "False"),
    "death_signal": ("libc.prctl(1, 9, 0, 0, 0)", "n = ctypes.c_int(); libc.prctl(2, ctypes.byref(n), 0, 0, 0); print(n.value)", "0"),
    "environment": (
        "os.environ.update(LD_PRELOAD='x', LD_AUDIT='x', PYTHONSTARTUP='x', BASH_ENV='x', GIT_DIR='x', NODE_OPTIONS='x', SECRET='x')",
        "print(sorted(set(os.environ) & {'LD_PRELOAD', 'LD_AUDIT', 'PYTHONSTARTUP', 'BASH_ENV', 'GIT_DIR', 'NODE_OPTIONS', 'SECRET'}))",
        "[]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARNESS_STATE)
def test_state_of_the_harness(name, lone):
    """
    A program starts with a clean slate, whatever its harness did to itself.
    """
    change, act, wanted = HARNESS_STATE[name]
    source = "import ctypes, os, signal\nlibc = ctypes.CDLL(None)\n" + change + "\nanswer = attempt(act)"

    assert ["done", f"{wanted}\n"] == lone.ask(source, act=act)


FAVOURS = {
    "oom_score": (
        "fd = os.open('/proc/self/oom_score_adj', os.O_WRONLY); os.write(fd, b'-900'); os.close(fd)",
        "print(int(open('/proc/self/oom_score_adj').read()) >= 0)",
    ),
    "scheduler": (
        "os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))",
        "print(os.sched_getscheduler(0) == os.SCHED_OTHER)",
    ),
    "nice": ("os.setpriority(os.PRIO_PROCESS, 0, -10)", "print(os.getpriority(os.PRIO_PROCESS, 0) >= 0)"),
    "may_be_nicer": (
        "resource.setrlimit(resource.RLIMIT_NICE, (40, 40))",
        "print(resource.getrlimit(resource.RLIMIT_NICE) == (0, 0))",
    ),
    "may_be_real_time": (
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (9, 9))",
        "print(resource.getrlimit(resource.RLIMIT_RTPRIO) == (0, 0))",
    ),
}


@pytest.mark.skipif(not ROOT, reason="only root's harness is favoured")
@pytest.mark.parametrize("name", FAVOURS)
def test_favours_of_the_harness(name, lone):
    """
    A harness that the kernel spares or puts first, as a service manager has it, does not hand that on.
    """
    if lone.tier == "privileged":
        pytest.skip("root in a user namespace is not favoured")
    if lone.tier == "Landlock" and name == "oom_score":
        pytest.skip("no /proc to ask in; the other tiers show it")
    change, act = FAVOURS[name]
    if lone.ask("import os, resource\n" + change) in ("PermissionError", "ValueError"):
        pytest.skip("root here lacks the capability")

    assert ["done", "True\n"] == lone.ask("answer = attempt(act)", act=act)


def test_groups_of_the_harness(tier):
    """
    Supplementary groups stay: only privilege can drop them, and they are shown as nobody's. SECURITY.md says so.
    """
    count = int(tier.output("print(len(os.getgroups()))")[0])

    assert count <= max(len(os.getgroups()), 1)


ARGUMENTS = ["-rf", "--", "$(id)", ";id", "`id`", "a\nb", "|id", "&", "é", "'\""]


def test_arguments_stay_arguments(tier):
    """
    What looks like an option or a shell's syntax arrives as it was, and a NUL is refused.
    """
    source = "import json\nanswer = json.loads(run([*PYTHON, 'import json, sys; print(json.dumps(sys.argv[1:]))', *args]).stdout)"

    assert ARGUMENTS == tier.ask(source, args=ARGUMENTS)
    for fields in ({"cmd": ["echo", "a\0b"]}, {"cmd": ["echo\0"]}, {"cmd": ["true"], "cwd": "/tmp\0"}):
        assert "PolicyError" == tier.ask("answer = run(**fields)", fields=fields)
    assert "PolicyError" == tier.ask(
        "with jail.Sandbox(**policy_fields({})) as b: b.run(['true'], env={'A': 'x\\0'})"
    )
