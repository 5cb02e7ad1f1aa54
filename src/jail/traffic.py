"""
Two sockets become one stream: the face of the mover in ``csrc/traffic.c``, one for the whole harness.

Python decides who is paired; the bytes pass in a thread that never waits for the interpreter. Both threads exist
while some sandbox has an allowlist.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from . import _core
from .errors import JailError
from .fork import forget_in_child
from .loop import READ
from .reactor import Reactor

__all__ = ["PAIRS_MAX", "Account", "Traffic", "enter", "leave"]

PAIRS_MAX = 8192  # of a harness; a report of each, 4 bytes, fits into a pipe at once (pipe(7))
_ACCOUNTS_MAX = 4096
_BUFFER_BYTES = 1 << 17

_OPEN, _CUT, _STOP, _SERVE = 1, 2, 3, 4  # enum jail_order_kind
_ORDER = struct.Struct("=III")
_REPORT = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Account:
    """
    What the pairs of one sandbox have moved.
    """

    number: int
    traffic: Traffic

    @property
    def moved(self) -> tuple[int, int]:
        """
        Bytes from its programs, and to them.
        """
        return self.traffic.moved(self.number)


class Traffic:
    """
    The mover, and the thread that serves what becomes of it.

    Attributes:
        reactor: that thread. All but the making and `end` of this is called in there.
    """

    def __init__(self) -> None:
        ffi = _core.ffi
        self._pairs = ffi.new("struct jail_pair[]", PAIRS_MAX)  # zeroed pages: it costs what is used
        self._accounts = ffi.new("struct jail_account[]", _ACCOUNTS_MAX)
        self._buffer = ffi.new("char[]", _BUFFER_BYTES)
        self._epoll = select.epoll()
        self._orders_in, self._orders = os.pipe()
        self._reports, self._reports_out = os.pipe()
        self._mover = ffi.new(
            "struct jail_traffic *",
            {
                "epoll_fd": self._epoll.fileno(),
                "orders_fd": self._orders_in,
                "reports_fd": self._reports_out,
                "buffer_len": _BUFFER_BYTES,
                "pairs": self._pairs,
                "accounts": self._accounts,
                "buffer": self._buffer,
            },
        )
        self._on_end: dict[int, Callable[[], object]] = {}
        self._free_pairs = list(range(PAIRS_MAX))[::-1]
        self._free_accounts = list(range(_ACCOUNTS_MAX))[::-1]
        self.reactor = Reactor("jail-network")
        self._thread = threading.Thread(target=self._run, name="jail-traffic", daemon=True)
        self._thread.start()
        self.reactor.call(lambda: self.reactor.watch(self._reports, READ, self._collect))
        forget_in_child(self)

    def _run(self) -> None:
        error = _core.lib.jail_traffic_run(self._mover)
        if error < 0:
            raise JailError(f"the mover of bytes has ended: {os.strerror(-error)}")

    def open_account(self, most: int) -> Account:
        """
        A place to count the bytes of a sandbox; 0 for no limit.

        Raises:
            JailError: there are too many sandboxes.
        """
        if not self._free_accounts:
            raise JailError(f"more than {_ACCOUNTS_MAX} sandboxes with an allowlist at once")
        number = self._free_accounts.pop()
        account = self._accounts[number]
        account.moved[0] = account.moved[1] = 0
        account.most = most
        return Account(number, self)

    def close_account(self, account: Account) -> None:
        """
        Its pairs have ended, and its place is free.
        """
        self._free_accounts.append(account.number)

    def moved(self, number: int) -> tuple[int, int]:
        """
        What an account has.
        """
        account = self._accounts[number]
        return int(account.moved[0]), int(account.moved[1])

    def add(
        self,
        program: socket.socket,
        other: socket.socket,
        account: Account,
        on_end: Callable[[], object],
        *,
        is_held: bool = False,
    ) -> int | None:
        """
        Pair two sockets, which are the mover's from now on.

        Args:
            program: that of the program.
            other: the one outside.
            account: where its bytes are counted.
            on_end: called when it is over.
            is_held: read nothing from the program's until `release`.

        Returns:
            A number for the pair; None where there are too many of them.
        """
        if not self._free_pairs:
            return None
        number = self._free_pairs.pop()
        pair = self._pairs[number]
        pair.fds = [program.detach(), other.detach()]
        pair.account, pair.is_held, pair.ended, pair.err = account.number, is_held, 0, 0
        pair.full = pair.is_early = 0
        pair.serial = (pair.serial + 1) & 0xFFFF_FFFF
        pair.moved[0] = pair.moved[1] = 0
        self._on_end[number] = on_end
        if added := _core.lib.jail_traffic_add(self._mover, number):
            self._order(_SERVE if added > 0 else _CUT, number)
        return number

    def release(self, number: int) -> None:
        """
        What a pair holds may be read. Harmless when it has ended.
        """
        self._order(_OPEN, number)

    def cut(self, number: int) -> None:
        """
        End a pair at once. Harmless when it has ended.
        """
        self._order(_CUT, number)

    def moved_at(self, number: int) -> float:
        """
        When a pair has moved bytes last, as ``time.monotonic`` has it; 0 before it was begun.
        """
        return float(self._pairs[number].at_ns) / 1e9

    def _order(self, kind: int, number: int) -> None:
        order = _ORDER.pack(kind, number, self._pairs[number].serial)
        os.write(self._orders, order)  # waits at most for the mover, which waits for nobody

    def _collect(self) -> None:
        reports = os.read(self._reports, 1024 * _REPORT.size)
        for (number,) in _REPORT.iter_unpack(reports):
            on_end = self._on_end.pop(number)
            self._free_pairs.append(number)
            self.reactor.guard(on_end)

    def end(self) -> None:
        """
        End all pairs and both threads. From any thread.
        """
        self._order(_STOP, 0)
        self._thread.join()
        self.reactor.stop()
        self.forget()

    def forget(self) -> None:
        """
        Drop all descriptors: at its end, or in a forked copy of the harness, which has no such threads.
        """
        self.reactor.forget()
        for fd in (self._orders, self._orders_in, self._reports, self._reports_out):
            if fd >= 0:
                os.close(fd)
        self._orders = self._orders_in = self._reports = self._reports_out = -1
        self._epoll.close()
        for pipe in self._mover.pipes:
            if pipe.is_open:
                os.close(pipe.fds[0])
                os.close(pipe.fds[1])
                pipe.is_open = 0
        for number in self._on_end:
            for fd in self._pairs[number].fds:
                with contextlib.suppress(OSError):  # it has ended, and nobody was left to hear of it
                    os.close(fd)
        self._on_end.clear()


class _Shared:
    """
    The harness's own, while some sandbox has need of it.
    """

    def __init__(self) -> None:
        self.forget()
        forget_in_child(self)

    def forget(self) -> None:
        """
        For a forked copy of the harness: start anew. Another thread may have held the lock at the fork.
        """
        self._lock = threading.Lock()
        self._traffic: Traffic | None = None
        self._users = 0

    def enter(self) -> Traffic:
        """
        For a sandbox that begins.
        """
        with self._lock:
            if self._traffic is None:
                self._traffic = Traffic()
            self._users += 1
            return self._traffic

    def leave(self, traffic: Traffic) -> None:
        """
        A sandbox ends, whose pairs have ended. The last one takes the threads along.
        """
        with self._lock:
            if traffic is self._traffic:
                self._users -= 1
                if self._users == 0:
                    self._traffic = None
                    traffic.end()


_shared = _Shared()
enter, leave = _shared.enter, _shared.leave
