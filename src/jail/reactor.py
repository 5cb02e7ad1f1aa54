"""
A thread that waits for descriptors and for times, and calls back.

`loop` waits for what a caller awaits; this waits for what nobody does: the sockets of sandboxes' networks. All but
`submit`, `call` and `stop` are for callbacks, in its own thread, so nothing that is served by it needs a lock.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable

from .loop import READ

__all__ = ["EDGE", "Reactor", "Timer"]

EDGE = select.EPOLLET

_BATCH = 64

_log = logging.getLogger("jail")


class Timer:
    """
    Something to be called at a time, unless it is cancelled.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """
        Not any more. Harmless when it was called.
        """
        self.call = None


class Reactor:
    """
    One such thread, from its making to `stop`.
    """

    def __init__(self, name: str) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, READ)
        self._serve: dict[int, Callable[[], object]] = {}
        self._fresh: set[int] = (
            set()
        )  # watched since the last wait, which meant whoever had the number before
        self._timers: list[tuple[float, int, Timer]] = []
        self._serial = itertools.count()
        self._submitted: collections.deque[Callable[[], object]] = collections.deque()
        self._lock = threading.RLock()  # between `submit` and `close`
        self._is_over = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def submit(self, call: Callable[[], object]) -> None:
        """
        Have this called in its thread. From any thread.
        """
        self._submitted.append(call)
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def call(self, call: Callable[[], object]) -> None:
        """
        The same, and wait until it was; what it raises is raised here. In its own thread: at once.
        """
        if threading.current_thread() is self.thread:
            call()
            return
        done = threading.Event()
        raised: list[Exception] = []

        def called() -> None:
            try:
                call()
            except Exception as exc:  # noqa: BLE001 - whoever waits for it is told
                raised.append(exc)
            finally:
                done.set()

        self.submit(called)
        while not done.wait(1) and self.thread.is_alive():
            pass
        if raised:
            raise raised[0]

    def stop(self) -> None:
        """
        End the thread, and wait for it.
        """
        self._is_over = True
        self.submit(lambda: None)
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def watch(self, fd: int, events: int, serve: Callable[[], object]) -> None:
        """
        Call `serve` each time that `fd` is ready for `events`, or once for each change with `EDGE`.

        Raises:
            OSError: the kernel has no room for it.
        """
        self._epoll.register(fd, events)
        self._serve[fd] = serve
        self._fresh.add(fd)

    def unwatch(self, fd: int) -> None:
        """
        No more. The descriptor is still open.
        """
        if self._serve.pop(fd, None) and not self._epoll.closed:
            self._epoll.unregister(fd)

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """
        Have this called after a time.
        """
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), timer))
        return timer

    def _run(self) -> None:
        try:
            while not self._is_over:
                ready = self._epoll.poll(self._next(), _BATCH)
                self._fresh.clear()
                for fd, _ in ready:
                    if fd == self._wake:
                        os.eventfd_read(fd)
                    elif fd not in self._fresh and (serve := self._serve.get(fd)):
                        self.guard(serve)
                while self._submitted:
                    self.guard(self._submitted.popleft())
                self._pass()
        finally:
            self.close()

    def guard(self, call: Callable[[], object]) -> None:
        """
        Call it. Nobody waits for what is served here, so nobody can be told what went wrong but the log.
        """
        try:
            call()
        except Exception:  # noqa: BLE001 - whatever it is: other sandboxes have connections here, too
            _log.exception("a connection of a sandbox was lost to an error of jail's own")

    def _next(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _pass(self) -> None:
        now = time.monotonic() if self._timers else 0.0
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                self.guard(timer.call)

    def close(self) -> None:
        """
        Drop its descriptors.
        """
        with self._lock:
            self._is_over = True
            if self._wake >= 0:
                self._epoll.close()
                os.close(self._wake)
                self._wake = -1

    def forget(self) -> None:
        """
        The same in a forked copy of the harness, where another thread may have held the lock at the fork.
        """
        self._lock = threading.RLock()
        self.close()
