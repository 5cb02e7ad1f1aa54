"""
What live sandboxes use at this moment, seen from outside, and which programs run in them. Reads only.

Where a sandbox has a cgroup that counts it is asked: the kernel's own sum, page cache and kernel memory included.
Otherwise the processes below its `jail-init` are added up, by psutil: of their memory the proportional set size
(PSS), which divides what is shared among those who share it. A sum of resident sizes would count the libraries of
a hundred workers a hundred times, and one of unique sizes (USS) not once. `jail-init` and its shepherds are not
counted where they can be told apart; the processor time of those that have ended is, as far as somebody waited for
them.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from shlex import join
from typing import Any

from .errors import MeasurementError, UnsupportedError
from .inert import render_inert_line
from .registry import Record

__all__ = ["Reading", "read_all"]

# Of one command line. A program may give itself one of megabytes.
_COMMAND_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    What one sandbox uses.

    Args:
        at_seconds: when it was looked at, by the monotonic clock.
        cpu_seconds: processor time since its start.
        memory_bytes: of its programs.
        processes: of its programs, threads counted.
        commands: those that were started in it and run, and daemons that they have left: without control
            characters, each in one line.
        source: "cgroup" or "processes".
    """

    at_seconds: float
    cpu_seconds: float
    memory_bytes: int
    processes: int
    commands: tuple[str, ...]
    source: str


def read_all(records: Iterable[Record]) -> list[tuple[Record, Reading]]:
    """
    A reading of each sandbox that is still there.

    Raises:
        UnsupportedError: one has no cgroup that counts, and psutil is not installed.
        MeasurementError: a file of the kernel's does not say what it should.
    """
    found = [(record, _of_cgroup(record)) for record in records]
    host = None if all(reading for _, reading in found) else _Host()
    complete = [(record, reading or (host and host.read(record))) for record, reading in found]
    return [(record, reading) for record, reading in complete if reading]


def _of_cgroup(record: Record) -> Reading | None:
    """
    What a sandbox's cgroup says; None where it has none, none that counts memory and tasks, or is gone.
    """
    if record.cgroup is None:
        return None
    place = f"{record.cgroup}/programs"
    try:
        return Reading(
            at_seconds=time.monotonic(),
            cpu_seconds=int(dict(map(str.split, _text(f"{place}/cpu.stat").splitlines()))["usage_usec"])
            / 1e6,
            memory_bytes=int(_text(f"{place}/memory.current")),
            processes=int(_text(f"{place}/pids.current")),
            commands=tuple(_commands_of_cgroup(place)),
            source="cgroup",
        )
    except OSError:  # ENODEV where it was removed between open(2) and read(2)
        return None
    except (KeyError, ValueError) as exc:
        raise MeasurementError(
            f"{place}: not what cpu.stat, memory.current and pids.current say: {exc}"
        ) from exc


def _commands_of_cgroup(place: str) -> Iterator[str]:
    """
    In the cgroup of each program, the processes whose parent is not in there.
    """
    for leaf in sorted(os.listdir(place)):
        with suppress(OSError):  # a file, or it has ended
            pids = set(map(int, _text(f"{place}/{leaf}/cgroup.procs").split()))
            yield from (
                command for pid in sorted(pids) if _parent(pid) not in pids and (command := _command(pid))
            )


class _Host:
    """
    Every process of this host, looked at once for all sandboxes.

    Raises:
        UnsupportedError: psutil is not installed.
    """

    def __init__(self) -> None:
        try:
            import psutil  # noqa: PLC0415 - optional
        except ImportError:
            raise UnsupportedError(
                "top",
                needs="psutil 5.9, for a sandbox without a cgroup",
                found="none",
                cure="pip install 'jail[psutil]' installs it",
            ) from None
        self._psutil = psutil
        self._processes: dict[int, Any] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        for process in psutil.process_iter(["ppid"]):
            self._processes[process.pid] = process
            self._children[process.info["ppid"]].append(process.pid)

    def read(self, record: Record) -> Reading | None:
        """
        What the processes below a `jail-init` use together; None where that is gone.
        """
        if record.init_pid not in self._processes:
            return None
        at_seconds = time.monotonic()
        cpu_seconds, memory_bytes, tasks = 0.0, 0, 0
        for pid, is_ours in self._family(record.init_pid):
            if figures := self._figures(self._processes[pid]):
                cpu_seconds += figures[0]
                if not is_ours:
                    memory_bytes, tasks = memory_bytes + figures[1], tasks + figures[2]
            elif pid == record.init_pid:
                return None
        return Reading(
            at_seconds=at_seconds,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory_bytes,
            processes=tasks,
            commands=tuple(filter(None, map(_command, self._leaders(record.init_pid)))),
            source="processes",
        )

    def _family(self, init_pid: int) -> Iterator[tuple[int, bool]]:
        """
        A `jail-init` and all below it, and of each whether it is ours: of what its executable file says, never of
        its name, by which a program could hide.
        """
        init_file = _executable(init_pid)
        shepherds = {
            pid for pid in self._children.get(init_pid, ()) if init_file and _executable(pid) == init_file
        }
        waiting = [init_pid]
        while waiting:
            pid = waiting.pop()
            yield pid, pid == init_pid or pid in shepherds
            waiting += self._children.get(pid, ())

    def _figures(self, process: Any) -> tuple[float, int, int] | None:  # noqa: ANN401 - psutil's
        """
        Processor time with that of the children it has waited for, memory, and threads; None where it is gone.
        """
        try:
            with process.oneshot():
                seconds = sum(
                    process.cpu_times()[:4]
                )  # its own and its children's, in user mode and in the kernel
                return seconds, self._memory(process), process.num_threads()
        except self._psutil.NoSuchProcess:
            return None

    def _memory(self, process: Any) -> int:  # noqa: ANN401 - psutil's
        try:
            return int(process.memory_full_info().pss)
        except self._psutil.AccessDenied:  # it is not dumpable: ptrace(2)
            return int(process.memory_info().rss)

    def _leaders(self, init_pid: int) -> Iterator[int]:
        """
        The processes that a shepherd has started, or adopted; and those that came to `jail-init` without one.

        For what is shown a name will do: where `jail-init` is nobody's to look at its file is not known.
        """
        name = _arguments(init_pid)
        for pid in sorted(self._children.get(init_pid, ())):
            if _arguments(pid) == name:
                yield from sorted(self._children.get(pid, ()))
            else:
                yield pid


def _executable(pid: int) -> tuple[int, int] | None:
    """
    Which file a process executes; None where that may not be known, or it is gone.
    """
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _parent(pid: int) -> int:
    """
    The parent's pid; 0 where it is gone, or outside. Source: proc_pid_stat(5).
    """
    with suppress(OSError):
        return int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> str:
    """
    A command line in one line, or the process's name where that is empty; nothing where it is gone.
    """
    arguments = _arguments(pid)
    if arguments:
        return render_inert_line(join(os.fsdecode(arg) for arg in arguments))
    with suppress(OSError):
        name = _text(f"/proc/{pid}/comm").removesuffix("\n")
        return render_inert_line(f"[{name}]")
    return ""


def _arguments(pid: int) -> list[bytes]:
    """
    The first of what a process was given, or shows as that. Source: proc_pid_cmdline(5).
    """
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        text = file.read(_COMMAND_BYTES)
        return text.removesuffix(b"\0").split(b"\0") if text.strip(b"\0") else []
    return []


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
