"""
The standard streams of one exec: which descriptors the program gets, and which are ours to read and to feed.

A program is handed what the caller has named only where that can do no harm: a regular file it could change in
mode and times (fchmod(2), futimens(3)), and a terminal to write to is the caller's. Such are read and written here.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
from contextlib import ExitStack, suppress

from .capture import Channel
from .command import PIPE, STDOUT, Exec
from .errors import PolicyError
from .execution import Execution

__all__ = ["Streams", "refuse_closed", "set_size", "typed", "write_all"]

_CHUNK_BYTES = 65536
_END_OF_FILE = b"\x04"  # VEOF as a terminal has it at first; termios(3)
_TIOCGPTPEER = 0x5441  # asm-generic/ioctls.h, Linux 4.13; the termios module has it since Python 3.13


class Streams:
    """
    Our ends. Nothing here waits.

    Args:
        execution: what was asked for, and where its output goes.

    Attributes:
        stdin: of what the caller asked for with `PIPE`, which is the caller's to close; -1 where there is none.
        stdout: likewise.
        stderr: likewise.
        readers: what we read, and where it goes.
        feeding: where we write the input; -1 when there is no more.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._what = execution.what
        self.stdin = self.stdout = self.stderr = -1
        self.readers: dict[int, Channel] = {}
        self.feeding = self._source = self._terminal = -1
        self._input = memoryview(self._what.input or b"")
        self._closing = ExitStack()
        self._closing.callback(self.close_feeding)

    def open(self, theirs: ExitStack) -> list[int]:
        """
        Open both ends.

        Returns:
            The program's ends, standard input first, which `theirs` closes; none where it gets a terminal.
        """
        what = self._what
        if what.size is not None:
            _refuse_slow(what.stdout)
            self._divert(what.stdout, self._execution.stdout)
            return []
        taken = _taken(what.stdin, theirs)
        out, err = (_taken(fd, theirs, terminals=False) for fd in (what.stdout, what.stderr))
        stdin = taken if taken >= 0 else self._open_stdin(theirs)
        stdout = out if out >= 0 else self._open_output("stdout", theirs)
        if what.stderr == STDOUT:
            return [stdin, stdout, stdout]
        return [stdin, stdout, err if err >= 0 else self._open_output("stderr", theirs)]

    def _open_stdin(self, theirs: ExitStack) -> int:
        """
        A pipe for standard input, to be fed. An empty one is no /dev/null either, whose mode and times are the
        host's.
        """
        given = self._what.stdin
        if given is not None and given >= 0:
            self._source = os.dup(given)
            self._closing.callback(os.close, self._source)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        theirs.callback(os.close, read_end)
        if given == PIPE and self._what.background:
            self.stdin = write_end
            return read_end
        os.set_blocking(write_end, False)
        self.feeding = write_end
        if not self._refill():
            self.close_feeding()
        return read_end

    def _open_output(self, name: str, theirs: ExitStack) -> int:
        given: int | None = getattr(self._what, name)
        channel: Channel = getattr(self._execution, name)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        theirs.callback(os.close, write_end)
        if given == PIPE and self._what.background:
            setattr(self, name, read_end)
            return write_end
        self._closing.callback(os.close, read_end)
        os.set_blocking(read_end, False)
        self._divert(given, channel)
        self.readers[read_end] = channel
        return write_end

    def _divert(self, given: int | None, channel: Channel) -> None:
        if given is not None and given >= 0:
            copy = os.dup(given)
            self._closing.callback(os.close, copy)
            channel.divert(lambda piece: write_all(copy, piece))

    def take_terminal(self, master: int) -> None:
        """
        One descriptor for input and output. What the caller does not read or write is kept and fed here.
        """
        what = self._what
        if what.background and what.stdin == PIPE:
            self.stdin = os.dup(master)
        else:
            self._input = memoryview(typed(bytes(self._input)))
            self.feeding = os.dup(master)
        if what.background and what.stdout == PIPE:
            self.stdout = master
            return
        self._terminal = master
        self._closing.callback(os.close, master)
        # While nobody has the other end open, each read would fail: so we have it, until the program has ended.
        peer = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._closing.callback(os.close, peer)
        os.set_blocking(master, self.stdin >= 0)
        self.readers[master] = self._execution.stdout

    def resize(self, rows: int, columns: int) -> None:
        """
        Change the size of the terminal, if there is one.
        """
        if self._terminal >= 0:
            set_size(self._terminal, rows, columns)

    def read(self, fd: int) -> int:
        """
        Take what is there, and say how many bytes it was: 0 at the end of the stream.
        """
        try:
            piece = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            raise
        except OSError:
            if self._what.size is None:
                raise
            piece = b""  # EIO: the last descriptor of the terminal's other end is closed; pty(7)
        if piece:
            self.readers[fd].take(piece)
        return len(piece)

    def drain(self) -> None:
        """
        Take what a program has left in its pipes, and no more than fits into each: another process may hold
        one open for good, and go on writing.
        """
        for fd in self.readers:
            os.set_blocking(fd, False)
            left = _CHUNK_BYTES if self._what.size else fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
            with suppress(BlockingIOError):
                while left > 0 and (taken := self.read(fd)):
                    left -= taken

    def adopt(self, fd: int, name: str, held: bytes) -> None:
        """
        Read and keep what the caller reads no more, from what is `held` already on. Takes `fd`.
        """
        channel: Channel = getattr(self._execution, name)
        if held:
            channel.take(held)
        os.set_blocking(fd, False)
        self.readers[fd] = channel
        self._closing.callback(os.close, fd)

    def take_input(self, fd: int, data: bytes) -> bool:
        """
        Feed this to what the caller would have written to. False when there is nothing to feed; otherwise takes
        `fd`.
        """
        if not data:
            return False
        os.set_blocking(fd, False)
        self._input, self.feeding = memoryview(data), fd
        return True

    def close_pipes(self) -> None:
        """
        Close the caller's ends.
        """
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1

    def feed(self) -> bool:
        """
        Write some of the input. False when there is no more.
        """
        try:
            self._input = self._input[os.write(self.feeding, self._input[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return True
        except OSError:  # it reads no more; subprocess.communicate says nothing either
            self._input, self._source = self._input[:0], -1
        return self._refill()

    def _refill(self) -> bool:
        if not self._input and self._source >= 0:
            self._input = memoryview(os.read(self._source, _CHUNK_BYTES))
        return bool(self._input)

    def close_feeding(self) -> None:
        """
        The end of the input.
        """
        if self.feeding >= 0:
            os.close(self.feeding)
            self.feeding = -1

    def release(self) -> None:
        """
        Close what is ours.
        """
        self._terminal = -1
        self.readers = {}
        self._closing.close()

    def close(self) -> None:
        """
        Close what is ours, and tell the channels that nothing more comes.
        """
        self.release()
        self._execution.stdout.finish()
        self._execution.stderr.finish()


def typed(data: bytes, last: bytes = b"\n") -> bytes:
    """
    Input as it is typed, to its end: within a line the end-of-file character only hands over what there is of it.
    termios(3)

    Args:
        data: the input.
        last: what was typed before that.
    """
    return data + _END_OF_FILE * (1 if (data or last).endswith(b"\n") else 2)


def refuse_closed(what: Exec) -> None:
    """
    Look at each descriptor that the caller has named, before any is opened: one that is closed would be ours then.

    Raises:
        OSError: of fstat(2).
    """
    for given in (what.stdin, what.stdout, what.stderr):
        if given is not None and given >= 0:
            os.fstat(given)


def _refuse_slow(given: int | None) -> None:
    """
    What is shown at a terminal comes by us, and we would wait for whoever reads a pipe or a socket.
    """
    if given is not None and given >= 0 and not stat.S_ISREG(os.fstat(given).st_mode):
        raise PolicyError("pty and stdout exclude each other, but for a regular file; use PIPE", key="pty")


def set_size(master: int, rows: int, columns: int) -> None:
    """
    Change the size of a terminal. Whoever is in its foreground gets SIGWINCH. Source: ioctl_tty(2), TIOCSWINSZ.
    """
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _taken(given: int | None, theirs: ExitStack, *, terminals: bool = True) -> int:
    """
    A copy of a descriptor that the caller has named and that a program may have; -1 for anything else. A
    terminal to read from cannot be had otherwise; one to write to can.
    """
    if given is None or given < 0 or stat.S_ISREG(os.fstat(given).st_mode):
        return -1
    if not terminals and os.isatty(given):
        return -1
    copy = os.dup(given)
    theirs.callback(os.close, copy)
    return copy


def write_all(fd: int, piece: bytes) -> None:
    """
    Write every byte.
    """
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
