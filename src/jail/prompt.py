"""
Asks the person at the terminal what no rule of a network allowlist decides: ``jail run --ask``.
"""

from __future__ import annotations

import os
import threading

from .denial import Question
from .errors import UnsupportedError
from .inert import render_inert

__all__ = ["Prompt"]

_ANSWERS = {b"y": True, b"yes": True, b"n": False, b"no": False}
_LINE_BYTES = 4096  # N_TTY_BUF_SIZE: a terminal gives no longer line


class Prompt:
    """
    A function for `ask` of `jail.run`. It asks at the controlling terminal, whatever the standard streams are.

    Raises:
        UnsupportedError: there is no controlling terminal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        try:
            self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as exc:
            raise UnsupportedError(
                "--ask", needs="a controlling terminal to ask at", found=os.strerror(exc.errno or 0)
            ) from exc

    def __call__(self, question: Question) -> bool | None:
        """
        Ask about one thing, after the other. What is neither yes nor no means not this time.
        """
        text = f"jail: {render_inert(str(question))}. Allow it? [y]es, [n]o, or not now: "
        with self._lock:
            os.write(self._terminal, text.encode())
            return _ANSWERS.get(os.read(self._terminal, _LINE_BYTES).strip().lower())

    def close(self) -> None:
        """
        Let go of the terminal.
        """
        os.close(self._terminal)
