"""
What a caller asks to have started, in the words of ``subprocess``; and the request that says it to `jail-init`.

Pure, but for descriptors, which are taken as the numbers they are.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from .errors import PolicyError
from .fields import parse_env_name, parse_env_value
from .guarantee import Guarantee
from .limits import UNBOUNDED, Bounds
from .ops import Op
from .tighten import TighterFields
from .units import parse_bytes, parse_seconds
from .wire import ExecFlag, encode_exec

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Command", "Exec", "ExecFields", "StreamFields", "parse_exec"]

# The numbers are those of subprocess, so that its constants do as well.
PIPE = -1
STDOUT = -2
DEVNULL = -3

Command = str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]]

_OUTPUT_LIMIT_BYTES = 64 << 20
_SIZE = (24, 80)
_SHORTEST_INTERVAL = 0.005


class SupportsFileno(Protocol):
    """
    A file or socket of the caller's.
    """

    def fileno(self) -> int: ...


class StreamFields(TypedDict, total=False):
    """
    The keywords of `run` and `Sandbox.run` that are about a program and no policy. Names and meanings are those
    of ``subprocess``.

    shell: `cmd` is one line, for ``/bin/sh -c`` inside.
    input: what the program reads from standard input. Text is encoded.
    stdin: None for an empty one, `PIPE`, `DEVNULL`, a descriptor or a file. A regular file is read by the
        harness: through a descriptor of it a program could change its mode and times.
    stdout, stderr: None to have it kept, within `output_limit`; `PIPE` to read it from the `Process`;
        `DEVNULL`; a descriptor or a file. `STDOUT` for standard error: where standard output goes. Regular
        files and terminals are written by the harness, and never handed to the program: while a terminal is held
        (Ctrl-S), so is everything in the background, as by a function that does not return.
    cwd: where it starts, as seen inside; the workspace by default, or the home.
    encoding, errors: of text, with ``text=True``. A line's end stays as it is.
    output_limit: bytes kept of each stream; 64 MiB by default. Half of them are the beginning, half the end.
    on_stdout, on_stderr: called with each piece as it comes, which is then not kept.
    inert_output: show control characters as ``^[`` and its like, so that what is printed cannot act on the
        terminal that it is printed to. For what is kept, or given to a function.
    pty: give it a terminal of its own; what it writes is all `stdout`, which is kept, `PIPE`, `DEVNULL` or a regular
        file. The end of its input is Ctrl-D.
    size: rows and columns of that; 24 and 80 by default.
    timeline: seconds between two looks at what it uses, at least 0.005; `Result.timeline` has them.
    """

    shell: bool
    input: bytes | str | None
    stdin: int | SupportsFileno | None
    stdout: int | SupportsFileno | None
    stderr: int | SupportsFileno | None
    cwd: str | os.PathLike[str] | None
    encoding: str | None
    errors: str | None
    output_limit: int | str | None
    on_stdout: Callable[[Any], object] | None
    on_stderr: Callable[[Any], object] | None
    inert_output: bool
    pty: bool
    size: tuple[int, int]
    timeline: float | str | None


class ExecFields(StreamFields, TighterFields, total=False):
    """
    The keywords of `Sandbox.run` and `Sandbox.popen`: `StreamFields`, what this one program is to have less of
    than its sandbox (`TighterFields`), and these.

    env: variables beside the policy's.
    timeout: wall-clock seconds until all that descends from the program gets SIGTERM; the policy's by default.
    grace: seconds from there to SIGKILL; the policy's by default.
    """

    env: Mapping[str, str] | None
    timeout: float | str | None
    grace: float | str | None


class Defaults(TypedDict):
    """
    What an exec has that its caller does not say: `Exec` has the same names.
    """

    env: Mapping[str, str]
    directory: str
    timeout: float | None
    grace: float
    ops: tuple[Op, ...]
    guarantees: tuple[Guarantee, ...]
    bounds: Bounds
    watched: Bounds
    grouped: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """
    What to start.

    Args:
        args: the program and its arguments.
        env: all of its variables.
        directory: where it starts, absolute, as seen inside.
        timeout: seconds; None for no limit.
        grace: seconds.
        input: bytes for its standard input; None for `stdin`.
        stdin, stdout, stderr: None, a descriptor of the caller's, or one of `PIPE`, `STDOUT`, `DEVNULL`.
        on_stdout, on_stderr: called with each piece of output, which is then not kept.
        decode: codec and error handler where the caller wants text.
        output_limit: bytes kept of each stream.
        inert: make control characters visible.
        size: rows and columns of its terminal; None for no terminal.
        ops: what this program carries out after the plan's ops.
        guarantees: what is enforced for it.
        bounds: what it may have.
        watched: what of that is its own, and kept by `jail-init`.
        grouped: what of that is its own, and kept by its cgroup.
        timeline: seconds between two samples; None for none.
        background: the caller does not wait for its end.
        last: the sandbox ends with this program.
    """

    args: Sequence[str | bytes]
    env: Mapping[str, str]
    directory: str
    timeout: float | None = None
    grace: float = 0.0
    input: bytes | None = None
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    on_stdout: Callable[[Any], object] | None = None
    on_stderr: Callable[[Any], object] | None = None
    decode: tuple[str, str] | None = None
    output_limit: int = _OUTPUT_LIMIT_BYTES
    inert: bool = False
    size: tuple[int, int] | None = None
    ops: tuple[Op, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()
    bounds: Bounds = UNBOUNDED
    watched: Bounds = UNBOUNDED
    grouped: Bounds = UNBOUNDED
    timeline: float | None = None
    background: bool = False
    last: bool = False

    def encode(self, *, in_cgroup: bool = False) -> bytes:
        """
        The request's body.

        Args:
            in_cgroup: the directory of a cgroup comes along.
        """
        args = [os.fsencode(arg) for arg in self.args]
        env = [os.fsencode(f"{name}={value}") for name, value in self.env.items()]
        return encode_exec(
            os.fsencode(self.directory),
            self._files(args),
            args,
            env,
            ops=self.ops,
            flags=self._flags() | (ExecFlag.CGROUP if in_cgroup else ExecFlag(0)),
            size=self.size or (0, 0),
            timeout=self.timeout,
            grace=self.grace,
            tasks=self.watched.processes or 0,
            memory=self.watched.memory or 0,
            cpu=self.bounds.cpu_seconds,
            sample=self.timeline,
        )

    def _flags(self) -> ExecFlag:
        flags = ExecFlag(0)
        if self.last:
            flags |= ExecFlag.LAST
        if self.background:
            flags |= ExecFlag.PIDFD
        if self.size:
            flags |= ExecFlag.TERMINAL
        return flags

    def _files(self, args: Sequence[bytes]) -> list[bytes]:
        """
        Where the program may be, as execvp(3) looks for it: on PATH unless its name has a slash.
        """
        if not args:
            return []
        if b"/" in args[0] or not args[0]:
            return [args[0]]
        path = os.fsencode(self.env.get("PATH", os.defpath))
        return [(folder or b".") + b"/" + args[0] for folder in path.split(b":")]


def parse_exec(
    cmd: Command,
    fields: Mapping[str, Any],
    defaults: Defaults,
    *,
    text: bool = False,
    background: bool = False,
    last: bool = False,
) -> Exec:
    """
    An exec from the keywords of a call.

    Args:
        cmd: the program and its arguments.
        fields: `ExecFields`, without those that tighten.
        defaults: what holds where the fields say nothing.
        text: the caller wants text.
        background: the caller does not wait for it.
        last: the sandbox ends with it.

    Raises:
        TypeError: an unknown keyword.
        PolicyError: one that makes no sense.
    """
    unknown = next((name for name in fields if name not in ExecFields.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"run() and popen() take no keyword {unknown!r}")
    get = fields.get
    decode = _codec(get("encoding"), get("errors")) if text else None
    _refuse_contradictions(fields, background=background)
    timeout, grace = get("timeout"), get("grace")
    limit = get("output_limit")
    cwd = get("cwd")
    return Exec(
        args=_arguments(cmd, shell=get("shell", False)),
        env={**defaults["env"], **_variables(get("env") or {})},
        directory=os.fspath(cwd) if cwd is not None else defaults["directory"],
        timeout=_seconds(timeout, "timeout") if timeout is not None else defaults["timeout"],
        grace=_seconds(grace, "grace") if grace is not None else defaults["grace"],
        input=_input(get("input"), decode),
        stdin=_descriptor(get("stdin"), "stdin"),
        stdout=_descriptor(get("stdout"), "stdout"),
        stderr=_descriptor(get("stderr"), "stderr"),
        on_stdout=_sink(get("on_stdout"), "on_stdout"),
        on_stderr=_sink(get("on_stderr"), "on_stderr"),
        decode=decode,
        output_limit=_OUTPUT_LIMIT_BYTES if limit is None else _limit(limit),
        inert=get("inert_output", False),
        size=_size(get("size") or _SIZE) if get("pty") else None,
        ops=defaults["ops"],
        guarantees=defaults["guarantees"],
        bounds=defaults["bounds"],
        watched=defaults["watched"],
        grouped=defaults["grouped"],
        timeline=_interval(get("timeline")),
        background=background,
        last=last,
    )


def _refuse_contradictions(fields: Mapping[str, Any], *, background: bool) -> None:
    excluding = [("input", "stdin"), ("on_stdout", "stdout"), ("on_stderr", "stderr")]
    if fields.get("pty"):
        excluding += _excluded_by_pty(fields)
    if fields.get("inert_output"):  # what does not come by us cannot be changed by us
        ours = (None, DEVNULL, STDOUT) if background else (None, DEVNULL, STDOUT, PIPE)
        excluding += [("inert_output", name) for name in ("stdout", "stderr") if fields.get(name) not in ours]
    for one, other in excluding:
        if fields.get(one) is not None and fields.get(other) is not None:
            raise PolicyError(f"{one} and {other} exclude each other", key=one)
    if fields.get("size") is not None and not fields.get("pty"):
        raise PolicyError("is a terminal's; give the program one with pty=True", key="size")
    for name in ("stdin", "stdout"):
        if fields.get(name) == STDOUT:
            raise PolicyError("STDOUT is a place for standard error alone", key=name)


def _excluded_by_pty(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (("pty", "stderr"), ("pty", "on_stderr"))
    if fields.get("stdout") == PIPE:  # one descriptor cannot block for one and not for the other
        yield ("pty", "input")
    if fields.get("stdin") not in (None, PIPE, DEVNULL):  # what is typed comes by the master
        yield ("pty", "stdin")


def _codec(encoding: str | None, errors: str | None) -> tuple[str, str]:
    """
    A codec and error handler that can decode.
    """
    encoding = "utf-8" if encoding is None else encoding
    errors = "replace" if errors is None else errors
    try:
        b"x".decode(encoding, "replace")
    except LookupError as exc:
        raise PolicyError(str(exc), key="encoding") from None
    try:
        codecs.lookup_error(errors)(UnicodeDecodeError(encoding, b"x", 0, 1, "a trial"))
    except UnicodeDecodeError:
        pass  # that is how strict handles it
    except LookupError as exc:
        raise PolicyError(str(exc), key="errors") from None
    except TypeError:
        raise PolicyError(f"{errors!r} is for encoding only", key="errors") from None
    return encoding, errors


def _sink(given: Any, key: str) -> Callable[[Any], object] | None:  # noqa: ANN401 - whatever was given
    if given is not None and not callable(given):
        raise PolicyError(f"must be a function of one argument, not {given!r}", key=key)
    return given  # type: ignore[no-any-return]


def _seconds(value: object, key: str) -> float:
    try:
        return parse_seconds(value)
    except PolicyError as exc:
        raise PolicyError(str(exc), key=key) from None


def _interval(value: object) -> float | None:
    """
    Seconds between two samples: jail-init looks no more often than every 5 ms.
    """
    if value is None:
        return None
    seconds = _seconds(value, "timeline")
    if seconds < _SHORTEST_INTERVAL:
        raise PolicyError(f"{seconds:g} seconds is less than {_SHORTEST_INTERVAL:g}", key="timeline")
    return seconds


def _limit(value: object) -> int:
    try:
        return parse_bytes(value)
    except PolicyError as exc:
        raise PolicyError(str(exc), key="output_limit") from None


def _size(size: object) -> tuple[int, int]:
    match size:
        case [int(rows), int(columns)] if 0 < rows < 1 << 16 and 0 < columns < 1 << 16:
            return rows, columns
    raise PolicyError(f"must be rows and columns, each from 1 to 65535, not {size!r}", key="size")


def _descriptor(given: int | SupportsFileno | None, key: str) -> int | None:
    if given is None or isinstance(given, int):
        if isinstance(given, int) and given < DEVNULL:
            raise PolicyError(f"{given} is no descriptor", key=key)
        return given
    return given.fileno()


def _input(given: bytes | str | None, decode: tuple[str, str] | None) -> bytes | None:
    if not isinstance(given, str):
        return given
    encoding, errors = decode or ("utf-8", "strict")
    # "replace" is for what comes out: what goes in is to arrive as it is.
    try:
        return given.encode(encoding, "strict" if errors == "replace" else errors)
    except UnicodeEncodeError as exc:
        raise PolicyError(str(exc), key="input") from None


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    try:
        return {parse_env_name(name): parse_env_value(text) for name, text in env.items()}
    except PolicyError as exc:
        raise PolicyError(str(exc), key="env") from None


def _arguments(cmd: Command, *, shell: bool) -> list[str | bytes]:
    if shell:
        if not isinstance(cmd, str | bytes):
            raise PolicyError("with shell=True it is one string, a line for /bin/sh", key="cmd")
        return ["/bin/sh", "-c", cmd]
    if isinstance(cmd, str | bytes | os.PathLike):
        return [os.fspath(cmd)]
    return [os.fspath(arg) for arg in cmd]
