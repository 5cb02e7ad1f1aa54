"""
Who waits for descriptors: the calling thread, or one thread for all that runs in the background.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

from .fork import forget_in_child

__all__ = ["READ", "WRITE", "Loop", "Pump", "Watcher", "pump"]

READ = select.POLLIN
WRITE = select.POLLOUT

Serve = Callable[[], None]


class Watcher(Protocol):
    """
    Something that calls back when a descriptor is ready.
    """

    def watch(self, fd: int, events: int, serve: Serve) -> None:
        """
        Call `serve` each time `fd` is ready for `events` (`READ`, `WRITE`), or was hung up.
        """

    def unwatch(self, fd: int) -> None:
        """
        No more. The descriptor is still open.
        """


class Loop:
    """
    A watcher that the calling thread drives.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._serve: dict[int, Serve] = {}

    def watch(self, fd: int, events: int, serve: Serve) -> None:
        """
        See `Watcher`.
        """
        self._serve[fd] = serve
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """
        See `Watcher`.
        """
        if self._serve.pop(fd, None):
            self._poll.unregister(fd)

    def run_until(self, is_over: Callable[[], bool], deadline: float | None = None) -> bool:
        """
        Serve until it is over.

        Args:
            is_over: asked before each wait.
            deadline: of ``time.monotonic``; None for never.

        Returns:
            Whether it is over; False when the deadline came first.
        """
        while not is_over():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            for fd, _ in self._poll.poll(None if left is None else left * 1000):
                if serve := self._serve.get(fd):
                    serve()
        return True


class Pump:
    """
    A watcher with a thread of its own, which exists while there is something to watch.

    One for all sandboxes of a harness. May be used from any thread.
    """

    def __init__(self) -> None:
        self._start_anew()
        forget_in_child(self)

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._serve: dict[int, Serve] = {}
        self._epoll: select.epoll | None = None
        self._wake = -1
        self.thread: threading.Thread | None = None

    def watch(self, fd: int, events: int, serve: Serve) -> None:
        """
        See `Watcher`. `serve` is called in the pump's thread, and must not raise.
        """
        with self._lock:
            self._serve[fd] = serve
            if self._epoll is None:
                self._epoll = select.epoll()
                self._wake = os.eventfd(0)
                self._epoll.register(self._wake, READ)
                self.thread = threading.Thread(target=self._run, name="jail-pump", daemon=True)
                self.thread.start()
            self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """
        See `Watcher`.
        """
        with self._lock:
            if self._serve.pop(fd, None) and self._epoll:
                with contextlib.suppress(OSError):  # closed meanwhile, by its owner's end
                    self._epoll.unregister(fd)
                if not self._serve:
                    os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        epoll = self._epoll
        while epoll:
            # One at a time: what serves the first may close the second, and its number be another's by then.
            for fd, _ in epoll.poll(maxevents=1):
                with self._lock:
                    serve = self._serve.get(fd)
                if serve:
                    serve()
                elif fd == self._wake:
                    os.eventfd_read(fd)
            with self._lock:
                if not self._serve:
                    epoll.close()
                    os.close(self._wake)
                    self._epoll = self.thread = None
                    return

    def forget(self) -> None:
        """
        For a forked copy of the harness, which has no such thread: start anew, with nothing to watch.
        """
        if self._epoll:
            self._epoll.close()
            os.close(self._wake)
        self._start_anew()


pump = Pump()
