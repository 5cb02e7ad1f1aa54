"""
A TOML document, with the line where each of its keys and list items was written.

Pure: text in, value out. `tomllib` gives no lines for what it parsed well, and is no match for a
hostile text: nested lists end in RecursionError, long integers in a bare ValueError, and a key of n
dotted parts takes n * n time. So a scanner goes first. It notes lines, and refuses what no policy
needs.

Source: TOML 1.0.0, https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .errors import PolicyError
from .units import render_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MAX_DOCUMENT_BYTES", "Document", "parse_document"]

# tomllib reads about 1 MB a second; the longest policies are lists of store paths, a hundred bytes
# each.
MAX_DOCUMENT_BYTES = 256 * 1024
# A list of tables nests two deep, [env] has keys of two parts, and the longest bare word is an
# integer of 64 bits. The rest is room for mistakes that tomllib or the policy explain better.
_MAX_DEPTH = 16
_MAX_PARTS = 16
_MAX_WORD = 256

# Every alternative ends: a string without its closing quotes runs to the end of its line, or of the
# text, so what follows a repeat never fails and nothing is tried twice. Scanning is linear in any text.
# Repeated groups are not possessive: Python 3.11.2 gets those wrong.
_TOKEN = re.compile(
    r"""
      (?P<skip>   [ \t\r]++ | \#[^\n]*+ )
    | (?P<string> \"{3} (?: [^"\\] | \\.? | "(?!"") )* (?: "{3,5} | \Z )
                | '{3}  (?: [^']          | '(?!'') )* (?: '{3,5} | \Z )
                | "     (?: [^"\\\n] | \\[^\n]? )* "?
                | '     [^'\n]*+ '? )
    | (?P<word>   [A-Za-z0-9_+:-]++ )
    | (?P<mark>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_WHERE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)


class _Token(NamedTuple):
    text: str
    line: int
    depth: int  # of brackets: 1 for what is directly in a list, and for the list's own brackets


@dataclass(frozen=True, slots=True)
class Document:
    """
    Args:
        fields: the document's table, as `tomllib` gives it.
        source: what the document is called in errors.
        lines: line of ``(key,)``, of ``(key, index)`` for list items, and of ``(key, name)`` for
            keys of a table.
    """

    fields: dict[str, object]
    source: str
    lines: Mapping[tuple[str | int, ...], int]

    def locate(self, key: str, item: int | str | None = None) -> str:
        """
        ``source:line`` of a key, or of an item of its list or table; of the key, where the item's
        own line is not known.
        """
        line = self.lines.get((key, item) if item is not None else (key,)) or self.lines.get((key,))
        return f"{self.source}:{line}" if line else self.source


def parse_document(text: str, source: str) -> Document:
    """
    The table in a text, and the lines of its keys and items.

    Raises:
        PolicyError: not TOML, longer than `MAX_DOCUMENT_BYTES`, or nested, dotted or wordy beyond
            reason. It names ``source:line`` wherever one line is at fault.
    """
    import tomllib  # noqa: PLC0415 - a run with keywords only does not pay for it

    _refuse_size_and_encoding(text, source)
    lines = _find_lines(text, source)
    try:
        return Document(tomllib.loads(text), source, lines)
    except RecursionError:
        msg = "nested too deeply for what is left of the interpreter's stack"
        raise PolicyError(msg, source=source) from None
    except ValueError as exc:
        match = _WHERE.fullmatch(str(exc))
        line = match and (match["line"] or text.count("\n") + 1)
        what = match["what"] if match else str(exc)
        msg = f"not TOML: {what}"
        raise PolicyError(msg, source=f"{source}:{line}" if line else source) from None


def _refuse_size_and_encoding(text: str, source: str) -> None:
    """
    Raise where the text is no text that a TOML file could hold, or too much of it.
    """
    if text.startswith("\ufeff"):
        msg = "starts with a byte order mark, which TOML does not have: save it as UTF-8 without BOM"
        raise PolicyError(msg, source=f"{source}:1")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        line = text.count("\n", 0, exc.start) + 1
        msg = "holds a surrogate, which is no character: the text was not UTF-8"
        raise PolicyError(msg, source=f"{source}:{line}") from None
    if size > MAX_DOCUMENT_BYTES:
        msg = f"is longer than {render_bytes(MAX_DOCUMENT_BYTES)} bytes, the most that a policy may have"
        raise PolicyError(msg, source=source)


def _find_lines(text: str, source: str) -> dict[tuple[str | int, ...], int]:
    """
    See `Document.lines`. Of a text that is not TOML, some lines.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    table: list[str] = []
    for statement in _statements(text, source):
        marks = [token.text for token in statement]
        if marks[0] == "[":
            table = [_unquoted(mark) for mark in marks if mark not in ("[", "]", ".")]
            lines.setdefault(tuple(table[:1]), statement[0].line)
            continue
        end = marks.index("=") if "=" in marks else len(marks)
        place = [*table, *(_unquoted(mark) for mark in marks[:end] if mark != ".")][:2]
        lines.setdefault(tuple(place[:1]), statement[0].line)
        lines.setdefault(tuple(place), statement[0].line)
        if len(place) == 1:
            lines.update({(place[0], index): line for index, line in _items(statement[end + 1 :])})
    return lines


def _items(value: list[_Token]) -> Iterator[tuple[int, int]]:
    """
    Index and line of each item, where the value is a list.
    """
    if not value or value[0].text != "[":
        return
    index, awaited = 0, True
    for token in value[1:]:
        if token.text == "," and token.depth == 1:
            index, awaited = index + 1, True
        elif awaited and token.text != "\n":
            yield index, token.line
            awaited = False


def _statements(text: str, source: str) -> Iterator[list[_Token]]:
    """
    The tokens of each header or ``key = value``, comments and blanks left out, newlines inside
    lists kept.
    """
    statement: list[_Token] = []
    line, depth, dots = 1, 0, 0
    for match in _TOKEN.finditer(text):
        mark, kind = match[0], match.lastgroup
        if kind == "mark":
            depth += (mark in "[{") - (mark in "]}")
            dots = dots + 1 if mark == "." else 0
        if depth > _MAX_DEPTH or dots >= _MAX_PARTS or (kind == "word" and len(mark) > _MAX_WORD):
            what = "brackets" if depth > _MAX_DEPTH else "dots" if dots else "letters or digits"
            msg = f"has more {what} in a row than any policy needs"
            raise PolicyError(msg, source=f"{source}:{line}")
        if mark == "\n" and depth == 0:
            if statement:
                yield statement
            statement = []
        elif kind != "skip":
            statement.append(_Token(mark, line, depth))
        line += mark.count("\n")
    if statement:
        yield statement


def _unquoted(key: str) -> str:
    """
    A key's part without quotes. Escapes stay: the key then has no line of its own, and its error
    names the document.
    """
    return key[1:-1] if key[:1] in ('"', "'") else key
