"""
What a policy's fields may hold: a table, field -> parser, and the parsers.

Pure. A parser takes any value and gives the one the field keeps, or raises `PolicyError` without a
key: `policy.py`, the table's reader, adds the key and the place. A parser given its own result
gives it back, so parsing twice is harmless.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import PolicyError
from .guarantee import GUARANTEES
from .proxy import parse_proxy
from .publish import parse_published
from .rule import parse_denial
from .units import parse_bytes, parse_cpus, parse_seconds, render_value

__all__ = [
    "ITEMS",
    "OPPOSITES",
    "PATHS",
    "SCALARS",
    "PolicyPath",
    "did_you_mean",
    "identity",
    "parse_env",
    "parse_env_name",
    "parse_env_value",
    "parse_list",
]

_PATH_KEYS = ("path", "optional", "base")


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyPath:
    """
    A host path of a rule, as it was written.

    It is made absolute, and followed, by whoever opens it: nothing is known here of directories or
    links.

    Args:
        path: absolute, "~", "~/..." or relative. Anything with ``__fspath__`` is taken for its
            text.
        optional: go on without it when it does not exist.
        base: the absolute directory that a relative path starts from; None for the caller's working
            directory. Kept only where the path is relative.

    Raises:
        PolicyError: not text, empty, with a NUL byte, "~name", or a base that is not absolute.
    """

    path: str
    optional: bool = False
    base: str | None = None

    def __post_init__(self) -> None:
        path = parse_path_text(self.path)
        base = None if self.base is None else parse_path_text(self.base)
        if base is not None and not base.startswith("/"):
            msg = f"base {render_value(base)} is not an absolute path"
            raise PolicyError(msg)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "optional", _flag(self.optional))
        object.__setattr__(self, "base", None if path.startswith(("/", "~")) else base)

    @property
    def spelling(self) -> str:
        """
        The path without "//", "." and a last "/", which say nothing; ".." stays, for what it means
        depends on links.
        """
        path = f"{self.base}/{self.path}" if self.base else self.path
        root = "/" if path.startswith("/") else "" if path.startswith("~") else "./"
        return root + "/".join(part for part in path.split("/") if part not in ("", "."))


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """
    `` Did you mean "memory"?`` for a word close to a known one, else nothing.
    """
    import difflib  # noqa: PLC0415 - only mistakes pay for it

    close = difflib.get_close_matches(word, list(words), n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def identity(item: object) -> object:
    """
    What makes two list items the same one.
    """
    return item.spelling if isinstance(item, PolicyPath) else item


def parse_list(value: object) -> Sequence[object]:
    """
    A list or tuple. A set has no order, and text is an iterable of letters: neither is taken.
    """
    if not isinstance(value, (list, tuple)):
        raise _refused(value, "a list")
    return value


def parse_env(value: object) -> dict[object, object]:
    """
    The entries of a mapping, or of a tuple of pairs as `Policy.env` keeps them. Names and values
    are as they came.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple) and all(_is_entry(pair) for pair in value):
        return dict(value)
    raise _refused(value, "a table of names and texts")


def parse_path_text(value: object) -> str:
    """
    The text of a path: str, or what ``__fspath__`` gives where that is str.
    """
    text = _fspath(value)
    if not isinstance(text, str):
        raise _refused(text, "a path, as text")
    if not text:
        msg = 'is an empty path; write "." for the directory itself'
        raise PolicyError(msg)
    if text.startswith("~") and text[1:2] not in ("", "/"):
        msg = f"{render_value(text)}: no other user's home is looked up; write the whole path"
        raise PolicyError(msg)
    return _text(text)


def parse_env_value(value: object) -> str:
    """
    The value of a variable: text, or a path's text.
    """
    return _text(_fspath(value))


def _is_entry(pair: object) -> bool:
    match pair:
        case (str(), str()):
            return isinstance(pair, tuple)
        case _:
            return False


def _refused(value: object, wanted: str) -> PolicyError:
    return PolicyError(f"must be {wanted}, not {render_value(value)}")


def _fspath(value: object) -> object:
    method = getattr(type(value), "__fspath__", None)
    return method(value) if method else value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _refused(value, "text")
    if "\0" in value:
        msg = f"{render_value(value)} holds a NUL byte"
        raise PolicyError(msg)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _refused(value, "true or false")
    return value


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            near = did_you_mean(value, choices) if isinstance(value, str) else ""
            msg = f"{render_value(value)} is not one of {', '.join(choices)}.{near}"
            raise PolicyError(msg)
        return value

    return parse


def _matching(pattern: str, wanted: str) -> Callable[[object], str]:
    """
    A parser of text that the whole pattern matches.
    """
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise _refused(value, wanted)
        return value

    return parse


def _count(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refused(value, f"a whole number from {low} to {high}")
        return value

    return parse


def _at_least(low: float, parse: Callable[[object], float]) -> Callable[[object], float]:
    """
    The parser, refusing less than `low`: nothing at all is no limit to some mechanisms (size=0 of
    tmpfs(5)).
    """

    def parse_at_least(value: object) -> float:
        number = parse(value)
        if number < low:
            msg = f"{render_value(value)} is too small: no program can run with it"
            raise PolicyError(msg)
        return number

    return parse_at_least


def _or_none(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else parse(value)


def _network(value: object) -> str:
    """
    The word of a network that is no list; `policy` reads those.
    """
    try:
        return _one_of("none", "host")(value)
    except PolicyError as exc:
        raise PolicyError(f'{exc} What may be reached is a list: ["pypi.org"]') from None


def _policy_path(value: object) -> PolicyPath:
    if isinstance(value, PolicyPath):
        return value
    if not isinstance(value, Mapping):
        return PolicyPath(parse_path_text(value))
    for key in value:
        if key not in _PATH_KEYS:
            msg = f"unknown key {render_value(key)} beside path.{did_you_mean(str(key), _PATH_KEYS)}"
            raise PolicyError(msg)
    if "path" not in value:
        msg = "a table here needs a path"
        raise PolicyError(msg)
    return PolicyPath(**value)


def _cgroup(value: object) -> str:
    place = parse_path_text(value)
    if not place.startswith("/"):
        return _one_of("auto", "none", "own", "systemd")(place)
    return place


parse_env_name = _matching(r"[^=\0]+", 'the name of a variable, without "=" and NUL')
_syscall = _matching(r"[a-z_][a-z0-9_]{0,63}", "the kernel's name of a system call")
_id = _or_none(_count(0, 2**32 - 2))  # all bits set, -1, means "no change" to setresuid(2)

SCALARS: Mapping[str, Callable[[object], Any]] = {
    "description": _text,
    "interpreter": _flag,
    "workspace": _or_none(parse_path_text),
    "workspace_access": _one_of("read", "write"),
    "network": _network,
    "network_connections": _or_none(
        _count(1, 8192)
    ),  # as many as a harness has at once: PAIRS_MAX of traffic.py
    "network_idle": _or_none(_at_least(1, parse_seconds)),  # it is looked at once a second
    "network_bytes": _or_none(_at_least(1, parse_bytes)),
    "network_proxy": parse_proxy,
    "proxy_variables": _flag,
    # RFC 1123 section 2.1; 64 is HOST_NAME_MAX, beyond which sethostname(2) gives EINVAL.
    "hostname": _matching(
        r"(?=.{1,64}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*",
        "a host name: letters, digits and inner hyphens, labels of 63 and 64 in all",
    ),
    "uid": _id,
    "gid": _id,
    "memory": _or_none(_at_least(1, parse_bytes)),
    "cpus": _or_none(_at_least(0.01, parse_cpus)),  # cpu.max takes no less: 1 ms of 100. cgroup-v2.rst
    "cpu_seconds": _or_none(_at_least(0.01, parse_seconds)),  # proc(5) counts hundredths
    "processes": _or_none(_count(1, 2**22)),  # PID_MAX_LIMIT of 64-bit kernels, proc_sys_kernel(5)
    "open_files": _or_none(_count(1, 2**31 - 1)),
    "file_size": _or_none(parse_bytes),  # 0 has a meaning: files can be made but not filled, setrlimit(2)
    "disk": _or_none(_at_least(1, parse_bytes)),
    "inodes": _or_none(_count(64, 2**31 - 1)),  # what the tree itself is made of takes some
    "output": _or_none(parse_bytes),
    "core": parse_bytes,
    "io": _or_none(_at_least(1, parse_bytes)),
    "timeout": _or_none(_at_least(1e-9, parse_seconds)),  # it crosses to C in whole nanoseconds
    "grace": parse_seconds,
    "wall": _or_none(_at_least(1e-9, parse_seconds)),
    "idle": _or_none(_at_least(1e-9, parse_seconds)),
    "strict": _flag,
    "cgroup": _cgroup,
}
ITEMS: Mapping[str, Callable[[object], Any]] = {
    "read": _policy_path,
    "write": _policy_path,
    "deny": _policy_path,
    "sockets": _policy_path,
    "privileged_sockets": _policy_path,
    "deny_network": parse_denial,
    "publish": parse_published,
    "pass_env": parse_env_name,
    "allow_syscalls": _syscall,
    "deny_syscalls": _syscall,
    "waive": _one_of(*GUARANTEES),
}
PATHS = frozenset({"read", "write", "deny", "sockets", "privileged_sockets"})
BYTES = ("memory", "network_bytes", "file_size", "disk", "output", "core", "io")
SECONDS = ("cpu_seconds", "network_idle", "timeout", "grace", "wall", "idle")
# Lists that give different verdicts about the same thing.
OPPOSITES = (
    ("read", "write", "deny", "sockets", "privileged_sockets"),
    ("allow_syscalls", "deny_syscalls"),
)
