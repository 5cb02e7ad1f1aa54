"""
What a program says first on a connection to a name: read once, judged, and passed on as it was read.

The bytes may lie in pages that the program still changes (sendfile(2) of a mapped file): what is judged in the
socket and read again may be another's name by then. All of it is done in the harness's network thread.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from .greeting import GREETING_BYTES_MAX, read_greeting
from .loop import READ, WRITE
from .network import Verdict, granted, refused
from .reactor import EDGE, Reactor

__all__ = ["Sniffer", "judge_greeting"]

_SECONDS = 10.0
_END = b"\r\n\r\n"  # as which some servers take the end of a connection
_WHO = {"tls": "TLS", "http": "HTTP", "more": "what it sends first"}
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

# Given the verdict; None where either side has reset it.
OnEnd = Callable[[Verdict | None], object]


def judge_greeting(name: str, said: bytes, *, is_whole: bool) -> Verdict | None:
    """
    Whether the first bytes of a connection name who was resolved.

    Args:
        name: of the other side.
        said: what has come so far.
        is_whole: nothing comes after it.

    Returns:
        None while they do not tell.
    """
    if not said:
        return granted(None) if is_whole else None
    greeting = read_greeting(said)
    if greeting.kind == "more" and not is_whole:
        return None
    if greeting.kind == "more":
        greeting = read_greeting(said + _END)
    if greeting.kind == "other" or set(greeting.names) == {name}:
        return granted(None)
    names = ", ".join(greeting.names) or "no name"
    return refused(f"{_WHO[greeting.kind]} says {names} on a connection to {name}", any_name=True)


class Sniffer:
    """
    From the first byte to the verdict, and until what was read has gone to the other side.

    Args:
        reactor: in whose thread all of this is.
        name: of the other side.

    Attributes:
        size: of what was read, in bytes.
    """

    __slots__ = ("_copies", "_heard_at", "_name", "_on_end", "_reactor", "_rest", "_said", "_verdict", "size")

    def __init__(self, reactor: Reactor, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._said = b""
        self._rest = b""  # of what was said: it may be passed on, and was not yet
        self._verdict: Verdict | None = None
        self._heard_at = 0.0  # of time.monotonic: when there were bytes that do not tell yet
        self._copies: list[socket.socket] = []
        self._on_end: OnEnd | None = None
        self.size = 0

    def listen(self, program: socket.socket, other: socket.socket) -> Verdict | None:
        """
        Read what has come, and pass it on if it may be.

        Returns:
            The verdict; None while there is none, or the other side takes no more for now.

        Raises:
            OSError: one of them has reset it.
        """
        while self._verdict is None:
            try:
                data = program.recv(GREETING_BYTES_MAX - self.size, _FLAGS)
            except BlockingIOError:
                self._heard_at = self._heard_at or (time.monotonic() if self._said else 0.0)
                return None
            self._said += data
            self.size += len(data)
            self._verdict = judge_greeting(self._name, self._said, is_whole=not data)
            if self._verdict:
                self._rest, self._said = self._said, b""
        return self._verdict if not self._verdict.allowed or self._pass_on(other) else None

    def _pass_on(self, other: socket.socket) -> bool:
        while self._rest:
            try:
                self._rest = self._rest[other.send(self._rest, _FLAGS) :]
            except BlockingIOError:
                return False
        return True

    def wait(self, program: socket.socket, other: socket.socket, on_end: OnEnd) -> None:
        """
        Go on with copies of both, which will be the mover's, until there is a verdict; and call back with it once.

        Raises:
            OSError: no descriptor is left, or no room to watch one.
        """
        self._on_end = on_end
        try:
            self._copies.append(program.dup())
            self._copies.append(other.dup())
            self._watch()
        except OSError:
            self.close()
            raise

    def _watch(self) -> None:
        program, other = self._copies
        if self._verdict is None:
            self._reactor.watch(program.fileno(), READ | EDGE, self._hear)
        else:
            self._reactor.watch(other.fileno(), WRITE, self._hear)

    def _hear(self) -> None:
        if not self._copies:
            return
        program, other = self._copies
        was_known = self._verdict is not None
        try:
            verdict = self.listen(program, other)
            if verdict is None and self._verdict is not None and not was_known:
                self._reactor.unwatch(program.fileno())
                self._watch()
        except OSError:
            self._end(None)
        else:
            if verdict is not None:
                self._end(verdict)

    def _end(self, verdict: Verdict | None) -> None:
        on_end, self._on_end = self._on_end, None
        self.close()
        if on_end:
            on_end(verdict)

    def sweep(self, now: float) -> None:
        """
        What may become a request has some time to do so.

        Args:
            now: of ``time.monotonic``.
        """
        if self._verdict is None and self._heard_at and self._heard_at + _SECONDS <= now:
            why = f"what it sends first to {self._name} may become a request, and does not in time"
            self._end(refused(why, any_name=True))

    def close(self) -> None:
        """
        Drop the copies. May be called again.
        """
        for sock in self._copies:
            self._reactor.unwatch(sock.fileno())
        self.drop()

    def drop(self) -> None:
        """
        The same in a forked copy of the harness, where nothing is watched.
        """
        for sock in self._copies:
            sock.close()
        self._copies.clear()
