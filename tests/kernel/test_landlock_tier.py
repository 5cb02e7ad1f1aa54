"""
What is kept, and what is refused, where no namespace is to be had: Landlock, seccomp and a subreaper. landlock(7)
"""

import errno
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("landlock_abi_6", "libseccomp")

# Prints what a payload did under some rules, or the UnsupportedError that was raised instead.
RUN = """
import json, jail, os, sys
payload, rules, args = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
try:
    result = jail.run([sys.executable, "-I", "-S", "-c", payload, *args], **rules)
except jail.UnsupportedError as exc:
    print(json.dumps({"feature": exc.feature, "needs": exc.needs, "found": exc.found, "cure": exc.cure or ""}))
else:
    strengths = {g.name: g.strength for g in result.guarantees}
    print(json.dumps({"code": result.exit_code, "out": result.stdout.text, "err": result.stderr.text, **strengths}))
"""

ATTEMPT = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
def call(name, *args):
    result = getattr(libc, name)(*args)
    if result == -1: raise OSError(ctypes.get_errno(), name)
    return result
try: exec(sys.argv.pop(1))
except OSError as exc: sys.exit(exc.errno)
"""


@pytest.fixture
def asked(ask_harness, container):
    """
    Runs a payload in a container under some rules and gives all that came of it.
    """
    source, options = container

    def asked(payload, *args, **rules):
        return ask_harness(source + RUN, payload, json.dumps(rules, default=os.fspath), *args, **options)

    return asked


@pytest.fixture
def attempted(asked):
    """
    The same, but gives the errno that a line of Python ended with, or 0.
    """

    def attempted(code, *args, **rules):
        seen = asked(ATTEMPT, code, *args, **rules)
        assert "" == seen["err"]
        return seen["code"]

    return attempted


@pytest.mark.parametrize(
    ("code", "in_write", "in_read"),
    [
        pytest.param("open(sys.argv[1] + '/f').read()", 0, 0, id="read"),
        pytest.param("os.listdir(sys.argv[1])", 0, 0, id="list"),
        pytest.param("open(sys.argv[1] + '/f', 'r+')", 0, errno.EACCES, id="write"),
        pytest.param("os.truncate(sys.argv[1] + '/f', 0)", 0, errno.EACCES, id="truncate"),
        pytest.param("open(sys.argv[1] + '/new', 'w')", 0, errno.EACCES, id="create"),
        pytest.param("os.mkdir(sys.argv[1] + '/new')", 0, errno.EACCES, id="mkdir"),
        pytest.param("os.unlink(sys.argv[1] + '/f')", 0, errno.EACCES, id="unlink"),
        pytest.param("os.rename(sys.argv[1] + '/f', sys.argv[1] + '/d/g')", 0, errno.EACCES, id="rename"),
        pytest.param("os.link(sys.argv[1] + '/f', sys.argv[1] + '/d/g')", 0, errno.EACCES, id="link"),
        pytest.param("os.symlink('f', sys.argv[1] + '/new')", 0, errno.EACCES, id="symlink"),
        pytest.param("os.chmod(sys.argv[1] + '/f', 0o600)", errno.EPERM, errno.EPERM, id="chmod"),
        pytest.param("os.utime(sys.argv[1] + '/f')", errno.EPERM, errno.EPERM, id="utime"),
        pytest.param(
            "os.setxattr(sys.argv[1] + '/f', 'user.x', b'1')", errno.EPERM, errno.EPERM, id="setxattr"
        ),
    ],
)
def test_files(code, in_write, in_read, tree, attempted):
    """
    A read tree can be read, a write tree written, and anything else is EACCES; metadata nowhere.
    """
    assert in_read == attempted(code, str(tree), read=[tree])
    assert in_write == attempted(code, str(tree), write=[tree])


def test_outside_of_rules(tree, attempted):
    """
    What no rule names is there and cannot be opened: EACCES.
    """
    assert errno.EACCES == attempted("open(sys.argv[1] + '/f')", str(tree))
    assert errno.EACCES == attempted("open('/proc/self/status')")
    assert errno.EACCES == attempted("os.listdir('/')")


def test_hidden(tree, attempted):
    """
    A denied path in a read tree cannot be opened, and its neighbours can.
    """
    (tree / "d/e").mkdir()
    rules = {"read": [tree], "deny": [tree / "d/f"]}

    assert errno.EACCES == attempted("open(sys.argv[1] + '/d/f')", str(tree), **rules)
    assert 0 == attempted("open(sys.argv[1] + '/f'); os.listdir(sys.argv[1] + '/d/e')", str(tree), **rules)


@pytest.mark.needs("userns")  # so that the container is what refuses them
@pytest.mark.parametrize(
    ("rules", "feature", "needs"),
    [
        pytest.param(
            {"write": ["{}"], "deny": ["{}/f"]}, "filesystem.read", "namespace", id="refuse_deny_in_write"
        ),
        pytest.param(
            {"write": ["{}"], "read": ["{}/d"]}, "filesystem.write", "namespace", id="refuse_read_in_write"
        ),
        pytest.param({"disk": "1M"}, "disk", "tmpfs", id="refuse_disk"),
    ],
)
def test_refuse(rules, feature, needs, tree, asked):
    """
    What cannot be kept is an UnsupportedError that says what it is, what it needs, and what would help.
    """
    rules = {k: [text.format(tree) for text in v] if isinstance(v, list) else v for k, v in rules.items()}
    refused = asked("pass", **rules)

    assert feature == refused["feature"]
    assert needs in refused["needs"]
    assert "EPERM" in refused["found"]
    assert "seccomp=unconfined" in refused["cure"]
    assert f'waive=["{feature}"]' in refused["cure"]


@pytest.mark.parametrize(
    ("rules", "feature"),
    [
        pytest.param({"processes": 10, "strict": True}, "pids", id="refuse_processes"),
        pytest.param({"memory": "1G", "strict": True}, "memory", id="refuse_memory"),
        pytest.param({"cpus": 0.5}, "cpu", id="refuse_part_of_a_processor"),
    ],
)
def test_refuse_to_watch(rules, feature, asked):
    """
    Where the kernel alone will do, what only jail-init could keep is one too: it names the controller.
    """
    refused = asked("pass", cgroup="none", **rules)

    assert feature == refused["feature"]
    assert "cgroup" in refused["needs"]
    assert f'waive=["{feature}"]' in refused["cure"]


@pytest.mark.parametrize(
    ("rules", "feature"),
    [({"processes": 100}, "pids"), ({"memory": "1G"}, "memory"), ({"cpu_seconds": 9}, "time")],
)
def test_watched(rules, feature, asked):
    """
    The control: everybody else has jail-init keep it.
    """
    seen = asked("print(6 * 7)", cgroup="none", **rules)

    assert (0, "42\n", "supervised") == (seen["code"], seen["out"], seen[feature])


def test_refuse_uid(asked):
    """
    Nor is another uid than the caller's to be had, and the caller is told.
    """
    assert "namespace" in asked("pass", uid=4711)["needs"]


@pytest.mark.parametrize(
    ("rules", "feature"),
    [
        ({"processes": 10, "strict": True, "cgroup": "none"}, "pids"),
        ({"disk": "1M"}, "disk"),
        ({}, "filesystem.metadata"),
        ({}, "processes"),
    ],
)
def test_waive(rules, feature, asked):
    """
    What is waived is gone without, and the result says so: strength none.
    """
    seen = asked("print(6 * 7)", waive=[feature], **rules)

    assert (0, "42\n", "none") == (seen["code"], seen["out"], seen[feature])


def test_kept(asked):
    """
    Every other guarantee is kept by the kernel, but for teardown, which jail-init sees to.
    """
    seen = asked("pass")
    strengths = {name: strength for name, strength in seen.items() if name not in ("code", "out", "err")}

    assert "supervised" == strengths.pop("teardown")
    assert {"kernel"} == set(strengths.values())
    assert {"filesystem.read", "filesystem.metadata", "network", "processes", "ipc", "privileges"} <= set(
        strengths
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("os.kill(os.getpid(), 0)", 0, id="allow_signal_itself"),
        pytest.param("os.kill(int(sys.argv[1]), 0)", errno.EPERM, id="deny_signal_harness"),
        pytest.param("os.kill(os.getppid(), 9)", errno.EPERM, id="deny_signal_parent"),
        pytest.param("call('ptrace', 16, int(sys.argv[1]), 0, 0)", errno.EPERM, id="deny_ptrace"),
        pytest.param(
            "call('prlimit', int(sys.argv[1]), 7, None, (ctypes.c_ulong * 2)())",
            errno.EPERM,
            id="deny_prlimit",
        ),
        pytest.param("call('prlimit', 0, 7, None, (ctypes.c_ulong * 2)())", 0, id="allow_prlimit_itself"),
        pytest.param("open(f'/proc/{sys.argv[1]}/environ')", errno.EACCES, id="deny_proc"),
        pytest.param("socket.socket()", errno.EPERM, id="deny_socket"),
        pytest.param("socket.socket(socket.AF_UNIX)", errno.EPERM, id="deny_unix_socket"),
        pytest.param("socket.socketpair()", 0, id="allow_socketpair"),
        pytest.param("call('shmget', 4711, 4096, 0o1600)", errno.EPERM, id="deny_shm"),
        pytest.param("call('syscall', KEYCTL, 0, -3, 0)", errno.EPERM, id="deny_keyctl"),
        pytest.param("call('unshare', 0x10000000)", errno.EPERM, id="deny_unshare"),
        pytest.param("call('syscall', 435, None, 0)", errno.ENOSYS, id="absent_clone3"),
        pytest.param("call('setuid', os.getuid())", 0, id="allow_same_uid"),
        pytest.param("call('setuid', (os.getuid() or 1) + 1)", errno.EPERM, id="deny_setuid"),
        pytest.param("call('setsid')", errno.EPERM, id="deny_second_setsid"),
    ],
)
def test_verdict(code, expected, attempted):
    """
    Nothing outside can be signalled, traced, limited or talked to, and no privilege is left.
    """
    assert expected == attempted(code, str(os.getpid()))


def test_privileges(asked):
    """
    No capability is held in any set, and no_new_privs is on.
    """
    code = """
import ctypes, json
prctl = ctypes.CDLL(None).prctl
sets = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets)
print(json.dumps([list(sets), prctl(39, 0, 0, 0, 0), prctl(21, 0, 0, 0, 0)]))
"""
    assert [[0] * 6, 1, 2] == json.loads(asked(code)["out"])


def test_own_places(asked, tmp_path):
    """
    HOME and TMPDIR are directories of the sandbox's own, empty and writable, and HOME is where it starts.
    """
    code = """
import json, os
seen = [os.getcwd() == os.environ["HOME"], os.listdir(os.environ["HOME"]), os.listdir(os.environ["TMPDIR"])]
for name in ("HOME", "TMPDIR"):
    open(os.environ[name] + "/f", "w").close()
print(json.dumps([seen, os.environ["HOME"]]))
"""
    seen, home = json.loads(asked(code)["out"])

    assert [True, [], []] == seen
    assert Path(home).parent.parent == tmp_path / "scratch"
