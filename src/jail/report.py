"""
One run as one HTML file, to be read by people: how it ended, what it used over time, what was enforced.

Nothing is fetched and nothing is executed: styles and charts are in the file, there is no script, and the file's own
policy (CSP) forbids both. What a program chose - its arguments, its output - is hostile text: control characters are
made visible, then everything that means something to HTML is escaped, and what is long is cut. The same result
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from shlex import join
from typing import Any

from .chart import Limits, render_charts
from .guarantee import Guarantee, Strength
from .inert import render_inert
from .outcome import Exited
from .result import Result
from .stylesheet import STYLESHEET
from .timeline import Timeline
from .units import render_size
from .usage import Pressure, Usage

__all__ = ["render_report"]

# Of each text that is not ours. An argument list can have megabytes, and a character takes six when it is escaped.
_LONGEST = 2000
_MOST_ROWS = 40

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_report(
    result: Result[Any],
    *,
    title: str,
    memory_limit: int | None = None,
    cpus_limit: float | None = None,
    processes_limit: int | None = None,
) -> str:
    """
    The file's text.

    Args:
        result: of `jail.run` and its kin; with ``timeline=`` it has something to draw.
        title: of the page.
        memory_limit: what was allowed, to be drawn beside what was used. Unit: bytes.
        cpus_limit: likewise, in processors.
        processes_limit: likewise, processes and threads.

    Raises:
        UnsupportedError: matplotlib is not installed, and there is something to draw.
    """
    limits = Limits(memory=memory_limit, cpus=cpus_limit, processes=processes_limit)
    parts = [
        _header(result, title),
        _section("Limits that it came up against", _list(map(str, result.events))) if result.events else "",
        _section("What it was refused", _list(map(str, result.denials))) if result.denials else "",
        _section("Over time", _charts(result.timeline, limits)),
        _section("What it used", _usage(result.usage)),
        _section("What was enforced", _guarantees(result.guarantees)) if result.guarantees else "",
        _output("Standard output", result.stdout),
        _output("Standard error", result.stderr),
    ]
    return _PAGE.format(
        policy=escape(_POLICY), title=_safe(title), style=STYLESHEET, body="\n".join(filter(None, parts))
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _safe(text: str, *, tail: bool = False) -> str:
    """
    Text that somebody else wrote, as HTML that shows it; of a long one the beginning, or the end.
    """
    shown = render_inert(text[-_LONGEST:] if tail else text[:_LONGEST])
    left_out = max(0, len(text) - _LONGEST)
    if left_out:
        note = f"[{left_out:,} characters left out]"
        shown = f"{note}\n{shown}" if tail else f"{shown}\n{note}"
    return escape(shown)


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def _header(result: Result[Any], title: str) -> str:
    usage = result.usage
    tiles = [
        ("Wall time", _seconds(usage.wall_seconds)),
        ("Processor time", _seconds(usage.cpu_seconds)),
        ("Memory, peak", render_size(usage.memory_peak_bytes)),
    ]
    if usage.processes_peak is not None:
        tiles.append(("Processes, peak", f"{usage.processes_peak:,}"))
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    code = (
        ""
        if isinstance(result.outcome, Exited)
        else f' <span class="muted">exit code {result.exit_code}</span>'
    )
    return (
        f"<header>\n<h1>{_safe(title)}</h1>\n"
        f'<p class="outcome {"good" if result.ok else "bad"}">{_safe(str(result.outcome))}{code}</p>\n'
        f'<pre class="command">{_safe(join(result.args))}</pre>\n'
        f'<dl class="tiles">{shown}</dl>\n</header>'
    )


def _charts(timeline: Timeline | None, limits: Limits) -> str:
    if timeline is None:
        return '<p class="muted">No samples were asked for (<code>timeline</code>).</p>'
    every = _seconds(timeline.interval_seconds)
    if len(timeline) < 2:
        return f'<p class="muted">It was over before it could be looked at twice, {every} apart.</p>'
    return (
        f'<figure>\n<div class="charts">{render_charts(timeline, limits)}</div>\n'
        f"<figcaption>{len(timeline):,} samples, {every} apart. Memory is what is resident, of all its processes."
        "</figcaption>\n</figure>"
    )


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:,.0f} s"


def _count(number: int) -> str:
    return f"{number:,}"


def _pressure(pressure: Pressure) -> str:
    kinds = {
        "processors": pressure.cpu_seconds,
        "memory": pressure.memory_seconds,
        "disks": pressure.io_seconds,
    }
    return ", ".join(f"{kind} {_seconds(seconds)}" for kind, seconds in kinds.items())


# Field of `Usage` -> what it is called here, and how its figure is written.
_FIGURES: dict[str, tuple[str, Any]] = {
    "wall_seconds": ("Wall time", _seconds),
    "user_seconds": ("Processor time, in user mode", _seconds),
    "system_seconds": ("Processor time, in the kernel", _seconds),
    "throttled_seconds": ("Kept from running by its limit", _seconds),
    "pressure": ("Waited for", _pressure),
    "memory_peak_bytes": ("Memory, at the peak", render_size),
    "disk_peak_bytes": ("Files of the sandbox's own, at the peak", render_size),
    "read_bytes": ("Read from disks", render_size),
    "written_bytes": ("Written to disks", render_size),
    "network_bytes": ("Sent and received", render_size),
    "output_bytes": ("Output", render_size),
    "processes_peak": ("Processes and threads, at the peak", _count),
    "processes_started": ("Processes and threads, started", _count),
    "voluntary_switches": ("Times that it waited", _count),
    "involuntary_switches": ("Times that it was made to wait", _count),
    "minor_faults": ("Page faults without a disk", _count),
    "major_faults": ("Page faults with a disk", _count),
}


def _usage(usage: Usage) -> str:
    """
    The figures that there are, each with where it is from, and the names of those that there are not.
    """
    rows, missing = [], []
    for field, (name, render) in _FIGURES.items():
        value = getattr(usage, field)
        if value is None:
            missing.append(f"{name[0].lower()}{name[1:]}")
        else:
            rows.append((name, render(value), usage.sources.get(field, "")))
    if usage.setup:
        phases = ", ".join(f"{phase} {_seconds(seconds)}" for phase, seconds in usage.setup.items())
        rows.append(("Building the sandbox", _seconds(usage.setup_seconds), phases))
    table = _table(("", "Figure", "From"), rows, numbers=1)
    note = f'\n<p class="muted">Not known on this host: {escape("; ".join(missing))}.</p>' if missing else ""
    return table + note


def _guarantees(guarantees: Iterable[Guarantee]) -> str:
    keepers = {Strength.KERNEL: "kernel", Strength.SUPERVISED: "watcher", Strength.NONE: "nobody: waived"}
    rows = [(g.name, keepers[g.strength], g.mechanism, g.promise) for g in guarantees]
    return _table(("Guarantee", "Kept by", "Mechanism", "Promise"), rows)


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]], *, numbers: int = -1) -> str:
    """
    Args:
        head: of each column.
        rows: texts, which may be anybody's.
        numbers: the column that has numbers in it.
    """
    lines = [
        "<tr>" + "".join(_cell(text, number=index == numbers) for index, text in enumerate(row)) + "</tr>"
        for row in rows
    ]
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _cell(text: str, *, number: bool) -> str:
    return f'<td class="number">{_safe(text)}</td>' if number else f"<td>{_safe(text)}</td>"


def _list(texts: Iterable[str]) -> str:
    items = [f"<li>{_safe(text)}</li>" for text in texts]
    more = len(items) - _MOST_ROWS
    return (
        "<ul>\n"
        + "\n".join(items[:_MOST_ROWS])
        + (f"\n<li>and {more} more</li>" if more > 0 else "")
        + "\n</ul>"
    )


def _output(name: str, written: Any) -> str:  # noqa: ANN401 - Output or Text
    text = written.text
    if not text:
        return ""
    return f"<details>\n<summary>{escape(name)}</summary>\n<pre>{_safe(text, tail=True)}</pre>\n</details>"
