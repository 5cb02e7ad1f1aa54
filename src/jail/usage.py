"""
What a run cost: the figures, and where each came from.

Pure data. A figure that this host cannot give is None, and never a guess: which is which depends on whether the
program had a cgroup of its own, and `Usage.sources` says so for each.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .wire import Event

__all__ = ["Figures", "Ledger", "Pressure", "Usage", "add_up", "usage_of"]


# Plain, so that a result can be pickled: nobody writes to it.
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Pressure:
    """
    How long at least one of its tasks waited for something that others had. Unit: seconds.

    Source: the kernel's Documentation/accounting/psi.rst, "some total=".
    """

    cpu_seconds: float
    memory_seconds: float
    io_seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What a run cost: the program, and all that it started, until its end.

    Without a cgroup the kernel knows the sum for the program and for what it has waited for, and `jail-init` adds
    what it sees of the rest as it looks, some dozen times a second.

    Args:
        wall_seconds: from the program's start to its end.
        user_seconds: processor time in user mode.
        system_seconds: processor time in the kernel.
        memory_peak_bytes: the most memory it had at once.
        read_bytes: from block devices.
        written_bytes: to block devices, or to the page cache for them.
        processes_started: processes and threads started in the sandbox meanwhile, the program among them.
        processes_peak: processes and threads alive at once.
        voluntary_switches: times that it waited.
        involuntary_switches: times that it was made to.
        minor_faults: pages that were there, or were made.
        major_faults: pages that were read from a device.
        disk_peak_bytes: the most that the sandbox's own files took, of all its programs.
        throttled_seconds: time that it was kept from running by `cpus`.
        pressure: what it waited for.
        network_bytes: sent and received by the sandbox meanwhile, where its network is a list; None where nobody
            counts them.
        output_bytes: written to standard output and error, as far as that comes by the harness.
        setup: seconds of each phase of building the sandbox, for the run that had it built.
        sources: field -> what its figure was read from.
    """

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    memory_peak_bytes: int
    read_bytes: int | None = None
    written_bytes: int | None = None
    processes_started: int | None = None
    processes_peak: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    disk_peak_bytes: int | None = None
    throttled_seconds: float | None = None
    pressure: Pressure | None = None
    network_bytes: int | None = None
    output_bytes: int = 0
    setup: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    sources: Mapping[str, str] = field(default_factory=lambda: _NOTHING, repr=False)

    @property
    def cpu_seconds(self) -> float:
        """
        Processor time, user and system together.
        """
        return self.user_seconds + self.system_seconds

    @property
    def setup_seconds(self) -> float:
        """
        Building the sandbox, for the run that had it built; otherwise 0.
        """
        return sum(self.setup.values())

    def as_dict(self) -> dict[str, Any]:
        """
        All of it, in types that JSON has.
        """
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        found["setup"], found["sources"] = dict(self.setup), dict(self.sources)
        found["pressure"] = asdict(self.pressure) if self.pressure is not None else None
        return found | {"cpu_seconds": self.cpu_seconds, "setup_seconds": self.setup_seconds}


# What a cgroup's files say, in the words of `Usage`, and which file said it.
Figures = Mapping[str, tuple[Any, str]]

_RUSAGE = "wait4(2), of it and of all that it and its children waited for"
_SAMPLED = "what jail-init saw as it looked"
_BLOCKS = 512  # getrusage(2), ru_inblock

# Field -> what it was read from, where there is no cgroup.
_ALWAYS = {
    "wall_seconds": "clock_gettime(2), by jail-init",
    "user_seconds": _RUSAGE,
    "system_seconds": _RUSAGE,
    "memory_peak_bytes": "wait4(2), of the largest process",
    "read_bytes": _RUSAGE,
    "written_bytes": _RUSAGE,
    "voluntary_switches": _RUSAGE,
    "involuntary_switches": _RUSAGE,
    "minor_faults": _RUSAGE,
    "major_faults": _RUSAGE,
    "output_bytes": "what the harness read",
}
_WHERE_SEEN = {
    "memory_peak_bytes": _SAMPLED,
    "processes_peak": _SAMPLED,
    "processes_started": "the last pid of its PID namespace",
    "disk_peak_bytes": "statfs(2) of the sandbox's tmpfs",
}


@functools.lru_cache(maxsize=16)
def _sources(*seen: bool) -> Mapping[str, str]:
    """
    The same, with what `jail-init` has seen of `_WHERE_SEEN`.
    """
    rows = zip(_WHERE_SEEN.items(), seen, strict=True)
    return _ALWAYS | {name: source for (name, source), is_seen in rows if is_seen}


def usage_of(
    exited: Event, figures: Figures, output_bytes: int, setup: Mapping[str, float] = _NOTHING
) -> Usage:
    """
    What a program cost, by what `jail-init` said of its end.

    Args:
        exited: that.
        figures: what its cgroup says, where it had one. They win: they are of all that it started.
        output_bytes: that the harness has read of its output.
        setup: seconds of each phase of building the sandbox, if that was for this run.
    """
    largest = exited.maxrss_kb * 1024
    usage = Usage(
        exited.wall_ns / 1e9,
        exited.user_us / 1e6,
        exited.system_us / 1e6,
        max(largest, exited.memory),
        exited.read_blocks * _BLOCKS,
        exited.written_blocks * _BLOCKS,
        exited.started or None,
        exited.tasks or None,
        exited.voluntary,
        exited.involuntary,
        exited.minor_faults,
        exited.major_faults,
        exited.disk or None,
        output_bytes=output_bytes,
        setup=setup,
        sources=_sources(exited.memory > largest, exited.tasks > 0, exited.started > 0, exited.disk > 0),
    )
    if not figures:
        return usage
    said = {name: value for name, (value, _) in figures.items()}
    sources = {**usage.sources, **{name: source for name, (_, source) in figures.items()}}
    return replace(usage, sources=sources, **said)


class Ledger:
    """
    What the programs of a sandbox have cost together. Bounded, however many there were; a program ends in
    whichever thread drives it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usages: list[Usage] = []

    def add(self, usage: Usage) -> None:
        """
        One more has ended.
        """
        with self._lock:
            self._usages.append(usage)
            if len(self._usages) >= _LEDGER_ROWS:
                self._usages = [add_up(self._usages)]

    def total(self, wall_seconds: float, figures: Figures) -> Usage:
        """
        All of it, after so many seconds.

        Args:
            wall_seconds: since the sandbox was made.
            figures: what its cgroup says, where it has one: of what still runs, too.
        """
        said = {name: value for name, (value, _) in figures.items()}
        whence = {name: source for name, (_, source) in figures.items()}
        with self._lock:
            total = add_up(self._usages)
        sources = {**total.sources, "wall_seconds": "since the sandbox was made", **whence}
        return replace(total, **said, wall_seconds=wall_seconds, sources=sources)


def add_up(usages: Sequence[Usage]) -> Usage:
    """
    What several runs cost together: sums, and the highest peaks.

    A sum that one of them does not know its part of is None; so is a peak that none of them knows.
    """
    total: dict[str, Any] = {}
    for name in _SUMMED:
        values = [getattr(usage, name) for usage in usages]
        total[name] = None if None in values else sum(values)
    for name in _PEAKS:
        total[name] = max(
            (value for usage in usages if (value := getattr(usage, name)) is not None), default=None
        )
    total["memory_peak_bytes"] = total["memory_peak_bytes"] or 0
    setup = next((usage.setup for usage in usages if usage.setup), _NOTHING)
    known = [name for name, value in total.items() if value is not None]
    return Usage(**total, setup=setup, sources=dict.fromkeys(known, "its programs that have ended, together"))


_LEDGER_ROWS = 256
_PEAKS = ("memory_peak_bytes", "processes_peak", "disk_peak_bytes")
_SUMMED = tuple(
    item.name
    for item in fields(Usage)
    if item.name not in {*_PEAKS, "network_bytes", "pressure", "setup", "sources"}
)
