"""
Descriptors on the running asyncio loop: nobody waits for them in a thread.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from .loop import READ
from .streams import typed

__all__ = ["OnLoop", "Reader", "Writer", "until_ready"]

_CHUNK_BYTES = 65536


class OnLoop:
    """
    A `Watcher` that the running loop drives.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def watch(self, fd: int, events: int, serve: Callable[[], None]) -> None:
        """
        See `Watcher`.
        """
        if events == READ:
            self._loop.add_reader(fd, serve)
        else:
            self._loop.add_writer(fd, serve)

    def unwatch(self, fd: int) -> None:
        """
        See `Watcher`.
        """
        if not self._loop.is_closed():
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)


async def until_ready(fd: int) -> None:
    """
    Wait until a descriptor can be read. A copy of it is waited for: on one, others may wait as well.
    """
    loop = asyncio.get_running_loop()
    copy, ready = os.dup(fd), asyncio.Event()
    loop.add_reader(copy, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(copy)
        os.close(copy)


class _End:
    """
    Our end of a stream, closed when it is collected at the latest. One task at a time uses it, the others wait.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._ready = asyncio.Event()
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        """
        The descriptor; -1 when it was closed.
        """
        return self._fd

    @property
    def closed(self) -> bool:
        """
        Whether it was closed.
        """
        return self._fd < 0

    def close(self) -> None:
        """
        Close it: the end of file to a program that reads it, SIGPIPE to one that writes. Whoever waits for it gets
        ValueError.
        """
        if self._fd >= 0:
            self._unwatch()
            os.close(self._fd)
            self._fd = -1
            self._ready.set()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _refuse_closed(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed stream")

    async def _until_ready(self, *, to_write: bool) -> None:
        self._ready.clear()
        (self._loop.add_writer if to_write else self._loop.add_reader)(self._fd, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            self._unwatch()
        self._refuse_closed()

    def _unwatch(self) -> None:
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)


class Reader(_End):
    """
    A stream that a program writes. It waits where nobody reads.

    Args:
        fd: owned from now on.
        decode: codec and error handler, for text; None for bytes.
    """

    def __init__(self, fd: int, decode: tuple[str, str] | None) -> None:
        super().__init__(fd)
        self._decode = decode
        self._decoder = codecs.getincrementaldecoder(decode[0])(decode[1]) if decode else None
        self._empty: Any = "" if decode else b""
        self._newline: Any = "\n" if decode else b"\n"
        self._held = self._empty
        self._is_at_end = False

    async def _fill(self) -> None:
        """
        Hold some more, or know that there is no more.
        """
        while True:
            try:
                piece = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                await self._until_ready(to_write=False)
                continue
            except OSError:  # EIO: nobody has the terminal's other end open; pty(7)
                piece = b""
            break
        self._is_at_end = not piece
        given: Any = self._decoder.decode(piece, final=not piece) if self._decoder else piece
        self._held += given

    def _take(self, count: int) -> Any:  # noqa: ANN401 - bytes, or text
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    async def read(self, n: int = -1) -> Any:  # noqa: ANN401 - bytes, or text
        """
        At most `n` bytes or characters, as soon as there are any; all of them, to the end, by default. Empty at
        the end.
        """
        self._refuse_closed()
        async with self._turn:
            while not self._is_at_end and (n < 0 or not self._held):
                await self._fill()
            return self._take(len(self._held) if n < 0 else n)

    async def readline(self) -> Any:  # noqa: ANN401 - bytes, or text
        """
        The next line with its newline; the last may have none. Empty at the end.
        """
        self._refuse_closed()
        searched = 0
        async with self._turn:
            while (found := self._held.find(self._newline, searched)) < 0 and not self._is_at_end:
                searched = len(self._held)
                await self._fill()
            return self._take(found + 1 if found >= 0 else len(self._held))

    def held(self) -> bytes:
        """
        What was read from the program and not yet given out.
        """
        held: Any = self._held
        if self._decode and self._decoder:
            held = held.encode(*self._decode) + self._decoder.getstate()[0]
        return bytes(held)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while line := await self.readline():
            yield line


class Writer(_End):
    """
    A stream that a program reads.

    Args:
        fd: owned from now on.
        decode: codec and error handler, for text; None for bytes.
    """

    is_typed = False
    last = b"\n"

    def __init__(self, fd: int, decode: tuple[str, str] | None) -> None:
        super().__init__(fd)
        self._decode = decode

    async def write(self, data: bytes | str) -> None:
        """
        Write all of it, at the program's pace.

        Raises:
            BrokenPipeError: it reads no more.
        """
        self._refuse_closed()
        left = memoryview(data.encode(*(self._decode or ("utf-8",))) if isinstance(data, str) else data)
        async with self._turn:
            self.last = bytes(left[-1:]) or self.last
            while left:
                try:
                    left = left[os.write(self._fd, left) :]
                except BlockingIOError:
                    await self._until_ready(to_write=True)

    def close(self) -> None:
        """
        The end of the input: at a terminal that is a character.
        """
        if self.is_typed and self._fd >= 0:
            with suppress(OSError):  # the program has hung up, or reads nothing
                os.write(self._fd, typed(b"", self.last))
        super().close()
