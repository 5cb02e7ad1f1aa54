"""
A table of what sandboxes use. `jail.top`.
"""

import json
import time

import pytest

from jail import top
from jail.meter import Reading
from jail.registry import Record
from jail.top import Rates, Row, _sorted, render_table


def record(name="one", init_pid=2, **fields):
    """
    What is known of a sandbox that was made five minutes ago.
    """
    known = {
        "harness_pid": 1234,
        "init_started": 7,
        "created_seconds": time.time() - 300,
        "tier": "namespaces",
        "directory": "/",
        "policy": "",
    }
    return Record(name=name, init_pid=init_pid, **known | fields)


def reading(at_seconds=0.0, cpu_seconds=0.0, memory_bytes=1 << 20, commands=("sleep 9",), source="cgroup"):
    """
    What one uses.
    """
    return Reading(
        at_seconds=at_seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=memory_bytes,
        processes=3,
        commands=commands,
        source=source,
    )


@pytest.fixture
def rows():
    """
    One that is busy, and one of which little is known; made when asked for, as their age is counted from then.
    """
    return [
        Row(record("web"), reading(memory_bytes=200 << 20, commands=("python3 serve.py", "sleep 9")), 12.34),
        Row(record("a-longer-name"), reading(commands=()), None),
    ]


def test_report_table(rows):
    """
    Each sandbox has a line, numbers stand to the right, and what is not known or not there is a dash.
    """
    assert [
        "NAME           HARNESS  AGE  CPU%   MEMORY  PROCS  STANDS ON   COMMAND",
        "web               1234   5m  12.3  200 MiB      3  namespaces  python3 serve.py, sleep 9",
        "a-longer-name     1234   5m     -    1 MiB      3  namespaces  -",
    ] == render_table(rows)


def test_report_empty_table():
    """
    Where no sandbox is, there are titles.
    """
    assert ["NAME  HARNESS  AGE  CPU%  MEMORY  PROCS  STANDS ON  COMMAND"] == render_table([])


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (200, "NAME HARNESS AGE CPU% MEMORY PROCS STANDS ON COMMAND"),
        (79, "NAME HARNESS AGE CPU% MEMORY PROCS STANDS ON COMMAND"),
        (78, "NAME HARNESS AGE CPU% MEMORY PROCS COMMAND"),
        (60, "NAME AGE CPU% MEMORY PROCS COMMAND"),
        (50, "NAME CPU% MEMORY COMMAND"),
        (18, "NAME CPU"),
        (0, ""),
    ],
)
def test_report_narrow_table(rows, width, titles):
    """
    On a narrow screen what matters less is left out, and what is still too long is cut.
    """
    lines = render_table(rows, width)

    assert titles == " ".join(lines[0].split())
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([reading(0.0, 5.0), reading(2.0, 6.0)], [None, 50.0]),
        ([reading(0.0, 5.0), reading(1.0, 8.0), reading(2.0, 8.0)], [None, 300.0, 0.0]),
        ([reading(0.0, 5.0), reading(1.0, 4.0)], [None, 0.0]),
        ([reading(0.0, 5.0), reading(0.0, 5.0)], [None, None]),
        ([reading(0.0, 5.0), reading(1.0, 9.0, source="processes")], [None, None]),
    ],
    ids=["half", "three", "forgotten", "no_time", "another_source"],
)
def test_report_rates(readings, expected):
    """
    A rate is what was used from one look to the next; there is none at the first, and none below nothing.
    """
    rates = Rates()

    assert expected == [rates.take([(record(), one)])[0].cpu_percent for one in readings]


def test_report_no_rate_of_a_namesake():
    """
    Another sandbox that has taken the name begins anew.
    """
    rates = Rates()
    rates.take([(record(), reading(0.0, 5.0))])

    assert None is rates.take([(record(init_started=8), reading(1.0, 6.0))])[0].cpu_percent


@pytest.mark.parametrize(
    ("order", "expected"), [("cpu", ["b", "a", "c", "d"]), ("memory", ["c", "a", "d", "b"])]
)
def test_report_order(order, expected):
    """
    The largest is first; those that are equal, by name, and those of which nothing is known with the idle.
    """
    rows = [
        Row(record("a"), reading(memory_bytes=2), 1.0),
        Row(record("b"), reading(memory_bytes=1), 2.0),
        Row(record("d"), reading(memory_bytes=2), 0.0),
        Row(record("c"), reading(memory_bytes=3), None),
    ]

    assert expected == [row.record.name for row in _sorted(rows, order)]


@pytest.mark.parametrize(
    ("found", "rounds", "slept"),
    [([], 1, []), ([record()], 1, [0.5]), ([record()], 3, [0.5, 2.0, 2.0])],
    ids=["nobody", "once", "thrice"],
)
def test_report_after_a_while(found, rounds, slept, monkeypatch, capfd):
    """
    A rate takes two looks, and some time between them, unless there is nothing to look at.
    """
    waited = []
    monkeypatch.setattr(top, "records", lambda: found)
    monkeypatch.setattr(top, "read_all", lambda of: [(one, reading()) for one in of])
    monkeypatch.setattr(top.time, "sleep", waited.append)
    top._print(2.0, rounds, "cpu", as_json=True)

    assert slept == waited
    assert [len(found)] * rounds == [len(json.loads(line)) for line in capfd.readouterr().out.splitlines()]
