"""
What holds for the samples of every run. `jail.timeline`.
"""

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from jail.timeline import Timeline

COUNTS = st.integers(min_value=0, max_value=2**63 - 1)
STEPS = st.floats(min_value=0, max_value=1e6)
MAXIMA = st.integers(min_value=1, max_value=20).map(lambda half: 2 * half)


@st.composite
def runs(draw, steps=STEPS):
    """
    Samples in their order: neither time nor processor time goes back.
    """
    rows = draw(st.lists(st.tuples(steps, COUNTS, STEPS, COUNTS), min_size=1, max_size=150))
    waits, memory, work, processes = zip(*rows, strict=True)
    return list(zip(accumulate(waits), memory, accumulate(work), processes, strict=True))


def sampled(run, samples_max):
    """
    The timeline of a run.
    """
    timeline = Timeline(1.0, samples_max=samples_max)
    for sample in run:
        timeline.add(*sample)
    return timeline


@given(run=runs(), samples_max=MAXIMA)
def test_bounded(run, samples_max):
    """
    No more are kept than asked for, and all where there is room; each column has as many.
    """
    timeline = sampled(run, samples_max)

    assert len(timeline) <= samples_max
    assert len(run) == len(timeline) or len(run) >= samples_max
    assert {len(timeline)} == {len(column) for column in timeline.columns().values()}


@given(run=runs(), samples_max=MAXIMA)
def test_peaks_are_kept(run, samples_max):
    """
    The largest memory and the largest number of processes are there, and the last time and processor time.
    """
    timeline = sampled(run, samples_max)
    seconds, memory, work, processes = zip(*run, strict=True)

    assert (max(memory), max(processes)) == (max(timeline.memory_bytes), max(timeline.processes))
    assert (seconds[-1], work[-1]) == (timeline.seconds[-1], timeline.cpu_seconds[-1])


@given(run=runs(steps=st.integers(min_value=1, max_value=1000)), samples_max=MAXIMA)
def test_peaks_are_in_their_place(run, samples_max):
    """
    Each sample has the largest numbers of all that were taken after the one before it.
    """
    timeline = sampled(run, samples_max)

    for earlier, later, memory, processes in zip(
        [-1.0, *timeline.seconds], timeline.seconds, timeline.memory_bytes, timeline.processes, strict=False
    ):
        merged = [row for row in run if earlier < row[0] <= later]
        assert (max(row[1] for row in merged), max(row[3] for row in merged)) == (memory, processes)


@given(run=runs(), samples_max=MAXIMA)
def test_time_goes_on(run, samples_max):
    """
    Neither time nor processor time goes back, and both are some sample's own.
    """
    timeline = sampled(run, samples_max)

    for column, given_ones in (
        (timeline.seconds, {row[0] for row in run}),
        (timeline.cpu_seconds, {row[2] for row in run}),
    ):
        assert all(earlier <= later for earlier, later in pairwise(column))
        assert set(column) <= given_ones


@given(run=runs(), samples_max=MAXIMA, fewer=st.integers(min_value=1, max_value=30))
def test_thinned_keeps_peaks(run, samples_max, fewer):
    """
    A thinned copy has the same peaks and the same end.
    """
    timeline = sampled(run, samples_max)
    thin = timeline.thinned(fewer)

    assert len(thin) <= fewer
    assert max(timeline.memory_bytes) == max(thin.memory_bytes)
    assert timeline.seconds[-1] == thin.seconds[-1]
