"""
Bytes between the caller's terminal and a program's, both ways, with one loop. pty(7), poll(2)

What the caller's descriptors are open on is shared with the shell and others: O_NONBLOCK is not set there.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import termios
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol

from .errors import SetupError
from .inert import Inert

__all__ = ["Raw", "Relay", "Size", "is_main_thread", "open_wake"]

_CHUNK_BYTES = 65536

# More than the kernel keeps between a program and its master: TTYB_DEFAULT_MEM_LIMIT, drivers/tty/tty_buffer.c.
_DRAIN_BYTES = 1 << 20

# asm-generic/ioctls.h, Linux 4.13; the termios module has it since Python 3.13.
_TIOCGPTPEER = 0x5441

# How often to look at the terminal's size where no signal tells us.
_LOOK_AGAIN_MS = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """
    Of a terminal, in characters.
    """

    rows: int
    columns: int

    @classmethod
    def of(cls, fd: int) -> Size:
        """
        The size of this terminal; 24 by 80 where it has none, or is no terminal. TIOCGWINSZ, ioctl_tty(2)
        """
        try:
            rows, columns = termios.tcgetwinsize(fd)
        except termios.error:
            rows = columns = 0
        return cls(rows or 24, columns or 80)

    def apply(self, fd: int) -> None:
        """
        Give a terminal this size. Its foreground processes get SIGWINCH when it had another. TIOCSWINSZ

        Raises:
            termios.error: this is no terminal.
        """
        termios.tcsetwinsize(fd, (self.rows, self.columns))


class Raw(Protocol):
    """
    The caller's side: what `Terminal` is to a relay.
    """

    input_fd: int
    output_fd: int
    is_raw: bool

    def make_raw(self) -> None:
        """
        Put it into raw mode, if it is ours to change.
        """


class Relay:
    """
    One loop over the caller's terminal, the program's, and what ends or wakes us.

    It keeps the program's end open as well: else each read(2) would fail with EIO, and each poll(2) return at
    once, for as long as a program has closed its terminal and not opened it again.
    """

    def __init__(self, terminal: Raw, master: int, inert: Inert | None, undo: ExitStack) -> None:
        undo.callback(os.close, _open_peer(master))
        undo.callback(os.set_blocking, master, os.get_blocking(master))
        os.set_blocking(master, False)
        output = _open_output(terminal.output_fd)
        undo.callback(os.close, output)
        self._terminal = terminal
        self._is_typed = os.isatty(terminal.input_fd)
        self._master = master
        self._inert = inert
        self._up = _Way(terminal.input_fd, master)
        self._down = _Way(master, output, inert.feed if inert else bytes)
        self._wake = open_wake(undo)

    def run(self, ended: int) -> None:
        """
        Copy until `ended`, or a hang-up of the caller's terminal.
        """
        self._fit()
        while ended not in (ready := self._wait({ended: select.POLLIN, **self._wanted()})):
            typed = ready.get(self._up.source, 0)
            if self._is_typed and typed & (select.POLLHUP | select.POLLERR):
                return
            if typed and not self._terminal.is_raw:
                self._terminal.make_raw()  # bash brings a job to the front without SIGCONT
            if self._up.turn(ready) == 0:
                if self._is_typed:
                    return
                self._up.is_open = False
                self._up.held = _end_of_file(self._master, self._up.last)
            self._down.turn(ready)
        self._drain()

    def _wanted(self) -> dict[int, int]:
        """
        What to wait for. An input or output of which nothing is wanted is left out, since its hang-up would
        wake us over and over. That of the caller's terminal ends it all, and the program's has none: see above.
        """
        up, down = self._up, self._down
        wanted = {up.source: 0} if self._is_typed else {}
        if up.is_open and not up.held:
            wanted[up.source] = select.POLLIN
        wanted[self._master] = (select.POLLOUT if up.held else 0) | (0 if down.held else select.POLLIN)
        if down.held:
            wanted[down.sink] = select.POLLOUT
        return wanted

    def _wait(self, wanted: Mapping[int, int]) -> dict[int, int]:
        """
        What is ready. The terminal's size is looked after meanwhile.
        """
        poll = select.poll()
        for fd, events in wanted.items():
            poll.register(fd, events)
        if self._wake is not None:
            poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(_LOOK_AGAIN_MS if self._wake is None else None))
        if self._wake in ready:
            os.read(self._wake, _CHUNK_BYTES)
        if self._wake in ready or not ready:
            self._fit()
        return ready

    def _fit(self) -> None:
        for fd in (self._terminal.output_fd, self._terminal.input_fd):
            if os.isatty(fd):
                Size.of(fd).apply(self._master)
                return

    def _drain(self) -> None:
        """
        Show what is left, and no more than fits into the program's terminal: others may write on.
        """
        self._show()
        left = _DRAIN_BYTES
        while left > 0 and (taken := self._down.take()):
            left -= taken
            self._show()
        if self._inert:
            self._down.held = self._inert.finish()
            self._show()

    def _show(self) -> None:
        while self._down.held:
            self._wait({self._down.sink: select.POLLOUT})
            self._down.give()


@dataclass(slots=True)
class _Way:
    """
    One direction. Nothing is read while something is held.
    """

    source: int
    sink: int
    change: Callable[[bytes], bytes] = bytes
    held: bytes = b""
    last: bytes = b"\n"
    is_open: bool = True

    def turn(self, ready: Mapping[int, int]) -> int | None:
        """
        Move what can be moved, and say what `take` has said.
        """
        taken = None
        if self.is_open and not self.held and self.source in ready:
            taken = self.take()
        if self.held and (taken or self.sink in ready):
            self.give()
        return taken

    def take(self) -> int | None:
        """
        Read a piece, and say how many bytes it was: 0 at the end, None when there is nothing yet.
        """
        try:
            piece = os.read(self.source, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        self.held = self.change(piece)
        self.last = piece[-1:] or self.last
        return len(piece)

    def give(self) -> None:
        """
        Write what the other side takes.
        """
        with suppress(BlockingIOError):
            self.held = self.held[os.write(self.sink, self.held) :]


def _open_peer(master: int) -> int:
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return fcntl.ioctl(master, _TIOCGPTPEER, flags)
    except OSError as exc:
        op, call = "open the program's terminal", "ioctl(2) TIOCGPTPEER"
        raise SetupError(op, syscall=call, errno=exc.errno or 0) from exc


def _open_output(fd: int) -> int:
    """
    The output once more, non-blocking, as an open file of our own.

    One that cannot be opened, such as a socket or the terminal of another user, is used as it is, and may hold
    us up. So is a regular file: it never does, and has a position.
    """
    with suppress(OSError):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{fd}", flags)
    return os.dup(fd)


def open_wake(undo: ExitStack) -> int | None:
    """
    A descriptor that becomes readable with each signal that Python hears; None where SIGWINCH is not.

    Without it a signal that comes just before poll(2) is heard when something else happens.
    """
    previous = signal.getsignal(signal.SIGWINCH)
    if previous is None or not is_main_thread():
        return None
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    undo.callback(os.close, read_end)
    undo.callback(os.close, write_end)
    undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False))
    if not callable(previous):
        undo.callback(signal.signal, signal.SIGWINCH, previous)
        signal.signal(signal.SIGWINCH, lambda *_: None)
    return read_end


def is_main_thread() -> bool:
    """
    Whether signals are heard in this thread.
    """
    return threading.current_thread() is threading.main_thread()


def _end_of_file(master: int, last: bytes) -> bytes:
    character = bytes(termios.tcgetattr(master)[6][termios.VEOF])
    return character if last == b"\n" else character * 2
