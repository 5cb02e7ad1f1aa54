"""
A timeline, drawn by matplotlib: memory, processors and processes over one axis of time, as SVG to stand in a page.

Nothing that a program has written gets into it. The same timeline gives the same bytes, whatever matplotlibrc says;
for that matplotlib's settings, of which a process has one set, are ours while this draws, and the caller's again
after. The colours are variables of the page's style, so that it has a light and a dark one.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from .errors import UnsupportedError
from .timeline import Timeline
from .units import render_size

__all__ = ["Limits", "render_charts", "require_matplotlib"]

# More are not seen at this width, and each takes some 60 bytes.
_SAMPLES_MAX = 360

# A limit that is further up than this, in peaks, would press what is drawn into the ground. It is named instead.
_LIMIT_IN_SIGHT = 2.5

# Time over which a rate of processor time is taken, at least, and how many of them there are at most.
_RATE_SECONDS = 0.1
_RATES_MAX = 180

# What stands in for each variable of the page's style: colours that nobody else uses.
_INK, _MUTED, _LINE, _LIMIT, _MEMORY, _CPU, _PROCESSES = (
    f"#0102{number:02x}" for number in range(0xA0, 0xA7)
)
_VARIABLES = {
    _INK: "ink", _MUTED: "muted", _LINE: "line", _LIMIT: "limit",
    _MEMORY: "memory", _CPU: "cpu", _PROCESSES: "processes",
}  # fmt: skip

_STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that there is always the same room for text
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlepad": 8.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "xtick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "ytick.major.size": 0.0,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text: it is read aloud, found and copied
    "svg.hashsalt": "jail",
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_drawing = threading.Lock()  # see above: one set of settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What was allowed, to be drawn as lines; None: nothing is said of it.
    """

    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """
    One chart: ``values[i]`` holds from ``edges[i]`` to ``edges[i + 1]``.
    """

    name: str
    note: str
    colour: str
    edges: Sequence[float]
    values: Sequence[float]
    limit: float | None
    is_whole: bool = False


def require_matplotlib() -> None:
    """
    Nothing, where matplotlib is installed.

    Raises:
        UnsupportedError: it is not; the message has the command that installs it.
    """
    if find_spec("matplotlib") is None:
        raise UnsupportedError(
            "charts", needs="matplotlib 3.8", found="none", cure="pip install 'jail[report]' installs it"
        )


def render_charts(timeline: Timeline, limits: Limits) -> str:
    """
    An ``<svg>`` element, some tens of kilobytes long.

    Args:
        timeline: of two samples or more.
        limits: that held.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import style  # noqa: PLC0415 - optional, and takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    end = timeline.seconds[-1] + timeline.interval_seconds  # until then holds what was seen last
    length, unit = _scale(end)
    panels = _panels(timeline.thinned(_SAMPLES_MAX), end, limits)
    written = io.StringIO()
    with _drawing, style.context(["default", _STYLE]):
        figure = Figure(figsize=(8.4, 6.6))
        figure.subplots_adjust(left=0.07, right=0.99, top=0.955, bottom=0.075, hspace=0.36)
        for axes, panel in zip(figure.subplots(len(panels), 1, sharex=True), panels, strict=True):
            _draw(axes, panel, length)
        axes.set_xlim(0, end / length)
        axes.set_xlabel(f"{unit} since its start")
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    return _as_element(written.getvalue())


def _scale(seconds: float) -> tuple[float, str]:
    """
    A unit of time in which this is a number that is easily read: its length in seconds, and its name.
    """
    if seconds >= 2 * 3600:
        return 3600, "hours"
    if seconds >= 2 * 60:
        return 60, "minutes"
    return (1, "seconds") if seconds >= 1 else (1e-3, "milliseconds")


def _panels(timeline: Timeline, end: float, limits: Limits) -> list[_Panel]:
    edges = [*timeline.seconds, end]
    peak = max(timeline.memory_bytes)
    size, unit = _size_unit(peak)
    cpu_edges, rates = _processors(timeline)
    mean = timeline.cpu_seconds[-1] / timeline.seconds[-1] if timeline.seconds[-1] else 0.0
    tasks = max(timeline.processes)
    return [
        _Panel(
            name=f"Memory, {unit}",
            note=_note(f"peak {render_size(peak)}", limits.memory, render_size),
            colour=_MEMORY,
            edges=edges,
            values=[value / size for value in timeline.memory_bytes],
            limit=None if limits.memory is None else limits.memory / size,
        ),
        _Panel(
            name="Processors",
            note=_note(f"mean {mean:.2f}, peak {max(rates, default=0.0):.2f}", limits.cpus, "{:g}".format),
            colour=_CPU,
            edges=cpu_edges,
            values=rates,
            limit=limits.cpus,
        ),
        _Panel(
            name="Processes and threads",
            note=_note(f"peak {tasks:,}", limits.processes, "{:,}".format),
            colour=_PROCESSES,
            edges=edges,
            values=timeline.processes,
            limit=limits.processes,
            is_whole=True,
        ),
    ]


def _size_unit(peak: int) -> tuple[int, str]:
    units = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
    return next((found for found in units if peak >= found[0]), (1, "bytes"))


def _note(used: str, limit: Any, render: Callable[[Any], str]) -> str:  # noqa: ANN401 - a number that `render` takes
    return used if limit is None else f"{used}, limit {render(limit)}"


def _processors(timeline: Timeline) -> tuple[list[float], list[float]]:
    """
    How many processors were busy on average, between two times and the next.

    Over a tenth of a second at least: what /proc says of processor time is in hundredths. proc_pid_stat(5)
    """
    shortest = max(_RATE_SECONDS, timeline.seconds[-1] / _RATES_MAX)
    edges, used = [0.0], [0.0]
    for seconds, cpu_seconds in zip(timeline.seconds, timeline.cpu_seconds, strict=True):
        if seconds - edges[-1] >= shortest:
            edges.append(seconds)
            used.append(cpu_seconds)
    if len(edges) == 1:
        edges.append(timeline.seconds[-1])
        used.append(timeline.cpu_seconds[-1])
    rates = [
        max(0.0, more - less) / (end - begin) if end > begin else 0.0
        for (begin, end), (less, more) in zip(pairwise(edges), pairwise(used), strict=True)
    ]
    return edges, rates


def _draw(axes: Any, panel: _Panel, length: float) -> None:  # noqa: ANN401 - matplotlib's
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    edges = [edge / length for edge in panel.edges]
    axes.stairs(panel.values, edges, fill=True, color=panel.colour, alpha=0.14, linewidth=0)
    axes.stairs(panel.values, edges, baseline=None, color=panel.colour)
    top = peak = max(panel.values, default=0.0)
    if panel.limit is not None and panel.limit <= peak * _LIMIT_IN_SIGHT:
        axes.axhline(panel.limit, color=_LIMIT, linestyle=(0, (5, 3)), linewidth=1.2)
        top = max(peak, panel.limit)
    axes.set_ylim(0, top * 1.12 or 1.0)
    steps = [1, 2, 5, 10] if panel.is_whole else [1, 2, 2.5, 5, 10]
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=steps, integer=panel.is_whole))
    axes.set_title(panel.name, loc="left", color=_INK)
    axes.set_title(panel.note, loc="right", color=_MUTED)


def _as_element(document: str) -> str:
    """
    The element alone, which finds its place, size and colours in a page.
    """
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", svg, count=1)
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg role="img" viewBox="\1">', svg, count=1)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d)\d+", r"\1", tag[0]), svg)  # tenths of a point
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
