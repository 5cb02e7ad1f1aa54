"""
A program that runs in the background of a live sandbox: `subprocess.Popen`, for one that nobody trusts.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from .errors import JailError
from .exchange import Exchange
from .loop import pump
from .result import Outcome, Output, Result, Text, Usage
from .wire import Scope

if TYPE_CHECKING:
    from .sandbox import Sandbox

__all__ = ["Process"]

_SETTLE_SECONDS = 5.0
_SCOPES = {"process": Scope.PROCESS, "group": Scope.GROUP, "tree": Scope.TREE}


class Process:
    """
    One exec, from its start; made by `Sandbox.popen`.

    It outlives the call that started it, and ends with its sandbox at the latest. What it writes is taken as it
    comes, and kept within bounds, unless `PIPE` was asked for: then the caller reads it, and a program that
    nobody reads waits. A context manager waits for the end, or kills it when an exception passes through.

    Attributes:
        id: its number in the sandbox; `Sandbox.process` finds it by that.
        stdin: a file to write to, where ``stdin=PIPE``; otherwise None.
        stdout, stderr: files to read from, where ``PIPE``; iterating gives lines as they come.
    """

    def __init__(self, box: Sandbox, exchange: Exchange) -> None:
        self.id = exchange.id
        self._box = box
        self._exchange = exchange
        self._execution = exchange.execution
        self._ended = threading.Event()
        decode = self._execution.what.decode
        is_terminal = self._execution.what.size is not None
        self.stdin: IO[Any] | None = _file(exchange.stdin, "wb", decode)
        self.stdout: IO[Any] | None = _file(exchange.stdout, "rb", decode, is_terminal=is_terminal)
        self.stderr: IO[Any] | None = _file(exchange.stderr, "rb", decode)
        self._host_pid = exchange.host_pid
        exchange.on_end = self._ended.set
        if exchange.is_over:
            self._ended.set()
        exchange.attach(pump)

    @property
    def args(self) -> tuple[str, ...]:
        """
        What was executed.
        """
        return tuple(os.fsdecode(arg) for arg in self._execution.what.args)

    @property
    def pid(self) -> int:
        """
        Its process id as the sandbox has it.
        """
        return self._execution.pid

    @property
    def host_pid(self) -> int | None:
        """
        Its process id as the caller has it; None when it has ended.
        """
        return None if self._execution.has_ended else self._host_pid

    @property
    def outcome(self) -> Outcome | None:
        """
        How it ended; None while it runs. `Killed` also where it ended with its sandbox.
        """
        return self._execution.outcome

    @property
    def exit_code(self) -> int | None:
        """
        As `Result.exit_code`; None while it runs.
        """
        outcome = self._execution.outcome
        return None if outcome is None else outcome.exit_code

    @property
    def usage(self) -> Usage | None:
        """
        What it cost; None while it runs, and where it ended with its sandbox, which leaves nobody to ask.
        """
        return self._execution.usage()

    def output(self) -> tuple[Output | Text, Output | Text]:
        """
        What it has written so far to standard output and error, as far as it is kept; see `output_limit`.
        """
        return self._execution.output()

    def poll(self) -> int | None:
        """
        The exit code if it has ended, and None otherwise. Does not wait.
        """
        return self.exit_code if self._ended.is_set() else None

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
        self._box.refuse_in_child()
        if not self._ended.wait(timeout):
            raise _expired(self.args, timeout)
        if self._exchange.error is not None:
            raise self._exchange.error
        code = self.exit_code
        if code is None:
            raise JailError(f"{self._execution.name}: nobody knows how it ended")
        return code

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
            timeout: seconds; it goes on after them, and this can be called again.

        Returns:
            What it wrote to standard output and error, within `output_limit`.

        Raises:
            subprocess.TimeoutExpired, JailError: as `wait`.
        """
        for name in ("stdout", "stderr"):
            stream = getattr(self, name)
            if stream is not None and not stream.closed:
                self._exchange.adopt(os.dup(stream.fileno()), name)
                stream.close()
        if self.stdin is not None and not self.stdin.closed:
            with suppress(BrokenPipeError):
                if input:
                    self.stdin.write(input)
                self.stdin.close()
        self.wait(timeout)
        return self.output()

    def signal(self, number: int, scope: Literal["process", "group", "tree"] = "process") -> None:
        """
        Send a signal. Harmless when it has ended.

        Args:
            number: of ``signal``.
            scope: "process", its process "group", or the "tree" of all that descends from it, daemons included.
        """
        self._exchange.signal(number, _SCOPES[scope])

    def terminate(self) -> None:
        """
        SIGTERM to all that descends from it.
        """
        self._exchange.signal(signal.SIGTERM, Scope.TREE)

    def kill(self) -> None:
        """
        SIGKILL to all that descends from it, what it has left behind included.
        """
        self._exchange.kill()

    def pause(self) -> None:
        """
        SIGSTOP to all that descends from it. Its time goes on.
        """
        self._exchange.signal(signal.SIGSTOP, Scope.TREE)

    def resume(self) -> None:
        """
        SIGCONT to all that descends from it.
        """
        self._exchange.signal(signal.SIGCONT, Scope.TREE)

    def resize(self, rows: int, columns: int) -> None:
        """
        Change the size of its terminal. Harmless without one.
        """
        self._exchange.resize(rows, columns)

    def close(self) -> None:
        """
        Close its streams on this side. It goes on, and what it writes to a closed one is SIGPIPE to it.
        """
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

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

    def __repr__(self) -> str:
        state = self.outcome or "running"
        return f"<Process {self.id} {self._execution.name!r}: {state}>"


def _expired(args: tuple[str, ...], timeout: float | None) -> Exception:
    import subprocess  # noqa: PLC0415 - for its exception; slow to import

    return subprocess.TimeoutExpired(list(args), timeout or 0.0)


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


def _file(
    fd: int, mode: Literal["rb", "wb"], decode: tuple[str, str] | None, *, is_terminal: bool = False
) -> IO[Any] | None:
    binary: Any
    if fd < 0:
        return None
    if is_terminal:
        binary = io.BufferedReader(_Master(fd, "rb"))
    else:
        binary = open(fd, mode, buffering=0 if mode == "wb" and decode is None else -1)  # noqa: SIM115
    return io.TextIOWrapper(binary, *decode, newline="", write_through=True) if decode else binary
