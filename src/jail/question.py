"""
What no rule decides, put to the harness: its own function is asked whether this may be reached, while a program waits.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

from .denial import Ask, FindAsker, Question, nobody
from .reactor import Reactor

__all__ = ["Questions"]

_AT_ONCE = 16
_REFUSED_MAX = 4096  # that are remembered; of one that is not, the harness is asked again

_log = logging.getLogger("jail")


class Questions:
    """
    Those of one sandbox. What is asked meanwhile by several connections is asked once.

    Args:
        reactor: in whose thread answers are given.
        ask: who is asked, each time in a thread of its own. What it raises is logged, and is no answer.
    """

    def __init__(self, reactor: Reactor, ask: Ask) -> None:
        self._reactor = reactor
        self._ask = ask
        self._refused: dict[Question, None] = {}  # the oldest first
        self._waiting: dict[Question, list[Callable[[bool], object]]] = {}
        self._queue: list[Question] = []
        self._running = 0

    def put(
        self, question: Question, on_answer: Callable[[bool], object], find_asker: FindAsker = nobody
    ) -> None:
        """
        Call back with the answer, now or when there is one. Who has asked is looked for where the harness is to be
        asked, and told to it.
        """
        if question in self._refused:
            on_answer(False)  # noqa: FBT003 - the answer
        elif question in self._waiting:
            self._waiting[question].append(on_answer)
        else:
            self._waiting[question] = [on_answer]
            self._queue.append(question.asked_by(find_asker()))
            self._start()

    def _start(self) -> None:
        while self._queue and self._running < _AT_ONCE:
            self._running += 1
            question = self._queue.pop(0)
            threading.Thread(target=self._run, args=(question,), name="jail-ask", daemon=True).start()

    def _run(self, question: Question) -> None:
        answer: bool | None = None
        try:
            answer = _checked(self._ask(question))
        except Exception:  # noqa: BLE001 - a caller's function; nobody waits for it here
            _log.exception("ask(%s) gave no answer, so it is refused", question)
            answer = None
        finally:
            self._reactor.submit(lambda: self._answered(question, answer))

    def _answered(self, question: Question, answer: bool | None) -> None:  # noqa: FBT001 - the answer
        self._running -= 1
        if answer is False:
            self._refused[question] = None
            while len(self._refused) > _REFUSED_MAX:
                del self._refused[next(iter(self._refused))]
        for on_answer in self._waiting.pop(question):
            self._reactor.submit(functools.partial(on_answer, answer is True))  # each by itself: one may fail
        self._start()


def _checked(answer: object) -> bool | None:
    """
    An answer, and not just something that is true: a coroutine is, too.
    """
    if answer is not None and not isinstance(answer, bool):
        raise TypeError(f"ask gave {answer!r}, which is none of True, False and None")
    return answer
