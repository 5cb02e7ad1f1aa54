"""
What the tests of the rooms share: Python to run inside, harnesses to run it from, and eyes for what is left.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import jail
from kernel.panes import Pane
from kernel.servers import Greeter, serving

PYTHON = (sys.executable, "-I", "-S", "-c")

# Ends with the errno of the OSError that the code raises, or with 0. Anything else it raises shows on stderr.
ATTEMPT = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    result = getattr(libc, name)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result
try:
    exec(sys.argv.pop(1))
except OSError as exc:
    if exc.errno is None:
        raise
    sys.exit(exc.errno)
"""

# The first thing in a harness that is to find itself in a container: what Docker's default filter refuses
# (moby/profiles/seccomp/default.json without CAP_SYS_ADMIN), so that no namespace is to be had.
CONTAINER = """
import errno, pyseccomp
refusing = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in ("unshare", "setns", "mount", "umount2", "pivot_root", "fsopen", "fsmount", "fsconfig", "fspick",
             "move_mount", "open_tree", "mount_setattr"):
    refusing.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
    refusing.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
refusing.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
refusing.load()
"""

# The first thing in a harness that is to have mounts of its own: it is root, of a new user namespace.
OWN_MOUNTS = """
import ctypes, os
uid, gid = os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x00020000):  # CLONE_NEWUSER | CLONE_NEWNS
    raise OSError(ctypes.get_errno(), "unshare")
for name, text in (("uid_map", f"0 {uid} 1"), ("setgroups", "deny"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
def mount(source, target, kind, flags=0, data=None):
    if libc.mount(source, target.encode(), kind, flags, data):
        raise OSError(ctypes.get_errno(), f"mount {target}")
"""


@pytest.fixture
def box():
    """
    A live sandbox.
    """
    with jail.Sandbox() as box:
        yield box


class Harness:
    """
    A Python process that uses jail, and may be killed for it. It prints a line when it is where it should be.
    """

    def __init__(self, source, *args, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, *map(os.fspath, args)],
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def await_line(self):
        """
        The next line that it prints.
        """
        line = self.process.stdout.readline()
        assert line, f"the harness ended with {self.process.wait()}"
        return line.rstrip("\n")

    def descendants(self):
        """
        A pidfd for each process below it.
        """
        return pidfds_below(self.process.pid)

    def kill(self, number=signal.SIGKILL):
        """
        Send it a signal and wait until it is gone.
        """
        self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def end(self):
        """
        Whatever happened, leave nothing of it.
        """
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def pidfds_below(pid):
    """
    A pidfd for each process below `pid`, by its pid.
    """
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        try:
            found[child.pid] = os.pidfd_open(child.pid)
        except ProcessLookupError:
            continue
    return found


def survivors(pidfds, seconds=1.0):
    """
    Those of some processes, given as pid -> pidfd, that have not ended within this time. Closes the pidfds.
    """
    poll = select.poll()
    waiting = {fd: pid for pid, fd in pidfds.items()}
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        ended = poll.poll(seconds * 1000)
        if not ended:
            break
        for fd, _ in ended:
            poll.unregister(fd)
            del waiting[fd]
    for fd in pidfds.values():
        os.close(fd)
    return sorted(waiting.values())


def processes_named(marker):
    """
    The pids of all processes on this host that have `marker` among their arguments, but not of this one.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and marker in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def snapshot(place):
    """
    All that can be seen of a tree from outside: names, kinds, modes, owners, times and contents.
    """
    seen = {}
    for path in [place, *sorted(Path(place).rglob("*"))]:
        st = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        seen[path] = (
            st.st_ino,
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_nlink,
            st.st_mtime_ns,
            st.st_ctime_ns,
            content,
        )
    return seen


class Eyes:
    """
    What is there on this host, seen from outside of any sandbox.
    """

    pidfds_below = staticmethod(pidfds_below)
    survivors = staticmethod(survivors)
    named = staticmethod(processes_named)
    snapshot = staticmethod(snapshot)


@pytest.fixture
def eyes():
    """
    Sees processes and trees.
    """
    return Eyes


@pytest.fixture
def attempt():
    """
    Runs a line of Python in a sandbox and gives the errno that it ended with, or 0.
    """

    def attempt(code, *args, box=None, **fields):
        cmd = [*PYTHON, ATTEMPT, code, *map(os.fspath, args)]
        result = box.run(cmd) if box else jail.run(cmd, **fields)
        assert "" == result.stderr.text
        assert isinstance(result.outcome, jail.Exited)
        return result.exit_code

    return attempt


@pytest.fixture
def inside():
    """
    Runs Python in a sandbox and gives what it printed, as JSON.
    """

    def inside(code, *args, box=None, stdin=None, **fields):
        cmd = [*PYTHON, code, *map(os.fspath, args)]
        result = box.run(cmd, stdin=stdin) if box else jail.run(cmd, stdin=stdin, **fields)
        assert (0, "") == (result.exit_code, result.stderr.text)
        return json.loads(result.stdout)

    return inside


@pytest.fixture
def harness():
    """
    Starts Python processes that use jail, and ends those that are left.
    """
    started = []

    def harness(source, *args, **options):
        started.append(Harness(source, *args, **options))
        return started[-1]

    yield harness
    for one in started:
        one.end()


@pytest.fixture
def ask_harness(harness):
    """
    Runs a Python process that uses jail to its end and gives what it printed, as JSON.
    """

    def ask(source, *args, **options):
        asked = harness(source, *args, stderr=subprocess.PIPE, **options)
        output, errors = asked.process.communicate(timeout=200)
        assert (0, "") == (asked.process.returncode, errors)
        return json.loads(output)

    return ask


@pytest.fixture
def own_mounts():
    """
    Source for a harness that has a mount(2) of its own.
    """
    return OWN_MOUNTS


@pytest.fixture
def container(tmp_path):
    """
    Source for a harness that finds itself in a container, and options to start it with.

    Its scratch directories are in a place of their own.
    """
    (tmp_path / "scratch").mkdir()
    return CONTAINER, {"env": {**os.environ, "TMPDIR": str(tmp_path / "scratch")}}


@pytest.fixture
def tree(tmp_path):
    """
    A small tree of the host: a file ``f``, and a directory ``d`` with a file ``d/f`` in it.
    """
    place = tmp_path / "tree"
    (place / "d").mkdir(parents=True)
    (place / "f").write_text("text")
    (place / "d" / "f").write_text("deeper")
    return place


@pytest.fixture
def at_pane(tmp_path):
    """
    Runs a program in a pane of its own, whose sandboxes' names are this test's.
    """
    started = []
    env = {name: value for name, value in os.environ.items() if not name.startswith("TMUX")}
    env |= {
        "JAIL_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "SHELL": "/bin/sh",
        "LC_ALL": "C.UTF-8",
    }

    def at_pane(*cmd):
        directory = tmp_path / f"pane{len(started)}"
        directory.mkdir()
        started.append(Pane(directory, cmd, env))
        return started[-1]

    yield at_pane
    for one in started:
        one.end()


@pytest.fixture
def pane(at_pane):
    """
    Runs ``jail`` with some arguments in a pane of its own.
    """
    return lambda *args: at_pane(sys.executable, "-m", "jail", *args)


@pytest.fixture
def web():
    """
    The port of an HTTP server on the host's loopback that says hello.
    """
    with serving(Greeter, joins=True) as port:
        yield port
