"""
A live sandbox, used by another process of the same user: both ends of what they say.

One packet asks; the harness's pump answers, with a packet when the program has started and one when it has ended.
Whoever may connect has the user's own rights and is therefore in nothing the sandbox's: what it starts is
confined like all the rest. When it hangs up, what it has started is killed.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from .command import PIPE
from .errors import JailError, SetupError
from .exchange import Exchange
from .liveness import started
from .loop import READ, pump
from .registry import Record, Registration
from .session import Session

__all__ = ["ask", "receive", "register"]

_PACKET_BYTES = 128 << 10  # what fits into a socket's buffer as most hosts have it; socket(7), SO_SNDBUF
_STREAMS = ("stdin", "stdout", "stderr")


def ask(connection: socket.socket, request: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """
    Send a request.

    Args:
        connection: of `registry.connect`.
        request: ``{"inspect": true}``; or ``{"cmd": [...]}`` with cwd, env, timeout, and pty and size or with
            three descriptors for the standard streams.
        fds: pipes and sockets.

    Raises:
        JailError: it does not fit into a packet, or the harness is gone.
    """
    packet = json.dumps(request).encode()
    if len(packet) > _PACKET_BYTES:
        raise JailError(
            f"arguments and environment take {len(packet)} bytes; at most {_PACKET_BYTES} by name"
        )
    try:
        socket.send_fds(connection, [packet], fds)
    except OSError as exc:
        raise JailError(f"the harness has hung up: {exc.strerror}") from exc


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """
    The next answer, and the descriptors with it. Blocks.

    Raises:
        JailError: the harness is gone.
        SetupError: the program could not be started.
    """
    try:
        packet, fds, _, _ = socket.recv_fds(connection, _PACKET_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
    except OSError as exc:
        raise JailError(f"the harness has hung up: {exc.strerror}") from exc
    if not packet:
        raise JailError("the sandbox has ended")
    answer: dict[str, Any] = json.loads(packet)
    if error := answer.get("error"):
        if "op" in error:
            raise SetupError(**error)
        raise JailError(error["message"])
    return answer, fds


def register(session: Session, name: str) -> None:
    """
    Give a sandbox a name, and have the pump answer whoever connects, until it ends. Does not keep it alive.

    Raises:
        PolicyError: the name is no name, or taken.
        JailError: there is no directory for it.
    """
    init = session.init
    record = Record(
        name=name,
        harness_pid=os.getpid(),
        init_pid=init.pid,
        init_started=started(init.pid) or 0,
        created_seconds=time.time(),
        tier=session.plan.tier,
        directory=session.directory,
        policy=session.policy.to_toml(),
        cgroup=session.group.path if session.group else None,
    )
    registration = Registration(record)
    session.at_end.callback(registration.close)
    listener = registration.listener
    held = weakref.ref(session)
    visitors: weakref.WeakSet[_Visitor] = weakref.WeakSet()

    def accept() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            visitor = _Visitor(held, connection)
            visitors.add(visitor)
            visitor.attend()

    def show_out() -> None:
        for visitor in list(visitors):
            visitor.leave()

    pump.watch(listener.fileno(), READ, accept)
    session.at_end.callback(show_out)
    session.at_end.callback(pump.unwatch, listener.fileno())


class _Visitor:
    """
    One connection.
    """

    def __init__(self, session: weakref.ref[Session], connection: socket.socket) -> None:
        self._session = session
        self._connection = connection
        self._exchange: Exchange | None = None

    def attend(self) -> None:
        """
        Wait for its request, if it may make one.
        """
        credentials = self._connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        if struct.unpack("3i", credentials)[1] != os.geteuid():
            self._connection.close()
            return
        self._connection.setblocking(False)  # noqa: FBT003 - the standard library has such parameters
        pump.watch(self._connection.fileno(), READ, self._hear)

    def _hear(self) -> None:
        fds: list[int] = []
        try:
            packet, fds, _, _ = socket.recv_fds(self._connection, _PACKET_BYTES, 3, socket.MSG_CMSG_CLOEXEC)
            if not packet or self._exchange is not None:
                self.leave()
            else:
                self._carry_out(json.loads(packet), fds)
        except BlockingIOError:
            pass
        except Exception as exc:  # noqa: BLE001 - whatever a request makes go wrong is its maker's to know
            self._answer({"error": _error(exc)})
            self.leave()
        finally:
            for fd in fds:
                os.close(fd)

    def _carry_out(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        session = self._session()
        if session is None:
            raise JailError("the sandbox has ended")
        if request.pop("inspect", None):
            guarantees = [asdict(guarantee) for guarantee in session.plan.guarantees]
            self._answer({"guarantees": guarantees, "usage": session.usage().as_dict()})
            self.leave()
            return
        cmd = request.pop("cmd")
        streams = (
            dict.fromkeys(_STREAMS[:2], PIPE) if request.get("pty") else dict(zip(_STREAMS, fds, strict=True))
        )
        exchange = session.open(session.prepare(cmd, {**request, **streams}, background=True))
        exchange.on_start = self._started
        exchange.on_end = self._ended
        self._exchange = exchange
        exchange.attach(pump)

    def _started(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        ends = [fd for fd in (exchange.streams.stdin, exchange.streams.stdout) if fd >= 0]
        self._answer({"started": exchange.execution.pid}, ends[:1])
        for fd in ends:
            os.close(fd)

    def _ended(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        outcome = exchange.execution.outcome
        if not exchange.execution.is_started:
            exchange.abandon()
        if exchange.error is not None:
            self._answer({"error": _error(exchange.error)})
        elif outcome is not None:
            self._answer({"exit_code": outcome.exit_code, "outcome": str(outcome)})
        self.leave()

    def _answer(self, answer: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        with suppress(OSError):  # it has hung up
            socket.send_fds(self._connection, [json.dumps(answer).encode()], fds)

    def leave(self) -> None:
        """
        Hang up, and end what it has started.
        """
        if self._connection.fileno() >= 0:
            pump.unwatch(self._connection.fileno())
            self._connection.close()
        if self._exchange is not None and not self._exchange.is_over:
            self._exchange.kill()


def _error(exc: BaseException) -> dict[str, Any]:
    if isinstance(exc, SetupError):
        return {"op": exc.op, "syscall": exc.syscall, "errno": exc.errno, "path": exc.path, "hint": exc.hint}
    return {"message": str(exc) or type(exc).__name__}
