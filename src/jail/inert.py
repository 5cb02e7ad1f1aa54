r"""
Bytes that somebody else wrote, made safe to show on a terminal. cat(1), console_codes(4)

Pure: bytes in, bytes out. A terminal obeys what it is shown: it can be told to change its title, to write the
clipboard (OSC 52), to type an answer into the shell (DECRQSS, answerback), to ring without end. Here every
control character becomes the text that ``cat -v`` has for it, and what follows it is text anyway.

What is made visible, and as what:

- C0 and DEL: ``^[``, ``^G``, ``^?``. C1, which many terminals take for ESC and a letter: ``M-^[``, be it a
  UTF-8 character (``C2 9B``) or a byte of its own (``9B``).
- what shows a line in another order than it is read ("Trojan Source", CVE-2021-42574), and the line and
  paragraph separators: ``<U+202E>``.
- a backspace, and a carriage return that does not end a line: ``^H``, ``^M``. They paint over what stands in
  the line, so that ``rm -rf ~\r# harmless`` hides a command, with no escape sequence in it. Progress bars
  become long lines for this, and what a terminal echoes for an erased letter is seen as ``^H ^H``.

What is kept: newline, tab, ``\r\n``, every other character of valid UTF-8, and invalid bytes from A0 up, which
a UTF-8 terminal shows as U+FFFD and a Latin-1 terminal as letters. On a terminal that does not know UTF-8
nothing can be promised: half of all characters have a byte between 80 and 9F in them.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["MAX_GROWTH", "Inert", "render_inert", "render_inert_line"]

# "M-^[" for a single byte is the longest there is; "<U+202E>" stands for three.
MAX_GROWTH = 4

_LINE_CONTROLS = b"\t\n\r"
_INVISIBLE = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)

# The decoder has U+DC9B for a byte 9B that is part of no character: "surrogateescape", PEP 383.
_ESCAPED_BYTES = 0xDC00

_VISIBLE = {
    **{code: f"^{chr(code ^ 0x40)}" for code in (*range(0x20), 0x7F) if code not in _LINE_CONTROLS},
    **{code + base: f"M-^{chr(code ^ 0xC0)}" for code in range(0x80, 0xA0) for base in (0, _ESCAPED_BYTES)},
    **{code: f"<U+{code:04X}>" for code in _INVISIBLE},
}
_LINE_CONTROLS_SHOWN = {code: f"^{chr(code ^ 0x40)}" for code in _LINE_CONTROLS}
_LONE_RETURN = re.compile(r"\r(?!\n)")

# A class of characters first, which re looks for without trying a match at each position.
_ACTIVE = re.compile(f"[\r{''.join(map(re.escape, map(chr, _VISIBLE)))}](?<!\r(?=\n))")


class Inert:
    r"""
    One stream of bytes, made inert piece by piece.

    However the stream is cut into pieces, the same bytes come out, at most `MAX_GROWTH` times as many as went
    in. To put them through once more changes nothing. Up to three bytes are held back: a character, or
    ``\r\n``, may be cut by the end of a piece.

    >>> stream = Inert()
    >>> stream.feed(b"\x1b]52;c;cm0gLXJm\x07 \xc3") + stream.feed(b"\xa9\r") + stream.finish()
    b'^[]52;c;cm0gLXJm^G \xc3\xa9^M'
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""

    def feed(self, piece: bytes) -> bytes:
        """
        What may be shown by now, with what was held back from earlier pieces.
        """
        text = self._held + self._decoder.decode(piece)
        self._held = "\r" if text.endswith("\r") else ""
        return _render_inert(text.removesuffix("\r"))

    def finish(self) -> bytes:
        """
        What is held back still. The next piece begins another stream.
        """
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        self._decoder.reset()
        return _render_inert(text)


def render_inert(text: str) -> str:
    r"""
    Text that somebody else wrote, whole: its lines and tabs are kept, and what cannot be encoded is shown, too.

    >>> render_inert("a\x1b[2J\n\udcffb")
    'a^[[2J\n\\udcffb'
    """
    return _render_inert(text.encode("utf-8", "backslashreplace").decode()).decode()


def render_inert_line(text: str) -> str:
    r"""
    The same, for a place that has one line: what ends one, and tabs, is shown as well.

    >>> render_inert_line("a\tb\r\nc")
    'a^Ib^M^Jc'
    """
    return render_inert(text).translate(_LINE_CONTROLS_SHOWN)


def _render_inert(text: str) -> bytes:
    if _ACTIVE.search(text):
        text = _LONE_RETURN.sub("^M", text).translate(_VISIBLE)
    return text.encode("utf-8", "surrogateescape")
