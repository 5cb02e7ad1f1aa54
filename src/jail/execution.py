"""
One program as the conversation about it has it: asked for, started, ended; what it wrote, and why it ended.

Without any input or output: events and bytes are put in, values come out. The blocking `Process` and the one of
`jail.aio` are two ways to carry the bytes.
"""

from __future__ import annotations

import os
from typing import Any

from .capture import Channel
from .command import DEVNULL, Exec
from .errors import JailError
from .result import Killed, Outcome, Output, Result, Text, TimedOut, Usage, outcome_of
from .wire import Event, EventKind

__all__ = ["Execution"]


class Execution:
    """
    The state of one exec.

    Args:
        what: what was asked for.
    """

    def __init__(self, what: Exec) -> None:
        self.what = what
        self.pid = 0
        self.stdout = self._channel(what.stdout, what.on_stdout)
        self.stderr = self._channel(what.stderr, what.on_stderr)
        self._exited: Event | None = None
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

    def take(self, event: Event) -> None:
        """
        What `jail-init` said about this program, but for a FAULT, which is the caller's to raise.
        """
        if event.kind is EventKind.STARTED:
            self.pid = event.pid
        elif event.kind is EventKind.EXITED:
            self._exited = event

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
        if self._is_claimed and os.WIFSIGNALED(self._exited.status):
            return Killed()
        if self._exited.timed_out:
            return TimedOut(self.what.timeout or 0.0)
        return outcome_of(self._exited.status)

    def usage(self, setup_seconds: float = 0.0) -> Usage | None:
        """
        What it cost; None while it runs, and where it ended with its sandbox.
        """
        exited = self._exited
        if exited is None:
            return None
        return Usage(
            wall_seconds=exited.wall_ns / 1e9,
            user_seconds=exited.user_us / 1e6,
            system_seconds=exited.system_us / 1e6,
            memory_peak_bytes=exited.maxrss_kb * 1024,
            setup_seconds=setup_seconds,
        )

    def output(self) -> tuple[Output | Text, Output | Text]:
        """
        What it wrote so far and nobody took: standard output and error; text where the caller wants text.
        """
        kept = self.stdout.output(), self.stderr.output()
        if self.what.decode is None:
            return kept
        encoding, errors = self.what.decode
        return kept[0].as_text(encoding, errors), kept[1].as_text(encoding, errors)

    def result(self, setup_seconds: float = 0.0) -> Result[Any]:
        """
        All of it.

        Raises:
            JailError: it has not ended, or ended with its sandbox, so that nobody knows what it cost.
        """
        outcome, usage = self.outcome, self.usage(setup_seconds)
        if outcome is None or usage is None:
            state = "ended with its sandbox" if self.has_ended else "has not ended yet"
            raise JailError(f"{self.name} {state}: there is no result")
        stdout, stderr = self.output()
        args = tuple(os.fsdecode(arg) for arg in self.what.args)
        return Result(args, outcome, stdout, stderr, usage, self.what.guarantees)
