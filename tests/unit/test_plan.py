"""What a policy becomes on hosts of every kind. No kernel is asked."""

from __future__ import annotations

import pytest

from jail.errors import UnsupportedError
from jail.guarantee import GUARANTEES, Strength
from jail.host import Host
from jail.ops import Clone, Op, OpKind, render_op
from jail.plan import Plan, Tier, choose_filter, choose_tier, compile_plan
from jail.policy import Policy
from jail.view import Tree, View
from unit import hosts

FILTER = b"\x06\0\0\0\0\0\xff\x7f"
VIEW = View(
    trees=(Tree("/etc"), Tree("/usr"), Tree("/work", writable=True)),
    links=(("/bin", "usr/bin"),),
    hidden=("/etc/shadow",),
    home="/home/user",
    directory="/work",
    siblings=(("/etc/shadow", (Tree("/etc/passwd", is_directory=False), Tree("/etc/ssl"))),),
)


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
    plan = compiled(hosts.ALL[name], waive=tuple(GUARANTEES))

    assert [] == [
        g.name for g in plan.guarantees if g.strength is Strength.NONE and not g.promise.startswith("waived")
    ]
    assert len({g.name for g in plan.guarantees}) == len(plan.guarantees)


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
        pytest.param(hosts.ROOT, {"processes": 10}, "pids", id="refuse_nproc_for_root"),
        pytest.param(hosts.DOCKER_USER, {"processes": 10}, "pids", id="refuse_nproc_without_userns"),
        pytest.param(hosts.DOCKER_USER, {"scratch": "1M"}, "disk", id="refuse_size_without_tmpfs"),
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
    ("abi", "rights"), [(2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF), (6, 0xFFFF), (10, 0xFFFF)]
)
def test_a_ruleset_handles_what_its_abi_knows(abi, rights):
    """
    landlock(7): REFER came with ABI 2, TRUNCATE with 3, IOCTL_DEV with 5.
    """
    plan = compiled(hosts.LANDLOCK_ABI[abi])

    assert rights == next(op.args[0] for op in plan.setup if op.kind is OpKind.LANDLOCK_RULESET)


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


def test_limits_become_rlimits_within_the_callers_own():
    """
    Each is hard and soft at once, and never above what the caller may set.
    """
    host = Host(features=hosts.FULL.features, hard_limits={7: 100})
    plan = compiled(host, open_files=4096, file_size="1M", memory="512M", processes=10)

    assert {4: 1, 1: 1 << 20, 2: 512 << 20, 7: 100, 6: 12} == {
        op.args[0]: op.args[1] for op in plan.each_exec
    }
