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
    rules = {"file_size": "1M", "memory": "512M", "open_files": 64}

    assert [[1, 1], [1 << 20] * 2, [512 << 20] * 2, [64, 64]] == inside(LIMITS, **rules)
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
    ("rules", "expected"),
    [pytest.param({}, 0, id="allow"), pytest.param({"memory": "256M"}, errno.ENOMEM, id="deny_beyond")],
)
def test_memory(rules, expected, attempt):
    """
    Private memory of a process beyond the policy's is ENOMEM.
    """
    code = "import mmap; mmap.mmap(-1, 512 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)"

    assert expected == attempt(code, **rules)


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


@pytest.mark.skipif(IS_ROOT, reason="RLIMIT_NPROC does not bind root")
def test_processes(inside):
    """
    A fork beyond processes is EAGAIN, and the bound is of all processes inside together.
    """
    started, error = inside(FORKS, processes=20)

    assert (True, errno.EAGAIN) == (15 < started < 20, error)
    assert [40, 0] == inside(FORKS)


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


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's processes can be bounded")
def test_processes_of_root():
    """
    Where the caller is root the bound cannot be kept: an UnsupportedError, unless it is waived.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        jail.run(["true"], processes=20)
    waived = jail.run(["true"], processes=20, waive=["pids"])

    assert "pids" == caught.value.feature
    assert {"pids": jail.Strength.NONE} == {g.name: g.strength for g in waived.guarantees if g.name == "pids"}


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
    assert errno.EPERM == attempt(code, file_size="1G", memory="1G", open_files=100)


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
