"""
The cgroups of one sandbox: made, written, read, and removed. The kernel's Documentation/admin-guide/cgroup-v2.rst.

One for the sandbox and, in it, one for `jail-init`, which is in nobody's way, and one for the programs, which has
the limits; in that, one for each program. Programs enter theirs at clone3(2); nothing is moved.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from .delegation import remove_tree
from .errors import MeasurementError
from .fork import forget_in_child
from .host import CgroupFacts
from .limits import Bounds
from .liveness import started
from .policy import Policy
from .usage import Figures, Pressure

__all__ = ["Group", "Leaf", "name_of"]

_CPU_PERIOD_US = 100_000  # the kernel's own; cpu.max
_EMPTY_SECONDS = 5.0  # for what was killed to be gone

_serial = iter(range(1 << 62))


def name_of(serial: int) -> str:
    """
    The name of a sandbox's cgroup: whose it is can be seen from it, and is only believed with its lock.
    """
    return f"jail-{os.getpid()}-{started(os.getpid())}-{serial}"


class Group:
    """
    The cgroup of one sandbox, until `close`.

    Locked (flock(2)) for as long as its harness lives, however that ends: what is not locked may be swept.

    Args:
        place: where it is made.
        policy: the limits.
        devices: ``MAJOR:MINOR`` of the disks that `io` is about.

    Raises:
        OSError: a call failed; nothing is left.
    """

    def __init__(self, place: CgroupFacts, policy: Policy, devices: tuple[str, ...]) -> None:
        self.path = f"{place.path}/{name_of(next(_serial))}"
        enabled = " ".join(f"+{name}" for name in place.controllers)
        self._leaves: list[Leaf] = []
        with ExitStack() as on_failure:
            os.mkdir(self.path)
            on_failure.callback(remove_tree, self.path)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            on_failure.callback(os.close, self._lock)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.mkdir(f"{self.path}/init")
            os.mkdir(f"{self.path}/programs")
            _write(f"{self.path}/cgroup.subtree_control", enabled)
            for name, text in _settings(bounds=policy, controllers=place.controllers):
                _write(f"{self.path}/programs/{name}", text)
            for device in devices:
                _write(f"{self.path}/programs/io.max", f"{device} rbps={policy.io} wbps={policy.io}")
            _write(f"{self.path}/programs/cgroup.subtree_control", enabled)
            self.init_fd = os.open(f"{self.path}/init", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            on_failure.pop_all()
        self._controllers = place.controllers
        forget_in_child(self)

    def entered(self) -> None:
        """
        `jail-init` is in there: the descriptor is needed no more.
        """
        os.close(self.init_fd)
        self.init_fd = -1

    def leaf(self, exec_id: int, own: Bounds) -> Leaf:
        """
        A cgroup for one program, with the limits that are its own.
        """
        self._tidy()
        path = f"{self.path}/programs/{exec_id}"
        with ExitStack() as on_failure:
            os.mkdir(path)
            on_failure.callback(os.rmdir, path)
            for name, text in (
                *_settings(bounds=own, controllers=self._controllers),
                *_together(self._controllers),
            ):
                _write(f"{path}/{name}", text)
            leaf = Leaf(path, self._controllers, f"{self.path}/programs")
            on_failure.pop_all()
        self._leaves.append(leaf)
        return leaf

    def _tidy(self) -> None:
        """
        Remove the cgroups of programs that are over. An empty one may be of a program that has yet to start.
        """
        for leaf in list(self._leaves):
            if leaf.fd < 0:
                with suppress(OSError):  # EBUSY: what that program has left behind is still there
                    os.rmdir(leaf.path)
                    self._leaves.remove(leaf)

    def usage(self) -> Figures:
        """
        What all programs of the sandbox have cost so far.
        """
        return dict(_counted(f"{self.path}/programs", self._controllers))

    def close(self) -> None:
        """
        End what is in there, and remove it.
        """
        if self._lock < 0:
            return
        with suppress(FileNotFoundError):  # cgroup.kill: Linux 5.14; and PID 1 has taken all along already
            _write(f"{self.path}/cgroup.kill", "1")
        _await_empty(self.path)
        remove_tree(self.path)
        self.forget()

    def forget(self) -> None:
        """
        Drop the descriptors: for a forked copy of the harness, whose sandbox this is not.
        """
        for fd in (self._lock, self.init_fd):
            if fd >= 0:
                os.close(fd)
        self._lock = self.init_fd = -1


class Leaf:
    """
    The cgroup of one program.

    Args:
        path: its directory.
        controllers: what it has files of.
        above: the directory of all programs' cgroup, where the sandbox's limits are.
    """

    def __init__(self, path: str, controllers: tuple[str, ...], above: str) -> None:
        self.path = path
        self._above = above
        self._controllers = controllers
        self._throttled_before = _throttled(above, controllers)
        self._refused_before = _refused_forks(above, controllers)
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """
        Drop the descriptor, and read nothing any more: it is removed when it is empty, or with its sandbox.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def figures(self) -> Figures:
        """
        What its programs have cost: field of `Usage` -> value, and the file that it is from.

        Raises:
            MeasurementError: a file does not say what it should.
        """
        found = dict(_counted(self.path, self._controllers))
        if "cpu" in self._controllers:
            throttled = _throttled(self._above, self._controllers) - self._throttled_before
            found["throttled_seconds"] = (throttled, "cgroup cpu.stat, of all programs meanwhile")
        return found

    def now(self) -> tuple[int, float, int] | None:
        """
        Bytes, seconds of processor time, and tasks, at this moment; None where that takes a controller more.
        """
        if not {"memory", "pids"} <= set(self._controllers):
            return None
        seconds = _table(f"{self.path}/cpu.stat")["usage_usec"] / 1e6
        return _number(f"{self.path}/memory.current"), seconds, _number(f"{self.path}/pids.current")

    @property
    def oom_kills(self) -> int:
        """
        How many of its processes the kernel has killed for the lack of memory.
        """
        if "memory" not in self._controllers:
            return 0
        return _table(f"{self.path}/memory.events").get("oom_kill", 0)

    @property
    def refused_forks(self) -> int:
        """
        How often there were too many processes, here or in the sandbox.
        """
        own = _refused_forks(self.path, self._controllers)
        return max(own, _refused_forks(self._above, self._controllers) - self._refused_before)


def _throttled(path: str, controllers: tuple[str, ...]) -> float:
    return _table(f"{path}/cpu.stat").get("throttled_usec", 0) / 1e6 if "cpu" in controllers else 0.0


def _refused_forks(path: str, controllers: tuple[str, ...]) -> int:
    return _table(f"{path}/pids.events").get("max", 0) if "pids" in controllers else 0


def _counted(path: str, controllers: tuple[str, ...]) -> Iterator[tuple[str, tuple[object, str]]]:
    cpu = _table(f"{path}/cpu.stat")
    yield "user_seconds", (cpu["user_usec"] / 1e6, "cgroup cpu.stat")
    yield "system_seconds", (cpu["system_usec"] / 1e6, "cgroup cpu.stat")
    if "io" in controllers:
        read, written = _io(_text(f"{path}/io.stat"))
        yield "read_bytes", (read, "cgroup io.stat")
        yield "written_bytes", (written, "cgroup io.stat")
    with suppress(FileNotFoundError):  # Linux 5.19
        if "memory" in controllers:
            yield "memory_peak_bytes", (_number(f"{path}/memory.peak"), "cgroup memory.peak")
    with suppress(FileNotFoundError):  # Linux 6.1
        if "pids" in controllers:
            yield "processes_peak", (_number(f"{path}/pids.peak"), "cgroup pids.peak")
    with suppress(FileNotFoundError, OSError):  # EOPNOTSUPP where it is off: psi=1
        kinds = ("cpu", "memory", "io")
        some = [_stalled(_text(f"{path}/{kind}.pressure")) for kind in kinds]
        yield "pressure", (Pressure(*some), "cgroup *.pressure")


def _settings(*, bounds: Policy | Bounds, controllers: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """
    What is written to which file, for limits that are set.
    """
    if bounds.memory is not None and "memory" in controllers:
        yield "memory.max", str(bounds.memory)
        yield "memory.swap.max", "0"
    if bounds.processes is not None and "pids" in controllers:
        yield "pids.max", str(bounds.processes)
    if bounds.cpus is not None and "cpu" in controllers:
        yield "cpu.max", f"{round(bounds.cpus * _CPU_PERIOD_US)} {_CPU_PERIOD_US}"


def _together(controllers: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if "memory" in controllers:
        yield "memory.oom.group", "1"  # a program ends with all that it has started, or not at all


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except FileNotFoundError:
        raise OSError(0, f"{text!r} was not taken", path) from None
    except OSError as exc:
        raise OSError(exc.errno, f"{exc.strerror} for {text!r}", path) from exc
    finally:
        os.close(fd)


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _number(path: str) -> int:
    text = _text(path)
    try:
        return int(text)
    except ValueError as exc:
        raise MeasurementError(f"{path}: {text!r} is no number") from exc


def _table(path: str) -> dict[str, int]:
    text = _text(path)
    try:
        pairs = (line.split() for line in text.splitlines())
        return {key: int(value) for key, value in pairs}
    except ValueError as exc:
        raise MeasurementError(f"{path}: {text!r} is no table of numbers") from exc


def _io(text: str) -> tuple[int, int]:
    r"""
    Bytes read and written, of all devices.

    >>> _io("8:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n")
    (100, 20)
    """
    pairs = [pair.split("=") for line in text.splitlines() for pair in line.split()[1:] if "=" in pair]
    read, written = (sum(int(value) for key, value in pairs if key == name) for name in ("rbytes", "wbytes"))
    return read, written


def _stalled(text: str) -> float:
    r"""
    Seconds in which some task stalled.

    >>> _stalled("some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=1\n")
    1.5
    """
    some = next((line for line in text.splitlines() if line.startswith("some ")), "")
    return int(some.rpartition("total=")[2] or 0) / 1e6


def _await_empty(path: str) -> None:
    """
    Wait until no process is in there any more. Source: cgroup-v2.rst, "cgroup.events": a change is POLLPRI.
    """
    deadline = time.monotonic() + _EMPTY_SECONDS
    fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while b"populated 1" in os.pread(fd, 4096, 0) and time.monotonic() < deadline:
            poll.poll(100)
    finally:
        os.close(fd)
