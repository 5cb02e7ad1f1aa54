"""
Policies in TOML: documents, files and the profiles that come with the library, each of which may
extend another.

This module reads files and changes nothing. What it is pointed at is not trusted to be a file,
short, or text: the answer is a `Policy`, or a `PolicyError` that says where, and soon.
``Policy.load`` and ``Policy.from_toml`` are `load_policy` and `parse_policy`, set here so that
``policy.py`` needs to know nothing of files.
"""

from __future__ import annotations

import functools
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .document import MAX_DOCUMENT_BYTES, parse_document
from .errors import PolicyError
from .fields import did_you_mean, parse_path_text
from .policy import Policy, parse_fields
from .units import render_bytes, render_value

if TYPE_CHECKING:
    from collections.abc import Hashable
    from importlib.resources.abc import Traversable

__all__ = ["list_profiles", "load_policy", "parse_policy"]

_MAX_CHAIN = 16
# Beside the profiles, and none: the table of system calls, which seccomp.py reads.
_NO_PROFILES = frozenset({"syscalls"})


@dataclass(frozen=True, slots=True)
class _Text:
    """
    A document that was read and not yet parsed.

    Args:
        text: the document.
        source: what it is called in errors: a path, or a profile's name.
        directory: absolute; where its relative paths start. None: the caller's working directory.
        identity: equal for two readings of one file, however it was named.
    """

    text: str
    source: str
    directory: str | None
    identity: Hashable


def load_policy(profile: str | os.PathLike[str]) -> Policy:
    """
    The policy of a profile that comes with the library, or of a TOML file.

    Args:
        profile: the name of a built-in profile ("agent"). Text with a "/" or that ends in ".toml"
            is the path of a file, and so is every ``os.PathLike``. Relative paths in a file start
            from the directory it is in.

    Raises:
        PolicyError: no such profile or file; not a regular file; not UTF-8; not TOML; a wrong key
            or value; or a chain of ``extends`` that is longer than 16, or meets itself.
    """
    if isinstance(profile, str) and not _is_path(profile):
        return _built_in(profile)
    return _resolve(_read_file(profile, None), ())


def parse_policy(text: str, *, source: str = "<string>") -> Policy:
    """
    The policy of a TOML text. Relative paths in it, that of ``extends`` included, start from the
    working directory.

    Args:
        text: the document.
        source: what to call it in errors.

    Raises:
        PolicyError: as `load_policy`, or the text is not text.
    """
    if not isinstance(text, str):
        msg = f"must be text, not {render_value(text)}"
        raise PolicyError(msg, source=source)
    return _resolve(_Text(text, source, None, object()), ())


def list_profiles() -> dict[str, str]:
    """
    Name and description of each profile that comes with the library, by name.
    """
    return {name: _built_in(name).description for name in _names()}


Policy.load = staticmethod(load_policy)
Policy.from_toml = staticmethod(parse_policy)


def _resolve(text: _Text, chain: tuple[_Text, ...]) -> Policy:
    """
    The policy of a document on top of the ones it extends. `chain` holds those that led here, the
    first one first.
    """
    chain = (*chain, text)
    document = parse_document(text.text, text.source)
    parent = Policy()
    if "extends" in document.fields:
        place = document.locate("extends")
        try:
            extended = _find(document.fields.pop("extends"), text)
            _refuse_circle(extended, chain)
        except PolicyError as exc:
            raise PolicyError(str(exc), key="extends", source=place) from exc
        parent = _resolve(extended, chain)
    return parent.extend(**parse_fields(document.fields, base=text.directory, locate=document.locate))


def _refuse_circle(extended: _Text, chain: tuple[_Text, ...]) -> None:
    """
    Raise where the next document is one that led here, or one too many.
    """
    names = " -> ".join(text.source for text in (*chain, extended))
    if any(extended.identity == text.identity for text in chain):
        msg = f"goes round in a circle: {names}"
        raise PolicyError(msg)
    if len(chain) >= _MAX_CHAIN:
        msg = f"more than {_MAX_CHAIN} documents in a row: {names}"
        raise PolicyError(msg)


def _find(reference: object, text: _Text) -> _Text:
    """
    The document that ``extends`` means: a built-in profile by name, or a file by its path from the
    document's directory.
    """
    if not isinstance(reference, str):
        msg = f"must be the name of a profile or the path of a file, not {render_value(reference)}"
        raise PolicyError(msg)
    return _read_file(reference, text.directory) if _is_path(reference) else _read_built_in(reference)


def _is_path(reference: str) -> bool:
    return "/" in reference or reference.endswith(".toml")


@functools.cache
def _built_in(name: str) -> Policy:
    """
    The policy of a built-in profile, parsed once: package data does not change while the library is
    in use.
    """
    return _resolve(_read_built_in(name), ())


def _read_built_in(name: str) -> _Text:
    names = _names()
    if name not in names:
        near = did_you_mean(name, names)
        msg = f"no profile {render_value(name)}.{near} There are: {', '.join(names)}."
        raise PolicyError(msg)
    text = _directory().joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return _Text(text, f"{name}.toml", None, ("built-in", name))


def _names() -> list[str]:
    files = (entry.name for entry in _directory().iterdir())
    names = {name.removesuffix(".toml") for name in files if name.endswith(".toml")}
    return sorted(names - _NO_PROFILES)


def _directory() -> Traversable:
    """
    Where the built-in profiles are: package data, which may be in a zip file.
    """
    from importlib.resources import files  # noqa: PLC0415 - slower to import than all of this library

    return files("jail.profiles")


def _read_file(path: object, start: str | None) -> _Text:
    """
    A regular file's document, opened so that neither a FIFO nor a terminal can hold the caller up.

    Args:
        path: as it was written.
        start: the absolute directory of the document that names it; None for the working directory.
    """
    written = parse_path_text(path)
    try:
        place = Path(written).expanduser() if written.startswith("~") else Path(written)
        absolute = Path(start or Path.cwd()) / place  # not normalised: "link/../x" is not "x"
        data, identity = _read_regular(absolute)
        source = os.fsencode(absolute if start else written).decode(errors="backslashreplace")
    except OSError as exc:
        msg = f"cannot read {render_value(written)}: {exc.strerror}"
        raise PolicyError(msg) from exc
    except UnicodeEncodeError as exc:
        msg = f"{render_value(written)} cannot be the name of a file"
        raise PolicyError(msg) from exc
    except RuntimeError as exc:  # of expanduser()
        msg = f"cannot read {render_value(written)}: no home is known for this user"
        raise PolicyError(msg) from exc
    return _Text(_decode(data, source), source, str(absolute.parent), identity)


def _read_regular(path: Path) -> tuple[bytes, tuple[int, int]]:
    """
    What a regular file holds, or its beginning if that is too much already; and its device and
    inode numbers.

    O_NONBLOCK is for whatever else the path may be: opening a FIFO would wait for a writer, a
    serial line for a carrier.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            msg = f"{render_value(str(path))} is not a regular file"
            raise PolicyError(msg)
        data = b""
        while len(data) <= MAX_DOCUMENT_BYTES and (more := os.read(fd, MAX_DOCUMENT_BYTES + 1)):
            data += more
    finally:
        os.close(fd)
    return data, (status.st_dev, status.st_ino)


def _decode(data: bytes, source: str) -> str:
    """
    A file's text. The first byte that is not UTF-8 gives the line.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        msg = f"is longer than {render_bytes(MAX_DOCUMENT_BYTES)} bytes, the most that a policy may have"
        raise PolicyError(msg, source=source)
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        msg = f"byte 0x{data[exc.start]:02x} is not UTF-8, which TOML is written in"
        raise PolicyError(msg, source=f"{source}:{line}") from None
