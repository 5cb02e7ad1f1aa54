"""
One program that has less than its sandbox: what it may not, beside what its neighbours still may. landlock(7)
"""

import errno
import json
import os
import threading

import pytest

import jail

PYTHON = ("python3", "-I", "-S", "-c")
ATTEMPT = """
import ctypes, os, socket, sys
try: exec(sys.argv.pop(1))
except OSError as exc: sys.exit(exc.errno)
"""

# A harness: a sandbox by some rules, and in it a list of attempts, each with what it is to have less.
# Prints the errno of each, or the key of the PolicyError or feature of the UnsupportedError, and the names of the guarantees that differ.
HARNESS = """
import jail, json, os, sys
rules, attempts, payload = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
with jail.Sandbox(**rules) as box:
    before = {g.name: g for g in box.guarantees}
    for code, less in attempts:
        try:
            result = box.run([sys.executable, "-I", "-S", "-c", payload, code], **less)
        except jail.PolicyError as exc:
            print(json.dumps(["PolicyError", exc.key]))
            continue
        except jail.UnsupportedError as exc:
            print(json.dumps(["UnsupportedError", exc.feature]))
            continue
        assert result.stderr == b"", result.stderr.text
        other = sorted(g.name for g in result.guarantees if before.get(g.name) != g)
        print(json.dumps([result.exit_code, other]))
"""


@pytest.fixture(
    params=[
        pytest.param("namespaces", marks=pytest.mark.needs("userns", "landlock")),
        pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
    ]
)
def tier(request, container):
    """
    The name of a tier, source for a harness that has it, and options to start that with.
    """
    return (request.param, *(container if request.param == "landlock" else ("", {})))


@pytest.fixture
def attempts(tier, harness):
    """
    What comes of attempts in one sandbox: for each (code, less) an errno, and the guarantees that differ.
    """

    def attempts(rules, *acts):
        _, source, options = tier
        text = [json.dumps(part, default=os.fspath) for part in (rules, acts)]
        asked = harness(source + HARNESS, *text, ATTEMPT, **options)
        seen = [tuple(json.loads(asked.await_line())) for _ in acts]
        assert 0 == asked.process.wait(timeout=30)
        return seen

    return attempts


@pytest.fixture
def places(tmp_path):
    """
    Two directories with a file in each.
    """
    for name in "ab":
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "f").write_text("text")
    return tmp_path / "a", tmp_path / "b"


# A directory of the sandbox's own that holds nothing of what is taken. A rule of Landlock's is for all below.
OWN = {"namespaces": "'/dev/shm'", "landlock": "os.environ['TMPDIR']"}


def metadata(tier):
    """
    The guarantees that differ where files are taken: in one tier metadata is kept like that anyway.
    """
    return ["filesystem.metadata", "filesystem.write"] if tier[0] == "namespaces" else ["filesystem.write"]


@pytest.mark.needs("userns", "landlock")
def test_directory_that_holds_what_is_taken(places):
    """
    One of the sandbox's own above a tree that is taken can be read, and is written by others only.
    """
    above = "/tmp" if str(places[0]).startswith("/tmp/") else "/var/tmp"
    with jail.Sandbox(write=places) as box:
        box.run(f"echo text > {above}/own", shell=True, check=True)
        assert b"text\n" == box.run(["cat", f"{above}/own"], write=[]).stdout
        denied = box.run(f"echo more > {above}/own", shell=True, write=[], text=True)
        assert (2, True) == (denied.exit_code, "Permission denied" in denied.stderr)


@pytest.mark.parametrize(
    ("write", "in_a", "in_sub"),
    [
        pytest.param(["{a}"], 0, 0, id="allow_one_of_two"),
        pytest.param(["{a}/"], 0, 0, id="allow_with_a_slash"),
        pytest.param(["{a}/sub/.."], 0, 0, id="allow_with_dots"),
        pytest.param(["{a}/sub"], errno.EACCES, 0, id="allow_below"),
        pytest.param([], errno.EACCES, errno.EACCES, id="deny_all"),
    ],
)
def test_write(write, in_a, in_sub, places, tier, attempts):
    """
    Of what the sandbox writes a program writes what it names, and reads the rest; the next writes all of it.
    """
    a, b = places
    less = {"write": [path.format(a=a) for path in write]}
    seen = attempts(
        {"write": places},
        (f"open('{b}/f', 'r+')", {}),
        (f"open('{b}/f', 'r+')", less),
        (f"open('{b}/f')", less),
        (f"open('{a}/f', 'r+')", less),
        (f"open('{a}/sub/new', 'w')", less),
        (f"open(os.environ['HOME'] + '/f', 'w'); open({OWN[tier[0]]} + '/f', 'w')", less),
        (f"open('{b}/f', 'r+')", {}),
    )

    others = metadata(tier)
    codes = [errno.EACCES, 0, in_a, in_sub, 0]
    assert [(0, []), *((code, others) for code in codes), (0, [])] == seen


@pytest.mark.parametrize("act", ["chmod('{}/f', 0o600)", "utime('{}/f')", "chown('{}/f', -1, -1)"])
def test_metadata(act, places, tier, attempts):
    """
    Landlock has no right for metadata, so a program with fewer files changes none: EPERM, where it may write too.
    """
    a, _ = places
    control, less, rest = attempts(
        {"write": places},
        (f"os.{act.format(a)}", {}),
        (f"os.{act.format(a)}", {"write": [a]}),
        (f"os.{act.format(a)}", {"memory": "1G"}),
    )
    without = 0 if tier[0] == "namespaces" else errno.EPERM

    assert (without, errno.EPERM, without) == (control[0], less[0], rest[0])


def test_workspace(places, tier, attempts):
    """
    workspace_access="read" takes the workspace, and nothing else.
    """
    a, b = places
    less = {"workspace_access": "read"}
    seen = attempts(
        {"workspace": a, "workspace_access": "write", "write": [b]},
        ("open('f', 'r+')", {}),
        ("open('f', 'r+')", less),
        ("open('f')", less),
        (f"open('{b}/f', 'r+')", less),
    )

    others = metadata(tier)
    assert [(0, []), (errno.EACCES, others), (0, others), (0, others)] == seen


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("what", ["{}/f", "{}/sub", "{}"], ids=["file", "directory", "whole_tree"])
def test_deny(mode, what, places, tier, attempts):
    """
    What is denied cannot be opened, EACCES, be it below a rule of the sandbox or the path of one; the rest can.
    """
    a, b = places
    hidden, less = what.format(b), {"deny": [what.format(b)]}
    seen = attempts(
        {mode: places},
        (f"os.open('{hidden}', os.O_RDONLY)", {}),
        (f"os.open('{hidden}', os.O_RDONLY)", less),
        (f"open('{a}/f')", less),
    )

    others = sorted(["filesystem.read", *metadata(tier)])
    assert [(0, []), (errno.EACCES, others), (0, others)] == seen


def test_network(tier, attempts):
    """
    Where the sandbox has the host's network a program may have none: a socket is EPERM.
    """
    less = {"network": "none"}
    inet, six, pair = "socket.socket()", "socket.socket(socket.AF_INET6)", "socket.socketpair()"
    seen = attempts({"network": "host"}, (inet, {}), (six, {}), (inet, less), (six, less), (pair, less))

    assert [(0, []), (0, []), (1, ["network"]), (1, ["network"]), (0, ["network"])] == seen


@pytest.mark.parametrize(
    "rules",
    [pytest.param({}, id="of_all"), pytest.param({"cpus": 2}, id="of_two")],
)
def test_processors(rules, attempts):
    """
    A program has fewer processors than its sandbox and cannot take more, be those of the sandbox bounded or not.
    """
    count, widen = "sys.exit(len(os.sched_getaffinity(0)))", "os.sched_setaffinity(0, range(os.cpu_count()))"
    less = {"cpus": 1}
    seen = attempts({"cgroup": "none", **rules}, (count, {}), (count, less), (widen, less), (count, {}))

    there = min(rules.get("cpus", 255), len(os.sched_getaffinity(0)))
    assert [(there, []), (1, ["cpu"]), (errno.EPERM, ["cpu"]), (there, [])] == seen


def test_part_of_a_processor(attempts):
    """
    A part of a processor needs a cgroup; it is refused where there is none, or goes with what the sandbox waives.
    """
    less = {"cpus": 0.5}

    assert [("UnsupportedError", "cpu")] == attempts({"cgroup": "none"}, ("pass", less))
    assert [(0, ["cpu"])] == attempts({"cgroup": "none", "waive": ["cpu"]}, ("pass", less))


USE = "import time; x = b'x' * (300 << 20); time.sleep(1)"
BURN = "import time\nwhile time.process_time() < 0.5: pass"
# What a shell has for the signal that a limit stands for: SIGKILL, SIGXCPU, SIGXFSZ.
KILLED, OUT_OF_TIME, TOO_MUCH = 128 + 9, 128 + 24, 128 + 25
LIMITS = [
    pytest.param(USE, {"memory": "256M"}, KILLED, id="memory"),
    pytest.param(BURN, {"cpu_seconds": 0.1}, OUT_OF_TIME, id="cpu_seconds"),
    pytest.param("os.write(1, b'x' * 1000)", {"output": 999}, TOO_MUCH, id="output"),
    pytest.param("for i in range(30): os.dup(1)", {"open_files": 20}, errno.EMFILE, id="open_files"),
    pytest.param(
        "open(os.environ['TMPDIR'] + '/f', 'w').truncate(2 << 20)",
        {"file_size": "1M"},
        errno.EFBIG,
        id="file_size",
    ),
    pytest.param(
        "os.mkdir(os.environ['HOME'] + '/d')", {"deny_syscalls": ["mkdir"]}, errno.EPERM, id="syscall"
    ),
]


@pytest.mark.parametrize(("code", "less", "expected"), LIMITS)
def test_limit(code, less, expected, attempts):
    """
    A lower limit is one program's: beyond it the kernel's errno, for the next program as before.
    """
    control = code.replace("/d'", "/e'")
    seen = attempts({}, (control, {}), (code, less), (code, {}))

    assert [0, expected, 0] == [code for code, _ in seen]


def test_processes(tier, attempts):
    """
    One program may have fewer processes: by the kernel, EAGAIN, where it counts them; otherwise by jail-init.
    """
    code = "import signal, time\nfor _ in range(30):\n  if os.fork() == 0: signal.pause()\ntime.sleep(1)"
    by_kernel = tier[0] == "namespaces" and os.geteuid() != 0
    seen = attempts({"cgroup": "none"}, (code, {"processes": 10}), (code, {}))

    assert [(errno.EAGAIN if by_kernel else KILLED, ["pids"]), (0, [])] == seen


def test_report_of_limits(attempts):
    """
    A limit that a sandbox had not is a guarantee of the one result, and of no other.
    """
    asked = ({"memory": "256M"}, {"file_size": "1M"}, {"processes": 100}, {})
    seen = attempts({}, *(("pass", less) for less in asked))

    assert [["memory"], ["disk"], ["pids"], []] == [[*names] for _, names in seen]


@pytest.mark.parametrize(
    ("key", "less"),
    [
        ("write", {"write": ["/etc"]}),
        ("write", {"write": ["{}/missing"]}),
        ("workspace_access", {"workspace_access": "write"}),
        ("network", {"network": "host"}),
        ("memory", {"memory": "2G"}),
        ("cpus", {"cpus": 3}),
        ("cpus", {"cpus": None}),
        ("cpu_seconds", {"cpu_seconds": 61}),
        ("processes", {"processes": 101}),
        ("output", {"output": "2M"}),
        ("memory", {"memory": None}),
        ("file_size", {"file_size": "2G"}),
        ("open_files", {"open_files": 101}),
        ("deny_syscalls", {"deny_syscalls": ["no_such_call"]}),
    ],
)
def test_refuse_wider(key, less, places, attempts):
    """
    What asks for more than the sandbox has is a PolicyError that names the field; the same limit again is none.
    """
    a, b = places
    less = {k: [p.format(a) for p in v] if k == "write" else v for k, v in less.items()}
    limits = {
        "memory": "1G",
        "cpus": 2,
        "cpu_seconds": 60,
        "processes": 100,
        "output": "1M",
        "file_size": "1G",
        "open_files": 100,
    }
    rules = {"write": [a], "workspace": b, **limits}
    same = {"network": "none", "workspace_access": "read", **limits}
    seen = attempts(rules, ("pass", less), ("pass", same))

    assert [("PolicyError", key), 0] == [seen[0], seen[1][0]]


@pytest.mark.needs("userns", "landlock")
def test_at_once(places):
    """
    Programs with less and with all run at once, and each has its own.
    """
    code = "import sys\ntry: open(sys.argv[1] + '/f', 'r+')\nexcept OSError as exc: sys.exit(exc.errno)"
    rules, seen = [{}, {"write": [places[0]]}, {"write": []}] * 4, {}
    with jail.Sandbox(write=places) as box:

        def act(number):
            seen[number] = box.run([*PYTHON, code, str(places[1])], **rules[number]).exit_code

        threads = [threading.Thread(target=act, args=(number,)) for number in range(len(rules))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [0, errno.EACCES, errno.EACCES] * 4 == [seen[number] for number in range(len(rules))]
