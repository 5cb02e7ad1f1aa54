"""
What a run gives back: how it ended, what it said, what it cost, and what was enforced meanwhile.

Pure data.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Self, TypeVar

from .errors import ProgramError
from .guarantee import Guarantee

__all__ = ["Exited", "Killed", "Outcome", "Output", "Result", "Signalled", "Text", "TimedOut", "Usage"]


class Output(bytes):
    """
    Bytes that a program wrote, as it wrote them: all of them, or the beginning and the end.

    Args:
        kept: the bytes.
        dropped: how many more there were, between the beginning and the end.
        cut: where in `kept` they were left out.
    """

    dropped: int
    cut: int

    def __new__(cls, kept: bytes = b"", *, dropped: int = 0, cut: int = 0) -> Self:  # noqa: D102 - see the class
        self = super().__new__(cls, kept)
        self.dropped = dropped
        self.cut = cut
        return self

    @property
    def truncated(self) -> bool:
        """
        Whether something was dropped.
        """
        return self.dropped > 0

    @property
    def text(self) -> str:
        """
        The same as text: UTF-8, with U+FFFD for what is not. Where something was dropped a line says so.
        """
        return self.as_text("utf-8", "replace")

    def as_text(self, encoding: str, errors: str) -> Text:
        """
        The same in another encoding, with another of the codecs module's error handlers.
        """
        if not self.dropped:
            return Text(self.decode(encoding, errors))
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        head = decoder.decode(self[: self.cut])
        decoder.setstate((b"", decoder.getstate()[1]))  # it may know the order of bytes from the beginning
        tail = self[self.cut :]
        first = _first_character(tail, codecs.lookup(encoding).name, self.cut + self.dropped)
        gap = f"\n[{self.dropped} bytes dropped]\n"
        if first is None:  # nobody can tell, and that is no fault of the program's
            return Text(head + gap + tail.decode(encoding, "replace"), dropped=self.dropped)
        return Text(head + gap + decoder.decode(tail[first:], final=True), dropped=self.dropped)


def _first_character(tail: bytes, codec: str, offset: int) -> int | None:
    """
    Where the first whole character begins, in what may begin in the midst of one; None where that cannot be told.

    Args:
        tail: the end of a stream.
        codec: its name, as codecs.lookup has it.
        offset: where in the stream it begins.
    """
    if codec.startswith(("utf-16", "utf-32")):
        return -offset % (int(codec[4:6]) // 8)
    if codec.startswith("utf-8"):
        return len(tail[:3]) - len(tail[:3].lstrip(_CONTINUATION))
    for skipped in range(min(4, len(tail))):  # GB 18030 has the longest characters of the rest
        try:
            tail[skipped:].decode(codec)
        except UnicodeDecodeError:
            continue
        return skipped
    return None if tail else 0


_CONTINUATION = bytes(range(0x80, 0xC0))  # RFC 3629


class Text(str):
    """
    What a program wrote, as text. Where something was dropped a line says so.

    Args:
        kept: the text.
        dropped: bytes that were left out.
    """

    __slots__ = ("dropped",)

    dropped: int

    def __new__(cls, kept: str = "", *, dropped: int = 0) -> Self:  # noqa: D102 - see the class
        self = super().__new__(cls, kept)
        self.dropped = dropped
        return self

    @property
    def truncated(self) -> bool:
        """
        Whether something was dropped.
        """
        return self.dropped > 0

    @property
    def text(self) -> str:
        """
        The same: so that `Result` reads alike for bytes and text.
        """
        return self


Written = TypeVar("Written", Output, Text)


@dataclass(frozen=True, slots=True)
class Exited:
    """
    It called exit(3) or returned from main.
    """

    code: int

    @property
    def exit_code(self) -> int:
        """
        The code itself, 0 to 255.
        """
        return self.code

    def __str__(self) -> str:
        return f"exited with {self.code}"


@dataclass(frozen=True, slots=True)
class Signalled:
    """
    A signal ended it that the sandbox did not send.
    """

    signal: int
    core_dumped: bool = False

    @property
    def exit_code(self) -> int:
        """
        128 and the signal's number, as shells have it.
        """
        return 128 + self.signal

    def __str__(self) -> str:
        known = {member.value: member.name for member in signal.Signals}
        return f"ended by {known.get(self.signal, f'signal {self.signal}')}"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """
    Its time was over, and it was sent SIGTERM, and SIGKILL if that did not end it. Unit: seconds allowed.
    """

    seconds: float

    @property
    def exit_code(self) -> int:
        """
        124, as timeout(1) has it.
        """
        return 124

    def __str__(self) -> str:
        return f"timed out after {self.seconds:g} seconds"


@dataclass(frozen=True, slots=True)
class Killed:
    """
    The caller killed it.
    """

    @property
    def exit_code(self) -> int:
        """
        137, 128 and SIGKILL.
        """
        return 128 + int(signal.SIGKILL)

    def __str__(self) -> str:
        return "killed by the caller"


Outcome = Exited | Signalled | TimedOut | Killed


def outcome_of(status: int) -> Exited | Signalled:
    """
    The outcome in a wait status. Source: wait(2), ``WIFEXITED`` and its kin.

    >>> outcome_of(0x0100), outcome_of(9), outcome_of(0x80 | 11)
    (Exited(code=1), Signalled(signal=9, core_dumped=False), Signalled(signal=11, core_dumped=True))
    """
    if os.WIFEXITED(status):
        return Exited(os.WEXITSTATUS(status))
    return Signalled(os.WTERMSIG(status), os.WCOREDUMP(status))


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What a run cost. Source: clock_gettime(2), and wait4(2)'s rusage of the program and of those of its
    children that it waited for.

    Args:
        wall_seconds: from the program's start to its end.
        user_seconds: processor time in user mode.
        system_seconds: processor time in the kernel.
        memory_peak_bytes: the largest resident set of any one of those processes.
        setup_seconds: building the sandbox, for the run that had it built; otherwise 0.
    """

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    memory_peak_bytes: int
    setup_seconds: float = 0.0

    @property
    def cpu_seconds(self) -> float:
        """
        Processor time, user and system together.
        """
        return self.user_seconds + self.system_seconds


@dataclass(frozen=True, slots=True)
class Result(Generic[Written]):
    """
    One program's run.

    Args:
        args: what was executed.
        outcome: how it ended.
        stdout: what it wrote to standard output, unless that went elsewhere: bytes, or with ``text=True`` text.
        stderr: what it wrote to standard error, likewise.
        usage: what it cost.
        guarantees: what was enforced, by which mechanism.
    """

    args: tuple[str, ...]
    outcome: Outcome
    stdout: Written
    stderr: Written
    usage: Usage
    guarantees: tuple[Guarantee, ...] = field(repr=False)

    @property
    def exit_code(self) -> int:
        """
        One number for the outcome: the program's own, 128 and a signal, 124 for a timeout, 137 when killed.
        """
        return self.outcome.exit_code

    @property
    def ok(self) -> bool:
        """
        Whether it exited with 0.
        """
        return self.outcome == Exited(0)

    def check(self) -> Self:
        """
        This result, if the program exited with 0.

        Raises:
            ProgramError: it did not.
        """
        if not self.ok:
            raise ProgramError(self)
        return self

    def to_json(self) -> str:
        """
        All of it as one line of JSON. Output that is not UTF-8 has U+FFFD in it.
        """
        outcome: dict[str, Any] = {"kind": type(self.outcome).__name__.lower(), **asdict(self.outcome)}
        return json.dumps(
            {
                "args": self.args,
                "exit_code": self.exit_code,
                "outcome": outcome,
                "stdout": self.stdout.text,
                "stderr": self.stderr.text,
                "dropped_bytes": {"stdout": self.stdout.dropped, "stderr": self.stderr.dropped},
                "usage": asdict(self.usage),
                "guarantees": [asdict(guarantee) for guarantee in self.guarantees],
            }
        )
