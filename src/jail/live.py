"""
The commands that are about live sandboxes: at a terminal, and by name.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from .command import PIPE
from .errors import JailError, PolicyError
from .inert import Inert
from .loop import READ, Loop
from .policy import Policy
from .registry import connect, end, find, records
from .relay import Size
from .remote import ask, receive
from .result import Result
from .sandbox import Sandbox
from .streams import write_all
from .terminal import Terminal
from .units import render_age

__all__ = [
    "INTERACTIVE_HELP",
    "SHELL",
    "add_commands",
    "parse_variable",
    "run_at_terminal",
    "say_published",
]

_CHUNK_BYTES = 65536
INTERACTIVE_HELP = "for hands that are used to docker: standard input is passed on anyway"
_PATIENCE_SECONDS = 5.0

# An interactive shell: bash where there is one inside.
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i; exec sh -i"]


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """
    Add ``ps``, ``inspect``, ``kill`` and ``exec`` to a parser's subcommands.
    """
    ps = commands.add_parser("ps", help="list the live sandboxes that have a name")
    ps.add_argument("--json", action="store_true", help="as JSON")
    ps.set_defaults(command=_ps)

    inspect = commands.add_parser("inspect", help="print what is known of a live sandbox, as JSON")
    inspect.add_argument("name")
    inspect.set_defaults(command=_inspect)

    kill = commands.add_parser("kill", help="end live sandboxes, with everything inside")
    kill.add_argument("names", nargs="+", metavar="NAME")
    kill.set_defaults(command=_kill)

    execute = commands.add_parser("exec", help="run a program in a live sandbox", allow_abbrev=False)
    execute.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    execute.add_argument("-i", "--interactive", action="store_true", help=INTERACTIVE_HELP)
    execute.add_argument("--cwd", metavar="DIR", help="where it starts, as seen inside")
    execute.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable")
    execute.add_argument("--timeout", metavar="TIME", help="end it after this time, such as 90s")
    execute.add_argument(
        "--inert-output", action="store_true", help="show control characters, as ^[ and its like"
    )
    execute.add_argument("name")
    execute.add_argument("cmd", nargs="+", metavar="CMD", help="the program and its arguments, after --")
    execute.set_defaults(command=_exec)


def run_at_terminal(
    args: argparse.Namespace, policy: Policy, *, timeline: float | None = None
) -> Result[Any]:
    """
    Run a program at a terminal of its own, which is shown at ours.

    Args:
        args: with ``cmd``, ``cwd``, ``name`` and ``inert_output``.
        policy: of its sandbox.
        timeline: seconds between two looks at what it uses, if there are to be any.
    """
    size = Size.of(0)
    with Sandbox(policy, name=args.name) as box:
        say_published(box)
        process = box.popen(
            args.cmd,
            pty=True,
            size=(size.rows, size.columns),
            stdin=PIPE,
            stdout=PIPE,
            cwd=args.cwd,
            env=terminal_variables(),
            timeline=timeline,
        )
        if process.stdout is None:
            raise JailError("no terminal came with the program")
        with Terminal() as terminal, _end_of(process.host_pid) as ended:
            terminal.relay(process.stdout.fileno(), ended, inert=args.inert_output)
        _give_time(process)
        return process.result()


def say_published(box: Sandbox) -> None:
    """
    On standard error: where each published port is, which a free one does not say by itself.
    """
    for port, (address, host_port) in box.published.items():
        where = f"[{address}]" if ":" in address else address
        print(f"jail: {where}:{host_port} leads to port {port} inside", file=sys.stderr, flush=True)


def _give_time(process: Any) -> None:  # noqa: ANN401 - a Process
    """
    What has left its terminal behind, hung up, may still run; that is no reason to wait for ever.
    """
    if process.host_pid is not None:
        process.terminate()


def terminal_variables() -> dict[str, str]:
    """
    What a program has to know of the terminal that it is shown at.
    """
    return {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}


@contextmanager
def _end_of(pid: int | None) -> Iterator[int]:
    """
    A descriptor that is readable when this process has ended.
    """
    try:
        fd = os.pidfd_open(pid) if pid is not None else -1
    except ProcessLookupError:
        fd = -1
    if fd < 0:
        fd, other = os.pipe2(os.O_CLOEXEC)
        os.close(other)
    try:
        yield fd
    finally:
        os.close(fd)


def _ps(args: argparse.Namespace) -> int:
    found = records()
    if args.json:
        print(json.dumps([asdict(record) for record in found], indent=2))
        return 0
    rows = [("NAME", "HARNESS", "AGE", "STANDS ON", "DIRECTORY")]
    rows += [
        (r.name, str(r.harness_pid), render_age(time.time() - r.created_seconds), r.tier, r.directory)
        for r in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _inspect(args: argparse.Namespace) -> int:
    record = find(args.name)
    known = asdict(record)
    with connect(record) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        try:
            ask(connection, {"inspect": True})
            known |= receive(connection)[0]
        except JailError as exc:
            print(f"jail: {exc}", file=sys.stderr)
    print(json.dumps(known, indent=2))
    return 0


def _kill(args: argparse.Namespace) -> int:
    failed = 0
    for name in args.names:
        try:
            end(find(name))
        except JailError as exc:
            print(f"jail: {exc}", file=sys.stderr)
            failed = 1
    return failed


def _exec(args: argparse.Namespace) -> int:
    request: dict[str, Any] = {"cmd": args.cmd, "env": dict(map(parse_variable, args.env))}
    for key in ("cwd", "timeout"):
        if getattr(args, key) is not None:
            request[key] = getattr(args, key)
    with connect(find(args.name)) as connection:
        if args.tty:
            return _exec_at_terminal(connection, request, inert=args.inert_output)
        return _exec_with_pipes(connection, request, inert=args.inert_output)


def _exec_at_terminal(connection: socket.socket, request: dict[str, Any], *, inert: bool) -> int:
    size = Size.of(0)
    request["env"] = terminal_variables() | request["env"]
    ask(connection, {**request, "pty": True, "size": [size.rows, size.columns]})
    _, (master,) = receive(connection)
    try:
        with Terminal() as terminal:
            terminal.relay(master, connection.fileno(), inert=inert)
    finally:
        os.close(master)
    return _exit_code(receive(connection)[0])


def _exec_with_pipes(connection: socket.socket, request: Mapping[str, Any], *, inert: bool) -> int:
    """
    Our standard output and error are written here, and not by the harness: they may be slow.
    """
    loop, answers, copies = Loop(), [], []
    with ExitStack() as closing:
        theirs = [_input(closing)]
        for target in (1, 2):
            source, end_of_theirs = os.pipe2(os.O_CLOEXEC)
            closing.callback(os.close, source)
            copy = _Copy(source, target, Inert() if inert else None)
            copies.append(copy)
            theirs.append(end_of_theirs)
            loop.watch(source, READ, _copying(loop, copy))
        try:
            ask(connection, request, theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        loop.watch(connection.fileno(), READ, lambda: answers.append(receive(connection)[0]))
        loop.run_until(lambda: any("exit_code" in answer for answer in answers))
        for copy in copies:
            copy.drain()
    return _exit_code(answers[-1])


def _input(closing: ExitStack) -> int:
    """
    A copy of our standard input, unless it is a terminal: that is never shared with what runs inside.
    """
    with suppress(OSError):
        if not os.isatty(0):
            return os.dup(0)
    empty, other = os.pipe2(os.O_CLOEXEC)
    closing.callback(os.close, other)
    return empty


def _copying(loop: Loop, copy: _Copy) -> Any:  # noqa: ANN401 - a function
    def turn() -> None:
        if not copy.take():
            loop.unwatch(copy.source)

    return turn


@dataclass(frozen=True, slots=True)
class _Copy:
    """
    From a pipe of the program's to one of ours, made inert on the way if asked for.
    """

    source: int
    target: int
    inert: Inert | None

    def take(self) -> int:
        """
        Copy what is there, and say how many bytes it was: 0 at the end.
        """
        piece = os.read(self.source, _CHUNK_BYTES)
        write_all(self.target, self.inert.feed(piece) if self.inert else piece)
        return len(piece)

    def drain(self) -> None:
        """
        Copy what is left, and no more than fits into the pipe: others may hold it open, and write on.
        """
        os.set_blocking(self.source, False)
        left = fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        with suppress(BlockingIOError):
            while left > 0 and (taken := self.take()):
                left -= taken
        if self.inert:
            write_all(self.target, self.inert.finish())


def parse_variable(text: str) -> tuple[str, str]:
    """
    A variable from ``NAME=VALUE``.

    Raises:
        PolicyError: it has no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise PolicyError(f"{text!r} is not NAME=VALUE; to pass one on there is --pass-env", key="env")
    return name, value


def _exit_code(answer: Mapping[str, Any]) -> int:
    return int(answer["exit_code"])
