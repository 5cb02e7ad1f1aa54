"""
How a program ended, and why, from what `jail-init` and its cgroup say of it. `jail.outcome`, `jail.execution`
"""

import itertools
import pickle
import signal

import pytest

import jail
from jail.command import Exec
from jail.errors import JailError
from jail.execution import Execution
from jail.limits import UNBOUNDED, Bounds
from jail.outcome import (
    CpuTimeExceeded,
    DiskFull,
    Exited,
    Killed,
    OutOfMemory,
    OutputLimit,
    ProcessLimit,
    Signalled,
    TimedOut,
    outcome_of,
)
from jail.wire import End, Event, EventKind, Hit

KILLED, XCPU, SEGV = int(signal.SIGKILL), int(signal.SIGXCPU), int(signal.SIGSEGV)
CODE_3 = 3 << 8
BOUNDS = Bounds(memory=1 << 20, processes=4, cpu_seconds=2.0, output=100, wall=9.0, disk=1 << 20, inodes=64)

OUTCOMES = [
    (Exited(0), 0, "exited with 0"),
    (Exited(255), 255, "exited with 255"),
    (Signalled(9), 137, "ended by SIGKILL"),
    (Signalled(11, core_dumped=True), 139, "ended by SIGSEGV"),
    (Signalled(63), 191, "ended by signal 63"),
    (TimedOut(1.5), 124, "timed out after 1.5 seconds (timeout)"),
    (TimedOut(60.0, "wall"), 124, "timed out after 60 seconds (wall)"),
    (OutOfMemory(100 << 20, 105 << 20), 137, "out of memory: 105.0 MiB of 100.0 MiB (memory)"),
    (CpuTimeExceeded(2.0, 2.0625), 152, "out of processor time: used 2.06 of 2 seconds (cpu_seconds)"),
    (OutputLimit(1 << 20), 153, "wrote more than 1M of output (output)"),
    (ProcessLimit(20, 23), 137, "reached 20 processes and threads, 23 at the peak (processes)"),
    (Killed(), 137, "killed by the caller"),
]
EVENTS = [
    (ProcessLimit(20, 20), "reached 20 processes and threads, 20 at the peak (processes)"),
    (DiskFull(2 << 20, 1 << 20), "no space: 1.0 MiB of 2.0 MiB (disk)"),
    (DiskFull(500, 500, "inodes"), "no space: all 500 inodes are used (inodes)"),
]


@pytest.mark.parametrize(("outcome", "code", "sentence"), OUTCOMES, ids=lambda value: type(value).__name__)
def test_outcome_has_a_code_and_a_sentence(outcome, code, sentence):
    """
    The code is what a shell, timeout(1) and docker-run(1) have for it; the sentence names the field.
    """
    assert (code, sentence) == (outcome.exit_code, str(outcome))


@pytest.mark.parametrize(("event", "sentence"), EVENTS)
def test_event_has_a_sentence(event, sentence):
    """
    It names the field, too.
    """
    assert sentence == str(event)


@pytest.mark.parametrize("value", [*(row[0] for row in OUTCOMES), *(row[0] for row in EVENTS)], ids=repr)
def test_outcome_is_plain(value):
    """
    Frozen, hashable, equal by value, and the same in another process.
    """
    assert value == pickle.loads(pickle.dumps(value))
    assert 1 == len({value, pickle.loads(pickle.dumps(value))})
    assert not hasattr(value, "__dict__")


def test_all_are_public():
    """
    Each class of an outcome or event is the package's, by its own name.
    """
    kinds = {type(row[0]) for row in (*OUTCOMES, *EVENTS)}

    assert kinds == {getattr(jail, kind.__name__) for kind in kinds}
    assert kinds == set(jail.outcome.Outcome.__args__) | set(jail.outcome.Event.__args__)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Exited(0)),
        (0xFF00, Exited(255)),
        (9, Signalled(9)),
        (0x80 | 11, Signalled(11, core_dumped=True)),
        (64, Signalled(64)),
    ],
)
def test_outcome_of_a_status(status, expected):
    """
    The eight bits of exit(3), or the seven of a signal and the one of a core dump. wait(2)
    """
    assert expected == outcome_of(status)


# Why.


def exited(status=KILLED, end=End.NONE, hits=0, **fields):
    zeros = dict.fromkeys(Event._fields, 0)
    return Event(**{**zeros, "kind": EventKind.EXITED, "status": status, "end": end, "hits": hits, **fields})


def execution(bounds=BOUNDS, timeout=5.0):
    return Execution(Exec(args=["p"], env={}, directory="/", timeout=timeout, bounds=bounds))


def outcome(event, bounds=BOUNDS, *, oom_kills=0, figures=None):
    one = execution(bounds)
    one.oom_kills = oom_kills
    if figures:
        one.figures = figures
    one.take(event)
    return one.outcome


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(exited(0), Exited(0), id="nothing"),
        pytest.param(exited(), Signalled(9), id="a_signal_of_its_own"),
        pytest.param(exited(end=End.TIME), TimedOut(5.0), id="timeout"),
        pytest.param(exited(end=End.WALL), TimedOut(9.0, "wall"), id="wall"),
        # Who is told by SIGTERM that his time is over may end in order.
        pytest.param(exited(0, end=End.TIME), TimedOut(5.0), id="timeout_in_order"),
        pytest.param(exited(end=End.MEMORY, memory=3 << 20), OutOfMemory(1 << 20, 3 << 20), id="memory"),
        pytest.param(exited(end=End.CPU, user_us=2_500_000), CpuTimeExceeded(2.0, 2.5), id="cpu"),
        # The watcher has seen what wait4(2) does not know of.
        pytest.param(exited(end=End.CPU, user_us=500_000), CpuTimeExceeded(2.0, 2.0), id="cpu_of_children"),
        pytest.param(exited(end=End.TASKS, tasks=7), ProcessLimit(4, 7), id="tasks"),
        pytest.param(
            exited(XCPU, user_us=1_500_000, system_us=500_000), CpuTimeExceeded(2.0, 2.0), id="rlimit_cpu"
        ),
        pytest.param(exited(XCPU, user_us=1_999_999), Signalled(XCPU), id="sigxcpu_of_its_own"),
        # It ended by itself before it was ended.
        pytest.param(exited(CODE_3, end=End.MEMORY), Exited(3), id="before_memory"),
        pytest.param(exited(CODE_3, end=End.CPU), Exited(3), id="before_cpu"),
        pytest.param(exited(CODE_3, end=End.TASKS), Exited(3), id="before_tasks"),
        pytest.param(exited(SEGV, end=End.MEMORY), Signalled(SEGV), id="another_signal"),
    ],
)
def test_a_limit_is_why_it_was_ended(event, expected):
    """
    The limit that `jail-init` ended it for, if it did: a signal alone says nothing.
    """
    assert expected == outcome(event)


@pytest.mark.parametrize("end", [End.MEMORY, End.CPU, End.TASKS])
def test_a_limit_that_is_not_there_is_not_why(end):
    """
    The control: without limits a SIGKILL is one.
    """
    assert Signalled(9) == outcome(exited(end=end, user_us=10**9), UNBOUNDED)
    assert Signalled(XCPU) == outcome(exited(XCPU, user_us=10**9), UNBOUNDED)


def test_one_limit_is_not_another():
    """
    Nor is a limit that is there why it was ended for one that is not.
    """
    alone = {
        End.MEMORY: Bounds(memory=1),
        End.CPU: Bounds(cpu_seconds=1.0),
        End.TASKS: Bounds(processes=1),
    }

    for (end, _), (other, bounds) in itertools.product(alone.items(), alone.items()):
        assert (outcome(exited(end=end), bounds) == Signalled(9)) == (end is not other)


@pytest.mark.parametrize(
    ("event", "kills", "expected"),
    [
        pytest.param(exited(), 1, OutOfMemory(1 << 20, 99), id="killed_by_the_kernel"),
        pytest.param(exited(), 0, Signalled(9), id="killed_otherwise"),
        pytest.param(exited(0), 1, Exited(0), id="a_child_was"),
        pytest.param(exited(SEGV), 1, Signalled(SEGV), id="another_signal"),
        pytest.param(exited(end=End.TIME), 1, TimedOut(5.0), id="out_of_time_as_well"),
    ],
)
def test_a_cgroup_says_that_it_was_memory(event, kills, expected):
    """
    Where the kernel kills, `jail-init` has ended nothing: memory.events knows, and the peak is the cgroup's.
    """
    figures = {"memory_peak_bytes": (99, "cgroup memory.peak")}

    assert expected == outcome(event, oom_kills=kills, figures=figures)


def test_who_kills_it_is_why_it_ended():
    """
    The caller; or the harness for what it wrote.
    """
    for wrote, expected in ((b"x" * 100, Killed()), (b"x" * 101, OutputLimit(100))):
        one = execution()
        one.stdout.take(wrote)
        one.claim()
        assert None is one.outcome
        one.take(exited())
        assert expected == one.outcome


@pytest.mark.parametrize("status", [0, CODE_3, SEGV, KILLED])
def test_who_wrote_too_much_and_ended_has(status):
    """
    It is one outcome, whether it was ended before it ended by itself or not; but for what it was ended for otherwise.
    """
    for end, expected in ((End.NONE, OutputLimit(100)), (End.TIME, TimedOut(5.0))):
        one = execution()
        one.take(exited(status, end=end))
        one.stdout.take(b"x" * 101)
        assert expected == one.outcome
    one = execution()
    one.take(exited(end=End.MEMORY))
    one.stdout.take(b"x" * 101)
    assert OutOfMemory(1 << 20, 0) == one.outcome


def test_output_is_that_of_both_streams():
    """
    Together they may be as long as the limit, and no longer.
    """
    one = execution()
    one.stdout.take(b"x" * 60)
    one.stderr.take(b"x" * 40)
    assert not one.writes_too_much
    one.stderr.take(b"x")
    assert one.writes_too_much
    assert not execution(UNBOUNDED).writes_too_much


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda one: one.claim(), Signalled(9), id="killed_too_late"),
        pytest.param(lambda one: one.lose(), Signalled(9), id="lost_too_late"),
    ],
)
def test_an_end_stays_what_it_was(act, expected):
    """
    What comes after its end was not its cause.
    """
    one = execution()
    one.take(exited())
    act(one)

    assert expected == one.outcome


def test_a_kill_that_did_not_end_it():
    """
    It had ended by itself meanwhile.
    """
    one = execution()
    one.claim()
    one.take(exited(CODE_3))

    assert Exited(3) == one.outcome


def test_lost_with_its_sandbox():
    """
    Nobody was left to say how: it was killed, and there is no result.
    """
    one = execution()
    one.lose()

    assert (True, Killed(), None, ()) == (one.has_ended, one.outcome, one.usage, one.events)
    with pytest.raises(JailError, match="p ended with its sandbox: there is no result"):
        one.result()


def test_no_result_while_it_runs():
    """
    Nor an outcome, a usage or an event.
    """
    one = execution()
    one.take(Event(EventKind.STARTED, 1, 3, -1, 0, 0, pid=7))

    assert (7, True, False, None, None, ()) == (
        one.pid, one.is_started, one.has_ended, one.outcome, one.usage, one.events
    )  # fmt: skip
    with pytest.raises(JailError, match="p has not ended yet: there is no result"):
        one.result()


# Events.


@pytest.mark.parametrize(
    ("hits", "refused", "expected"),
    [
        pytest.param(Hit(0), 0, (), id="none"),
        pytest.param(Hit.TASKS, 0, (ProcessLimit(4, 3),), id="processes_by_rlimit"),
        pytest.param(Hit(0), 2, (ProcessLimit(4, 3),), id="processes_by_cgroup"),
        pytest.param(Hit.BYTES, 0, (DiskFull(1 << 20, 77),), id="bytes"),
        pytest.param(Hit.INODES, 0, (DiskFull(64, 64, "inodes"),), id="inodes"),
        pytest.param(
            Hit.TASKS | Hit.BYTES | Hit.INODES,
            1,
            (ProcessLimit(4, 3), DiskFull(1 << 20, 77), DiskFull(64, 64, "inodes")),
            id="all",
        ),
    ],
)
def test_limits_that_it_came_up_against(hits, refused, expected):
    """
    They ended nothing: the outcome is what it was.
    """
    one = execution()
    one.refused_forks = refused
    one.take(exited(CODE_3, hits=int(hits), tasks=3, disk=77))

    assert (expected, Exited(3)) == (one.events, one.outcome)


def test_limits_that_are_not_there_are_not_met():
    """
    The control: a full disk without a limit is the host's.
    """
    one = execution(UNBOUNDED)
    one.refused_forks = 9
    one.take(exited(0, hits=int(Hit.TASKS | Hit.BYTES | Hit.INODES)))

    assert () == one.events


def test_a_peak_of_processes_is_at_most_the_limit():
    """
    pids.peak counts those that were refused.
    """
    one = execution()
    one.refused_forks, one.figures = 1, {"processes_peak": (9, "cgroup pids.peak")}
    one.take(exited(0, tasks=2))

    assert (ProcessLimit(4, 4),) == one.events


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("status", [0, CODE_3, KILLED, XCPU, SEGV, 0x80 | SEGV])
def test_every_end_has_an_outcome(end, status):
    """
    Whatever is said, with limits and without, with a cgroup and without.
    """
    for bounds, kills in itertools.product((BOUNDS, UNBOUNDED), (0, 1)):
        found = outcome(exited(status, end=end), bounds, oom_kills=kills)
        assert isinstance(found.exit_code, int)
        assert str(found)


def test_a_sample_is_of_its_cgroup_or_as_jail_init_saw_it():
    """
    With a timeline samples are kept, of whichever knows; without one they are not.
    """
    sample = Event(EventKind.SAMPLE, 1, 0, 0, 0, 0, wall_ns=2_000_000_000, memory=5, user_us=500_000, tasks=3)
    one = Execution(Exec(args=["p"], env={}, directory="/", timeline=1.0))
    one.take(sample)
    one.take(sample._replace(wall_ns=4_000_000_000), (6, 0.75, 4))

    assert [2.0, 4.0] == list(one.timeline.seconds)
    assert [5, 6] == list(one.timeline.memory_bytes)
    assert [3, 4] == list(one.timeline.processes)
    plain = execution()
    plain.take(sample)
    assert None is plain.timeline
