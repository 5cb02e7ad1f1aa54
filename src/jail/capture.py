"""
What a program writes, on its way to whoever wants it: kept, within bounds, or passed on piece by piece.

Pure: bytes in, values out.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .result import Output

if TYPE_CHECKING:
    from .inert import Inert

__all__ = ["Channel", "Kept"]

_BLOCK_BYTES = 65536


def _new_inert() -> Inert:
    from .inert import Inert  # noqa: PLC0415 - its tables are made at import, for those who want it

    return Inert()


class Kept:
    """
    The beginning and the end of a stream, and how much there was in between.

    Memory is bounded by the limit and a block, however small the pieces are.

    Args:
        limit: most bytes to keep. Half of them are the beginning.
    """

    __slots__ = ("_head", "_head_room", "_tail", "_tail_bytes", "_tail_room", "_taken")

    def __init__(self, limit: int) -> None:
        self._tail_room = limit // 2
        self._head_room = limit - self._tail_room
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        self._tail_bytes = 0
        self._taken = 0

    def add(self, piece: bytes) -> None:
        """
        Take the next bytes.
        """
        self._taken += len(piece)
        room = self._head_room - len(self._head)
        if room:
            self._head += piece[:room]
            piece = piece[room:]
        if piece and self._tail_room:
            self._add_to_tail(piece)

    def _add_to_tail(self, piece: bytes) -> None:
        if self._tail and len(self._tail[-1]) < _BLOCK_BYTES:
            self._tail[-1] += piece
        else:
            self._tail.append(bytearray(piece))
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(self._tail[0]) >= self._tail_room:
            self._tail_bytes -= len(self._tail.popleft())

    def output(self) -> Output:
        """
        What is kept.
        """
        tail = b"".join(self._tail)[-self._tail_room :] if self._tail else b""
        head = bytes(self._head)
        return Output(head + tail, dropped=self._taken - len(head) - len(tail), cut=len(head))


class Channel:
    """
    One stream of a program's output.

    Args:
        limit: most bytes to keep.
        sink: called with each piece instead, which is then not kept.
        decode: codec and error handler, to give the sink text instead of bytes; None for bytes. A character
            that is cut by the border of two pieces is given whole.
        inert: make control characters visible instead of leaving them to act on a terminal.

    Attributes:
        taken: bytes so far.
    """

    __slots__ = ("_decoder", "_inert", "_kept", "_sink", "taken")

    def __init__(
        self,
        *,
        limit: int,
        sink: Callable[[Any], object] | None = None,
        decode: tuple[str, str] | None = None,
        inert: bool = False,
    ) -> None:
        self.taken = 0
        self._kept = Kept(limit)
        self._sink = sink
        self._decoder = codecs.getincrementaldecoder(decode[0])(decode[1]) if decode and sink else None
        self._inert = _new_inert() if inert else None

    def divert(self, sink: Callable[[bytes], object]) -> None:
        """
        Pass all that comes to `sink` instead, as bytes.
        """
        self._sink, self._decoder = sink, None

    def take(self, piece: bytes) -> None:
        """
        The next bytes, as the program wrote them.
        """
        self.taken += len(piece)
        self._pass_on(self._inert.feed(piece) if self._inert else piece)

    def finish(self) -> None:
        """
        There is no more to come: what waited for the rest of a character is passed on as it is.
        """
        if self._inert:
            self._pass_on(self._inert.finish())
        if self._decoder and self._sink and (rest := self._decoder.decode(b"", final=True)):
            self._sink(rest)

    def _pass_on(self, piece: bytes) -> None:
        if self._sink is None:
            self._kept.add(piece)
            return
        given = self._decoder.decode(piece) if self._decoder else piece
        if given:
            self._sink(given)

    def output(self) -> Output:
        """
        What was kept so far.
        """
        return self._kept.output()
