"""
Samples of a run, in columns. `jail.timeline`.
"""

import json
import math
from itertools import pairwise

import pytest

import jail
from jail.timeline import MAX_SAMPLES, Timeline


def filled(*samples, **options):
    """
    A timeline with these samples.
    """
    timeline = Timeline(0.5, **options)
    for sample in samples:
        timeline.add(*sample)
    return timeline


SAMPLES = [(0.5, 10, 0.25, 1), (1.0, 30, 0.5, 3), (1.5, 20, 0.75, 2), (2.0, 5, 1.0, 1)]


def test_report_columns():
    """
    What was added stands in four columns of equal length.
    """
    timeline = filled(*SAMPLES)

    assert 4 == len(timeline)
    assert {
        "seconds": [0.5, 1.0, 1.5, 2.0],
        "memory_bytes": [10, 30, 20, 5],
        "cpu_seconds": [0.25, 0.5, 0.75, 1.0],
        "processes": [1, 3, 2, 1],
    } == {name: list(column) for name, column in timeline.columns().items()}


def test_report_columns_as_buffers():
    """
    Each column is a buffer of C doubles or of 64-bit integers: what numpy and pandas take without a copy.
    """
    views = {name: memoryview(column) for name, column in filled(*SAMPLES).columns().items()}

    assert {"seconds": "d", "memory_bytes": "q", "cpu_seconds": "d", "processes": "q"} == {
        name: view.format for name, view in views.items()
    }
    assert {(8, True, (4,))} == {(view.itemsize, view.contiguous, view.shape) for view in views.values()}


def test_report_columns_are_a_copy():
    """
    Whoever holds the columns, or a view of one, keeps what is there; more can be added meanwhile.
    """
    timeline = filled(*SAMPLES)
    columns = timeline.columns()
    with memoryview(columns["seconds"]):
        timeline.add(2.5, 1, 1.25, 1)

    assert (4, 5) == (len(columns["seconds"]), len(timeline))


def test_report_halves_when_full():
    """
    A full one makes one sample of every two: the later time and processor time, the larger memory and processes.
    """
    timeline = filled(*SAMPLES, (2.5, 7, 1.5, 4), samples_max=4)

    assert {
        "interval_seconds": 1.0,
        "seconds": [1.0, 2.0, 2.5],
        "memory_bytes": [30, 20, 7],
        "cpu_seconds": [0.5, 1.0, 1.5],
        "processes": [3, 2, 4],
    } == timeline.as_dict()


@pytest.mark.parametrize("is_obeyed", [True, False], ids=["as_it_says", "as_at_first"])
def test_report_stays_small_and_even(is_obeyed):
    """
    However long a program runs, no more than `MAX_SAMPLES` are kept, and they stand evenly: whether samples come as
    often as it says, or as often as at first.
    """
    timeline, second = Timeline(1.0), 0.0
    while second < 100_000:
        second += timeline.interval_seconds if is_obeyed else 1.0
        timeline.add(second, int(second), second / 2, 1)

    assert MAX_SAMPLES // 2 <= len(timeline) <= MAX_SAMPLES
    assert 64.0 == timeline.interval_seconds
    assert {64.0} == {later - earlier for earlier, later in pairwise(timeline.seconds[:-1])}
    assert [second, int(second), second / 2] == [column[-1] for column in timeline.columns().values()][:3]


def test_report_merges_what_comes_too_often():
    """
    After it was full, samples that come as often as before become one, with the larger numbers.
    """
    timeline = filled(*SAMPLES, (2.5, 9, 1.5, 4), (2.9, 7, 1.75, 2), samples_max=4)

    assert {
        "interval_seconds": 1.0,
        "seconds": [1.0, 2.0, 2.9],
        "memory_bytes": [30, 20, 9],
        "cpu_seconds": [0.5, 1.0, 1.75],
        "processes": [3, 2, 4],
    } == timeline.as_dict()


@pytest.mark.parametrize(
    ("samples_max", "expected"),
    [(4, [0.5, 1.0, 1.5, 2.0]), (3, [1.0, 2.0]), (2, [1.0, 2.0]), (1, [2.0]), (0, [2.0])],
)
def test_report_thinned(samples_max, expected):
    """
    A thinned copy has at most so many samples, and the original has all of its own.
    """
    timeline = filled(*SAMPLES)

    assert expected == timeline.thinned(samples_max).seconds.tolist()
    assert filled(*SAMPLES) == timeline


def test_report_thinned_odd():
    """
    The last of an odd number is kept as it is.
    """
    assert {
        "interval_seconds": 1.0,
        "seconds": [1.0, 1.5],
        "memory_bytes": [30, 20],
        "cpu_seconds": [0.5, 0.75],
        "processes": [3, 2],
    } == filled(*SAMPLES[:3]).thinned(2).as_dict()


def test_report_json():
    """
    As a dictionary it can be written as JSON.
    """
    assert {"interval_seconds": 0.5, **{name: list(c) for name, c in filled(*SAMPLES).columns().items()}} == (
        json.loads(json.dumps(filled(*SAMPLES).as_dict()))
    )


def test_equality():
    """
    Equal are two with the same interval and samples; nothing else is equal to one.
    """
    assert filled(*SAMPLES) == filled(*SAMPLES)
    assert filled(*SAMPLES) != filled(*SAMPLES[:3])
    assert Timeline(0.5) != Timeline(1.0)
    assert Timeline(0.5) != Timeline(0.5).as_dict()


def test_repr():
    """
    It says how many samples there are, and not each.
    """
    assert "Timeline(interval_seconds=0.5, samples=4)" == repr(filled(*SAMPLES))


@pytest.mark.parametrize("interval", [0, -1.0, math.nan, math.inf])
def test_refuse_interval(interval):
    """
    No time, or no end of it, is nothing to wait for.
    """
    with pytest.raises(jail.PolicyError, match=r"^timeline: the time between two samples"):
        Timeline(interval)


@pytest.mark.parametrize("samples_max", [0, 1, 3, -2])
def test_refuse_odd_maximum(samples_max):
    """
    Every two become one only where there are twos.
    """
    with pytest.raises(ValueError, match="even number"):
        Timeline(1.0, samples_max=samples_max)


@pytest.mark.parametrize("seconds", [1.9, math.nan])
def test_refuse_disorder(seconds):
    """
    A sample that is older than the last is refused, and nothing of it is kept.
    """
    timeline = filled(*SAMPLES)
    with pytest.raises(ValueError, match=r"comes after one at 2\.0"):
        timeline.add(seconds, 1, 1.0, 1)

    assert filled(*SAMPLES) == timeline
