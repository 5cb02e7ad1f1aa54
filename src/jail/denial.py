"""
What was refused, by which rule, and the line of policy that would allow it; and what the harness is asked instead.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Ask", "AskLater", "Denial", "Denials", "Meanwhile", "Question"]

_KEPT = 1024


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
        cure: the line of policy that would allow it.
    """

    guarantee: str
    subject: str
    port: int | None
    why: str
    rule: str
    cure: str

    def __str__(self) -> str:
        what = self.subject if self.port is None else f"{self.subject}, port {self.port}"
        return f"{self.guarantee}: {what}: {self.why}. To allow it: {self.cure}"


@dataclass(frozen=True, slots=True)
class Question:
    """
    A program of a sandbox wants to connect, and no rule of its policy is about that.

    Args:
        subject: whom to: a name, or an address.
        port: there.
        why: what the rules have to say, in a few words.
        rule: that True adds to the sandbox's, for as long as it lives.
    """

    subject: str
    port: int
    why: str
    rule: str

    def __str__(self) -> str:
        return f"{self.subject}, port {self.port}: {self.why}"


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
        self._at: dict[Denial, int] = {}

    def add(self, denial: Denial) -> None:
        """
        Note one.
        """
        with self._lock:
            self._at.pop(denial, None)
            if len(self._at) >= _KEPT:
                self._at.pop(next(iter(self._at)))
            self._at[denial] = self._last = next(self._serial)

    def mark(self) -> int:
        """
        This moment, for `since`.
        """
        return self._last

    def since(self, mark: int = 0) -> tuple[Denial, ...]:
        """
        Those from then on, in order.
        """
        with self._lock:
            return tuple(denial for denial, at in self._at.items() if at > mark)
