"""
What a run is said to have cost: an event and the figures of a cgroup in, a `Usage` out. `jail.usage`

Figures of real runs are in ``tests/kernel/test_usage.py``.
"""

import json
import pickle
from dataclasses import fields, replace

import pytest

from jail.usage import Ledger, Pressure, Usage, add_up, usage_of
from jail.wire import Event, EventKind

ALONE = "wait4(2), of it and of all that it and its children waited for"
SEEN = "what jail-init saw as it looked"
OPTIONAL = {item.name for item in fields(Usage)} - {
    "wall_seconds", "user_seconds", "system_seconds", "memory_peak_bytes", "output_bytes", "setup", "sources"
}  # fmt: skip

# Each number is another one, so that none can stand for its neighbour.
ENDED = {
    "tasks": 5,
    "started": 9,
    "user_us": 1_500_000,
    "system_us": 250_000,
    "maxrss_kb": 3,
    "minor_faults": 11,
    "major_faults": 12,
    "read_blocks": 13,
    "written_blocks": 14,
    "voluntary": 15,
    "involuntary": 16,
    "memory": 70_000,
    "disk": 17,
    "wall_ns": 2_250_000_000,
}
FIGURES = {
    "user_seconds": (7.0, "cgroup cpu.stat"),
    "memory_peak_bytes": (99, "cgroup memory.peak"),
    "pressure": (Pressure(1.0, 2.0, 3.0), "cgroup *.pressure"),
    "throttled_seconds": (0.5, "cgroup cpu.stat, of all programs meanwhile"),
}


def ended(**changes):
    """
    What `jail-init` says of a program that has ended.
    """
    zeros = dict.fromkeys(Event._fields, 0)
    return Event(**{**zeros, "kind": EventKind.EXITED, **ENDED, **changes})


def cost(figures=None, output_bytes=0, **changes):
    """
    The usage that follows from that.
    """
    return usage_of(ended(**changes), figures or {}, output_bytes)


def test_each_figure_is_its_own_in_its_unit():
    """
    Microseconds, nanoseconds, KiB and blocks of 512 bytes become seconds and bytes; counts stay what they are.
    """
    expected = Usage(
        wall_seconds=2.25,
        user_seconds=1.5,
        system_seconds=0.25,
        memory_peak_bytes=70_000,
        read_bytes=13 * 512,
        written_bytes=14 * 512,
        processes_started=9,
        processes_peak=5,
        voluntary_switches=15,
        involuntary_switches=16,
        minor_faults=11,
        major_faults=12,
        disk_peak_bytes=17,
        output_bytes=18,
    )
    found = cost(output_bytes=18)

    assert expected == replace(found, sources={})
    assert (1.75, 0) == (found.cpu_seconds, found.setup_seconds)


def test_every_figure_has_a_source_and_nothing_else_has():
    """
    What is not known is None, and not among the sources.
    """
    usage = cost()
    known = {name for name, value in usage.as_dict().items() if value is not None}

    assert known - {"setup", "sources", "cpu_seconds", "setup_seconds"} == set(usage.sources)
    assert {"throttled_seconds", "pressure", "network_bytes"} == OPTIONAL - known


@pytest.mark.parametrize(
    ("changes", "name", "value", "source"),
    [
        pytest.param({}, "memory_peak_bytes", 70_000, SEEN, id="memory_of_all"),
        pytest.param(
            {"memory": 0}, "memory_peak_bytes", 3072, "wait4(2), of the largest process", id="memory_of_one"
        ),
        pytest.param(
            {"memory": 3071},
            "memory_peak_bytes",
            3072,
            "wait4(2), of the largest process",
            id="the_larger_memory",
        ),
        pytest.param({}, "processes_peak", 5, SEEN, id="processes_seen"),
        pytest.param({"tasks": 0}, "processes_peak", None, None, id="processes_not_seen"),
        pytest.param({}, "processes_started", 9, "the last pid of its PID namespace", id="started"),
        pytest.param({"started": 0}, "processes_started", None, None, id="started_not_known"),
        pytest.param({}, "disk_peak_bytes", 17, "statfs(2) of the sandbox's tmpfs", id="disk"),
        pytest.param({"disk": 0}, "disk_peak_bytes", None, None, id="no_disk_of_its_own"),
        pytest.param({}, "user_seconds", 1.5, ALONE, id="user"),
        pytest.param({"read_blocks": 0}, "read_bytes", 0, ALONE, id="nothing_read_is_known"),
        pytest.param({}, "wall_seconds", 2.25, "clock_gettime(2), by jail-init", id="wall"),
        pytest.param({}, "output_bytes", 0, "what the harness read", id="output"),
    ],
)
def test_a_source_is_that_of_the_figure(changes, name, value, source):
    """
    Of two that know something the one whose figure it is, and none for what nobody has seen.
    """
    usage = cost(**changes)

    assert (value, source) == (getattr(usage, name), usage.sources.get(name))


def test_a_cgroup_has_the_last_word():
    """
    Its figures are of all that was started, so they win, smaller ones too; what it does not say stays.
    """
    usage = cost(FIGURES)
    plain = cost()

    for name, (value, source) in FIGURES.items():
        assert (value, source) == (getattr(usage, name), usage.sources[name])
    assert plain == replace(usage, **{name: getattr(plain, name) for name in FIGURES}, sources=plain.sources)
    assert {name: plain.sources[name] for name in plain.sources.keys() - FIGURES} == {
        name: source for name, source in usage.sources.items() if name not in FIGURES
    }


def test_sources_of_one_run_are_not_those_of_another():
    """
    A run with a cgroup changes nothing of what is said of the runs without.
    """
    before = dict(cost().sources)
    cost(FIGURES)

    assert before == cost().sources


def test_setting_up_is_of_the_run_that_it_was_for():
    """
    The phases, and their sum.
    """
    usage = usage_of(ended(), {}, 0, {"plan": 0.25, "spawn": 0.5})

    assert ({"plan": 0.25, "spawn": 0.5}, 0.75) == (usage.setup, usage.setup_seconds)


def test_usage_is_plain():
    """
    It goes into JSON and to another process, and says no source where it is printed.
    """
    usage = cost(FIGURES)
    document = json.loads(json.dumps(usage.as_dict()))

    assert {"cpu_seconds": 1.0, "memory_seconds": 2.0, "io_seconds": 3.0} == document["pressure"]
    assert (7.25, 0) == (document["cpu_seconds"], document["setup_seconds"])
    assert {item.name for item in fields(Usage)} | {"cpu_seconds", "setup_seconds"} == document.keys()
    assert usage == pickle.loads(pickle.dumps(usage))
    assert "cgroup" not in repr(usage)


# Together.


def test_sums_are_added_and_peaks_are_not():
    """
    Times and counts are sums; of what was there at once the most counts.
    """
    one, two = (
        cost(output_bytes=1),
        cost(output_bytes=10, memory=80_000, tasks=2, disk=0, wall_ns=1_000_000_000),
    )
    total = add_up([one, two])
    expected = Usage(
        wall_seconds=3.25,
        user_seconds=3.0,
        system_seconds=0.5,
        memory_peak_bytes=80_000,
        read_bytes=26 * 512,
        written_bytes=28 * 512,
        processes_started=18,
        processes_peak=5,
        voluntary_switches=30,
        involuntary_switches=32,
        minor_faults=22,
        major_faults=24,
        disk_peak_bytes=17,
        output_bytes=11,
    )

    assert expected == replace(total, sources={})


def test_a_sum_without_one_of_its_parts_is_unknown():
    """
    It would be a guess; a peak is that of those that know theirs.
    """
    total = add_up([cost(), cost(started=0, tasks=0)])

    assert (None, 5) == (total.processes_started, total.processes_peak)
    assert {"its programs that have ended, together"} == set(total.sources.values())
    assert "processes_started" not in total.sources
    assert None is add_up([cost(tasks=0), cost(tasks=0)]).processes_peak


@pytest.mark.parametrize("figures", [{}, FIGURES], ids=["alone", "cgroup"])
def test_what_nobody_counts_is_unknown_together_too(figures):
    """
    None of several runs, and of no run at all.
    """
    for usages in ([], [cost(figures)], [cost(figures)] * 3):
        total = add_up(usages)
        assert (None, None) == (total.network_bytes, total.pressure)
        known = {name for name, value in total.as_dict().items() if value is not None}
        assert known - {"setup", "sources", "cpu_seconds", "setup_seconds"} == set(total.sources)


def test_nothing_has_cost_nothing():
    """
    Before the first program has ended.
    """
    total = add_up([])

    assert (0, 0, 0, 0) == (
        total.cpu_seconds,
        total.memory_peak_bytes,
        total.output_bytes,
        total.setup_seconds,
    )
    assert (None, None) == (total.processes_peak, total.disk_peak_bytes)


def test_setting_up_is_counted_once():
    """
    It is in the run that it was for.
    """
    first = usage_of(ended(), {}, 0, {"plan": 0.25})

    assert {"plan": 0.25} == add_up([cost(), first, cost()]).setup


# A sandbox.


def test_a_ledger_is_the_sum_of_its_runs():
    """
    However many there were, its size is bounded, and the total is as if all had been kept.
    """
    ledger, usages = Ledger(), [cost(output_bytes=number, memory=number) for number in range(1000)]
    for usage in usages:
        ledger.add(usage)
    total = ledger.total(5.0, {})
    expected = add_up(usages)

    assert replace(expected, wall_seconds=5.0, sources={}) == replace(total, sources={})
    assert len(ledger._usages) < 256
    assert total.sources["wall_seconds"] == "since the sandbox was made"
    assert {**expected.sources, "wall_seconds": total.sources["wall_seconds"]} == total.sources


def test_a_ledger_has_a_cgroup_say_what_still_runs():
    """
    Its figures are of all programs, ended or not.
    """
    ledger = Ledger()
    ledger.add(cost())
    total = ledger.total(5.0, FIGURES)

    assert (7.0, 99, 5.0) == (total.user_seconds, total.memory_peak_bytes, total.wall_seconds)
    assert "cgroup cpu.stat" == total.sources["user_seconds"]
    assert 9 == total.processes_started


def test_a_total_changes_nothing():
    """
    Asked twice it is the same.
    """
    ledger = Ledger()
    ledger.add(cost())

    assert ledger.total(1.0, FIGURES) == ledger.total(1.0, FIGURES)
    assert 1.5 == ledger.total(1.0, {}).user_seconds
