"""
Who keeps a limit, and what he is told of it. `jail.limits`

What becomes of it in a plan, on each kind of host, is in ``test_plan.py``.
"""

import dataclasses

import pytest

from jail.guarantee import Strength
from jail.limits import (
    UNBOUNDED,
    Bounds,
    Keeper,
    Keepers,
    bounds_of,
    choose_keepers,
    limit_ops,
    rlimit_ops,
    watch_op,
)
from jail.ops import Op, OpKind, ProcPlace
from jail.policy import Policy
from unit import hosts

NOBODY = Keepers(None, None, None, None)
WATCHED = dataclasses.replace(NOBODY, memory=Keeper.WATCH, processes=Keeper.WATCH)
BY_CGROUP = Keepers(*[Keeper.CGROUP] * 4)
# getrlimit(2): python -c 'import resource; print(resource.RLIMIT_DATA)' and so on
CPU, FSIZE, DATA, CORE, NPROC, NOFILE = 0, 1, 2, 4, 6, 7
LARGE = (1 << 63) - 1


def rlimits(keepers=NOBODY, host=hosts.FULL, **fields):
    """
    What a program carries for such a policy: resource -> limit.
    """
    ops = list(rlimit_ops(Policy(**fields), host, keepers))
    assert {OpKind.RLIMIT} == {op.kind for op in ops}
    assert [] == [op for op in ops if op.args[1] != op.args[2]]
    assert len(ops) == len({op.args[0] for op in ops})
    return {op.args[0]: op.args[1] for op in ops}


def test_only_the_watcher_is_not_the_kernel():
    """
    What jail-init keeps is supervised; all other keepers are the kernel's means.
    """
    assert {Keeper.WATCH: Strength.SUPERVISED} == {
        keeper: keeper.strength for keeper in Keeper if keeper.strength is not Strength.KERNEL
    }


def test_bounds_are_those_of_the_policy():
    """
    Each field under its name; what the sandbox has for a disk is said beside it.
    """
    policy = Policy(memory=1, processes=2, cpus=3, cpu_seconds=4, output=5, wall=6, disk=7, inodes=64)

    assert Bounds(1, 2, 3.0, 4.0, 5, 6.0, 8, 9) == bounds_of(policy, (8, 9))
    assert Bounds(1, 2, 3.0, 4.0, 5, 6.0, None, None) == bounds_of(policy)
    assert UNBOUNDED == bounds_of(Policy()) == Bounds()


@pytest.mark.parametrize("field", dataclasses.fields(Bounds), ids=lambda field: field.name)
def test_bounds_are_fields_of_a_policy(field):
    """
    What a program may have is called the same wherever it is said.
    """
    assert hasattr(Policy(), field.name)


@pytest.mark.parametrize("userns", [True, False])
@pytest.mark.parametrize(("uid", "binds"), [(0, False), (1, True), (1000, True)])
def test_processes_are_the_kernels_in_a_user_namespace(uid, binds, userns):
    """
    RLIMIT_NPROC counts for a user in a namespace, and does not bind who is root outside of it.
    """
    host = dataclasses.replace(hosts.FULL, uid=uid)
    expected = Keeper.RLIMIT if userns and binds else Keeper.WATCH

    assert expected is choose_keepers(Policy(), host, userns=userns).processes
    strict = choose_keepers(Policy(strict=True), host, userns=userns).processes
    assert (None if expected is Keeper.WATCH else expected) is strict


@pytest.mark.parametrize(
    ("cpus", "keeper"),
    [
        (None, None),
        (0.5, None),
        (1, Keeper.AFFINITY),
        (1.5, None),
        (2.0, Keeper.AFFINITY),
        (8192, Keeper.AFFINITY),
    ],
)
def test_whole_processors_are_kept_by_affinity(cpus, keeper):
    """
    Without a cgroup: a part of one is nobody's to keep.
    """
    assert keeper is choose_keepers(Policy(cpus=cpus), hosts.FULL, userns=True).cpus
    assert Keeper.CGROUP is choose_keepers(Policy(cpus=cpus), hosts.CGROUP, userns=True).cpus


def test_controllers_without_the_feature_are_none():
    """
    A directory in which no program can be started keeps nothing: it takes clone3(2).
    """
    host = dataclasses.replace(hosts.CGROUP, features=hosts.CGROUP.features - {"cgroup"})

    assert choose_keepers(Policy(cpus=1), hosts.FULL, userns=True) == choose_keepers(
        Policy(cpus=1), host, userns=True
    )


def test_no_core_is_left_by_default():
    """
    1 and not 0: where core_pattern is a pipe a limit of 0 is no limit, and 1 is none at all. core(5)
    """
    assert {CORE: 1} == rlimits()
    assert {CORE: 4096} == rlimits(core=4096)


@pytest.mark.parametrize(
    ("fields", "keepers", "expected"),
    [
        pytest.param({"file_size": 0}, NOBODY, {FSIZE: 0}, id="file_size"),
        pytest.param({"open_files": 3}, NOBODY, {NOFILE: 3}, id="open_files"),
        pytest.param({"cpu_seconds": 0.01}, NOBODY, {CPU: 2}, id="least_time"),
        pytest.param({"cpu_seconds": 1.99}, NOBODY, {CPU: 3}, id="time"),
        pytest.param({"memory": 5}, WATCHED, {DATA: 10 + (4 << 30)}, id="memory_that_is_watched"),
        pytest.param({"memory": 5}, BY_CGROUP, {}, id="memory_of_a_cgroup"),
        pytest.param({"memory": 5}, NOBODY, {}, id="memory_of_nobody"),
        pytest.param({"processes": 5}, WATCHED, {}, id="processes_that_are_watched"),
        pytest.param({"processes": 5}, BY_CGROUP, {}, id="processes_of_a_cgroup"),
        pytest.param(
            {"processes": 5}, dataclasses.replace(NOBODY, processes=Keeper.RLIMIT), {NPROC: 7}, id="processes"
        ),
        pytest.param({}, WATCHED, {}, id="nothing_to_watch"),
        pytest.param({}, dataclasses.replace(NOBODY, processes=Keeper.RLIMIT), {}, id="nothing_to_count"),
    ],
)
def test_rlimits(fields, keepers, expected):
    """
    Those of a process alone always, those that stand for a sum where they keep it or stand behind who does.
    """
    assert {CORE: 1, **expected} == rlimits(keepers, **fields)


@pytest.mark.parametrize(
    ("hard", "expected"),
    [({}, 100), ({NOFILE: 99}, 99), ({NOFILE: 101}, 100), ({FSIZE: 1}, 100), ({NOFILE: 0}, 0)],
)
def test_rlimits_are_within_those_of_the_caller(hard, expected):
    """
    More than he has he cannot give, and less he does.
    """
    assert expected == rlimits(host=dataclasses.replace(hosts.FULL, hard_limits=hard), open_files=100)[NOFILE]


def test_rlimit_of_memory_grows_with_the_machine():
    """
    A runtime maps a part of it, however little it uses.
    """
    host = dataclasses.replace(hosts.FULL, memory_bytes=1 << 40)

    assert 10 + (32 << 30) == rlimits(WATCHED, host, memory=5)[DATA]


@pytest.mark.parametrize("memory", [LARGE, LARGE // 2, LARGE // 2 - (1 << 31)])
def test_rlimits_of_the_largest_memory_are_in_range(memory):
    """
    An op's argument has 64 bits, and a limit is none at RLIM_INFINITY, the last number of them.
    """
    assert memory < rlimits(WATCHED, memory=memory)[DATA] + 1 <= LARGE + 1


@pytest.mark.parametrize(
    ("keepers", "expected"),
    [
        pytest.param(WATCHED, (7, 5, 0), id="watched"),
        pytest.param(BY_CGROUP, (0, 0, 0), id="cgroup"),
        pytest.param(NOBODY, (0, 0, 0), id="nobody"),
        pytest.param(dataclasses.replace(WATCHED, processes=Keeper.RLIMIT), (7, 0, 5), id="noticed"),
    ],
)
def test_a_watcher_is_told_what_is_his(keepers, expected):
    """
    Memory, processes, and the number at which to notice that the kernel refuses more; 0 is no limit.
    """
    op = watch_op(Policy(memory=7, processes=5), hosts.FULL, keepers, tree=True)

    assert (OpKind.WATCH, "/proc", expected) == (op.kind, op.path, op.args[:3])
    assert (0, 0, 0) == watch_op(Policy(), hosts.FULL, keepers, tree=True).args[:3]


@pytest.mark.parametrize(
    ("host", "tree", "place"),
    [
        (hosts.FULL, True, ProcPlace.INSIDE),
        (hosts.FULL, False, ProcPlace.OUTSIDE),
        (hosts.MASKED_PROC, True, ProcPlace.OUTSIDE),
        (hosts.MASKED_PROC, False, ProcPlace.OUTSIDE),
    ],
)
def test_a_watcher_looks_at_the_proc_that_there_is(host, tree, place):
    """
    The sandbox's own, in a tree of its own, where one can be mounted.
    """
    assert place == watch_op(Policy(), host, WATCHED, tree=tree).args[3]


def test_limits_of_jail_init():
    """
    Whole processors where affinity keeps them; a life in nanoseconds, of which 0 is none.
    """
    by_affinity = dataclasses.replace(NOBODY, cpus=Keeper.AFFINITY)

    assert [] == list(limit_ops(Policy(), by_affinity))
    assert [Op(OpKind.PROCESSORS, args=(3,))] == list(limit_ops(Policy(cpus=3), by_affinity))
    assert [] == list(limit_ops(Policy(cpus=3), BY_CGROUP)) == list(limit_ops(Policy(cpus=0.5), NOBODY))
    assert [Op(OpKind.LIFETIME, args=(1, 0))] == list(limit_ops(Policy(wall=1e-9), NOBODY))
    assert [Op(OpKind.LIFETIME, args=(0, 1_500_000_000))] == list(limit_ops(Policy(idle=1.5), NOBODY))


def test_the_longest_life_is_in_range():
    """
    292 years, which the clock can be added to: both together are less than 64 bits.
    """
    longest = Policy(wall=LARGE // 10**9, idle=LARGE // 10**9)
    (op,) = limit_ops(longest, NOBODY)

    assert all(0 < nanoseconds <= LARGE for nanoseconds in op.args)
