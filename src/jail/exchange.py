"""
The descriptors of one exec, and the steps of reading and writing them. Nothing here waits.

Whoever has time drives it: a `Watcher` is told which descriptors matter, and calls back when one is ready.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from .capture import Channel
from .command import PIPE, STDOUT, Exec
from .errors import JailError
from .execution import Execution
from .loop import READ, WRITE, Watcher
from .spawn import Init, receive_event, receive_event_fds
from .wire import Event, EventKind, RequestKind, Scope, encode_signal

__all__ = ["Exchange"]

_CHUNK_BYTES = 65536
_END_OF_FILE = b"\x04"  # VEOF as a terminal has it at first; termios(3)


class Exchange:
    """
    One exec, from the request to the end of its streams.

    Args:
        init: where it is to run.
        exec_id: its number there.
        what: what to start.

    `stdin`, `stdout` and `stderr` are the descriptors of the streams that the caller asked for with `PIPE`;
    they are the caller's to close. -1 where there is none. `host_pid` is the program's pid as the caller has it,
    for a program in the background.
    """

    def __init__(self, init: Init, exec_id: int, what: Exec) -> None:
        self.init = init
        self.id = exec_id
        self.execution = Execution(what)
        self.error: BaseException | None = None
        self.on_start: Callable[[], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.stdin = self.stdout = self.stderr = -1
        self.host_pid: int | None = None
        self.is_over = False
        self._watcher: Watcher | None = None
        self._what = what
        self._input = memoryview(what.input or b"")
        self._source = self._feeding = self._terminal = -1
        self._readers: dict[int, Channel] = {}
        self._fds = ExitStack()
        self._lock = threading.RLock()  # who drives it, and who adopts a stream
        with ExitStack() as on_failure:
            on_failure.push(self._fds)
            with ExitStack() as theirs:
                self._request(self._open(theirs))
            on_failure.pop_all()

    # Opening. The caller's descriptors are taken first: were one closed, one of ours would get its number.

    def _open(self, theirs: ExitStack) -> list[int]:
        """
        Open the program's ends, in the order in which EXEC wants them; ours are closed with `_fds`.
        """
        ends = []
        if self._what.size is None:
            ends = [self._open_stdin(), *self._given_outputs()]
            for fd in ends:
                if fd >= 0:
                    theirs.callback(os.close, fd)
            ends = self._open_outputs(ends, theirs)
        else:
            self._divert(self._what.stdout, self.execution.stdout)
        self._status, status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._fds.callback(self._status.close)
        theirs.callback(status.close)
        return [*ends, status.fileno()]

    def _open_stdin(self) -> int:
        """
        The program's standard input: what the caller has named, or a pipe that is fed.

        A file is read here and fed: through a descriptor of it a program could change its mode and times
        (fchmod(2), futimens(3)), be it open for reading only. Nor is an empty input /dev/null.
        """
        given = self._what.stdin
        if given is not None and given >= 0:
            taken = os.dup(given)
            if not stat.S_ISREG(os.fstat(taken).st_mode):
                return taken
            self._source = taken
            self._fds.callback(os.close, taken)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        if given == PIPE and self._what.background:
            self.stdin = write_end
            return read_end
        os.set_blocking(write_end, False)
        self._feeding = write_end
        self._fds.callback(self._close_feeding)
        if not self._refill():
            self._close_feeding()
        return read_end

    def _given_outputs(self) -> list[int]:
        """
        Copies of the descriptors that the caller has named for output and that a program may have; -1 for the
        others. Files and terminals are written here, for the same reasons.
        """
        ends = []
        for given in (self._what.stdout, self._what.stderr):
            end = -1
            if given is not None and given >= 0 and _may_be_handed_over(given):
                end = os.dup(given)
            ends.append(end)
        return ends

    def _open_outputs(self, ends: Sequence[int], theirs: ExitStack) -> list[int]:
        stdin, stdout, stderr = ends
        what = self._what
        if stdout < 0:
            stdout = self._open_output(theirs, what.stdout, self.execution.stdout, "stdout")
        if what.stderr == STDOUT:
            stderr = stdout
        elif stderr < 0:
            stderr = self._open_output(theirs, what.stderr, self.execution.stderr, "stderr")
        return [stdin, stdout, stderr]

    def _open_output(self, theirs: ExitStack, given: int | None, channel: Channel, name: str) -> int:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        theirs.callback(os.close, write_end)
        if given == PIPE and self._what.background:
            setattr(self, name, read_end)
            return write_end
        self._fds.callback(os.close, read_end)
        self._divert(given, channel)
        self._readers[read_end] = channel
        return write_end

    def _divert(self, given: int | None, channel: Channel) -> None:
        if given is not None and given >= 0:
            copy = os.dup(given)
            self._fds.callback(os.close, copy)
            channel.divert(lambda piece: _write_all(copy, piece))

    def _request(self, fds: Sequence[int]) -> None:
        try:
            self.init.request(RequestKind.EXEC, self.id, self._what.encode(), fds)
        except OSError:
            if not self.init.ended():
                raise
            raise self._lost() from None

    # Driving.

    def attach(self, watcher: Watcher) -> None:
        """
        Have a watcher drive it.
        """
        if self.is_over:
            return
        self._watcher = watcher
        watcher.watch(self._status.fileno(), READ, self._guarded(self._listen))
        for fd in self._readers:
            watcher.watch(fd, READ, self._reading(fd))
        if self._feeding >= 0:
            watcher.watch(self._feeding, WRITE, self._guarded(self._feed))

    def detach(self) -> None:
        """
        Take it from its watcher, for another.
        """
        if self._watcher:
            for fd in (self._status.fileno(), self._feeding, *self._readers):
                if fd >= 0:
                    self._watcher.unwatch(fd)
        self._watcher = None

    def _guarded(self, serve: Callable[[], object]) -> Callable[[], None]:
        """
        What goes wrong, in a caller's function say, ends the program, and is raised where its end is awaited.
        """

        def guarded() -> None:
            with self._lock:
                try:
                    serve()
                except Exception as exc:  # noqa: BLE001 - it is raised again, by who waits
                    self.fail(exc)

        return guarded

    def _reading(self, fd: int) -> Callable[[], None]:
        return self._guarded(lambda: self._read(fd))

    def fail(self, exc: BaseException) -> None:
        """
        End it for an error of ours.
        """
        if self.error is None:
            self.error = exc
        if not self.is_over:
            self._kill()
            self._finish()

    def _kill(self) -> None:
        with contextlib.suppress(JailError, OSError):  # then its sandbox is gone, and it with it
            self.kill()

    def _listen(self) -> None:
        """
        Take in what is said about this program.
        """
        expected = 2 if not self.execution.is_started and (self._what.background or self._what.size) else 0
        event, fds = (
            receive_event_fds(self._status, expected) if expected else (receive_event(self._status), [])
        )
        if event is None:
            self._listen_to_nobody()
            return
        if event.kind is EventKind.FAULT:
            raise self.init.fault(event, self.execution.name, self._what.ops)
        self._take_fds(fds, event)
        self.execution.take(event)
        if event.kind is EventKind.STARTED and self.on_start:
            self.on_start()
        # When its time was over, what it has left behind is being ended too: until then it is not over.
        if event.kind is EventKind.EXITED and not event.timed_out:
            self._drain()
            self._finish()

    def _listen_to_nobody(self) -> None:
        """
        The program and all that descended from it is gone; or the sandbox is: the caller has ended it, or
        something went wrong.
        """
        if not self.execution.has_ended:
            self.execution.lose()
            if not self.init.is_ending:
                raise self._lost()
        self._drain()
        self._finish()

    def _take_fds(self, fds: list[int], event: Event) -> None:
        if event.kind is EventKind.STARTED and fds and self._what.background:
            self.host_pid = _pid_behind(fds[0])
            os.close(fds.pop(0))
        if fds and self._what.size:
            self._take_terminal(fds.pop(0))
        for fd in fds:
            os.close(fd)

    def _take_terminal(self, master: int) -> None:
        """
        One descriptor for input and output. What the caller does not read or write is kept and fed here.
        """
        what = self._what
        if what.background and PIPE in (what.stdin, what.stdout):
            self.stdin = os.dup(master) if what.stdin == PIPE else -1
            self.stdout = os.dup(master) if what.stdout == PIPE else -1
        self._fds.callback(os.close, master)
        if self.stdout < 0:
            self._readers[master] = self.execution.stdout
        if self._input:
            os.set_blocking(master, False)
            self._input = memoryview(bytes(self._input) + _END_OF_FILE)
            self._feeding = os.dup(master)
            self._fds.callback(self._close_feeding)
        self._terminal = master
        if self._watcher:
            watcher = self._watcher
            self.detach()
            self.attach(watcher)

    def _read(self, fd: int) -> int:
        """
        Take what is there, and say how many bytes it was: 0 at the end of the stream.
        """
        try:
            piece = os.read(fd, _CHUNK_BYTES)
        except OSError:
            if self._what.size is None:
                raise
            piece = b""  # EIO: the last descriptor of the terminal's other end is closed; pty(7)
        if piece:
            self._readers[fd].take(piece)
        elif self._watcher:
            self._watcher.unwatch(fd)
        return len(piece)

    def _drain(self) -> None:
        """
        Take what a program has left in its pipes, and no more than fits into each: another process may hold
        one open for good, and go on writing.
        """
        for fd in self._readers:
            os.set_blocking(fd, False)
            left = _CHUNK_BYTES if self._what.size else fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
            with contextlib.suppress(BlockingIOError):
                while left > 0 and (taken := self._read(fd)):
                    left -= taken

    def _refill(self) -> bool:
        """
        Whether there is input left to feed.
        """
        if not self._input and self._source >= 0:
            self._input = memoryview(os.read(self._source, _CHUNK_BYTES))
        return bool(self._input)

    def _feed(self) -> None:
        try:
            self._input = self._input[os.write(self._feeding, self._input[:_CHUNK_BYTES]) :]
        except (BrokenPipeError, OSError) as exc:
            if isinstance(exc, BlockingIOError):
                return
            self._input = self._input[:0]  # it reads no more; subprocess.communicate says nothing either
            self._source = -1
        if not self._refill():
            self._close_feeding()

    def _close_feeding(self) -> None:
        if self._feeding >= 0:
            if self._watcher:
                self._watcher.unwatch(self._feeding)
            os.close(self._feeding)
            self._feeding = -1

    def _finish(self) -> None:
        """
        Close what is ours. What the caller reads and writes stays open.
        """
        self.is_over = True
        self.detach()
        self._fds.close()
        try:
            for channel in (self.execution.stdout, self.execution.stderr):
                channel.finish()
        except Exception as exc:  # noqa: BLE001 - a caller's function; raised where the end is awaited
            self.error = self.error or exc
        if self.on_end:
            self.on_end()

    def adopt(self, fd: int, name: str) -> None:
        """
        Read to its end, and keep, what the caller has asked for with `PIPE` and reads no more. Takes `fd`.
        """
        channel = self.execution.stdout if name == "stdout" else self.execution.stderr
        with self._lock:
            if self.is_over:
                self._readers = {fd: channel}
                self._drain()
                os.close(fd)
                return
            self._readers[fd] = channel
            self._fds.callback(os.close, fd)
            if self._watcher:
                self._watcher.watch(fd, READ, self._reading(fd))

    def _lost(self) -> JailError:
        """
        Why nobody answers: the set-up has failed, or `jail-init` was killed.
        """
        try:
            self.init.await_ready()
        except JailError as exc:
            return exc
        return self.init.lost()

    # Signals.

    def signal(self, number: int, scope: Scope = Scope.PROCESS) -> None:
        """
        Send a signal to the program, its process group, or all that descends from it. Harmless when that has
        ended.
        """
        if self.init.is_ending or (self.execution.has_ended and scope is not Scope.TREE):
            return
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # jail-init ends everything as it goes
            self.init.request(RequestKind.SIGNAL, self.id, encode_signal(number, scope))

    def resize(self, rows: int, columns: int) -> None:
        """
        Change the size of its terminal, which tells whoever is in its foreground (SIGWINCH).
        """
        if not self.is_over and self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def kill(self) -> None:
        """
        SIGKILL to all that descends from the program, what it has left behind included.
        """
        self.execution.claim()
        self.signal(9, Scope.TREE)


def _pid_behind(pidfd: int) -> int | None:
    """
    The process id behind a pidfd, as we have it; None when that process is gone. Source: pidfd_open(2).
    """
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("Pid:"))
    number = int(line.split()[1])
    return number if number > 0 else None


def _may_be_handed_over(fd: int) -> bool:
    return not stat.S_ISREG(os.fstat(fd).st_mode) and not os.isatty(fd)


def _write_all(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
