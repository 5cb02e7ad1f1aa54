"""
One program in a sandbox: its streams, its time, its end.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from .errors import JailError
from .result import Killed, Outcome, Output, TimedOut, Usage, outcome_of
from .spawn import Init, receive_event
from .wire import Event, EventKind, RequestKind, Scope, encode_exec, encode_signal

__all__ = ["Exec", "Process", "Sink"]

Sink = Callable[[bytes], object]

_CHUNK_BYTES = 65536

# How long jail-init may take to report the end of a program that it has sent SIGKILL.
_KILL_GRACE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Exec:
    """
    What to start.

    Args:
        args: the program and its arguments.
        env: all of its variables.
        directory: where it starts, absolute, as seen inside.
        input: bytes for its standard input; None for `stdin`.
        stdin: a descriptor to be its standard input; None for an empty one. A file is read by the harness.
        timeout: seconds; None for no limit.
        on_stdout, on_stderr: called with each piece of output, which is then not kept.
        last: the sandbox ends with this program.
    """

    args: Sequence[str | bytes]
    env: Mapping[str, str]
    directory: str
    input: bytes | None = None
    stdin: int | None = None
    timeout: float | None = None
    on_stdout: Sink | None = None
    on_stderr: Sink | None = None
    last: bool = False

    def encode(self) -> bytes:
        """
        The request's body.
        """
        args = [os.fsencode(arg) for arg in self.args]
        env = [os.fsencode(f"{name}={value}") for name, value in self.env.items()]
        return encode_exec(os.fsencode(self.directory), self._files(args), args, env, last=self.last)

    def _files(self, args: Sequence[bytes]) -> list[bytes]:
        """
        Where the program may be, as execvp(3) looks for it: on PATH unless its name has a slash.
        """
        if not args:
            return []
        if b"/" in args[0] or not args[0]:
            return [args[0]]
        path = os.fsencode(self.env.get("PATH", os.defpath))
        return [(folder or b".") + b"/" + args[0] for folder in path.split(b":")]


@dataclass(slots=True)
class _Stream:
    """
    One pipe from the program, and what came out of it.
    """

    fd: int
    sink: Sink | None
    kept: bytearray = field(default_factory=bytearray)

    def read(self) -> int:
        """
        Take what is there, and say how many bytes it was: 0 at the end of the stream.
        """
        piece = os.read(self.fd, _CHUNK_BYTES)
        if self.sink is None:
            self.kept += piece
        elif piece:
            self.sink(piece)
        return len(piece)

    def drain(self) -> None:
        """
        Take what a program has left in the pipe, and no more than fits into one: another process may hold
        it open for good, and go on writing.
        """
        os.set_blocking(self.fd, False)
        left = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
        while left > 0:
            try:
                taken = self.read()
            except BlockingIOError:
                return
            if not taken:
                return
            left -= taken


class Process:
    """
    A program that is to be started, until it has ended.

    Whether it could be is learned by `communicate`: what is in the sandbox already may hold up the start, but
    not the timeout.
    """

    def __init__(self, init: Init, exec_id: int, what: Exec) -> None:
        self._init = init
        self._id = exec_id
        self._what = what
        self._fds = ExitStack()
        self._input = memoryview(what.input or b"")
        self._killed_because: Outcome | None = None
        self._exited: Event | None = None
        with ExitStack() as on_failure:
            on_failure.push(self._fds)
            with ExitStack() as theirs:
                self._request(self._open_streams(theirs))
            on_failure.pop_all()

    def _open_streams(self, theirs: ExitStack) -> list[int]:
        """
        Open the program's ends, in the order in which EXEC wants them; ours are closed with `_fds`.

        The caller's descriptor is taken first: were it closed, one of ours would get its number.
        """
        stdin = self._open_stdin()
        theirs.callback(os.close, stdin)
        self._status, status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._fds.callback(self._status.close)
        theirs.callback(status.close)
        ends = [stdin]
        streams = []
        for sink in (self._what.on_stdout, self._what.on_stderr):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            self._fds.callback(os.close, read_end)
            theirs.callback(os.close, write_end)
            ends.append(write_end)
            streams.append(_Stream(read_end, sink))
        self.stdout, self.stderr = streams
        return [*ends, status.fileno()]

    def _open_stdin(self) -> int:
        """
        The program's standard input: what the caller has named, or a pipe that we feed.

        A file is read here and fed: through a descriptor of it a program could change its mode and times
        (fchmod(2), futimens(3)), be it open for reading only. Nor is an empty input /dev/null.
        """
        self._stdin = self._source = -1
        if self._what.stdin is not None:
            given = os.dup(self._what.stdin)
            if not stat.S_ISREG(os.fstat(given).st_mode):
                return given
            self._source = given
            self._fds.callback(os.close, given)
        read_end, self._stdin = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._stdin, False)
        self._fds.callback(self._close_stdin)
        if not self._refill():
            self._close_stdin()
        return read_end

    def _refill(self) -> bool:
        """
        Whether there is input left to feed.
        """
        if not self._input and self._source >= 0:
            self._input = memoryview(os.read(self._source, _CHUNK_BYTES))
        return bool(self._input)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _request(self, fds: Sequence[int]) -> None:
        try:
            self._init.request(RequestKind.EXEC, self._id, self._what.encode(), fds)
        except OSError:
            if not self._init.ended():
                raise
            raise self._lost() from None

    def _listen(self) -> None:
        """
        Take in what is said about this program.
        """
        event = receive_event(self._status)
        if event is None:
            raise self._lost()
        if event.kind is EventKind.FAULT:
            raise self._init.fault(event, os.fsdecode(self._what.args[0]))
        if event.kind is EventKind.EXITED:
            self._exited = event

    def _lost(self) -> JailError:
        """
        Why nobody answers: the set-up has failed, or `jail-init` was killed.
        """
        try:
            self._init.await_ready()
        except JailError as exc:
            return exc
        return self._init.lost()

    def signal(self, number: int, scope: Scope = Scope.PROCESS) -> None:
        """
        Send a signal to the program, its process group, or all that descends from it. Harmless when it has
        ended.
        """
        if self._exited is None:
            try:
                self._init.request(RequestKind.SIGNAL, self._id, encode_signal(number, scope))
            except (BrokenPipeError, ConnectionResetError):
                return  # jail-init has hung up, and ends everything as it goes

    def kill(self, because: Outcome | None = None) -> None:
        """
        SIGKILL to all that descends from the program.
        """
        if self._exited is None and self._killed_because is None:
            self._killed_because = because or Killed()
            self.signal(signal.SIGKILL, Scope.TREE)

    def communicate(self) -> None:
        """
        Feed the input, take the output, and wait for the end; kill the program when its time is over.

        Raises:
            SetupError: it could not be executed.
            JailError: the sandbox is gone.
        """
        deadline = None if self._what.timeout is None else time.monotonic() + self._what.timeout
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        for stream in (self.stdout, self.stderr):
            poll.register(stream.fd, select.POLLIN)
        if self._stdin >= 0:
            poll.register(self._stdin, select.POLLOUT)
        with self._fds:
            while self._exited is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    deadline = self._out_of_time()
                    continue
                for fd, _ in poll.poll(None if left is None else left * 1000):
                    self._serve(fd, poll)
            for stream in (self.stdout, self.stderr):
                stream.drain()

    def _out_of_time(self) -> float:
        if self._killed_because is None:
            self.kill(TimedOut(self._what.timeout or 0.0))
            return time.monotonic() + _KILL_GRACE_SECONDS
        self._init.kill()
        msg = f"jail-init did not report the end of a killed program within {_KILL_GRACE_SECONDS:g} seconds"
        raise JailError(msg)

    def _serve(self, fd: int, poll: select.poll) -> None:
        if fd == self._status.fileno():
            self._listen()
        elif fd == self._stdin:
            self._feed(poll)
        else:
            stream = self.stdout if fd == self.stdout.fd else self.stderr
            if not stream.read():
                poll.unregister(fd)

    def _feed(self, poll: select.poll) -> None:
        try:
            self._input = self._input[os.write(self._stdin, self._input[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            self._input = self._input[:0]  # it reads no more; subprocess.communicate says nothing either
            self._source = -1
        except BlockingIOError:
            return
        if not self._refill():
            poll.unregister(self._stdin)
            self._close_stdin()

    def outcome(self) -> Outcome:
        """
        How it ended.
        """
        exited = self._ended()
        return self._killed_because or outcome_of(exited.status)

    def usage(self, setup_seconds: float) -> Usage:
        """
        What it cost.
        """
        exited = self._ended()
        return Usage(
            wall_seconds=exited.wall_ns / 1e9,
            user_seconds=exited.user_us / 1e6,
            system_seconds=exited.system_us / 1e6,
            memory_peak_bytes=exited.maxrss_kb * 1024,
            setup_seconds=setup_seconds,
        )

    def output(self) -> tuple[Output, Output]:
        """
        What it wrote and nobody took.
        """
        return Output(self.stdout.kept), Output(self.stderr.kept)

    def _ended(self) -> Event:
        if self._exited is None:
            raise JailError(f"{self._what.args[0]!r} has not ended yet")
        return self._exited
