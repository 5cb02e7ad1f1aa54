"""
A run as a page. `jail.report`.
"""

import dataclasses
import re
import sys
from html.parser import HTMLParser

import pytest

from jail.outcome import DiskFull, Exited, OutOfMemory, ProcessLimit, TimedOut
from jail.report import _FIGURES, render_report
from jail.result import Output, Text
from jail.stylesheet import STYLESHEET
from jail.timeline import MAX_SAMPLES, Timeline
from jail.usage import Usage
from unit.reports import USAGE, WHOLE, result, timeline

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """
    A page as a browser takes it: its tags with their attributes, and its text.
    """

    def __init__(self, source):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        """
        As HTMLParser has it.
        """
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """
        As HTMLParser has it.
        """
        assert tag == self.open.pop()

    def handle_startendtag(self, tag, attrs):
        """
        As HTMLParser has it.
        """
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        """
        As HTMLParser has it.
        """
        self.text += data


def page(*, title="A run", limits=None, **fields):
    """
    The page of a run with these fields.
    """
    return render_report(result(**fields), title=title, **limits or {})


def test_report_whole():
    """
    The page has the command as a shell takes it, the outcome, figures with where they are from, the guarantees, the
    limits that were met, what was written, and charts with their limits.
    """
    source = page(
        title="Nightly",
        args=("sh", "-c", "exit 0"),
        usage=WHOLE,
        events=(ProcessLimit(20, 20), DiskFull(1 << 20, 1 << 20)),
        stdout=Output(b"all is well\n"),
        timeline=timeline(),
        limits={"memory_limit": 256 << 20, "cpus_limit": 1.0, "processes_limit": 5},
    )
    shown = Page(source)

    assert [] == shown.open
    for text in (
        "Nightly", "sh -c 'exit 0'", "exited with 0", "4.50 s", "cgroup memory.peak", "208 MiB",
        "reached 20 processes and threads", "no space: 1.0 MiB of 1.0 MiB (disk)", "network namespace",
        "nobody: waived", "watcher", "all is well", "limit 256 MiB", "processors 500 ms, memory 0 ms, disks 250 ms",
        "40 samples, 100 ms apart", "spawn 3 ms, build 1 ms",
    ):  # fmt: skip
        assert text in shown.text
    assert 3 == source.count("stroke: var(--limit)")


def test_report_every_figure():
    """
    Each field of `Usage` has its row, or is named where this host does not know it.
    """
    known = {field.name for field in dataclasses.fields(Usage)} - {"setup", "sources"}

    assert known == set(_FIGURES)
    assert "Not known" not in page(usage=WHOLE)
    assert (
        "Not known on this host: kept from running by its limit; waited for; files of the sandbox's own, "
        "at the peak; read from disks; written to disks; sent and received;"
    ) in Page(page(usage=USAGE)).text


@pytest.mark.parametrize(
    ("outcome", "look", "code"),
    [
        (Exited(0), "good", ""),
        (Exited(3), "bad", ""),
        (TimedOut(2.0), "bad", "exit code 124"),
        (OutOfMemory(1 << 20, 2 << 20), "bad", "exit code 137"),
    ],
    ids=lambda value: type(value).__name__ if dataclasses.is_dataclass(value) else value,
)
def test_report_outcome(outcome, look, code):
    """
    The outcome is said in its own words, and its exit code where they do not have it.
    """
    found = re.search(r'<p class="outcome (\w+)">(.*)</p>', page(outcome=outcome))

    assert look == found[1]
    assert f"{outcome} {code}".strip() == Page(found[2]).text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "No samples were asked for (timeline)."),
        (Timeline(0.1), "It was over before it could be looked at twice, 100 ms apart."),
        (timeline(samples=1), "It was over before it could be looked at twice, 100 ms apart."),
    ],
    ids=["not_asked_for", "none", "one"],
)
def test_report_without_samples(given, expected, monkeypatch):
    """
    Where there is nothing to draw the page says so, and needs no matplotlib.
    """
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    source = page(timeline=given)

    assert expected in Page(source).text
    assert "<svg" not in source


def test_report_fetches_nothing():
    """
    Whatever is in the page is in the page: no address, no script, and a policy that forbids both.
    """
    source = page(usage=WHOLE, timeline=timeline(), stdout=Output(b"text"))
    tags = Page(source).tags

    assert [] == re.findall(r"\w+://|@import|url\((?!#)", source)
    assert set() == {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {
        t for t, _ in tags
    }
    assert {"#"} == {
        value[0] for _, attrs in tags for name, value in attrs.items() if name.endswith(("href", "src"))
    }
    assert ("meta", {
        "http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'",
    }) in tags  # fmt: skip


HOSTILE = "</pre></td></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;&#60;{0}"


@pytest.mark.parametrize("place", ["args", "stdout", "stderr", "title"])
def test_report_html_is_text(place):
    """
    HTML in what a program was given, or wrote, or in the title is shown as the text that it is.
    """
    harmless = {"args": ("x",), "stdout": Output(b"x"), "stderr": Text("x"), "title": "x"}
    values = {
        "args": (HOSTILE,),
        "stdout": Output(HOSTILE.encode()),
        "stderr": Text(HOSTILE),
        "title": HOSTILE,
    }
    hostile = Page(page(**harmless | {place: values[place]}))

    assert Page(page(**harmless)).tags == hostile.tags
    assert (HOSTILE.replace("'", "'\"'\"'") if place == "args" else HOSTILE) in hostile.text


def test_report_control_characters_are_shown():
    """
    What a terminal or a browser would obey, or show in another order, is made visible.
    """
    text = Page(page(args=("a\x1b[2J", "b\u202ec", "d\x00e", "f\udcffg", "h\ud800i"))).text

    for shown in ("a^[[2J", "b<U+202E>c", "d^@e", "f\\udcffg", "h\\ud800i"):
        assert shown in text


def test_report_is_the_same_again():
    """
    The same run gives the same bytes.
    """
    given = {"usage": WHOLE, "timeline": timeline(), "limits": {"memory_limit": 256 << 20}}

    assert page(**given) == page(**given)


def test_report_is_small():
    """
    The longest arguments, output, events and timeline stay below 150 KB; what was left out is counted.
    """
    source = page(
        title='"' * 100_000,
        args=('"' * 100_000,) * 20,
        stdout=Output(b'"' * 100_000),
        stderr=Output(b"\x1b" * 100_000),
        usage=WHOLE,
        timeline=timeline(samples=MAX_SAMPLES - 1),
        events=(ProcessLimit(20, 20),) * 100_000,
    )

    assert len(source.encode()) < 150_000
    assert "[98,000 characters left out]" in source
    assert "and 99960 more" in source


def test_report_long_output_ends():
    """
    Of long output the end is shown.
    """
    text = Page(page(stdout=Output(b"begin" + b"-" * 10_000 + b"end"))).text

    assert "---end" in text
    assert "begin" not in text


def test_report_colours_are_defined():
    """
    Each variable that the page uses has a value, by day and by night.
    """
    source = page(timeline=timeline(), limits={"memory_limit": 256 << 20})
    used = set(re.findall(r"var\((--\w+)\)", source))
    defined = re.findall(r"(--\w+): #", source)

    assert used == {name for name in defined if defined.count(name) == 2}


def luminance(colour):
    """
    Relative luminance. Source: WCAG 2.2, "relative luminance".
    """
    channels = (int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """
    From 1 to 21. Source: WCAG 2.2, "contrast ratio".
    """
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["day", "night"])
def test_report_can_be_read(theme):
    """
    Text has a contrast of 4.5 to its ground, and lines of 3.
    """
    palettes = re.findall(r"(--paper: [^}]*)}", STYLESHEET)
    palette = dict(re.findall(r"--(\w+): #(\w{6});", palettes[theme]))

    for ground, names, wanted in (
        ("paper", "ink muted good bad", 4.5),
        ("raised", "ink", 4.5),
        ("paper", "memory cpu processes limit", 3.0),
    ):
        assert [] == [name for name in names.split() if contrast(palette[name], palette[ground]) < wanted]
