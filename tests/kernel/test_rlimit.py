"""
What one process may use, and all of a sandbox's processes together. getrlimit(2)
"""

import errno
import os
import resource

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

IS_ROOT = os.geteuid() == 0

LIMITS = """
import json, resource
print(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("CORE", "FSIZE", "DATA", "NOFILE")]))
"""


def test_limits(inside):
    """
    A policy's limits are set hard and soft; no core is written; what it does not name is as outside.
    """
    rules = {"file_size": "1M", "memory": "512M", "open_files": 64, "cgroup": "none"}
    mapped = 2 * (512 << 20) + max(4 << 30, jail.probe().memory_bytes // 32)

    assert [[1, 1], [1 << 20] * 2, [mapped] * 2, [64, 64]] == inside(LIMITS, **rules)
    assert list(resource.getrlimit(resource.RLIMIT_FSIZE)) == inside(LIMITS)[1]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [pytest.param({}, 0, id="allow"), pytest.param({"open_files": 20}, errno.EMFILE, id="deny_beyond")],
)
def test_open_files(rules, expected, attempt):
    """
    A descriptor beyond open_files is EMFILE.
    """
    assert expected == attempt("for i in range(30): os.dup(1)", **rules)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [pytest.param({}, 0, id="allow"), pytest.param({"file_size": "1M"}, errno.EFBIG, id="deny_beyond")],
)
def test_file_size(rules, expected, tree, attempt):
    """
    A byte beyond file_size is EFBIG, in scratch as in the host's files.
    """
    code = "open(sys.argv[1] + '/f', 'wb').truncate(1 << 20); os.truncate(sys.argv[1] + '/f', (1 << 20) + 1)"

    assert expected == attempt(code, "/tmp", **rules)
    assert expected == attempt(code, tree, write=[tree], **rules)


def test_file_size_signal():
    """
    A program that has not asked for the errno is ended by SIGXFSZ, and leaves no core.
    """
    result = jail.run("head -c 2M /dev/zero > /tmp/f; exit $?", shell=True, file_size="1M")

    assert 128 + 25 == result.exit_code
    assert (
        jail.Signalled(25)
        == jail.run(["dd", "if=/dev/zero", "of=/tmp/f", "bs=2M", "count=2"], file_size="1M").outcome
    )


@pytest.mark.parametrize(
    ("rules", "gib", "expected"),
    [
        pytest.param({}, 8, 0, id="allow"),
        pytest.param({"memory": "256M"}, 3, 0, id="allow_to_map_more_than_to_use"),
        pytest.param({"memory": "256M"}, 8, errno.ENOMEM, id="deny_beyond"),
    ],
)
def test_mapped_memory(rules, gib, expected, attempt):
    """
    What one process maps far beyond the policy's is ENOMEM, where a watcher keeps that: it cannot outrun him.
    """
    beyond = max(0, jail.probe().memory_bytes // 32 - (4 << 30)) if gib > 3 else 0
    code = "import mmap; mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)"

    assert expected == attempt(code, str((gib << 30) + beyond), cgroup="none", **rules)


@pytest.mark.parametrize(
    ("mib", "expected"),
    [
        pytest.param(100, jail.Exited, id="allow_below"),
        pytest.param(300, jail.OutOfMemory, id="deny_beyond"),
    ],
)
def test_used_memory(mib, expected):
    """
    A program that uses more than the policy's is ended for it.
    """
    code = f"x = b'x' * ({mib} << 20)\nimport time\ntime.sleep(1000 if {mib} > 256 else 0)"
    result = jail.run(["python3", "-I", "-S", "-c", code], memory="256M", timeout=60)

    assert expected is type(result.outcome)
    assert b"" == result.stderr


FORKS = """
import json, os, signal
started, error = [], 0
try:
    for _ in range(40):
        pid = os.fork() or signal.pause()
        started.append(pid)
except OSError as exc: error = exc.errno
for pid in started: os.kill(pid, 9)
print(json.dumps([len(started), error]))
"""


# Starts 30, or as many as it can, has them for a second, and ends with the errno where it could not.
HOLD = """
import os, signal, sys, time
started, error = [], 0
try:
    for _ in range(30):
        started.append(os.fork() or signal.pause())
except OSError as exc: error = exc.errno
time.sleep(1)
for pid in started: os.kill(pid, 9)
sys.exit(error)
"""


@pytest.mark.skipif(IS_ROOT, reason="RLIMIT_NPROC does not bind root")
def test_processes(inside):
    """
    A fork beyond processes is EAGAIN, and the bound is of all processes inside together.
    """
    started, error = inside(FORKS, processes=20)

    assert (True, errno.EAGAIN) == (15 < started < 20, error)
    assert [40, 0] == inside(FORKS)


@pytest.mark.skipif(IS_ROOT, reason="RLIMIT_NPROC does not bind root")
def test_report_processes():
    """
    That the kernel refused is an event of the run, and its limit a guarantee that the kernel keeps.
    """
    cmd = ["python3", "-I", "-S", "-c", HOLD]
    result, control = (jail.run(cmd, processes=count, cgroup="none") for count in (10, 50))

    assert [(jail.Exited(errno.EAGAIN), 10)] == [
        (result.outcome, event.limit) for event in result.events if isinstance(event, jail.ProcessLimit)
    ]
    assert (jail.Exited(0), ()) == (control.outcome, control.events)
    kept = {g.name: (g.mechanism, g.strength) for g in result.guarantees}
    assert ("RLIMIT_NPROC", jail.Strength.KERNEL) == kept["pids"]


@pytest.mark.skipif(IS_ROOT, reason="RLIMIT_NPROC does not bind root")
def test_processes_of_two_sandboxes(inside):
    """
    Neither another sandbox's processes count, nor the caller's own outside.
    """
    hold = "import os, signal; [os.fork() or signal.pause() for _ in range(15)]; print(1, flush=True); os._exit(0)"
    with jail.Sandbox(processes=20) as other:
        assert 1 == inside(hold, box=other)
        assert 15 < inside(FORKS, processes=20)[0] < 20
        assert inside(FORKS, box=other)[0] < 5


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's processes are the kernel's to bound")
def test_processes_of_root():
    """
    Where the caller is root jail-init keeps the bound: who has most of them is ended, and fewer are no matter.
    """
    cmd = ["python3", "-I", "-S", "-c", HOLD]
    result, control = (jail.run(cmd, processes=count, cgroup="none", timeout=60) for count in (20, 50))

    assert isinstance(result.outcome, jail.ProcessLimit)
    assert (20, 137, True) == (result.outcome.limit, result.exit_code, 20 < result.outcome.peak <= 31)
    assert (jail.Exited(0), ()) == (control.outcome, control.events)
    assert {jail.Strength.SUPERVISED} == {g.strength for g in result.guarantees if g.name == "pids"}


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's processes are the kernel's to bound")
def test_processes_of_root_by_the_kernel_alone():
    """
    Where only the kernel will do it is an UnsupportedError, unless it is waived: then nobody bounds them.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        jail.run(["true"], processes=20, strict=True, cgroup="none")
    cmd = ["python3", "-I", "-S", "-c", HOLD]
    waived = jail.run(cmd, processes=20, strict=True, cgroup="none", waive=["pids"])

    assert "pids" == caught.value.feature
    assert {"pids": jail.Strength.NONE} == {g.name: g.strength for g in waived.guarantees if g.name == "pids"}
    assert jail.Exited(0) == waived.outcome


@pytest.mark.parametrize("name", ["CORE", "FSIZE", "DATA", "NOFILE"])
def test_deny_raise(name, attempt):
    """
    A limit can be lowered and not raised again.
    """
    code = f"""
import resource
number = resource.RLIMIT_{name}
limit = resource.getrlimit(number)[1]
resource.setrlimit(number, (limit, limit))
try: resource.setrlimit(number, (limit, limit + 1))
except ValueError as exc: raise OSError(1, str(exc)) if "not allowed" in str(exc) else exc
"""
    assert errno.EPERM == attempt(code, file_size="1G", memory="1G", open_files=100, cgroup="none")


def test_hard_limit_of_the_caller(ask_harness):
    """
    A policy that asks for more than the caller has gets what the caller has.
    """
    code = """
import json, jail, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(jail.run("ulimit -n", shell=True, open_files=4096).stdout.text)
"""
    assert 100 == ask_harness(code)
