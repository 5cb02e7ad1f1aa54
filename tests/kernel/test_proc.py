"""
Which processes a program can see and reach. pid_namespaces(7), proc(5)
"""

import errno
import os
import subprocess

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "proc")


@pytest.fixture
def bystander():
    """
    The pid of a process of the caller's on the host, beyond the few pids that a sandbox has of its own.
    """
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.pid > 100
    yield process.pid
    process.stdin.close()
    process.wait()


def test_pids(inside, bystander):
    """
    Only jail-init's processes and the program's own are listed.
    """
    code = """
import json, os
names = {int(p): open(f"/proc/{p}/comm").read().strip() for p in os.listdir("/proc") if p.isdigit()}
print(json.dumps([os.getpid() < 100, names.pop(os.getpid()) != "", sorted(set(names.values()))]))
"""
    assert [True, True, ["jail-init"]] == inside(code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("os.kill(os.getpid(), 0)", 0, id="allow_itself"),  # the control
        pytest.param("os.kill(int(sys.argv[1]), 0)", errno.ESRCH, id="deny_signal"),
        pytest.param("os.pidfd_open(int(sys.argv[1]))", errno.ESRCH, id="deny_pidfd"),
        pytest.param("os.getpriority(os.PRIO_PROCESS, int(sys.argv[1]))", errno.ESRCH, id="deny_getpriority"),
        pytest.param("os.sched_getaffinity(int(sys.argv[1]))", errno.ESRCH, id="deny_getaffinity"),
        pytest.param("os.getsid(int(sys.argv[1]))", errno.ESRCH, id="deny_getsid"),
        pytest.param("os.stat(f'/proc/{sys.argv[1]}')", errno.ENOENT, id="deny_proc"),
    ],
)
def test_bystander(code, expected, bystander, attempt):
    """
    A process outside cannot be named by its pid.
    """
    assert expected == attempt(code, str(bystander))


def test_kill_all(bystander, attempt):
    """
    kill(-1) reaches what is inside, and nobody else.
    """
    code = "child = os.fork() or signal.pause(); os.kill(-1, 9); assert os.waitpid(child, 0)[1] == 9"

    assert 0 == attempt("import signal\n" + code)
    os.kill(bystander, 0)


@pytest.mark.parametrize(
    "place", ["environ", "mem", "maps", "root/etc", "cwd/.", "exe", "fd/1", "fdinfo/1", "ns/mnt"]
)
def test_jail_init(place, attempt):
    """
    Nothing of jail-init's can be read by way of /proc; the same of the program's own can.
    """
    code = (
        "(os.listdir if os.path.isdir(p := sys.argv[1]) else lambda p: os.close(os.open(p, os.O_RDONLY)))(p)"
    )

    assert 0 == attempt(code, f"/proc/self/{place}")
    assert errno.EACCES == attempt(code, f"/proc/1/{place}")


@pytest.mark.parametrize("number", [9, 15, 19, 11])
def test_signal_to_jail_init(number, attempt):
    """
    No signal from inside ends or stops jail-init.
    """
    with jail.Sandbox() as box:
        assert 0 == attempt("os.kill(1, int(sys.argv[1]))", str(number), box=box)
        assert 0 == attempt("pass", box=box)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("open('/proc/self/comm').read()", 0, id="allow_read"),  # the control
        pytest.param("open('/proc/self/comm', 'w')", errno.EROFS, id="deny_write"),
        pytest.param("open('/proc/self/oom_score_adj', 'w')", errno.EROFS, id="deny_oom_score"),
        pytest.param("open('/proc/sys/kernel/hostname', 'w')", errno.EROFS, id="deny_sysctl"),
        pytest.param("open('/proc/self/uid_map', 'w')", errno.EROFS, id="deny_uid_map"),
        pytest.param("open('/proc/keys')", errno.EACCES, id="deny_keys"),
        pytest.param("open('/proc/timer_list')", errno.EACCES, id="deny_timer_list"),
    ],
)
def test_files(code, expected, attempt):
    """
    /proc is read-only, and what tells about the whole host is hidden.
    """
    place = code.split("'")[1]
    if expected == errno.EACCES and not os.path.exists(place):
        expected = errno.ENOENT

    assert expected == attempt(code)


def test_no_sys(attempt):
    """
    Of /sys there are the processors and nothing else.
    """
    assert 0 == attempt(
        "assert os.listdir('/sys') == ['devices'] and os.listdir('/sys/devices/system') == ['cpu']"
    )
