"""
One program never has more than its sandbox: `jail.tighten`, for any limits on any host.
"""

import dataclasses

from hypothesis import assume, example, given
from hypothesis import strategies as st

from jail.errors import PolicyError, UnsupportedError
from jail.guarantee import GUARANTEES, Strength
from jail.limits import UNBOUNDED, Keeper
from jail.ops import OpKind
from jail.plan import compile_plan, keepers_of
from jail.policy import Policy
from jail.tighten import compile_tightening, tighter_policy
from jail.units import MAX_BYTES, MAX_CPUS, MAX_SECONDS
from jail.view import View
from unit import hosts

sizes = st.integers(1, 9) | st.integers(1, MAX_BYTES)
LIMITS = {
    "memory": sizes,
    "cpus": st.integers(1, 9).map(float) | st.floats(0.01, MAX_CPUS),
    "cpu_seconds": st.integers(1, 9).map(float) | st.floats(0.01, MAX_SECONDS),
    "processes": st.integers(1, 9) | st.integers(1, 2**22),
    "open_files": st.integers(1, 9) | st.integers(1, 2**31 - 1),
    "file_size": sizes | st.just(0),
    "output": sizes | st.just(0),
}
OF_THE_SUM = {"memory": "memory", "cpus": "cpu", "processes": "pids"}  # field -> guarantee
BOUNDED = set(dataclasses.asdict(UNBOUNDED))
NOWHERE = View()

given_limits = st.fixed_dictionaries({}, optional=LIMITS)
asked_limits = st.fixed_dictionaries({}, optional={key: st.none() | values for key, values in LIMITS.items()})
waivers = st.lists(st.sampled_from(sorted(GUARANTEES)), unique=True)
some_hosts = st.sampled_from([host for host in hosts.ALL.values() if host.landlock_abi >= 6])


def within(less, more):
    """
    Whether a limit is no wider than another; None is no limit at all.
    """
    return more is None or (less is not None and less <= more)


def tightened(policy, asked):
    """
    A program's policy; an example that asks for more is none.
    """
    try:
        return tighter_policy(policy, asked)
    except PolicyError:
        assume(False)


def compiled(policy, asked, host):
    """
    A plan, and what one program carries out beside it.
    """
    plan = compile_plan(policy, host, NOWHERE, b"")
    views = (NOWHERE, NOWHERE)
    return plan, compile_tightening(policy, asked, host, views, plan.keepers, seccomp_filter=None)


def rlimits(ops):
    """
    Resource -> limit of the RLIMIT ops, each of which stands once.
    """
    pairs = [(op.args[0], op.args[1]) for op in ops if op.kind is OpKind.RLIMIT]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@given(given_limits, asked_limits)
@example({"cpus": 2.0}, {"cpus": 2.5})
@example({"cpu_seconds": 1.0}, {"cpu_seconds": None})
@example({}, {"output": None})
@example({"output": 0}, {"output": 1})
def test_a_tighter_policy_is_within_its_sandboxs(limits, asked):
    """
    Each limit that is asked for is at most the sandbox's, or a PolicyError that names it; all else stays.
    """
    policy = Policy(**limits)
    wider = {key for key, value in asked.items() if value is None or not within(value, limits.get(key))}
    try:
        tighter = tighter_policy(policy, asked)
    except PolicyError as exc:
        assert exc.key in wider
        return

    assert set() == wider
    for field in dataclasses.fields(Policy):
        now, then = getattr(tighter, field.name), getattr(policy, field.name)
        assert asked.get(field.name, then) == now
        assert field.name not in LIMITS or within(now, then)


@given(given_limits, given_limits)
def test_tightening_twice_is_tightening_once(limits, asked):
    """
    What a program has less of it can have again.
    """
    tighter = tightened(Policy(**limits), asked)

    assert tighter == tighter_policy(tighter, asked)


@given(given_limits, given_limits, some_hosts, waivers, st.booleans())
@example({"cpus": 2.0}, {"cpus": 1.0}, hosts.FULL, [], False)
@example({}, {"cpus": 0.5}, hosts.CGROUP_WITH_PIDS, ["cpu"], False)
@example({"memory": 9}, {"memory": 1}, hosts.ROOT, ["memory"], True)
def test_what_a_program_carries_out_only_takes(limits, asked, host, waive, strict):
    """
    Rlimits below the plan's, bounds below the plan's, and a guarantee for each; or an error that names what nobody
    can keep and the sandbox does not waive.
    """
    policy = Policy(**limits, waive=waive, strict=strict)
    tighter = tightened(policy, asked)
    try:
        plan, less = compiled(policy, tighter, host)
    except UnsupportedError as exc:
        assert exc.feature not in waive
        return

    above = rlimits(plan.each_exec)
    assert all(limit < above.get(resource, limit + 1) for resource, limit in rlimits(less.ops).items())
    changed = {key for key in asked if asked[key] != getattr(policy, key)}
    own = {name: value for name, value in dataclasses.asdict(less.own).items() if value is not None}
    assert {key: asked[key] for key in changed & BOUNDED} == own
    assert all(within(value, getattr(plan.bounds, name)) for name, value in own.items())
    names = [guarantee.name for guarantee in less.guarantees]
    assert len(names) == len(set(names))
    assert {OF_THE_SUM[key] for key in changed & OF_THE_SUM.keys()} == set(names) - {"disk"}
    assert set(waive) >= {g.name for g in less.guarantees if g.strength is Strength.NONE}


@given(given_limits, given_limits, some_hosts)
@example({"cpus": 3.0}, {"cpus": 2.0}, hosts.FULL)
@example({"cpus": 3.0}, {"cpus": 2.0}, hosts.CGROUP)
@example({}, {"cpus": 2.0}, hosts.FULL)
@example({"cpus": 2.5}, {"cpus": 2.0}, hosts.FULL)
@example({"cpus": 2.0}, {"cpus": 0.5}, hosts.FULL)
def test_processors_are_taken_before_that_is_refused(limits, asked, host):
    """
    Fewer by affinity, where that is the keeper; and then one filter that keeps them, the plan's or its own.
    """
    policy = Policy(**limits, waive=sorted(GUARANTEES))
    tighter = tightened(policy, asked)
    plan, less = compiled(policy, tighter, host)
    by_affinity, of_all = (
        one.cpus is not None and keepers_of(one, host).cpus is Keeper.AFFINITY for one in (tighter, policy)
    )
    ops = [op for op in (*less.ops, *plan.each_last) if op.kind in {OpKind.PROCESSORS, OpKind.SECCOMP}]
    taken = [OpKind.PROCESSORS] if by_affinity and tighter.cpus != policy.cpus else []

    assert [*taken, *([OpKind.SECCOMP] if by_affinity or of_all else [])] == [op.kind for op in ops]
    assert all(op.args == (tighter.cpus,) for op in ops if op.kind is OpKind.PROCESSORS)
