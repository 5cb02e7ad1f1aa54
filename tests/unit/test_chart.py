"""
A timeline as charts. `jail.chart`.
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

import jail
from jail.chart import Limits, _processors, render_charts
from jail.timeline import MAX_SAMPLES, Timeline
from unit.reports import timeline

NO_LIMITS = Limits()


def texts(svg):
    """
    All that can be read on the charts.
    """
    return [element.text for element in ET.fromstring(svg.replace("xlink:", "")).iter("text")]


@pytest.mark.parametrize(
    ("limits", "notes"),
    [
        (NO_LIMITS, ["peak 200 MiB", "mean 0.50, peak 0.50", "peak 4"]),
        (
            Limits(memory=256 << 20, cpus=1.5, processes=1024),
            ["peak 200 MiB, limit 256 MiB", "mean 0.50, peak 0.50, limit 1.5", "peak 4, limit 1,024"],
        ),
    ],
)
def test_report_three_charts(limits, notes):
    """
    Each chart says what it is of, what the peak was and, where there is one, the limit.
    """
    shown = texts(render_charts(timeline(), limits))

    assert {"Memory, MiB", "Processors", "Processes and threads"} <= set(shown)
    assert notes == [text for text in shown if text.startswith(("peak", "mean"))]


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        (NO_LIMITS, 0),
        (Limits(memory=256 << 20), 1),
        (Limits(memory=256 << 20, cpus=1.0, processes=5), 3),
        (Limits(memory=501 << 20, cpus=1.3, processes=11), 0),
    ],
    ids=["none", "memory", "all", "out_of_sight"],
)
def test_report_limit_lines(limits, lines):
    """
    A limit is a line, unless it is so far up that it would press down what was used.
    """
    assert lines == render_charts(timeline(), limits).count("stroke: var(--limit)")


@pytest.mark.parametrize(
    ("interval", "unit"),
    [(0.01, "milliseconds"), (0.1, "seconds"), (10, "minutes"), (1000, "hours")],
)
def test_report_time_axis(interval, unit):
    """
    There is one axis of time, in a unit that makes for short numbers.
    """
    found = [text for text in texts(render_charts(timeline(interval=interval), NO_LIMITS)) if "since" in text]

    assert [f"{unit} since its start"] == found


@pytest.mark.parametrize(
    ("peak", "unit"), [(3 << 40, "TiB"), (3 << 30, "GiB"), (3 << 20, "MiB"), (3 << 10, "KiB"), (0, "bytes")]
)
def test_report_memory_axis(peak, unit):
    """
    Memory is shown in the unit of its peak.
    """
    assert f"Memory, {unit}" in texts(render_charts(timeline(peak_bytes=peak), NO_LIMITS))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0.2, 0.1), (0.4, 0.5)], ([0.0, 0.2, 0.4], [0.5, 2.0])),
        ([(0.02, 0.0), (0.04, 0.01), (0.1, 0.05), (0.15, 0.06), (0.2, 0.15)], ([0.0, 0.1, 0.2], [0.5, 1.0])),
        ([(0.01, 0.005), (0.02, 0.01)], ([0.0, 0.02], [0.5])),
        ([(0.2, 0.1), (0.4, 0.1 - 1e-9)], ([0.0, 0.2, 0.4], [0.5, 0.0])),
        ([(0.0, 0.0), (0.0, 0.0)], ([0.0, 0.0], [0.0])),
    ],
    ids=["each", "a_tenth_at_least", "short", "backwards", "no_time"],
)
def test_report_processors(samples, expected):
    """
    How many were busy is the growth of processor time over a tenth of a second or more, and never less than none.
    """
    made = Timeline(0.1)
    for seconds, cpu_seconds in samples:
        made.add(seconds, 1, cpu_seconds, 1)
    edges, rates = _processors(made)

    assert expected == (edges, pytest.approx(rates))


def test_report_no_time():
    """
    A program that was over at once is drawn as well.
    """
    made = Timeline(0.1)
    for _ in range(2):
        made.add(0.0, 1, 0.0, 1)

    assert "mean 0.00, peak 0.00" in texts(render_charts(made, NO_LIMITS))


def test_report_is_small():
    """
    A full timeline takes no more room than a page has.
    """
    assert len(render_charts(timeline(samples=MAX_SAMPLES - 1), NO_LIMITS)) < 80_000


def test_report_is_one_element():
    """
    What goes into the page is one element with its colours in the page's hands, and no word of where it is from.
    """
    svg = render_charts(timeline(), Limits(memory=256 << 20))

    assert svg.startswith('<svg role="img" viewBox="')
    assert svg.endswith("</svg>")
    assert set() == set(re.findall(r"http|<style|<script|<metadata|<\?|<!|<image|matplotlib\.org", svg))
    assert set() == set(re.findall(r"#[0-9a-f]{6}\b(?=[;\"])", svg))
    assert {"ink", "muted", "line", "limit", "memory", "cpu", "processes"} == set(
        re.findall(r"var\(--(\w+)\)", svg)
    )


def test_report_is_the_same_again(monkeypatch):
    """
    The same timeline gives the same bytes, whatever the caller has set in matplotlib; and that stays set.
    """
    import matplotlib as mpl
    from matplotlib import style

    svg = render_charts(timeline(), NO_LIMITS)
    with style.context("dark_background"):
        mpl.rcParams["axes.grid"] = True
        mpl.rcParams["font.size"] = 20
        mpl.rcParams["xtick.direction"] = "in"
        before = dict(mpl.rcParams)
        again = render_charts(timeline(), NO_LIMITS)
        after = dict(mpl.rcParams)

    assert svg == again
    assert before == after


def test_report_without_pyplot():
    """
    Drawing makes no figure manager and chooses no backend: those are the caller's.
    """
    code = (
        "import sys, jail, jail.chart; from jail.timeline import Timeline; t = Timeline(1)\n"
        "assert not [name for name in sys.modules if name.startswith(('matplotlib', 'numpy'))]\n"
        "for n in range(1, 4): t.add(n, n, n, n)\n"
        "assert jail.chart.render_charts(t, jail.chart.Limits())\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ("False\n", 0) == (done.stdout, done.returncode), done.stderr


def test_refuse_without_matplotlib(monkeypatch):
    """
    Where matplotlib is missing the error has the command that brings it.
    """
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(jail.UnsupportedError) as caught:
        render_charts(timeline(), NO_LIMITS)

    assert ("charts: needs matplotlib 3.8; found none. pip install 'jail[report]' installs it") == str(
        caught.value
    )
