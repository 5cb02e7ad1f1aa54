"""
``jail top``: what live sandboxes use, refreshed, at a terminal; or as a table or JSON, where there is none.

Escape sequences, and no curses: those here are obeyed by every terminal of the last thirty years, need no terminfo
(which slim containers lack), and what puts the terminal back is what does so for interactive programs, through
signals and stops. Lines that are too long are cut, not wrapped, by us and by the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .errors import PolicyError
from .meter import Reading, read_all
from .registry import Record, records
from .relay import Size, open_wake
from .streams import write_all
from .terminal import Terminal
from .units import parse_seconds, render_age, render_size

__all__ = ["Rates", "Row", "add_top", "render_table"]

_DELAY = "2s"
_SHORTEST_SECONDS = 0.1
# From the first look to the second, which is the first that knows a rate.
_FIRST_SECONDS = 0.5

# The other screen, no cursor, no wrapping; and back. console_codes(4), xterm's ctlseqs
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"

_CTRL_C, _CTRL_Z = 0x03, 0x1A
_ORDERS = {"cpu": "CPU%", "memory": "MEMORY"}

# Title, whether it has numbers, and when it goes where there is no room: the smaller, the sooner.
_COLUMNS: tuple[tuple[str, bool, int | None], ...] = (
    ("NAME", False, None),
    ("HARNESS", True, 1),
    ("AGE", True, 2),
    ("CPU%", True, None),
    ("MEMORY", True, None),
    ("PROCS", True, 3),
    ("STANDS ON", False, 0),
    ("COMMAND", False, None),
)
_COMMAND_WIDTH = 16  # less of it says nothing

_EPILOG = (
    "Keys: c and m sort, q quits. MEMORY is memory.current of the sandbox's cgroup, page cache included; without a "
    "cgroup the proportional set size (PSS) of its processes, for which psutil is needed. CPU% is of one processor."
)


@dataclass(frozen=True, slots=True)
class Row:
    """
    A sandbox, what it uses, and how much of a processor it used since the last look: None at the first.
    """

    record: Record
    reading: Reading
    cpu_percent: float | None

    def cells(self) -> tuple[str, ...]:
        """
        A text for each of the columns.
        """
        record, reading = self.record, self.reading
        return (
            record.name,
            str(record.harness_pid),
            render_age(time.time() - record.created_seconds),
            "-" if self.cpu_percent is None else f"{self.cpu_percent:.1f}",
            render_size(reading.memory_bytes),
            str(reading.processes),
            record.tier,
            ", ".join(reading.commands) or "-",
        )

    def as_dict(self) -> dict[str, Any]:
        """
        The same for programs.
        """
        record, reading = self.record, self.reading
        return {
            "name": record.name,
            "harness_pid": record.harness_pid,
            "init_pid": record.init_pid,
            "age_seconds": max(0.0, time.time() - record.created_seconds),
            "cpu_percent": self.cpu_percent,
            "cpu_seconds": reading.cpu_seconds,
            "memory_bytes": reading.memory_bytes,
            "processes": reading.processes,
            "tier": record.tier,
            "commands": reading.commands,
            "source": reading.source,
        }


class Rates:
    """
    From one look to the next: how much of a processor each sandbox used.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, int, int], Reading] = {}

    def take(self, readings: Iterable[tuple[Record, Reading]]) -> list[Row]:
        """
        A row for each, with its rate since the last look.
        """
        now = {(r.name, r.init_pid, r.init_started): (r, reading) for r, reading in readings}
        rows = [Row(record, reading, self._rate(key, reading)) for key, (record, reading) in now.items()]
        self._last = {key: reading for key, (_, reading) in now.items()}
        return rows

    def _rate(self, key: tuple[str, int, int], reading: Reading) -> float | None:
        """
        In percent. What a child used that nobody waits for is forgotten: that is no negative rate.
        """
        last = self._last.get(key)
        if last is None or last.source != reading.source or reading.at_seconds <= last.at_seconds:
            return None
        used = max(0.0, reading.cpu_seconds - last.cpu_seconds)
        return 100 * used / (reading.at_seconds - last.at_seconds)


def add_top(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """
    Add ``top`` to a parser's subcommands.
    """
    top = commands.add_parser("top", help="show what live sandboxes that have a name use", epilog=_EPILOG)
    top.add_argument("-d", dest="delay", metavar="TIME", default=_DELAY, help=f"between two looks ({_DELAY})")
    top.add_argument("-n", dest="rounds", metavar="N", type=int, help="end after so many")
    top.add_argument("--once", action="store_true", help="print one table, at a terminal as well")
    top.add_argument("--json", action="store_true", help="a line of JSON for each look, instead of a table")
    top.add_argument("--sort", choices=tuple(_ORDERS), default="cpu", help="by what (cpu)")
    top.set_defaults(command=_top)


def _top(args: argparse.Namespace) -> int:
    try:
        delay = parse_seconds(args.delay)
    except PolicyError as exc:
        raise PolicyError(str(exc), key="-d") from None
    if delay < _SHORTEST_SECONDS:
        raise PolicyError(f"at least {_SHORTEST_SECONDS:g} seconds", key="-d")
    if args.rounds is not None and args.rounds < 1:
        raise PolicyError("at least one", key="-n")
    if args.json or args.once or not _is_terminal():
        _print(delay, 1 if args.once else args.rounds or 1, args.sort, as_json=args.json)
    else:
        _watch(delay, args.rounds, args.sort)
    return 0


def _is_terminal() -> bool:
    return os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"


def _print(delay: float, rounds: int, order: str, *, as_json: bool) -> None:
    """
    So many tables, or lines of JSON, to whatever standard output is.
    """
    rates = Rates()
    if rates.take(read_all(records())):
        time.sleep(min(delay, _FIRST_SECONDS))
    for number in range(rounds):
        if number:
            time.sleep(delay)
        rows = _sorted(rates.take(read_all(records())), order)
        if as_json:
            _write([json.dumps([row.as_dict() for row in rows])])
        else:
            _write([""] * bool(number) + render_table(rows))


def _write(lines: Iterable[str]) -> None:
    """
    Without a buffer: what nobody reads any more would be in it still when the interpreter ends.
    """
    write_all(1, "".join(f"{line}\n" for line in lines).encode())


def _sorted(rows: Iterable[Row], order: str) -> list[Row]:
    def key(row: Row) -> tuple[float, str]:
        most = row.reading.memory_bytes if order == "memory" else row.cpu_percent or 0.0
        return -most, row.record.name

    return sorted(rows, key=key)


def render_table(rows: Iterable[Row], width: int | None = None) -> list[str]:
    """
    A line of titles, and one for each row.

    Args:
        rows: in their order.
        width: of the screen, in characters: columns that matter less are left out, and lines are cut. None: no limit.
    """
    lines = [tuple(title for title, _, _ in _COLUMNS), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    shown = _shown(widths, width)
    return [
        "  ".join(_aligned(line[column], column, widths[column]) for column in shown).rstrip()[:width]
        for line in lines
    ]


def _shown(widths: Sequence[int], width: int | None) -> list[int]:
    """
    The columns that there is room for.
    """
    shown = list(range(len(_COLUMNS)))
    going = sorted((when, column) for column, (_, _, when) in enumerate(_COLUMNS) if when is not None)
    for _, column in going:
        needed = sum(widths[c] + 2 for c in shown[:-1]) + min(widths[-1], _COMMAND_WIDTH)
        if width is None or needed <= width:
            break
        shown.remove(column)
    return shown


def _aligned(text: str, column: int, width: int) -> str:
    return text.rjust(width) if _COLUMNS[column][1] else text.ljust(width)


def _watch(delay: float, rounds: int | None, order: str) -> None:
    """
    The same table over and over, until somebody has seen enough. The last of a number of them stays on the screen.
    """
    with Terminal(before=_ENTER, after=_LEAVE) as terminal:
        watch = _Watch(terminal, order)
        watch.run(delay, rounds)
    if rounds is not None:
        _write(render_table(watch.rows, Size.of(1).columns))


class _Watch:
    """
    A terminal on which a table is shown.
    """

    def __init__(self, terminal: Terminal, order: str) -> None:
        self._terminal = terminal
        self._order = order
        self._rates = Rates()
        self._is_over = False
        self.rows: list[Row] = []

    def run(self, delay: float, rounds: int | None) -> None:
        """
        Look, show, and wait for a key, a signal or the time to look again.
        """
        with ExitStack() as undo:
            wake = open_wake(undo)
            self._look()
            due = time.monotonic() + min(delay, _FIRST_SECONDS)
            while not self._is_over:
                self._draw()
                self._wait(wake, due)
                if time.monotonic() >= due:
                    self._look()
                    due = time.monotonic() + delay
                    rounds = None if rounds is None else rounds - 1
                if rounds == 0:
                    return

    def _look(self) -> None:
        self.rows = _sorted(self._rates.take(read_all(records())), self._order)

    def _wait(self, wake: int | None, due: float) -> None:
        poll = select.poll()
        poll.register(self._terminal.input_fd, select.POLLIN)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
        if wake in ready:
            os.read(wake or 0, 1024)
        if self._terminal.input_fd in ready:
            self._hear()

    def _hear(self) -> None:
        """
        Do what the keys say; a terminal that is hung up says that it is enough.
        """
        try:
            keys = os.read(self._terminal.input_fd, 1024)
        except OSError:
            keys = b""
        self._is_over = not keys or bool({ord("q"), _CTRL_C} & set(keys))
        for key, order in ((b"c", "cpu"), (b"m", "memory")):
            if key in keys:
                self._order = order
                self.rows = _sorted(self.rows, order)
        if _CTRL_Z in keys and not self._is_over:
            os.kill(0, signal.SIGTSTP)  # to the whole job, as a terminal that is not raw does

    def _draw(self) -> None:
        """
        Paint over what is there, line by line, so that nothing flickers. Not while others are in front.
        """
        if not self._terminal.is_raw:
            self._terminal.make_raw()  # bash brings a job to the front without SIGCONT
        if not self._terminal.is_raw:
            return
        size = Size.of(self._terminal.output_fd)
        count = f"{len(self.rows)} sandbox{'' if len(self.rows) == 1 else 'es'}"
        title = f"jail top: {count}, by {_ORDERS[self._order]}; c, m: by CPU%, by memory; q: quit"
        head, *body = render_table(self.rows, size.columns)
        room = max(0, size.rows - 2)
        if len(body) > room:
            body[max(0, room - 1) :] = [f"and {len(body) - room + 1} more"]
        lines = [title[: size.columns], f"\x1b[7m{head.ljust(size.columns)}\x1b[0m", *body]
        text = "".join(f"{line}\x1b[K\r\n" for line in lines[: size.rows]).removesuffix("\r\n")
        write_all(self._terminal.output_fd, f"\x1b[H{text}\x1b[J".encode())
