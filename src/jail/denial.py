"""
What was refused, by which rule, and the line of policy that would allow it; and what the harness is asked instead.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

__all__ = ["Ask", "AskLater", "Asker", "Denial", "Denials", "FindAsker", "Meanwhile", "Question", "nobody"]

_KEPT = 1024


class Asker(NamedTuple):
    """
    A process inside that has asked for something. It says what it is called, so this is told and judged by nowhere.

    Args:
        comm: what it is called, without control characters, in one line. proc_pid_comm(5)
        pid: as the sandbox has it.
    """

    comm: str
    pid: int


# Looks for who has asked, which takes a while; None where that is not known.
FindAsker = Callable[[], Asker | None]


def nobody() -> None:
    """
    A `FindAsker` for what nobody is known to have asked for.
    """


@dataclass(frozen=True, slots=True)
class Denial:
    """
    One refusal.

    Args:
        guarantee: the promise that it was made for, a key of `GUARANTEES`.
        subject: what was asked for: a name, or an address.
        port: that of the other side; None where only a name was asked for.
        why: a few words.
        rule: the rule that denies it; empty where no rule allows it.
        cure: the line of policy that would allow it, or the limit that would have to be higher.
        comm: what the process that has asked calls itself, see `Asker`; None where it is not known, as when it has
            ended since. Of several that have asked for the same meanwhile, one.
        pid: its own, as the sandbox has it; None likewise.
    """

    guarantee: str
    subject: str
    port: int | None
    why: str
    rule: str
    cure: str
    comm: str | None = field(default=None, compare=False)
    pid: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        what = self.subject if self.port is None else f"{self.subject}, port {self.port}"
        why = self.why + _render_asker(self.comm, self.pid)
        return f"{self.guarantee}: {what}: {why}. To allow it: {self.cure}"

    def asked_by(self, asker: Asker | None) -> Denial:
        """
        The same, of what this process has asked for.
        """
        return self if asker is None else replace(self, comm=asker.comm, pid=asker.pid)


@dataclass(frozen=True, slots=True)
class Question:
    """
    A program of a sandbox wants to connect, and no rule of its policy is about that.

    Args:
        subject: whom to: a name, or an address.
        port: there.
        why: what the rules have to say, in a few words.
        rule: that True adds to the sandbox's, for as long as it lives. It is not for this process alone.
        comm, pid: of the process that has asked first, as in `Denial`.
    """

    subject: str
    port: int
    why: str
    rule: str
    comm: str | None = field(default=None, compare=False)
    pid: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.subject}, port {self.port}: {self.why}{_render_asker(self.comm, self.pid)}"

    def asked_by(self, asker: Asker | None) -> Question:
        """
        The same, of what this process has asked for.
        """
        return self if asker is None else replace(self, comm=asker.comm, pid=asker.pid)


def _render_asker(comm: str | None, pid: int | None) -> str:
    """
    Quoted, so that what a program calls itself does not read as words of ours.
    """
    return "" if comm is None else f" (asked for by {json.dumps(comm, ensure_ascii=False)}, pid {pid})"


# True: it may, from now on. False: it may not, and is not asked for again. None: not this time.
Ask = Callable[[Question], bool | None]
AskLater = Callable[[Question], Coroutine[Any, Any, bool | None]]


class Meanwhile(NamedTuple):
    """
    What a sandbox was refused, and how many bytes it has sent and received, while one program ran; None where
    nobody counts them.
    """

    denials: tuple[Denial, ...]
    network_bytes: int | None


class Denials:
    """
    The refusals of one sandbox, each once, the latest of them. From any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = itertools.count(1)
        self._last = 0
        self._marked = 0
        self._noted: dict[Denial, tuple[Denial, int]] = {}

    def add(self, denial: Denial, find_asker: FindAsker = nobody) -> None:
        """
        Note one. Who has asked is looked for where it is a new one since the latest `mark`.
        """
        known, at = self._noted.get(denial, (denial, 0))
        noted = known if at > self._marked else denial.asked_by(find_asker())
        with self._lock:
            self._noted.pop(denial, None)
            if len(self._noted) >= _KEPT:
                self._noted.pop(next(iter(self._noted)))
            self._last = next(self._serial)
            self._noted[denial] = noted, self._last

    def mark(self) -> int:
        """
        This moment, for `since`.
        """
        self._marked = self._last
        return self._last

    def since(self, mark: int = 0) -> tuple[Denial, ...]:
        """
        Those from then on, in order.
        """
        with self._lock:
            return tuple(denial for denial, at in self._noted.values() if at > mark)
