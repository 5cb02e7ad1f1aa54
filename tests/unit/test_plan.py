"""What a policy becomes on hosts of every kind. No kernel is asked."""

from __future__ import annotations

import dataclasses

import pytest

from jail.errors import UnsupportedError
from jail.guarantee import GUARANTEES, Strength
from jail.host import Host
from jail.ops import AMBIENT, NAMESPACES, Clone, Op, OpKind, ProcPlace, render_op
from jail.plan import Plan, choose_filter, compile_plan
from jail.policy import Policy
from jail.tier import Tier, choose_tier
from jail.view import Tree, View
from unit import hosts
from unit.bpf import ALLOW, ENOSYS, EPERM, judge, parse

FILTER = b"\x06\0\0\0\0\0\xff\x7f"
VIEW = View(
    trees=(Tree("/etc"), Tree("/usr"), Tree("/work", writable=True)),
    links=(("/bin", "usr/bin"),),
    hidden=("/etc/shadow",),
    home="/home/user",
    directory="/work",
    siblings=(("/etc/shadow", (Tree("/etc/passwd", is_directory=False), Tree("/etc/ssl"))),),
)

# Who keeps a limit, in the words of the guarantee; and nobody.
CGROUP = ("cgroup v2", Strength.KERNEL)
RLIMIT = ("RLIMIT_NPROC", Strength.KERNEL)
AFFINITY = ("sched_setaffinity(2), seccomp", Strength.KERNEL)
WATCH = ("jail-init, who looks at /proc", Strength.SUPERVISED)
NOBODY = ("", Strength.NONE)
LIMITS = ("memory", "pids", "cpu", "io")
EVERY_LIMIT = {"memory": "512M", "processes": 10, "cpus": 2, "io": "10M"}
ORDINARY = (WATCH, RLIMIT, AFFINITY, NOBODY)
WATCHED = (WATCH, WATCH, AFFINITY, NOBODY)
KEPT = {
    "full": ORDINARY,
    "root": WATCHED,  # RLIMIT_NPROC does not bind root
    "no-landlock": ORDINARY,
    "masked-proc": ORDINARY,
    "docker": WATCHED,
    "docker-user": WATCHED,  # nor does it bind in a namespace where there is none
    "docker-old": WATCHED,
    "privileged": WATCHED,
    "cgroup": (CGROUP,) * 4,
    "cgroup-root": (CGROUP,) * 4,
    "cgroup-of-a-user": (CGROUP, CGROUP, CGROUP, NOBODY),
    "cgroup-with-pids": (WATCH, CGROUP, AFFINITY, NOBODY),
    "cgroup-with-memory": (CGROUP, RLIMIT, AFFINITY, NOBODY),
    "cgroup-masked-proc": (CGROUP,) * 4,
    "cgroup-without-userns": (CGROUP,) * 4,
    "cgroup-privileged": (CGROUP,) * 4,
    **{name: ORDINARY for name in hosts.ALL if name.startswith("landlock-")},
}


def compiled(host: Host = hosts.FULL, view: View = VIEW, **fields: object) -> Plan:
    return compile_plan(Policy(**fields), host, view, FILTER)


def kinds(ops: tuple[Op, ...]) -> list[OpKind]:
    return [op.kind for op in ops]


def guarantee(plan: Plan, name: str) -> tuple[str, Strength]:
    return next((g.mechanism, g.strength) for g in plan.guarantees if g.name == name)


def check(plan: Plan, expect: str) -> None:
    """
    The setup ops, one line each, are these; a line "..." stands for any number of them.
    """
    lines = [render_op(op) for op in plan.setup]
    at = 0
    for wanted in filter(None, map(str.strip, expect.splitlines())):
        if wanted == "...":
            continue
        assert wanted in lines[at:], f"{wanted!r} is not in {lines[at:]}"
        at = lines.index(wanted, at) + 1


def test_ops_of_a_namespaced_plan_come_in_the_order_that_makes_it_safe():
    """
    Who we are, then the tree, then the names, then what takes rights away, and seccomp last.
    """
    check(
        compiled(),
        """
        user namespace: be uid 1000 here, 1000 outside; gid 1000 here, 1000 outside
        a session keyring of its own
        mount namespace: no mount reaches the host, nor the reverse
        ...
        link /bin -> usr/bin
        bind /etc, rdonly, nosuid, nodev
        hide /etc/shadow
        fresh directory /home/user, on the tmpfs
        bind /usr, rdonly, nosuid, nodev
        bind /work, nosuid, nodev
        ...
        proc on /proc, read-only
        watch by /proc: memory 0, processes 0, noticed at 0 (0: only looked at)
        this tree becomes /, the old one is detached
        network namespace: lo up, nothing else
        hostname jail
        no_new_privs
        Landlock: enter the ruleset
        no capabilities, in no set, for good
        jail-init is not dumpable
        seccomp filter of 8 bytes
        """,
    )


def test_the_same_input_gives_the_same_plan():
    """
    A plan depends on its arguments and nothing else.
    """
    assert compiled() == compiled()


@pytest.mark.parametrize("name", hosts.ALL)
def test_every_guarantee_is_kept_waived_or_refused(name):
    """
    On every host a plan accounts for each guarantee that was asked for, and those it lost were waived.
    """
    everything = {**EVERY_LIMIT, "disk": "1M", "output": "1M", "timeout": 1}
    plan = compiled(hosts.ALL[name], waive=tuple(GUARANTEES), **everything)

    assert [] == [
        g.name for g in plan.guarantees if g.strength is Strength.NONE and not g.promise.startswith("waived")
    ]
    assert sorted(GUARANTEES) == sorted(g.name for g in plan.guarantees)


@pytest.mark.parametrize(
    ("host", "tier"),
    [
        pytest.param(hosts.FULL, Tier.NAMESPACES, id="userns"),
        pytest.param(hosts.PRIVILEGED, Tier.PRIVILEGED, id="cap_sys_admin"),
        pytest.param(hosts.DOCKER, Tier.LANDLOCK, id="docker"),
        pytest.param(hosts.NO_LANDLOCK, Tier.NAMESPACES, id="no landlock"),
    ],
)
def test_the_strongest_tier_is_chosen(host, tier):
    """
    Namespaces before Landlock, without privilege before with it.
    """
    assert tier == choose_tier(host)


@pytest.mark.parametrize(
    ("host", "feature"),
    [
        pytest.param(hosts.BARE, "filesystem.read", id="refuse_neither_namespaces_nor_landlock"),
        pytest.param(hosts.NO_SECCOMP, "syscalls", id="refuse_no_seccomp"),
    ],
)
def test_a_host_with_nothing_is_refused(host, feature):
    """
    There is no sandbox without seccomp and walls around the files, waived or not.
    """
    with pytest.raises(UnsupportedError) as caught:
        compiled(host, waive=tuple(GUARANTEES))

    assert feature == caught.value.feature


@pytest.mark.parametrize(
    ("host", "fields", "feature"),
    [
        pytest.param(hosts.DOCKER_OLD, {}, "processes", id="refuse_signals_without_scopes"),
        pytest.param(
            hosts.DOCKER_OLD, {"waive": ["processes"]}, "teardown", id="refuse_teardown_without_scopes"
        ),
        pytest.param(
            hosts.ROOT, {"processes": 10, "strict": True}, "pids", id="refuse_watched_processes_to_the_strict"
        ),
        pytest.param(
            hosts.FULL, {"memory": "1G", "strict": True}, "memory", id="refuse_watched_memory_to_the_strict"
        ),
        pytest.param(hosts.FULL, {"cpus": 1.5}, "cpu", id="refuse_part_of_a_processor_without_cgroup"),
        pytest.param(
            hosts.CGROUP_WITH_PIDS, {"cpus": 0.5}, "cpu", id="refuse_part_of_a_processor_without_controller"
        ),
        pytest.param(hosts.FULL, {"io": "10M"}, "io", id="refuse_io_without_cgroup"),
        pytest.param(hosts.CGROUP_OF_A_USER, {"io": "10M"}, "io", id="refuse_io_without_controller"),
        pytest.param(hosts.DOCKER_USER, {"disk": "1M"}, "disk", id="refuse_size_without_tmpfs"),
        pytest.param(hosts.DOCKER_USER, {"inodes": 100}, "disk", id="refuse_inodes_without_tmpfs"),
        pytest.param(
            hosts.LANDLOCK_ABI[5], {"network": "host"}, "ipc", id="refuse_abstract_sockets_before_abi_6"
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(host, fields, feature):
    """
    A guarantee without a mechanism is an error that names it, says the cure, and goes when it is waived.
    """
    with pytest.raises(UnsupportedError) as caught:
        compiled(host, **fields)

    assert feature == caught.value.feature
    assert f'waive=["{feature}"]' in str(caught.value)
    waived = {**fields, "waive": [*fields.get("waive", ()), feature, "teardown"]}
    assert ("", Strength.NONE) == guarantee(compiled(host, **waived), feature)


@pytest.mark.parametrize(
    ("host", "mechanism", "strength"),
    [
        pytest.param(hosts.FULL, "PID namespace", Strength.KERNEL, id="namespaces"),
        pytest.param(hosts.DOCKER, "subreaper, Landlock scopes", Strength.SUPERVISED, id="landlock"),
    ],
)
def test_teardown_says_what_keeps_it(host, mechanism, strength):
    """
    The kernel's own end of a PID namespace, or a process of ours.
    """
    assert (mechanism, strength) == guarantee(compiled(host), "teardown")


def test_jail_init_stands_outside_of_the_programs_domain_without_namespaces():
    """
    Programs enter Landlock and seccomp one by one; jail-init is in a domain that only scopes signals.
    """
    plan = compiled(hosts.DOCKER)

    assert (OpKind.LANDLOCK_RESTRICT, OpKind.SECCOMP) == tuple(kinds(plan.each_exec)[-2:])
    assert 1 == kinds(plan.setup).count(OpKind.LANDLOCK_RESTRICT)
    assert OpKind.SECCOMP not in kinds(plan.setup)
    assert (1 << 13, 0, 2) == next(op.args for op in plan.setup if op.kind is OpKind.LANDLOCK_RULESET)
    assert 0 == plan.clone_flags


def test_landlock_alone_allows_what_lies_beside_the_hidden():
    """
    A tree with something hidden in it is not allowed as a whole.
    """
    paths = [op.path for op in compiled(hosts.DOCKER).setup if op.kind is OpKind.LANDLOCK_PATH]

    assert ["/", "/usr", "/work", "/etc/passwd", "/etc/ssl"] == paths[:5]


@pytest.mark.parametrize(
    ("abi", "rights"),
    [(2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF), (6, 0xFFFF), (8, 0xFFFF), (9, 0x1FFFF)],
)
def test_a_ruleset_handles_what_its_abi_knows(abi, rights):
    """
    landlock(7): REFER came with ABI 2, TRUNCATE with 3, IOCTL_DEV with 5, RESOLVE_UNIX with 9.
    """
    plan = compiled(hosts.LANDLOCK_ABI[abi])

    assert rights == next(op.args[0] for op in plan.setup if op.kind is OpKind.LANDLOCK_RULESET)


def test_unix_sockets_are_named_where_all_programs_are_one_domain():
    """
    Where each program enters a domain of its own, it would not reach what another listens on.
    """
    plans = [
        compiled(hosts.LANDLOCK_ABI[9]),
        compiled(dataclasses.replace(hosts.MASKED_PROC, landlock_abi=9)),
    ]
    handled = [next(op.args[0] for op in plan.setup if op.kind is OpKind.LANDLOCK_RULESET) for plan in plans]

    assert [0x1FFFF, 0xFFFF] == handled


def test_abi_1_is_not_used():
    """
    It would forbid every move between directories.
    """
    assert OpKind.LANDLOCK_RULESET not in kinds(compiled(hosts.LANDLOCK_ABI[1]).setup)


def test_the_host_network_is_reported_as_no_guarantee():
    """
    No network namespace, no lo of our own, and the guarantee says so.
    """
    plan = compiled(network="host")

    assert not plan.clone_flags & Clone.NET
    assert OpKind.LOOPBACK not in kinds(plan.setup)
    assert ("", Strength.NONE) == guarantee(plan, "network")


@pytest.mark.parametrize(
    ("host", "fields", "variant"),
    [
        pytest.param(hosts.FULL, {}, "namespaces", id="namespaces"),
        pytest.param(hosts.CGROUP, {}, "namespaces+clone3", id="cgroup"),
        pytest.param(hosts.CGROUP, {"network": "host"}, "namespaces+clone3", id="cgroup and host network"),
        pytest.param(hosts.CGROUP_PRIVILEGED, {}, "namespaces+clone3", id="cgroup and privilege"),
        # There jail-init has no filter, and the programs have theirs.
        pytest.param(hosts.CGROUP_WITHOUT_USERNS, {}, "no-namespaces", id="cgroup and landlock"),
        pytest.param(hosts.DOCKER, {}, "no-namespaces", id="landlock"),
        pytest.param(
            hosts.DOCKER, {"waive": ["filesystem.metadata"]}, "no-namespaces+metadata", id="metadata waived"
        ),
        pytest.param(hosts.DOCKER, {"network": "host"}, "no-namespaces+network", id="host network"),
        pytest.param(
            hosts.DOCKER,
            {"network": "host", "waive": ["filesystem.metadata"]},
            "no-namespaces+metadata+network",
            id="both",
        ),
    ],
)
def test_the_filter_fits_the_tier(host, fields, variant):
    """
    Without namespaces seccomp takes what they would have contained.
    """
    assert variant == choose_filter(Policy(**fields), host)


@pytest.mark.parametrize(("host", "inside"), [(hosts.FULL, (1000, 1000)), (hosts.ROOT, (1000, 0))])
def test_root_appears_as_an_ordinary_user(host, inside):
    """
    Everybody is himself inside, but root, who is uid 1000 there.
    """
    args = compiled(host).setup[0].args

    assert inside == args[:2]


def test_a_protected_tree_in_a_writable_one_needs_mounts():
    """
    Landlock grants rights downwards: it cannot take any back below a writable directory.
    """
    view = View(trees=(Tree("/work", writable=True), Tree("/work/.git")), home="/home/user")

    check(compiled(view=view), "bind /work, nosuid, nodev\nbind /work/.git, rdonly, nosuid, nodev")
    with pytest.raises(UnsupportedError) as caught:
        compiled(hosts.DOCKER, view)
    assert "filesystem.write" == caught.value.feature


def kept(host: Host, **fields: object) -> tuple[tuple[str, Strength], ...]:
    """
    Who keeps each limit, with every guarantee waived that can be.
    """
    plan = compiled(host, waive=tuple(GUARANTEES), **fields)
    return tuple(guarantee(plan, name) for name in LIMITS)


@pytest.mark.parametrize("name", hosts.ALL)
def test_the_strongest_keeper_is_chosen(name):
    """
    The kernel by a cgroup, the kernel by what each process carries, jail-init; and nobody where there is none.
    """
    assert KEPT[name] == kept(hosts.ALL[name], **EVERY_LIMIT)


@pytest.mark.parametrize("name", hosts.ALL)
def test_the_strict_have_the_kernel_or_nobody(name):
    """
    With strict whatever jail-init would keep is not kept, and all else as before.
    """
    expected = tuple(NOBODY if keeper == WATCH else keeper for keeper in KEPT[name])

    assert expected == kept(hosts.ALL[name], **EVERY_LIMIT, strict=True)


@pytest.mark.parametrize("name", hosts.ALL)
def test_what_was_not_asked_for_is_no_guarantee(name):
    """
    The control: without limits nobody keeps any.
    """
    assert set() == set(LIMITS) & {
        g.name for g in compiled(hosts.ALL[name], waive=tuple(GUARANTEES)).guarantees
    }


@pytest.mark.parametrize(
    ("host", "keeper"),
    [
        pytest.param(hosts.CGROUP, CGROUP, id="allow_by_cgroup"),
        pytest.param(hosts.CGROUP_WITHOUT_USERNS, CGROUP, id="allow_by_cgroup_without_namespaces"),
        pytest.param(hosts.CGROUP_WITH_PIDS, NOBODY, id="deny_without_the_controller"),
        pytest.param(hosts.FULL, NOBODY, id="deny_without_cgroup"),
    ],
)
@pytest.mark.parametrize("cpus", [0.5, 1.5])
def test_a_part_of_a_processor_is_for_a_cgroup(host, keeper, cpus):
    """
    Affinity is of whole processors: a part is not rounded.
    """
    assert keeper == kept(host, **{**EVERY_LIMIT, "cpus": cpus})[2]


def limits_of(plan: Plan) -> dict[int, int]:
    return {op.args[0]: op.args[1] for op in plan.each_exec if op.kind is OpKind.RLIMIT}


def test_limits_become_rlimits_within_the_callers_own():
    """
    Each is hard and soft at once, and never above what the caller may set.
    """
    host = dataclasses.replace(hosts.FULL, hard_limits={7: 100})
    plan = compiled(host, open_files=4096, file_size="1M", memory="512M", processes=10, cpu_seconds=1.5)

    assert {4: 1, 1: 1 << 20, 2: 5 << 30, 7: 100, 6: 12, 0: 3} == limits_of(plan)
    assert all(op.args[1] == op.args[2] for op in plan.each_exec)


@pytest.mark.parametrize("name", hosts.ALL)
def test_rlimits_stand_behind_a_watcher_and_for_no_cgroup(name):
    """
    A process has twice the memory of all where jail-init looks, which takes a moment; RLIMIT_NPROC is there
    where it is the keeper.
    """
    rlimits = limits_of(compiled(hosts.ALL[name], waive=tuple(GUARANTEES), **EVERY_LIMIT))
    memory, processes, _, _ = KEPT[name]

    assert (5 << 30 if memory == WATCH else None) == rlimits.get(2)
    assert (12 if processes == RLIMIT else None) == rlimits.get(6)


def watch(plan: Plan) -> Op:
    (op,) = [op for op in plan.setup if op.kind is OpKind.WATCH]
    return op


@pytest.mark.parametrize("name", hosts.ALL)
def test_the_watcher_is_told_what_it_keeps(name):
    """
    It looks on every host, for what a run has cost; it ends programs for what nobody else keeps.
    """
    memory, processes, _, _ = KEPT[name]
    expected = (
        512 << 20 if memory == WATCH else 0,
        10 if processes == WATCH else 0,
        10 if processes == RLIMIT else 0,
    )

    assert expected == watch(compiled(hosts.ALL[name], waive=tuple(GUARANTEES), **EVERY_LIMIT)).args[:3]
    assert (0, 0, 0) == watch(compiled(hosts.ALL[name], waive=tuple(GUARANTEES))).args[:3]


def test_the_watcher_has_no_limit_that_only_the_kernel_may_keep():
    """
    With strict and a waiver a limit is nobody's, the watcher's neither.
    """
    plan = compiled(hosts.ROOT, strict=True, waive=["memory", "pids", "io"], **EVERY_LIMIT)

    assert (0, 0, 0) == watch(plan).args[:3]
    assert {4: 1} == limits_of(plan)


@pytest.mark.parametrize("host", [hosts.MASKED_PROC, hosts.CGROUP_MASKED_PROC], ids=["watch", "cgroup"])
def test_where_proc_is_masked_the_watcher_looks_at_the_hosts(host):
    """
    That is no part of the tree, so jail-init stays outside of the domain that its programs enter.
    """
    plan = compiled(host, memory="512M")

    assert ProcPlace.OUTSIDE == watch(plan).args[3]
    assert OpKind.PROC not in kinds(plan.setup)
    assert OpKind.LANDLOCK_RULESET in kinds(plan.setup)
    assert OpKind.LANDLOCK_RESTRICT not in kinds(plan.setup)
    assert 1 == kinds(plan.each_exec).count(OpKind.LANDLOCK_RESTRICT)


@pytest.mark.parametrize("host", [hosts.FULL, hosts.CGROUP, hosts.ROOT, hosts.PRIVILEGED])
def test_where_proc_is_its_own_the_watcher_looks_at_that(host):
    """
    The control: jail-init enters the domain once, for all.
    """
    plan = compiled(host, memory="512M")

    assert ProcPlace.INSIDE == watch(plan).args[3]
    assert 1 == kinds(plan.setup).count(OpKind.LANDLOCK_RESTRICT)
    assert OpKind.LANDLOCK_RESTRICT not in kinds(plan.each_exec)


def test_without_namespaces_the_watcher_looks_at_the_hosts_proc():
    """
    There is no other.
    """
    assert ProcPlace.OUTSIDE == watch(compiled(hosts.DOCKER, memory="512M")).args[3]


@pytest.mark.parametrize(
    ("trees", "hidden", "expected"),
    [
        pytest.param([Tree("/a")], (), [], id="nothing"),
        pytest.param([Tree("/a")], ("/a/s",), ["/a/s"], id="denied"),
        pytest.param([Tree("/a", writable=True), Tree("/a/r")], (), ["/a/r"], id="read_only_in_writable"),
        pytest.param([Tree("/a"), Tree("/a/w", writable=True)], (), [], id="writable_in_read_only"),
        pytest.param([Tree("/a"), Tree("/b", writable=True)], (), [], id="beside"),
    ],
)
def test_covers_are_kept(trees, hidden, expected):
    """
    What hides or protects is looked after from the time that the tree is complete; and nothing else is.
    """
    setup = compiled(view=View(trees=tuple(trees), hidden=hidden)).setup
    kept = [op.path for op in setup if op.kind is OpKind.COVER]
    counts = [op.args for op in setup if op.kind is OpKind.COVERS]

    assert expected == kept
    assert [(len(kept),)] * bool(kept) == counts
    if kept:
        at = kinds(setup).index(OpKind.PIVOT)
        assert kinds(setup).index(OpKind.COVERS) < at
        assert [OpKind.COVER] * len(kept) == kinds(setup)[at + 1 : at + 1 + len(kept)]


@pytest.mark.parametrize("name", hosts.ALL)
def test_the_watcher_starts_where_both_trees_can_be_reached(name):
    """
    After /proc is there, and before the host's is gone; and in any case before what takes it out of reach.
    """
    setup = kinds(compiled(hosts.ALL[name], waive=tuple(GUARANTEES)).setup)
    at = setup.index(OpKind.WATCH)

    if OpKind.PIVOT in setup:
        assert setup.index(OpKind.PIVOT) == at + 1
        assert all(place < at for place, kind in enumerate(setup) if kind in {OpKind.PROC, OpKind.HIDE})
    assert at < min(setup.index(OpKind.UNDUMPABLE), setup.index(OpKind.CAPABILITIES))


@pytest.mark.parametrize("name", hosts.ALL)
def test_no_cgroup_namespace_where_programs_have_cgroups(name):
    """
    clone3(2) does not enter what cannot be seen from a new one; elsewhere there is one, as of every other kind.
    """
    host = hosts.ALL[name]
    tier = choose_tier(host)
    expected = {
        Tier.NAMESPACES: NAMESPACES,
        Tier.PRIVILEGED: NAMESPACES & ~Clone.USER,
        Tier.LANDLOCK: Clone(0),
    }[tier]
    if host.has("cgroup"):
        expected &= ~Clone.CGROUP
    plan = compiled(host, waive=tuple(GUARANTEES))

    assert int(expected) == plan.clone_flags
    assert (AMBIENT if tier is Tier.NAMESPACES else 0) == plan.ambient


def refused(ops: tuple[Op, ...], arch: str) -> dict[str, str]:
    """
    What these filters say of the calls that are refused beside the built-in one, where they do not allow them.
    """
    numbers = {"clone3": 435, "sched_setaffinity": {"x86_64": 203, "aarch64": 122}[arch], "read": 0}
    programs = [parse(op.data) for op in ops if op.kind is OpKind.SECCOMP and op.data != FILTER]
    verdicts = {name: {judge(code, arch, number) for code in programs} for name, number in numbers.items()}
    return {name: said.pop() for name, those in verdicts.items() if (said := those - {ALLOW})}


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("host", "fields", "expected"),
    [
        pytest.param(hosts.FULL, {}, {}, id="allow_without_limits"),
        pytest.param(hosts.CGROUP, {}, {"clone3": ENOSYS}, id="deny_clone3_by_cgroup"),
        pytest.param(hosts.CGROUP, {"cpus": 2}, {"clone3": ENOSYS}, id="allow_affinity_by_cgroup"),
        pytest.param(hosts.CGROUP_PRIVILEGED, {}, {"clone3": ENOSYS}, id="deny_clone3_of_the_privileged"),
        pytest.param(hosts.FULL, {"cpus": 2}, {"sched_setaffinity": EPERM}, id="deny_affinity"),
        pytest.param(hosts.DOCKER, {"cpus": 2}, {"sched_setaffinity": EPERM}, id="deny_affinity_by_landlock"),
        pytest.param(
            hosts.CGROUP_WITH_PIDS,
            {"cpus": 2},
            {"clone3": ENOSYS, "sched_setaffinity": EPERM},
            id="deny_both",
        ),
        # Its built-in filter does not know clone3.
        pytest.param(hosts.CGROUP_WITHOUT_USERNS, {}, {}, id="allow_nothing_more_by_landlock"),
        pytest.param(hosts.FULL, {"cpus": 0.5, "waive": ["cpu"]}, {}, id="allow_what_was_waived"),
    ],
)
def test_what_would_undo_a_limit_is_refused(host, fields, expected, arch):
    """
    By a filter of the programs alone: jail-init starts them in their cgroups, and on their processors.
    """
    plan = compiled(dataclasses.replace(host, arch=arch), **fields)

    assert expected == refused((*plan.each_exec, *plan.each_last), arch)
    assert {} == refused(plan.setup, arch)
    assert {name for name in expected if name != "clone3"} == set(refused(plan.each_last, arch))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"cpus": 2}, [(OpKind.PROCESSORS, (2,))], id="processors"),
        pytest.param({"wall": 1.5}, [(OpKind.LIFETIME, (1_500_000_000, 0))], id="wall"),
        pytest.param({"idle": "2s"}, [(OpKind.LIFETIME, (0, 2_000_000_000))], id="idle"),
        pytest.param(
            {"cpus": 1, "wall": 1e-9, "idle": 3},
            [(OpKind.PROCESSORS, (1,)), (OpKind.LIFETIME, (1, 3_000_000_000))],
            id="all",
        ),
    ],
)
@pytest.mark.parametrize("host", [hosts.FULL, hosts.DOCKER], ids=["namespaces", "landlock"])
def test_limits_of_the_sandbox_are_carried_out_once(host, fields, expected):
    """
    By jail-init, before it may call nothing any more; the programs inherit them.
    """
    plan = compiled(host, **fields)
    found = [op for op in plan.setup if op.kind in {OpKind.PROCESSORS, OpKind.LIFETIME}]

    assert expected == [(op.kind, op.args) for op in found]
    assert set() == {OpKind.PROCESSORS, OpKind.LIFETIME} & set(kinds((*plan.each_exec, *plan.each_last)))
    assert all(plan.setup.index(op) < kinds(plan.setup).index(OpKind.UNDUMPABLE) for op in found)


def test_processors_are_not_set_where_a_cgroup_keeps_them():
    """
    There they are a share of all processors, and no choice of some.
    """
    assert OpKind.PROCESSORS not in kinds(compiled(hosts.CGROUP, cpus=2).setup)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, (1 << 30, 1 << 16), id="default"),
        pytest.param({"disk": "16M"}, (16 << 20, 1024), id="disk"),
        pytest.param({"disk": "1G", "inodes": 100}, (1 << 30, 100), id="both"),
        pytest.param({"inodes": 100}, (1 << 30, 100), id="inodes"),
    ],
)
def test_the_disk_is_the_tmpfs(fields, expected):
    """
    What its op says is what the bounds say, and the guarantee; an inode for each 16 KiB, and 1024 at least.
    """
    plan = compiled(**fields)

    assert expected == next(op.args for op in plan.setup if op.kind is OpKind.SCRATCH)
    assert expected == (plan.bounds.disk, plan.bounds.inodes)
    said = next(g.promise for g in plan.guarantees if g.name == "disk")
    assert f"the sandbox's own files: {expected[0]} bytes and {expected[1]} inodes, together" == said


def test_without_a_tmpfs_the_disk_is_not_bounded():
    """
    There is only the size of each file.
    """
    plan = compiled(hosts.DOCKER, file_size="1M")

    assert (None, None) == (plan.bounds.disk, plan.bounds.inodes)
    assert ("RLIMIT_FSIZE", Strength.KERNEL) == guarantee(plan, "disk")


@pytest.mark.parametrize(
    "host", [hosts.FULL, hosts.CGROUP, hosts.DOCKER], ids=["watch", "cgroup", "landlock"]
)
def test_time_and_output_are_kept_by_us_everywhere(host):
    """
    By jail-init and by the harness, whatever the host has; the promises say the numbers.
    """
    plan = compiled(host, output="1M", timeout=3, grace=0.5, cpu_seconds=2, wall=60, idle=10)
    said = {g.name: g.promise for g in plan.guarantees}

    assert ("SIGKILL by the harness", Strength.SUPERVISED) == guarantee(plan, "output")
    assert ("signals by jail-init", Strength.SUPERVISED) == guarantee(plan, "time")
    assert "ended after 1048576 bytes, of what the harness reads for the caller" == said["output"]
    assert (
        "a program is ended after 3 seconds, and 0.5 of grace, or after 2 of processor time, "
        "the sandbox ends after 60 seconds, or after 10 with nothing running"
    ) == said["time"]


def test_a_promise_says_how_soon_a_watcher_acts():
    """
    The kernel refuses at the limit; a watcher ends who is beyond it.
    """
    promises = {
        name: next(g.promise for g in compiled(host, memory="1M").guarantees if g.name == "memory")
        for name, host in (("watch", hosts.FULL), ("cgroup", hosts.CGROUP))
    }

    assert "all programs together have at most 1048576 bytes" == promises["cgroup"]
    assert (
        promises["cgroup"] + "; who has most is ended within a tenth of a second of more" == promises["watch"]
    )
