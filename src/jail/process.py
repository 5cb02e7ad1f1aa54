"""
A program that runs in the background of a live sandbox: `subprocess.Popen`, for one that nobody trusts.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from .exchange import Exchange
from .loop import pump
from .program import Program
from .result import Output, Result, Text
from .session import Session
from .streams import typed

__all__ = ["Process", "expired"]

_SETTLE_SECONDS = 5.0


class Process(Program):
    """
    One exec, from its start; made by `Sandbox.popen`.

    It outlives the call that started it, and ends with its sandbox at the latest. What it writes is taken as it
    comes, and kept within bounds, unless `PIPE` was asked for: then the caller reads it, and a program that
    nobody reads waits. A context manager waits for the end, or kills it when an exception passes through.

    Attributes:
        id: its number in the sandbox; `Sandbox.process` finds it by that.
        stdin: a file to write to, unbuffered, where ``stdin=PIPE``; otherwise None.
        stdout: a file to read from where ``PIPE``; iterating gives lines as they come.
        stderr: likewise.
    """

    stdin: IO[Any] | None
    stdout: IO[Any] | None
    stderr: IO[Any] | None

    def __init__(self, session: Session, exchange: Exchange) -> None:
        super().__init__(session, exchange)
        self._ended = threading.Event()
        what = exchange.execution.what
        self.stdin = None
        if exchange.streams.stdin >= 0:
            self._feed = _Feed(exchange.streams.stdin, "wb")
            self._feed.is_typed = what.size is not None
            self.stdin = _file(self._feed, what.decode)
        source = io.FileIO if what.size is None else _Master
        self.stdout = (
            _file(source(exchange.streams.stdout, "rb"), what.decode)
            if exchange.streams.stdout >= 0
            else None
        )
        self.stderr = (
            _file(io.FileIO(exchange.streams.stderr, "rb"), what.decode)
            if exchange.streams.stderr >= 0
            else None
        )
        exchange.on_end = self._ended.set
        if exchange.is_over:
            self._ended.set()
        exchange.attach(pump)

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait for its end.

        Args:
            timeout: seconds; it goes on after them.

        Returns:
            The exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in that time.
            JailError: its sandbox was lost; or what a caller's own function raised.
        """
        self._session.refuse_in_child()
        if not self._ended.wait(timeout):
            raise expired(self.args, timeout)
        return self._code()

    def result(self, timeout: float | None = None) -> Result[Any]:
        """
        Wait for its end, and give all that is known of it.

        Raises:
            subprocess.TimeoutExpired, JailError: as `wait`; also where it ended with its sandbox.
        """
        self.wait(timeout)
        return self._execution.result()

    def communicate(
        self, input: bytes | str | None = None, timeout: float | None = None
    ) -> tuple[Output | Text, Output | Text]:
        """
        Write the input, read both streams to their ends, and wait.

        Args:
            input: for standard input, where that is `PIPE`; it is closed after it.
                With ``text=True`` and lines read before, what was decoded ahead of them is lost, as in
                ``subprocess``.
            timeout: seconds; it goes on after them, and this can be called again.

        Returns:
            What it wrote to standard output and error, within `output_limit`.

        Raises:
            subprocess.TimeoutExpired, JailError: as `wait`.
        """
        self._adopt(input)
        self.wait(timeout)
        return self.output()

    def _held(self, stream: Any) -> bytes:  # noqa: ANN401 - as io has it
        if self._execution.what.decode is not None:
            stream = stream.buffer
        os.set_blocking(stream.fileno(), False)  # or peek would wait
        return bytes(stream.peek())

    def settle(self) -> None:
        """
        Wait until what the end of its sandbox means for it is known here: no time at all, in the pump's thread.
        """
        if threading.current_thread() is not pump.thread:
            self._ended.wait(_SETTLE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                self.stdin.close()
        self._ended.wait()
        self.close()


def expired(args: tuple[str, ...], timeout: float | None) -> Exception:
    """
    The exception of ``subprocess`` for a wait that took too long.
    """
    import subprocess  # noqa: PLC0415 - for its exception; slow to import

    return subprocess.TimeoutExpired(list(args), timeout or 0.0)


class _Feed(io.FileIO):
    """
    The end of a pipe, or of a terminal, that a program reads.
    """

    is_typed = False
    last = b"\n"

    def write(self, data: Any) -> int:  # noqa: ANN401 - as io.FileIO has it
        """
        Write all: a signal that is handled meanwhile may cut a call short.
        """
        view = memoryview(data).cast("B")
        if view:
            self.last = bytes(view[-1:])
        while view:
            view = view[super().write(view) or 0 :]
        return len(data)

    def close(self) -> None:
        """
        The end of the input: at a terminal that is a character.
        """
        if self.is_typed and not self.closed:
            with suppress(OSError):  # the program has hung up
                super().write(typed(b"", self.last))
        super().close()


class _Master(io.FileIO):
    """
    The end of a terminal that is not the program's.
    """

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as io.FileIO has it
        """
        End of file, where the kernel says EIO: nobody has the other end open. pty(7)
        """
        try:
            return super().readinto(buffer) or 0
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return 0

    def readall(self) -> bytes:
        """
        All of it, to that end.
        """
        return b"".join(iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b""))

    def read(self, size: int | None = -1, /) -> bytes:
        """
        As `readinto` has it.
        """
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])


def _file(raw: io.FileIO, decode: tuple[str, str] | None) -> IO[Any]:
    binary: Any = io.BufferedReader(raw) if raw.readable() else raw
    return io.TextIOWrapper(binary, *decode, newline="", write_through=True) if decode else binary
