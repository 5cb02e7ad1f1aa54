"""
One program as the conversation about it has it: asked for, started, ended; what it wrote, and why it ended.

Without any input or output: events and bytes are put in, values come out. The blocking `Process` and the one of
`jail.aio` are two ways to carry the bytes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from .capture import Channel
from .command import DEVNULL, Exec
from .denial import Denial, Meanwhile
from .errors import JailError
from .outcome import (
    CpuTimeExceeded,
    DiskFull,
    Event,
    Killed,
    Outcome,
    OutOfMemory,
    OutputLimit,
    ProcessLimit,
    TimedOut,
    outcome_of,
)
from .result import Output, Result, Text
from .timeline import Timeline
from .usage import Figures, Usage, usage_of
from .wire import End, EventKind, Hit
from .wire import Event as Said

__all__ = ["Execution"]

_NO_FIGURES: Figures = {}
_NO_PHASES: Mapping[str, float] = {}


class Execution:
    """
    The state of one exec.

    Args:
        what: what was asked for.

    Attributes:
        figures: what its cgroup says it cost, where it has one.
        oom_kills: how many of its processes the kernel has killed for the lack of memory, in that.
        refused_forks: how often there were too many processes, in that.
        denials: what its sandbox was refused meanwhile.
        setup: seconds of each phase of building the sandbox, for the run that had it built.
        is_silent: there is no more output to come.
    """

    def __init__(self, what: Exec) -> None:
        self.what = what
        self.pid = 0
        self.stdout = self._channel(what.stdout, what.on_stdout)
        self.stderr = self._channel(what.stderr, what.on_stderr)
        self.timeline = Timeline(what.timeline) if what.timeline is not None else None
        self.figures = _NO_FIGURES
        self.oom_kills = 0
        self.refused_forks = 0
        self.setup: Mapping[str, float] = _NO_PHASES
        self.is_silent = False
        self.denials: tuple[Denial, ...] = ()
        self._usage: Usage | None = None
        self._exited: Said | None = None
        self._is_claimed = False
        self._is_lost = False

    def _channel(self, given: int | None, sink: Any) -> Channel:  # noqa: ANN401 - it takes bytes, or text
        what = self.what
        channel = Channel(limit=what.output_limit, sink=sink, decode=what.decode, inert=what.inert)
        if given == DEVNULL:
            channel.divert(lambda _: None)
        return channel

    @property
    def name(self) -> str:
        """
        The program, for messages.
        """
        return os.fsdecode(self.what.args[0])

    @property
    def is_started(self) -> bool:
        """
        Whether the program was executed.
        """
        return self.pid > 0 or self.has_ended

    @property
    def has_ended(self) -> bool:
        """
        Whether its end is known.
        """
        return self._exited is not None or self._is_lost

    @property
    def writes_too_much(self) -> bool:
        """
        Whether its output is more than it may be.
        """
        limit = self.what.bounds.output
        return limit is not None and self._output_bytes > limit

    @property
    def _output_bytes(self) -> int:
        return self.stdout.taken + self.stderr.taken

    def take(self, event: Said, now: tuple[int, float, int] | None = None) -> None:
        """
        What `jail-init` said about this program, but for a FAULT, which is the caller's to raise.

        Args:
            event: that.
            now: bytes, seconds of processor time and tasks, as its cgroup has them for a sample.
        """
        if event.kind is EventKind.STARTED:
            self.pid = event.pid
        elif event.kind is EventKind.EXITED:
            self._exited = event
        elif event.kind is EventKind.SAMPLE and self.timeline is not None:
            memory, seconds, tasks = now or (event.memory, event.user_us / 1e6, event.tasks)
            self.timeline.add(event.wall_ns / 1e9, memory, seconds, tasks)

    def note(self, meanwhile: Meanwhile) -> None:
        """
        What its sandbox did on the network until its end.
        """
        self.denials = meanwhile.denials
        if meanwhile.network_bytes is not None:
            moved = meanwhile.network_bytes, "what the relay has moved for its sandbox meanwhile"
            self.figures = {**self.figures, "network_bytes": moved}

    def claim(self) -> None:
        """
        The caller kills it: that, and no signal from elsewhere, is why it ends.
        """
        self._is_claimed = self._is_claimed or self._exited is None

    def lose(self) -> None:
        """
        It ended with its sandbox, and nobody was left to say how.
        """
        self._is_lost = self._exited is None

    @property
    def outcome(self) -> Outcome | None:
        """
        How it ended; None while it runs.
        """
        if self._exited is None:
            return Killed() if self._is_lost else None
        was_signalled = os.WIFSIGNALED(self._exited.status)
        if self._is_claimed and was_signalled:
            return OutputLimit(self.what.bounds.output or 0) if self.writes_too_much else Killed()
        by_time = _timed_out(self.what, self._exited.end)
        if by_time is not None:
            return by_time
        by_limit = self._by_limit(self._exited) if was_signalled else None
        if by_limit is None and self.writes_too_much:  # it was quicker than we were
            by_limit = OutputLimit(self.what.bounds.output or 0)
        return by_limit or outcome_of(self._exited.status)

    def _by_limit(self, exited: Said) -> Outcome | None:
        """
        The limit behind the signal that ended it; None where there is none, and somebody inside has sent it.
        """
        bounds, number = self.what.bounds, os.WTERMSIG(exited.status)
        used = (exited.user_us + exited.system_us) / 1e6
        killed = number == signal.SIGKILL
        if bounds.memory is not None and killed and (exited.end == End.MEMORY or self.oom_kills):
            return OutOfMemory(bounds.memory, self._peak_bytes(exited))
        if bounds.cpu_seconds is not None and (
            (killed and exited.end == End.CPU) or (number == signal.SIGXCPU and used >= bounds.cpu_seconds)
        ):
            return CpuTimeExceeded(bounds.cpu_seconds, max(used, bounds.cpu_seconds))
        if bounds.processes is not None and killed and exited.end == End.TASKS:
            return ProcessLimit(bounds.processes, exited.tasks)
        return None

    def _peak_bytes(self, exited: Said) -> int:
        peak, _ = self.figures.get("memory_peak_bytes", (exited.memory, ""))
        return int(peak)

    @property
    def events(self) -> tuple[Event, ...]:
        """
        The limits that it came up against and that did not end it.
        """
        return tuple(self._events(self._exited)) if self._exited is not None else ()

    def _events(self, exited: Said) -> Iterator[Event]:
        bounds, hits = self.what.bounds, Hit(exited.hits)
        peak, _ = self.figures.get("processes_peak", (exited.tasks, ""))
        if bounds.processes is not None and (Hit.TASKS in hits or self.refused_forks):
            # pids.peak counts those that were refused, too
            yield ProcessLimit(bounds.processes, min(int(peak), bounds.processes))
        if bounds.disk is not None and Hit.BYTES in hits:
            yield DiskFull(bounds.disk, exited.disk)
        if bounds.inodes is not None and Hit.INODES in hits:
            yield DiskFull(bounds.inodes, bounds.inodes, "inodes")

    @property
    def usage(self) -> Usage | None:
        """
        What it cost; None while it runs, and where it ended with its sandbox.
        """
        if self._exited is None:
            return None
        if self._usage is None or self._usage.setup is not self.setup or not self.is_silent:
            self._usage = usage_of(self._exited, self.figures, self._output_bytes, self.setup)
        return self._usage

    def output(self) -> tuple[Output | Text, Output | Text]:
        """
        What it wrote so far and nobody took: standard output and error; text where the caller wants text.
        """
        kept = self.stdout.output(), self.stderr.output()
        if self.what.decode is None:
            return kept
        encoding, errors = self.what.decode
        return kept[0].as_text(encoding, errors), kept[1].as_text(encoding, errors)

    def result(self) -> Result[Any]:
        """
        All of it.

        Raises:
            JailError: it has not ended, or ended with its sandbox, so that nobody knows what it cost.
        """
        outcome, usage = self.outcome, self.usage
        if outcome is None or usage is None:
            state = "ended with its sandbox" if self.has_ended else "has not ended yet"
            raise JailError(f"{self.name} {state}: there is no result")
        stdout, stderr = self.output()
        args = tuple(os.fsdecode(arg) for arg in self.what.args)
        return Result(
            args,
            outcome,
            stdout,
            stderr,
            usage,
            self.what.guarantees,
            self.events,
            self.timeline,
            self.denials,
        )


def _timed_out(what: Exec, end: int) -> TimedOut | None:
    if end == End.TIME:
        return TimedOut(what.timeout or 0.0)
    if end == End.WALL:
        return TimedOut(what.bounds.wall or 0.0, "wall")
    return None
