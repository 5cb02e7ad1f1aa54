"""
Starts `jail-init` with a plan, and talks to it.

The only module that calls the C core. After the clone no Python runs on the other side; whatever is
decided was decided in the plan.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from . import _core
from .errors import JailError, SetupError
from .fault import fault_error
from .fork import forget_in_child
from .ops import Op, OpKind
from .wire import (
    EVENT_BYTES,
    NO_OP,
    Event,
    EventKind,
    Phase,
    RequestKind,
    Step,
    decode_event,
    encode_plan,
    packets,
)

__all__ = ["INIT_PATH", "Init", "receive_event", "receive_event_fds", "spawn_init"]

INIT_PATH = str(Path(__file__).with_name("bin") / "jail-init")

# How a jail-init ends for a reason of its own, as `Init.close` says it: EXIT_TOLD and EXIT_TIME of init.c.
_ENDS = {
    f"code {os.CLD_EXITED}, status 4": "was ended from outside, by SIGTERM to its jail-init or `jail kill`",
    f"code {os.CLD_EXITED}, status 5": "has lasted, or was idle, for as long as its policy says (wall, idle)",
}
_COVER_LOST = f"code {os.CLD_EXITED}, status 6"  # EXIT_COVER
_COVER_WORDS = (
    "the policy denies it, or lets nobody write it, and it was replaced, moved or removed on the host while the "
    "sandbox lived. What is there now was not covered, so the sandbox was ended. Make a new one"
)

# wait(2): children whose exit signal is not SIGCHLD. Python has no name for it.
_WALL = 0x40000000


class Init:
    """
    One running `jail-init`: the control socket and the pidfd, both owned, and in `setup` how many seconds it took
    to be started ("spawn"), and to carry out the plan ("build"). What it waited for in between is not counted.

    May be used from any thread: a request's packets are sent together. `is_ending` says that it was told to end,
    `is_foreign` that it is another process's, from which this one was forked.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_each_exec",
        "_end",
        "_missed",
        "_reading",
        "_setup_ops",
        "_writing",
        "control",
        "is_ending",
        "is_foreign",
        "is_ready",
        "pid",
        "pidfd",
        "setup",
    )

    def __init__(
        self,
        control: socket.socket,
        pidfd: int,
        pid: int,
        spawn_seconds: float,
        setup: Sequence[Op],
        each_exec: Sequence[Op],
    ) -> None:
        self.control = control
        self.pidfd = pidfd
        self.pid = pid
        self._setup_ops = setup
        self._each_exec = each_exec
        self.setup = {"spawn": spawn_seconds}
        self.is_ready = False
        self.is_ending = False
        self.is_foreign = False
        self._end = "unknown"
        self._missed = ""
        self._locks()
        forget_in_child(self)

    def _locks(self) -> None:
        self._closing, self._reading, self._writing = (threading.Lock() for _ in range(3))

    def request(self, kind: RequestKind, exec_id: int, body: bytes, fds: Sequence[int] = ()) -> None:
        """
        Send one request, with descriptors if it takes any.

        Raises:
            BrokenPipeError, ConnectionResetError: `jail-init` is gone.
        """
        with self._writing:
            for packet in packets(kind, exec_id, body):
                if fds:
                    socket.send_fds(self.control, [packet], fds, socket.MSG_NOSIGNAL)
                    fds = ()
                else:
                    self.control.send(packet, socket.MSG_NOSIGNAL)

    def ask(self, kind: RequestKind, exec_id: int, body: bytes, fds: Sequence[int] = ()) -> None:
        """
        The same, for a caller who awaits an answer.

        Raises:
            JailError: why there will be none.
        """
        try:
            self.request(kind, exec_id, body, fds)
        except (BrokenPipeError, ConnectionResetError):
            raise self.gone() from None

    def await_ready(self) -> None:
        """
        Wait until the sandbox is built. Returns at once when it is known to be.

        Raises:
            SetupError: an op failed; the sandbox is gone.
            JailError: `jail-init` was killed.
        """
        with self._reading:
            if self.is_ready:
                return
            event = receive_event(self.control)
            if event is None:
                raise self.lost()
            if event.kind is not EventKind.READY:
                raise self.fault(event)
            self.is_ready = True
            self.setup["build"] = event.wall_ns / 1e9

    def fault(self, event: Event, what: str = "", ops: Sequence[Op] = ()) -> SetupError:
        """
        The exception for a FAULT event of this sandbox; `ops` are those of the exec that it is about.
        """
        return fault_error(event, self._setup_ops, (*self._each_exec, *ops), what)

    def lost(self) -> JailError:
        """
        The exception for a `jail-init` that ended unasked.
        """
        self._read_what_is_missed()
        how = self.close()
        if how == _COVER_LOST:
            return JailError(f"{self._missed or 'what the policy denies'}: {_COVER_WORDS}")
        if how in _ENDS:
            return JailError(f"the sandbox {_ENDS[how]}")
        return JailError(f"jail-init (pid {self.pid}) ended before it was told to: {how}")

    def _read_what_is_missed(self) -> None:
        """
        The last word of a `jail-init` that misses a cover is which.
        """
        with suppress(OSError):  # there is nothing; or another thread was first, and has closed it
            while event := receive_event(self.control, socket.MSG_DONTWAIT):
                if event.op_kind == OpKind.COVER and 0 <= event.op < len(self._setup_ops):
                    self._missed = self._setup_ops[event.op].path

    def gone(self) -> JailError:
        """
        Why nobody answers: the set-up has failed, or `jail-init` has ended unasked.
        """
        try:
            self.await_ready()
        except JailError as exc:
            return exc
        return self.lost()

    def hang_up(self, *, kill: bool) -> None:
        """
        Have it end, with everything inside, and do not wait. What it says no more is no loss from then on.

        Args:
            kill: by SIGKILL, which in a PID namespace is all that is needed.
        """
        self.is_ending = True
        if kill:
            self.kill()
        elif self.pidfd >= 0:
            with suppress(OSError):  # ENOTCONN: it has hung up first
                self.control.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """
        SIGKILL to `jail-init`; in a PID namespace that ends everything inside. Harmless when it has ended.
        """
        with self._closing:
            if self.pidfd >= 0:
                with suppress(ProcessLookupError):  # reaped: a harness that waits for any child was first
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> str:
        """
        Hang up and wait until `jail-init`, and with it everything inside, is gone.

        Returns:
            How it ended, in words.
        """
        with self._closing:
            if self.pidfd < 0:
                return self._end
            self.control.close()
            try:
                ended = self._wait()
            finally:
                os.close(self.pidfd)
                self.pidfd = -1
            if ended is not None:
                self._end = f"code {ended.si_code}, status {ended.si_status}"
            return self._end

    def _wait(self) -> os.waitid_result | None:
        """
        Reap it; or see it end, where a harness that reaps or ignores all its children was first.
        """
        try:
            return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | _WALL)
        except ChildProcessError:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            poll.poll()
            return None

    def forget(self) -> None:
        """
        Drop the descriptors without waiting: for a forked copy of the harness, whose child this is not.
        """
        self._locks()  # another thread may have held the old ones at the fork
        self.is_foreign = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.control.close()

    def refuse_in_child(self) -> None:
        """
        Raises:
            JailError: this process was forked from the one that it belongs to.
        """
        if self.is_foreign:
            raise JailError("the sandbox belongs to another process: this one was forked from its harness")

    def ended(self) -> bool:
        """
        Whether `jail-init` has ended, without waiting. Source: pidfd_open(2): readable from then on.
        """
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))


def receive_event(channel: socket.socket, flags: int = 0) -> Event | None:
    """
    The next event on a socket that `jail-init` writes to; None when it has closed it. `flags` are recv(2)'s.

    Where it ended with requests unread the kernel says ECONNRESET, once, before it gives what was sent.
    """
    try:
        packet = channel.recv(EVENT_BYTES + 1, flags)
    except ConnectionResetError:
        packet = channel.recv(EVENT_BYTES + 1, flags)
    return decode_event(packet) if packet else None


def receive_event_fds(channel: socket.socket, most: int, flags: int = 0) -> tuple[Event | None, list[int]]:
    """
    The same, with the descriptors that came along, at most as many; they are the caller's to close.
    """
    flags |= socket.MSG_CMSG_CLOEXEC
    try:
        packet, fds, _, _ = socket.recv_fds(channel, EVENT_BYTES + 1, most, flags)
    except ConnectionResetError:
        packet, fds, _, _ = socket.recv_fds(channel, EVENT_BYTES + 1, most, flags)
    try:
        return decode_event(packet) if packet else None, fds
    except JailError:
        for fd in fds:
            os.close(fd)
        raise


def spawn_init(
    clone_flags: int,
    ambient: int,
    setup: Sequence[Op],
    each_exec: Sequence[Op],
    *,
    cgroup_fd: int = -1,
    sockets_fd: int = -1,
) -> Init:
    """
    Start `jail-init` in new namespaces and send it the plan. Does not wait for READY.

    Args:
        clone_flags: ``CLONE_NEW*`` of clone(2).
        ambient: capabilities it keeps for the set-up, one bit each (capabilities(7)).
        setup: ops it carries out once.
        each_exec: ops each program carries out before it is executed.
        cgroup_fd: of a cgroup v2 directory to start in, or -1.
        sockets_fd: of a socket on which it sends what LISTEN ops make, or -1 where there are none.

    Raises:
        SetupError: the clone, or the start of `jail-init`, failed.
    """
    started = time.monotonic()
    with ExitStack() as always, ExitStack() as on_failure:
        try:
            init_fd = os.open(INIT_PATH, os.O_PATH | os.O_CLOEXEC)
        except OSError as exc:
            raise _spawn_error(Step.INIT, exc.errno or 0) from exc
        always.callback(os.close, init_fd)
        harness = os.pidfd_open(os.getpid())
        always.callback(os.close, harness)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        always.callback(theirs.close)
        on_failure.callback(ours.close)

        spawn = _core.ffi.new(
            "struct jail_spawn *",
            {
                "clone_flags": clone_flags,
                "ambient": ambient,
                "init_fd": init_fd,
                "control_fd": theirs.fileno(),
                "cgroup_fd": cgroup_fd,
            },
        )
        result = _core.lib.jail_spawn(spawn)
        if result < 0:
            raise _spawn_error(spawn.step, -result)
        init = Init(ours, spawn.pidfd, spawn.pid, time.monotonic() - started, setup, each_exec)
        on_failure.callback(init.close)
        theirs.close()
        fds = [harness] if sockets_fd < 0 else [harness, sockets_fd]
        init.request(RequestKind.PLAN, 0, encode_plan(setup, each_exec), fds)
        on_failure.pop_all()
    return init


def _spawn_error(step: int, error: int) -> SetupError:
    event = Event(EventKind.FAULT, 0, Phase.SPAWN, NO_OP, step, error)
    return fault_error(event, (), (), INIT_PATH)
