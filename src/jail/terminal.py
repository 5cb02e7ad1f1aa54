"""
The caller's own terminal, while a program runs at another one. pty(7), termios(3)

The program's terminal is a pseudoterminal whose master we hold: it never has the caller's. What is typed goes
in as bytes, Ctrl-C among them, and what comes out is copied. The caller's terminal is put back as it was
however this ends, SIGKILL excepted.

What the caller's descriptors are open on is shared with the shell and others: O_NONBLOCK is not set there.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import termios
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any, Self

from .inert import Inert
from .relay import Relay, is_main_thread

__all__ = ["Terminal"]

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)


class Terminal:
    """
    The caller's terminal, raw within a ``with`` statement if `input_fd` is one.

    In the main thread, signals that end or stop us put it back first; then the caller's own handler is called,
    or the signal takes its default action. Where it is not the main thread, or a signal is ignored or was
    taken by C code (readline has SIGWINCH), nothing is installed.

    While we are a job in the background the terminal is left alone; it becomes raw when we are in front.

    Args:
        input_fd: what is typed.
        output_fd: where the program's output is shown.
        before: what it is shown each time that it has become raw, such as the sequence that clears it.
        after: what it is shown before it is put back.
    """

    def __init__(
        self, input_fd: int = 0, output_fd: int = 1, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        self.input_fd = input_fd
        self.output_fd = output_fd
        self._before = before
        self._after = after
        self.is_raw = False
        self._saved: list[Any] | None = None
        self._previous: dict[int, Any] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            if os.isatty(self.input_fd):
                self._saved = termios.tcgetattr(self.input_fd)
                self._pid = os.getpid()
                atexit.register(self._restore)
                undo.callback(atexit.unregister, self._restore)
                for number in _ENDING:
                    self._handle(number, self._end_or_stop, undo)
                self._handle(signal.SIGCONT, self._go_on, undo)
                undo.callback(self._restore)
                self.make_raw()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
        self._saved = None

    def relay(self, master: int, ended: int, *, inert: bool = False) -> None:
        """
        Copy what is typed to the program and what it writes to the output, until it has ended.

        No more than a piece is kept in each direction: nothing is read before the last piece was taken. What
        the program has left in its terminal is shown before this returns, however long the output takes; it
        ends at once when the caller's terminal is hung up. Each change of that terminal's size is passed on.

        At the end of an input that is no terminal, the program's end-of-file character (VEOF, Ctrl-D) is sent,
        once: as termios(3) has it, it hands what is typed to the reader, and only at the start of a line is
        that nothing, which is read as the end. So a last line without its newline is followed by two. A
        program that reads on after it has seen the end, or that has left canonical mode, waits for good.

        Args:
            master: of the program's terminal. It is set non-blocking meanwhile.
            ended: readable, or hung up, as soon as the program has ended: a pidfd, or a pipe.
            inert: whether what is shown is to be free of control characters: see `jail.inert`.

        Raises:
            SetupError: `master` is not the master of a pseudoterminal.
            OSError: the output cannot be written: BrokenPipeError where nobody reads it any more.
        """
        is_terminal = os.isatty(self.output_fd) or self._saved is not None
        try:
            with ExitStack() as undo:
                Relay(self, master, Inert() if inert else None, undo).run(ended)
        except OSError as exc:
            if exc.errno != errno.EIO or not is_terminal:
                raise  # else the terminal was hung up

    def make_raw(self) -> None:
        """
        Put the terminal into raw mode if it is one, and is ours to change.

        A shell's other jobs, and the shell itself, are at it while we are not in its foreground. One that does
        not control our session has no jobs.
        """
        if self._saved is None or self._pid != os.getpid():
            return
        try:
            self.is_raw = os.tcgetpgrp(self.input_fd) == os.getpgrp()
        except OSError:
            self.is_raw = True
        if self.is_raw:
            self._set(_raw(self._saved))
            self._show(self._before)

    def _restore(self) -> None:
        if self.is_raw and self._saved is not None and self._pid == os.getpid():
            self._show(self._after)
            self._set(self._saved)
            self.is_raw = False

    def _show(self, sequence: bytes) -> None:
        if sequence:
            with suppress(OSError):  # it was hung up
                os.write(self.output_fd, sequence)

    def _set(self, attributes: list[Any]) -> None:
        """
        At once: to wait until the output is shown (TCSADRAIN) may be to wait for good. From the background it
        would stop us, were SIGTTOU not blocked: tcsetattr(3p). A terminal that is hung up has no attributes.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            with suppress(termios.error):
                termios.tcsetattr(self.input_fd, termios.TCSANOW, attributes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _handle(self, number: int, handler: Callable[[int, FrameType | None], None], undo: ExitStack) -> None:
        previous = signal.getsignal(number)
        ignored = previous is signal.SIG_IGN and number in _ENDING
        if previous is not None and not ignored and is_main_thread():
            self._previous[number] = previous
            undo.callback(signal.signal, number, previous)
            signal.signal(number, handler)

    def _end_or_stop(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        if callable(previous := self._previous[number]):
            previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)  # returns from SIGTSTP only
            signal.signal(number, self._end_or_stop)
        self.make_raw()

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        """
        After a stop, SIGSTOP included, the terminal is as the shell has set it.
        """
        self.make_raw()
        if callable(previous := self._previous[number]):
            previous(number, frame)


def _raw(attributes: Sequence[Any]) -> list[Any]:
    """
    As cfmakeraw(3), which the tty module has since Python 3.12.
    """
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    iflag &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    iflag &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag & ~termios.OPOST, cflag, lflag, ispeed, ospeed, characters]
