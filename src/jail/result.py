"""
What a run gives back: how it ended, what it said, what it cost, and what was enforced meanwhile.

Pure data.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Self, TypeVar

from .denial import Denial
from .errors import ProgramError
from .guarantee import Guarantee
from .outcome import Event, Exited, Outcome
from .timeline import Timeline
from .usage import Usage

__all__ = ["Output", "Result", "Text"]


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
        events: limits that it came up against, and that did not end it.
        timeline: what it used over time, where that was asked for.
        denials: what was refused in its sandbox while it ran.
    """

    args: tuple[str, ...]
    outcome: Outcome
    stdout: Written
    stderr: Written
    usage: Usage
    guarantees: tuple[Guarantee, ...] = field(repr=False)
    events: tuple[Event, ...] = ()
    timeline: Timeline | None = field(default=None, repr=False)
    denials: tuple[Denial, ...] = ()

    @property
    def exit_code(self) -> int:
        """
        One number for the outcome: the program's own, 128 and a signal, 124 for a timeout, 137 when killed, or
        out of memory.
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
        return json.dumps(
            {
                "args": self.args,
                "exit_code": self.exit_code,
                "outcome": _with_kind(self.outcome),
                "events": [_with_kind(event) for event in self.events],
                "denials": [{**asdict(denial), "text": str(denial)} for denial in self.denials],
                "stdout": self.stdout.text,
                "stderr": self.stderr.text,
                "dropped_bytes": {"stdout": self.stdout.dropped, "stderr": self.stderr.dropped},
                "usage": self.usage.as_dict(),
                "timeline": self.timeline.as_dict() if self.timeline is not None else None,
                "guarantees": [asdict(guarantee) for guarantee in self.guarantees],
            }
        )


def _with_kind(what: Outcome | Event) -> dict[str, Any]:
    return {"kind": type(what).__name__.lower(), **asdict(what), "text": str(what)}
