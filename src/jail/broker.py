"""
The sockets of a sandbox that has no network namespace: the harness makes them, and connects them.

A program's socket(2) and connect(2) wait for the harness (`notify`). It makes the socket, keeps a copy and hands the
other one in; asked to connect, it finds its copy by the descriptor's inode, reads the address once, judges what it has
read, and connects its own copy to exactly that. Nothing that a program writes over the address or puts in the place of
the descriptor meanwhile is looked at again, so there is nothing to race. No call is ever let through.

Once a socket is connected the copy is closed: from then on it is the program's alone, and so is its end.
All of it is done in the harness's network thread but connect(2) itself, which a program could have wait.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .address import meant, parse_address
from .asker import asker_of
from .connector import Connector
from .denial import Asker, Denials, Meanwhile
from .door import Door
from .fork import forget_in_child
from .handoff import Handoff
from .loop import READ, WRITE
from .network import Rules, Verdict, denial_of, judge
from .notification import (
    Call,
    Target,
    answer,
    hand_in,
    is_waiting,
    parse_target,
    read_memory,
    receive_call,
    socket_inode,
)
from .notify import SOCKET
from .reactor import Timer
from .traffic import Traffic, enter, leave

__all__ = ["Broker", "judge_target"]

# Copies of sockets that nobody connects, and for how long they are kept when there are more: of one that a program has
# closed the kernel does not tell.
_IDLE_MAX = 64
_IDLE_SECONDS = 10.0
_HELD_MAX = 1024
_CONNECTED_MAX = 65536

_ADDRESS_BYTES_MAX = 128  # struct sockaddr_storage
_ON_ITS_WAY = (errno.EINPROGRESS, errno.EALREADY)
_TIMEVAL = struct.Struct("=qq")
_BITS = 0xFFFF_FFFF


def judge_target(rules: Rules, target: Target) -> Verdict:
    """
    Whether a program may be connected there: by its address, since there are no names here.
    """
    return judge(rules, None, parse_address(target.address), target.port, "tcp")


@dataclass(slots=True, eq=False)
class _Held:
    """
    A socket of a program's that is not connected yet, and those that wait until it is.
    """

    sock: socket.socket
    made: float  # of time.monotonic
    target: Target | None = None  # while it is on its way there
    trying: _Attempt | None = None  # whose connect(2) has not returned yet
    waiting: dict[int, Timer | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """
    One connect(2).

    Args:
        inode, held: of which socket.
        target: to where.
        caller: whose call it is; None where it only asks what has become of it.
        blocks: the caller waits until it is connected.
    """

    inode: int
    held: _Held
    target: Target
    caller: int | None
    blocks: bool


class Broker:
    """
    From before the sandbox is built to its end.

    Args:
        rules: who may be reached; by address.
        denials: where refusals are noted.

    Attributes:
        door: of the sandbox's own proxy, if it has one.
    """

    def __init__(self, rules: Rules, denials: Denials) -> None:
        self.rules = rules
        self.door: Door | None = None
        self._denials = denials
        self._traffic: Traffic = enter()
        self.reactor = self._traffic.reactor
        self._connector = Connector(self.reactor)
        self._handoff = Handoff(self.reactor, self._take)
        self._listener = -1
        self._held: dict[int, _Held] = {}  # by inode, the oldest first
        self._connected: dict[int, bool] = {}  # by inode: whether a program was told
        self._is_closed = False
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._held_max = max(8, min(_HELD_MAX, soft // 8))
        forget_in_child(self)

    @property
    def proxy_url(self) -> str | None:
        """
        Of the sandbox's own proxy, if it has one.
        """
        return "http://{}:{}".format(*self.door.place) if self.door else None

    moved = None  # the bytes pass between a program and the kernel

    def from_now(self) -> Callable[[], Meanwhile]:
        """
        A function that says what happens from this moment until it is called.
        """
        mark = self._denials.mark()
        return lambda: Meanwhile(self._denials.since(mark), None)

    # What comes from the sandbox.

    def open(self) -> socket.socket:
        """
        The end of a socket on which `jail-init` is to send what its NOTIFY op makes; the caller's to close.
        """
        return self._handoff.open()

    def _take(self, fd: int) -> None:
        self._handoff.close()  # there is one
        self._listener = fd
        self.reactor.watch(fd, READ, self._serve)

    def _stop_listening(self) -> None:
        """
        Whoever calls from now on has ENOSYS from the kernel.
        """
        if self._listener >= 0:
            self.reactor.unwatch(self._listener)
            os.close(self._listener)
            self._listener = -1

    def _serve(self) -> None:
        try:
            call = receive_call(self._listener)
        except EOFError:
            self._close()
            return
        if call is None:
            return
        try:
            error = self._carry_out(call)
        except OSError as exc:
            error = exc.errno or errno.EIO
        except BaseException:
            answer(self._listener, call.id, errno.EIO)  # an error of our own: a program is not to hang for it
            raise
        if error is not None:
            answer(self._listener, call.id, error)

    def _carry_out(self, call: Call) -> int | None:
        if call.number not in SOCKET.values():
            return self._connect(call)
        self._make(call)
        return None

    # Making them.

    def _make(self, call: Call) -> None:
        """
        Make one, keep a copy, hand the other in.

        Raises:
            OSError: what the program's call is to give.
        """
        family, kind, protocol = (number & _BITS for number in call.args[:3])
        if family not in (socket.AF_INET, socket.AF_INET6) or protocol not in (0, socket.IPPROTO_TCP):
            raise _error(errno.EPERM)
        self._make_room()
        flags = kind & (socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        if kind != socket.SOCK_STREAM | flags:
            raise _error(errno.EINVAL)
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.settimeout(0)  # Python's own is not to wait; and what the program is to see:
            os.set_blocking(sock.fileno(), not flags & socket.SOCK_NONBLOCK)
            hand_in(
                self._listener, call.id, sock.fileno(), os.O_CLOEXEC if flags & socket.SOCK_CLOEXEC else 0
            )
        except OSError:
            sock.close()
            raise
        inode = os.fstat(sock.fileno()).st_ino
        self._connected.pop(inode, None)
        self._held[inode] = _Held(sock, time.monotonic())

    def _make_room(self) -> None:
        if len(self._held) < _IDLE_MAX:
            return
        now = time.monotonic()
        idle = (i for i, held in self._held.items() if held.target is None and held.trying is None)
        oldest = next(idle, None)
        is_full = len(self._held) >= self._held_max
        if oldest is not None and (is_full or self._held[oldest].made + _IDLE_SECONDS <= now):
            self._held.pop(oldest).sock.close()
        elif is_full:
            raise _error(errno.ENOBUFS)

    # Connecting them.

    def _connect(self, call: Call) -> int | None:
        """
        Judge, and connect our copy.

        Returns:
            What to answer; None where the program waits until there is something to.

        Raises:
            OSError: what the program's call is to give.
        """
        fd, address, size = call.args[:3]
        inode = socket_inode(call.pid, fd & _BITS)
        if not 0 <= size & _BITS <= _ADDRESS_BYTES_MAX:
            raise _error(errno.EINVAL)
        data = read_memory(call.pid, address, size & _BITS)
        if not is_waiting(self._listener, call.id):  # all of that may have been somebody else's
            return None
        if inode in self._connected:
            was_told, self._connected[inode] = self._connected[inode], True
            return errno.EISCONN if was_told else 0
        if inode not in self._held:
            raise _error(errno.EACCES)
        target, held = parse_target(data), self._held[inode]
        if held.sock.family != target.family:
            raise _error(errno.EAFNOSUPPORT)
        if not self._is_to_proxy(target):
            verdict = judge_target(self.rules, target)
            if not verdict.allowed:
                self._deny(call, target, verdict)
                raise _error(errno.EACCES)
        return self._begin(call, inode, held, target)

    def _is_to_proxy(self, target: Target) -> bool:
        return self.door is not None and self.door.is_at(target.address, target.port)

    def _begin(self, call: Call, inode: int, held: _Held, target: Target) -> int | None:
        """
        Connect our copy; or join those that wait for it already, who are to be told what comes of it.
        """
        # while one is tried, the socket is for a moment not what the program has made it
        blocks = held.trying.blocks if held.trying else os.get_blocking(held.sock.fileno())
        if held.trying or (held.target is not None and (blocks or held.waiting)):
            if not blocks:
                return errno.EALREADY
            held.waiting[call.id] = self._limit(held, call.id)
            return None
        self._try(_Attempt(inode, held, target, call.id, blocks))
        return None

    def _try(self, attempt: _Attempt) -> None:
        """
        Raises:
            OSError: it cannot be tried now.
        """
        held, door = attempt.held, self._door_of(attempt)
        self.reactor.unwatch(held.sock.fileno())
        self._connector.connect(held.sock, attempt.target.tuple, functools.partial(self._tried, attempt))
        held.trying = attempt
        if door:
            door.await_one()

    def _door_of(self, attempt: _Attempt) -> Door | None:
        """
        Where it is a way to the proxy that begins.
        """
        return self.door if attempt.held.target is None and self._is_to_proxy(attempt.target) else None

    def _tried(self, attempt: _Attempt, error: int) -> None:
        attempt.held.trying = None
        if self._listener < 0:
            return
        try:
            self._conclude(attempt, error)
        except BaseException:
            self._tell(attempt, errno.EIO)  # an error of our own: a program is not to hang for it
            raise

    def _conclude(self, attempt: _Attempt, error: int) -> None:
        held, caller = attempt.held, attempt.caller
        if door := self._door_of(attempt):
            door.expect(held.sock if error in (0, errno.EINPROGRESS) else None)
        if error not in _ON_ITS_WAY:
            is_told = self._tell(attempt, error)
            if error in (0, errno.EISCONN):
                self._let_go(attempt.inode, is_told=is_told)
            return
        self._await(attempt.inode, held, attempt.target)
        if caller is not None and not attempt.blocks:
            answer(self._listener, caller, error)
        elif caller is not None:
            held.waiting[caller] = self._limit(held, caller)

    def _tell(self, attempt: _Attempt, error: int) -> bool:
        """
        Answer all that wait for it; False where nobody does any more.
        """
        callers = [] if attempt.caller is None else [attempt.caller]
        callers += attempt.held.waiting
        self._stop_waiting(attempt.held)
        told = [call_id for call_id in callers if is_waiting(self._listener, call_id)]
        for call_id in told:
            answer(self._listener, call_id, error)
        return bool(told)

    def _await(self, inode: int, held: _Held, target: Target) -> None:
        held.target = target
        self.reactor.watch(held.sock.fileno(), WRITE, lambda: self._settle(inode, held))

    def _stop_waiting(self, held: _Held) -> None:
        if held.target is not None:
            self.reactor.unwatch(held.sock.fileno())
            held.target = None
        for timer in held.waiting.values():
            if timer:
                timer.cancel()
        held.waiting.clear()

    def _limit(self, held: _Held, call_id: int) -> Timer | None:
        """
        A socket may say how long a program waits: SO_SNDTIMEO of socket(7).
        """
        option = held.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.size)
        seconds, microseconds = _TIMEVAL.unpack(option)
        if not seconds and not microseconds:
            return None

        def give_up() -> None:
            held.waiting.pop(call_id, None)
            answer(self._listener, call_id, errno.EINPROGRESS)

        return self.reactor.later(seconds + microseconds / 1e6, give_up)

    def _settle(self, inode: int, held: _Held) -> None:
        """
        It is connected, or will not be. A result that nobody waits for stays in the socket.
        """
        if held.target is None:
            return
        if any(is_waiting(self._listener, call_id) for call_id in held.waiting):
            self._try(_Attempt(inode, held, held.target, None, os.get_blocking(held.sock.fileno())))
            return
        self._stop_waiting(held)
        if _is_connected(held.sock):
            self._let_go(inode, is_told=False)

    def _let_go(self, inode: int, *, is_told: bool) -> None:
        self._connector.drop(self._held.pop(inode).sock)
        if len(self._connected) >= _CONNECTED_MAX:
            self._connected.pop(next(iter(self._connected)))
        self._connected[inode] = is_told

    def _deny(self, call: Call, target: Target, verdict: Verdict) -> None:
        """
        Note a refusal, what would allow it, and who has asked.
        """
        subject = str(meant(parse_address(target.address)))
        self._denials.add(denial_of(subject, target.port, verdict), lambda: self._asker_of(call))

    def _asker_of(self, call: Call) -> Asker | None:
        asker = asker_of(call.pid)
        return asker if is_waiting(self._listener, call.id) else None  # or else it may be somebody else's

    # Ends.

    def close(self) -> None:
        """
        End all of it. From any thread; may be called again.
        """
        if not self._is_closed:
            self._is_closed = True
            try:
                self.reactor.call(self._close)
                self._connector.join()
            finally:
                leave(self._traffic)

    def _close(self) -> None:
        self._handoff.close()
        self._stop_listening()
        if self.door:
            self.door.close()
        for held in self._held.values():
            self._stop_waiting(held)
            self._connector.drop(held.sock)
        self._held.clear()
        self._connector.close()

    def forget(self) -> None:
        """
        Drop the descriptors: in a forked copy of the harness, which has no such thread.
        """
        self._is_closed = True
        self._handoff.forget()
        if self.door:
            self.door.forget()
        if self._listener >= 0:
            os.close(self._listener)
            self._listener = -1
        for held in self._held.values():
            held.sock.close()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
