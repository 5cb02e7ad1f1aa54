"""
One exec as messages and descriptors: the request, what is said about it, and the steps of both. Nothing here
waits.

Whoever has time drives it: a `Watcher` is told which descriptors matter, and calls back when one is ready.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from .cgroup import Leaf
from .command import Exec
from .denial import Meanwhile
from .errors import JailError
from .execution import Execution
from .loop import READ, WRITE, Watcher
from .spawn import Init, receive_event, receive_event_fds
from .streams import Streams
from .usage import Usage
from .wire import Event, EventKind, RequestKind, Scope, encode_signal

__all__ = ["Exchange"]


class Exchange:
    """
    One exec, from the request to the end of its streams.

    Args:
        init: where it is to run.
        exec_id: its number there.
        what: what to start.
        leaf: its cgroup, or None.

    Attributes:
        execution: what is known of it.
        streams: its descriptors.
        host_pid: its pid as the caller has it, for a program in the background.
        error: what went wrong, to be raised where its end is awaited.
        is_over: nothing more will happen.
        on_start: called when the program was executed.
        on_end: called when it is over.
        on_usage: called with what it cost, if that is known, before.
        meanwhile: what its sandbox did on the network since it was asked for; None where it has none.
    """

    def __init__(self, init: Init, exec_id: int, what: Exec, leaf: Leaf | None = None) -> None:
        self.init = init
        self.leaf = leaf
        self.id = exec_id
        self.execution = Execution(what)
        self.streams = Streams(self.execution)
        self.host_pid: int | None = None
        self.error: BaseException | None = None
        self.is_over = True  # until it has begun
        self.on_start: Callable[[], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_usage: Callable[[Usage], None] | None = None
        self.meanwhile: Callable[[], Meanwhile] | None = None
        self._watcher: Watcher | None = None
        self._lock = threading.RLock()  # who drives it, and who adopts a stream
        self._is_silenced = False
        self._expects_fds = what.background or what.size is not None
        with ExitStack() as on_failure:
            on_failure.callback(self.streams.close)
            on_failure.callback(self.streams.close_pipes)
            if leaf:
                on_failure.callback(leaf.close)
            with ExitStack() as theirs:
                ends = self.streams.open(theirs)
                self._status, status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                on_failure.callback(self._status.close)
                theirs.callback(status.close)
                first = [leaf.fd] if leaf else []
                body = what.encode(in_cgroup=leaf is not None)
                init.ask(RequestKind.EXEC, exec_id, body, [*first, *ends, status.fileno()])
            on_failure.pop_all()
        self.is_over = False

    # Driving.

    def attach(self, watcher: Watcher) -> None:
        """
        Have a watcher drive it. One with a thread of its own may begin, and even be done, at once.
        """
        with self._lock:
            if self.is_over:
                return
            self._watcher = watcher
            watcher.watch(self._status.fileno(), READ, self._guarded(self._listen))
            for fd in self.streams.readers:
                watcher.watch(fd, READ, self._reading(fd))
            if self.streams.feeding >= 0:
                watcher.watch(self.streams.feeding, WRITE, self._guarded(self._feed))

    def detach(self) -> None:
        """
        Take it from its watcher, for another.
        """
        if self._watcher:
            for fd in (self._status.fileno(), self.streams.feeding, *self.streams.readers):
                if fd >= 0:
                    self._watcher.unwatch(fd)
        self._watcher = None

    def _guarded(self, serve: Callable[[], object]) -> Callable[[], None]:
        """
        What goes wrong, in a caller's function say, ends the program, and is raised where its end is awaited.
        """

        def guarded() -> None:
            with self._lock:
                if self.is_over:
                    return  # it was ready when another step ended it
                try:
                    serve()
                except Exception as exc:  # noqa: BLE001 - it is raised again, by who waits
                    self.fail(exc)

        return guarded

    def _reading(self, fd: int) -> Callable[[], None]:
        def read() -> None:
            with suppress(BlockingIOError):
                if not self.streams.read(fd) and self._watcher:
                    self._watcher.unwatch(fd)
            if self.execution.writes_too_much and not self._is_silenced:
                self._silence()

        return self._guarded(read)

    def _silence(self) -> None:
        """
        It has written too much: what it writes until it is gone stays in the pipe.
        """
        self._is_silenced = True
        for fd in self.streams.readers:
            if self._watcher:
                self._watcher.unwatch(fd)
        self.kill()

    def _feed(self) -> None:
        if not self.streams.feed():
            if self._watcher:
                self._watcher.unwatch(self.streams.feeding)
            self.streams.close_feeding()

    def fail(self, exc: BaseException) -> None:
        """
        End it for an error of ours.
        """
        if self.error is None:
            self.error = exc
        if not self.is_over:
            with suppress(JailError, OSError):  # then its sandbox is gone, and it with it
                self.kill()
            self._finish()

    def _finish(self) -> None:
        """
        Close what is ours. What the caller reads and writes stays open.
        """
        self.is_over = True
        self.detach()
        self._status.close()
        if self.leaf:
            self.leaf.close()
        try:
            self.streams.close()
        except Exception as exc:  # noqa: BLE001 - a caller's function; raised where the end is awaited
            self.error = self.error or exc
        self.execution.is_silent = True
        if self.meanwhile:
            self.execution.note(self.meanwhile())
        if self.on_usage and (usage := self.execution.usage) is not None:
            self.on_usage(usage)
        if self.on_end:
            self.on_end()

    def adopt(self, fd: int, name: str, held: bytes) -> None:
        """
        Read to its end, and keep, what the caller has asked for with `PIPE` and reads no more. Takes `fd`.

        Args:
            fd: a copy of the caller's descriptor.
            name: "stdout" or "stderr".
            held: what was read from it already.
        """
        with self._lock:
            self.streams.adopt(fd, name, held)
            if self.is_over:
                self.streams.drain()
                self.streams.close()
            elif self._watcher:
                self._watcher.watch(fd, READ, self._reading(fd))

    def __del__(self) -> None:
        if not self.is_over:  # its loop is gone
            self._status.close()
            if self.leaf:
                self.leaf.close()
            self.streams.release()

    def adopt_input(self, fd: int, data: bytes) -> None:
        """
        Write this to what the caller has asked for with `PIPE`, at the program's pace, and close it. Takes `fd`.
        """
        with self._lock:
            if self.is_over or not self.streams.take_input(fd, data):
                os.close(fd)
            elif self._watcher:
                self._watcher.watch(fd, WRITE, self._guarded(self._feed))

    def abandon(self) -> None:
        """
        Close what the caller asked for with `PIPE` and never got.
        """
        self.streams.close_pipes()

    # What is said about it.

    def _listen(self) -> None:
        # Without waiting: the watcher may have meant whoever had this number before.
        with suppress(BlockingIOError):
            if self._expects_fds:
                self._hear(*receive_event_fds(self._status, 2, socket.MSG_DONTWAIT))
            else:
                self._hear(receive_event(self._status, socket.MSG_DONTWAIT), [])

    def _hear(self, event: Event | None, fds: list[int]) -> None:
        if event is None:
            self._listen_to_nobody()
            return
        try:
            if event.kind is EventKind.FAULT:
                raise self.init.fault(event, self.execution.name, self.execution.what.ops)
            if event.kind is EventKind.STARTED and self._expects_fds:
                self._expects_fds = False
                self._take_fds(fds)
        finally:
            for fd in fds:
                os.close(fd)
        self.execution.take(event, self.leaf.now() if self.leaf and event.kind is EventKind.SAMPLE else None)
        if event.kind is EventKind.STARTED and self.on_start:
            self.on_start()
        if event.kind is EventKind.EXITED and self.leaf:
            self._read(self.leaf)
        # When a limit has ended it, what it has left behind is being ended too: until then it is not over.
        if event.kind is EventKind.EXITED and not event.end:
            self.streams.drain()
            self._finish()

    def _read(self, leaf: Leaf) -> None:
        """
        What its cgroup says, now that the program has ended.
        """
        self.execution.figures = leaf.figures()
        self.execution.oom_kills = leaf.oom_kills
        self.execution.refused_forks = leaf.refused_forks

    def _listen_to_nobody(self) -> None:
        """
        The program and all that descended from it is gone; or the sandbox is: the caller has ended it, or
        something went wrong.
        """
        if not self.execution.has_ended:
            self.execution.lose()
            if not self.init.is_ending:
                raise self.init.gone()
        self.streams.drain()
        self._finish()

    def _take_fds(self, fds: list[int]) -> None:
        """
        Take what was asked for from the list of what has come. It comes once.
        """
        what = self.execution.what
        if fds and what.background:
            self.host_pid = _pid_behind(fds[0])
            os.close(fds.pop(0))
        if fds and what.size:
            if not os.isatty(fds[0]):
                raise JailError("jail-init sent something that is no terminal")
            self.streams.take_terminal(fds.pop(0))
            if self._watcher:
                watcher = self._watcher
                self.detach()
                self.attach(watcher)

    # What is said to it.

    def signal(self, number: int, scope: Scope = Scope.PROCESS) -> None:
        """
        Send a signal to the program, its process group, or all that descends from it. Harmless when that has
        ended.
        """
        self.init.refuse_in_child()
        if self.init.is_ending or (self.execution.has_ended and scope is not Scope.TREE):
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # jail-init ends everything as it goes
            self.init.request(RequestKind.SIGNAL, self.id, encode_signal(number, scope))

    def kill(self) -> None:
        """
        SIGKILL to all that descends from the program, what it has left behind included.
        """
        self.execution.claim()
        self.signal(signal.SIGKILL, Scope.TREE)


def _pid_behind(pidfd: int) -> int | None:
    """
    The process id behind a pidfd, as we have it; None when that process is gone. Source: pidfd_open(2).
    """
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        found = [line.split()[1] for line in file if line.startswith("Pid:")]
    if not found:
        raise JailError("jail-init sent something that is no pidfd")
    number = int(found[0])
    return number if number > 0 else None
