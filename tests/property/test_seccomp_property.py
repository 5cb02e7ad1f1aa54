"""
What holds for every system call with every argument: `jail.seccomp`.

The filters are compared with a second reading of ``profiles/syscalls.toml``, which knows nothing of BPF.
"""

import tomllib
from importlib.resources import files
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from jail.seccomp import ARCHES, VARIANTS, Argument, complement, load_filter, partition
from unit.bpf import ALLOW, AUDIT_ARCH, ENOSYS, EPERM, KILL_PROCESS, judge, parse

try:
    import pyseccomp
except (ImportError, RuntimeError) as exc:
    pyseccomp = None
    WITHOUT = f"needs pyseccomp and libseccomp, for the numbers of calls: {exc}"
else:
    WITHOUT = ""

needs_numbers = pytest.mark.skipif(pyseccomp is None, reason=WITHOUT)

TABLE = tomllib.loads((files("jail.profiles") / "syscalls.toml").read_text())
GROUPS = {name: group for group in TABLE["groups"].values() for name in group["calls"]}
PROGRAMS = {(variant, arch): parse(load_filter(variant, arch)) for variant, arch in product(VARIANTS, ARCHES)}

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BUILT_IN = st.sampled_from(sorted(PROGRAMS))


def numbers(arch):
    """
    The table's calls that this architecture has, by number.
    """
    found = {}
    for name in [*GROUPS, *TABLE["rules"]]:
        own = TABLE["numbers"]["all"] | TABLE["numbers"].get(arch, {})
        number = own[name] if name in own else pyseccomp.resolve_syscall(AUDIT_ARCH[arch], name)
        if number >= 0:
            found[number] = name
    return found


CALLS = {arch: numbers(arch) for arch in ARCHES} if pyseccomp else {}


def read_table(variant, name, args):
    """
    The verdict that the table states.
    """
    traits = TABLE["variants"][variant]
    if name in GROUPS:
        group = GROUPS[name]
        contained = group.get("needs", "") in ["", *traits]
        verdict = group["verdict"] if contained else group.get("otherwise", "deny")
        return {"allow": ALLOW, "deny": EPERM, "absent": ENOSYS}[verdict]
    rule = TABLE["rules"][name]
    key = "allow" if "allow" in rule else "deny"
    met = any(
        line.get("needs", "") in ["", *traits]
        and line.get("unless", "") not in traits
        and all(
            args[argument["index"]] & argument.get("mask", 2**32 - 1) in line[called]
            for called, argument in rule["arguments"].items()
            if called in line
        )
        for line in rule[key]
    )
    return ALLOW if met == (key == "allow") else EPERM


def number_of(rule, arch):
    """
    Its number, where the architecture has the call; aarch64 has no open(2).
    """
    number = {name: number for number, name in CALLS[arch].items()}.get(rule)
    assume(number is not None)
    return number


@st.composite
def arguments(draw):
    """
    Six arguments that are often those that a rule speaks of, or a bit away from them.
    """
    rule = draw(st.sampled_from(sorted(TABLE["rules"])))
    lines = [*TABLE["rules"][rule].get("allow", ()), *TABLE["rules"][rule].get("deny", ())]
    values = sorted(
        {value for line in lines for called in line.values() if isinstance(called, list) for value in called}
    )
    near = st.sampled_from(values)
    flipped = st.builds(lambda value, bit: value ^ 1 << bit, near, st.integers(0, 63))
    return rule, draw(st.tuples(*[near | flipped | U64] * 6))


@given(st.sets(U32, max_size=12), U32)
@example({0}, 0)
@example({2**32 - 1}, 2**32 - 1)
@example(set(), 0)
def test_complement_covers_the_rest(values, number):
    """
    A number is in exactly one pair, or is one of the values and in none.
    """
    for one in {number, *values, *(value ^ 1 for value in values)}:
        hits = [mask for mask, value in complement(values) if one & mask == value]

        assert (0 if one in values else 1) == len(hits)


@given(st.sets(st.integers(0, 255)), st.integers(0, 255))
def test_complement_is_exact(values, within):
    """
    Over all numbers of eight bits: those whose counted bits are a value's are in no pair, each other in one.
    """
    pairs = list(complement(values, 8, within=within))
    hits = {number: sum(number & mask == value for mask, value in pairs) for number in range(256)}
    left_out = {value & within for value in values}

    assert hits == {number: int(number & within not in left_out) for number in range(256)}
    assert all(mask & ~within == 0 for mask, _ in pairs)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.frozensets(st.integers(0, 7), max_size=4)), max_size=4
    )
)
def test_partition_is_exact(lines):
    """
    Whatever the lines ask, each argument list is in exactly one cell, which says whether a line is met.
    """
    called = {"a": Argument("a", 0, 7), "b": Argument("b", 3, 7), "c": Argument("c", 1, 7)}
    cells = list(partition(list(called.values()), lines))
    for values in product(range(8), repeat=3):
        args = {called[name].place: value for name, value in zip("abc", values, strict=True)}
        hits = [
            cell.allowed
            for cell in cells
            if all(args[match.place] & match.mask == match.value for match in cell.matches)
        ]
        met = any(all(args[called[name].place] in line[name] for name in line) for line in lines)

        assert [met] == hits


@needs_numbers
@pytest.mark.parametrize(("variant", "arch"), sorted(PROGRAMS))
def test_every_number_has_the_verdict_of_the_table(variant, arch):
    """
    Each number from 0 to 1023 gets what the table says of the call, or ENOSYS where it says nothing.
    """
    args = (0x5401, 0x5401, 0, 0, 0, 0)
    expected = {
        number: read_table(variant, CALLS[arch][number], args) if number in CALLS[arch] else ENOSYS
        for number in range(1024)
    }

    assert expected == {number: judge(PROGRAMS[variant, arch], arch, number, args) for number in range(1024)}


@needs_numbers
@given(BUILT_IN, arguments())
def test_every_rule_has_the_verdict_of_the_table(built_in, asked):
    """
    A call with a rule gets what the table says, whatever its arguments.
    """
    variant, arch = built_in
    rule, args = asked
    number = number_of(rule, arch)

    assert read_table(variant, rule, args) == judge(PROGRAMS[built_in], arch, number, args)


@needs_numbers
@given(BUILT_IN, arguments(), st.tuples(*[U32] * 6))
def test_only_the_low_half_counts(built_in, asked, above):
    """
    The kernel takes an int for each argument that a rule names: no bits above its 32 change a verdict.
    """
    _, arch = built_in
    rule, args = asked
    number = number_of(rule, arch)
    other = [high << 32 | arg & 0xFFFFFFFF for high, arg in zip(above, args, strict=True)]

    assert judge(PROGRAMS[built_in], arch, number, args) == judge(PROGRAMS[built_in], arch, number, other)


@given(BUILT_IN, st.integers(1024, 2**30 - 1), st.tuples(*[U64] * 6))
def test_later_numbers_are_absent(built_in, number, args):
    """
    A number that no kernel has given away is ENOSYS.
    """
    assert ENOSYS == judge(PROGRAMS[built_in], built_in[1], number, args)


@given(BUILT_IN, U32, st.integers(0, 1023) | U32, st.tuples(*[U64] * 6))
def test_other_architectures_are_killed(built_in, token, number, args):
    """
    Whatever is called as another architecture kills.
    """
    if token != AUDIT_ARCH[built_in[1]]:
        assert KILL_PROCESS == judge(PROGRAMS[built_in], token, number, args)


@given(st.sampled_from(VARIANTS), st.integers(2**30, 2**32 - 2), st.tuples(*[U64] * 6))
def test_x32_is_killed(variant, number, args):
    """
    Every number from the bit of x32 up kills on x86_64, but for -1.
    """
    assert KILL_PROCESS == judge(PROGRAMS[variant, "x86_64"], "x86_64", number, args)
