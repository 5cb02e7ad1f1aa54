"""
Which system calls exist inside: filters for seccomp(2), made from ``profiles/syscalls.toml``.

Two halves. `load_filter` reads what comes with the library, and needs nothing else. `compile_filter`
makes a filter from the table, with a policy's changes to it, and needs libseccomp and pyseccomp. The
filters that come with the library are its output: ``python -m jail.seccomp DIRECTORY`` writes them.

A filter is an array of ``struct sock_filter``, eight bytes each, little-endian as both architectures
are. It is data: nothing here is loaded into a kernel.
"""

from __future__ import annotations

import errno
import importlib
import os
import struct
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import PolicyError, UnsupportedError
from .fields import did_you_mean
from .units import render_value

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["ARCHES", "VARIANTS", "compile_filter", "complement", "load_filter", "partition", "write_filters"]

ARCHES = ("aarch64", "x86_64")
VARIANTS = (
    "namespaces",
    "namespaces+clone3",
    "namespaces-metadata",
    "namespaces-metadata-network",
    "namespaces-network",
    "no-namespaces",
    "no-namespaces+metadata",
    "no-namespaces+metadata+network",
    "no-namespaces+network",
)

_AUDIT_ARCH = {"aarch64": 0xC000_00B7, "x86_64": 0xC000_003E}  # linux/audit.h

# struct sock_filter of linux/filter.h, as (code, jt, jf, k).
Instruction = tuple[int, ...]
_INSTRUCTION = struct.Struct("<HBBI")
# BPF_LD | BPF_W | BPF_ABS and its kin of linux/bpf_common.h; SECCOMP_RET_* and the offsets in struct
# seccomp_data of linux/seccomp.h; __X32_SYSCALL_BIT of asm/unistd.h.
_LOAD, _JUMP_EQ, _JUMP_GE, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL_PROCESS, _ERRNO = 0x8000_0000, 0x0005_0000
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_X32_BIT = 0x4000_0000
_MINUS_ONE = 0xFFFF_FFFF

_NUMBERS = 4096  # more than any architecture has

_UNKNOWN = -1  # __NR_SCMP_ERROR of seccomp.h: no architecture has a call of that name
_ELSEWHERE = -2  # and below: another has one. libseccomp's own are from -101 down

# What TOML made of profiles/syscalls.toml, or of a part of it; its comments say what is where.
Table = Mapping[str, Any]
# What a line of a rule asks of each argument that it names.
Line = Mapping[str, frozenset[int]]


class Argument(NamedTuple):
    """
    An argument of a system call: its place among six, and the bits of it that count.
    """

    name: str
    place: int
    mask: int


class Match(NamedTuple):
    """
    ``args[place] & mask == value``.
    """

    place: int
    mask: int
    value: int


class Cell(NamedTuple):
    """
    A part of all that a system call can be given: where every match holds. No match: all of it.
    """

    matches: tuple[Match, ...]
    allowed: bool


def load_filter(variant: str, arch: str) -> bytes:
    """
    A filter that comes with the library.

    Args:
        variant: one of `VARIANTS`.
        arch: one of `ARCHES`, as uname(2) has it.

    Raises:
        UnsupportedError: there is none for this architecture.
    """
    from importlib.resources import files  # noqa: PLC0415 - slower to import than all of this library

    _check(variant, arch)
    return (files("jail") / "filters" / _file_name(variant, arch)).read_bytes()


def compile_filter(
    variant: str,
    arch: str,
    *,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    profiles: Traversable | None = None,
) -> bytes:
    """
    The filter that the table gives for a variant, with a policy's changes.

    A name that only other architectures have is no error in either list: there is nothing to change.

    Args:
        variant: one of `VARIANTS`.
        arch: one of `ARCHES`: where the filter is to be used, which need not be here.
        allow: calls to carry out whatever the table says, whatever their arguments.
        deny: calls to answer with EPERM whatever the table says.
        profiles: the directory that holds ``syscalls.toml``; the library's own by default.

    Raises:
        UnsupportedError: no filters for this architecture, or no usable pyseccomp and libseccomp.
        PolicyError: a name that is no system call, or is both allowed and denied.
    """
    _check(variant, arch)
    seccomp = _import_pyseccomp()
    table = _read_table(profiles)
    cells = _decide(table, variant)
    for key, names, allowed in (("allow_syscalls", allow, True), ("deny_syscalls", deny, False)):
        for name in names:
            if name in allow and name in deny:
                msg = f"{render_value(name)} is both allowed and denied"
                raise PolicyError(msg, key=key)
            if _find_number(seccomp, table, arch, name) == _UNKNOWN:
                msg = f"there is no system call {render_value(name)}.{did_you_mean(name, cells)}"
                raise PolicyError(msg, key=key)
            cells[name] = [Cell((), allowed)]
    numbered = {_find_number(seccomp, table, arch, name): cells[name] for name in cells}
    return _assemble(seccomp, arch, {number: numbered[number] for number in numbered if number >= 0})


def write_filters(directory: str | os.PathLike[str], profiles: Traversable | None = None) -> Iterator[str]:
    """
    Compile every filter that comes with the library, and write it.

    Yields:
        A line of text for each: its path, and how many instructions it has.
    """
    for variant in VARIANTS:
        for arch in ARCHES:
            code = compile_filter(variant, arch, profiles=profiles)
            path = Path(directory) / _file_name(variant, arch)
            path.write_bytes(code)
            yield f"{path}: {len(code) // _INSTRUCTION.size} instructions\n"


def complement(values: Iterable[int], bits: int = 32, *, within: int = -1) -> Iterator[tuple[int, int]]:
    """
    All numbers but the given ones, as pairs ``(mask, value)`` for ``number & mask == value``.

    libseccomp cannot be told "all else": a rule without a condition swallows those that have one. So it
    is spelled out. A walk down the tree of binary digits: each pair is a branch that holds none of the
    values, so no number is in two, and their order means nothing. Digits that the values of a branch
    have in common come first: after a fork each would make a pair on both sides.

    Args:
        values: what to leave out. Bits that do not count are ignored.
        bits: how many low bits a number has.
        within: the bits among those that count.

    >>> [(f"{mask:03b}", f"{value:03b}") for mask, value in complement([0b010], bits=3)]
    [('110', '000'), ('111', '011'), ('100', '100')]
    """
    counted = [1 << bit for bit in reversed(range(bits)) if within >> bit & 1]
    return _walk([value & sum(counted) for value in values], counted, 0, 0)


def _walk(values: Sequence[int], bits: Sequence[int], mask: int, value: int) -> Iterator[tuple[int, int]]:
    if not values:
        yield mask, value
    elif bits:
        bit = next((bit for bit in bits if len({number & bit for number in values}) == 1), bits[0])
        rest = [other for other in bits if other != bit]
        for side in (0, bit):
            below = [number for number in values if number & bit == side]
            yield from _walk(below, rest, mask | bit, value | side)


def partition(arguments: Sequence[Argument], lines: Sequence[Line]) -> Iterator[Cell]:
    """
    Everything that a call can be given, cut into cells that do not overlap and leave nothing out.

    Args:
        arguments: those that the lines speak of, each in its own place.
        lines: what each argument may be; one that a line does not name may be anything, one that may be
            nothing keeps the line from being met. No value has bits outside of the argument's mask.

    Yields:
        Cells, `allowed` where a line is met.
    """
    lines = [line for line in lines if all(line.values())]
    if not lines or any(not line for line in lines):
        yield Cell((), bool(lines))
        return
    (name, place, mask), *rest = arguments
    named = sorted({value for line in lines for value in line.get(name, ())})
    if not named:
        yield from partition(rest, lines)
        return
    for bits, value in [(mask, value) for value in named] + list(complement(named, within=mask)):
        met = [line for line in lines if name not in line or value in line[name]]
        left = [{other: line[other] for other in line if other != name} for line in met]
        for matches, allowed in partition(rest, left):
            yield Cell((Match(place, bits, value), *matches), allowed)


def _check(variant: str, arch: str) -> None:
    if variant not in VARIANTS:
        msg = f"no filter {variant!r}; there are {', '.join(VARIANTS)}"
        raise ValueError(msg)
    if arch not in ARCHES:
        raise UnsupportedError(feature="syscalls", needs=" or ".join(ARCHES), found=arch)


def _file_name(variant: str, arch: str) -> str:
    return f"{variant}.{arch}.bpf"


def _read_table(profiles: Traversable | None) -> Table:
    from importlib.resources import files  # noqa: PLC0415 - as in load_filter
    from tomllib import loads  # noqa: PLC0415 - the filters that come with the library do not need it

    directory = files("jail.profiles") if profiles is None else profiles
    return loads((directory / "syscalls.toml").read_text(encoding="utf-8"))


def _decide(table: Table, variant: str) -> dict[str, list[Cell]]:
    """
    The cells of each call that the table does not leave absent.
    """
    traits = table["variants"][variant]
    cells: dict[str, list[Cell]] = {}
    for group in table["groups"].values():
        contained = "needs" not in group or group["needs"] in traits
        verdict = group["verdict"] if contained else group.get("otherwise", "deny")
        if verdict != "absent":
            cells |= {name: [Cell((), verdict == "allow")] for name in group["calls"]}
    for name, rule in table["rules"].items():
        arguments = [
            Argument(key, argument["index"], argument.get("mask", 0xFFFF_FFFF))
            for key, argument in rule["arguments"].items()
        ]
        verdict = "allow" in rule
        lines = _select_lines(rule["allow" if verdict else "deny"], traits)
        cells[name] = [Cell(matches, met is verdict) for matches, met in partition(arguments, lines)]
    return cells


def _select_lines(lines: Iterable[Table], traits: Container[str]) -> list[Line]:
    return [
        {name: frozenset(values) for name, values in line.items() if name not in {"needs", "unless"}}
        for line in lines
        if ("needs" not in line or line["needs"] in traits) and line.get("unless") not in traits
    ]


def _import_pyseccomp() -> ModuleType:
    try:
        return importlib.import_module("pyseccomp")
    except ImportError as exc:
        raise _unusable(found="no pyseccomp") from exc
    except (RuntimeError, OSError, AttributeError) as exc:  # no libseccomp, or one that lacks a function
        raise _unusable(found=f"pyseccomp says: {exc}") from exc


def _unusable(*, found: str) -> UnsupportedError:
    return UnsupportedError(
        feature="libseccomp",
        needs="pyseccomp and libseccomp 2.5, to compile filters",
        found=found,
        cure="apt-get install libseccomp2 && pip install pyseccomp",
    )


def _find_number(seccomp: ModuleType, table: Table, arch: str, name: str) -> int:
    """
    A call's number; negative where this architecture has none, `_UNKNOWN` where no other has it either.
    """
    numbers = table["numbers"]
    for known in (numbers["all"], numbers.get(arch, {})):
        if name in known:
            return int(known[name])
    if any(name in known for known in numbers.values()):
        return _ELSEWHERE
    return int(seccomp.resolve_syscall(_AUDIT_ARCH[arch], name))


def _assemble(seccomp: ModuleType, arch: str, rules: Mapping[int, Iterable[Cell]]) -> bytes:
    """
    The filter for these rules: what libseccomp makes of them, behind a beginning of our own.

    libseccomp's default is EPERM, so only what is allowed needs a rule. Which numbers are ENOSYS instead
    is decided before: as a default that would need a rule for every denied number and argument.

    The numbers are given as if they were of the architecture that this runs on. For another one
    libseccomp would translate each by the name that it knows for it, and has not heard of the newest;
    as the beginning has checked the architecture, libseccomp's own check can be set right afterwards.

    A binary tree, CTL_OPTIMIZE 2: the kernel runs a filter once for each number when it is loaded, to
    remember those that are allowed whatever their arguments. Linux 5.11
    """
    try:
        program = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
        program.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)
        program.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
        for number, cells in sorted(rules.items()):
            for matches in (cell.matches for cell in cells if cell.allowed):
                conditions = (seccomp.Arg(place, seccomp.MASKED_EQ, *rest) for place, *rest in matches)
                program.add_rule_exactly(seccomp.ALLOW, number, *conditions)
        with os.fdopen(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as file:
            program.export_bpf(file)
            file.seek(0)
            body = list(_INSTRUCTION.iter_unpack(file.read()))
    except OSError as exc:
        raise _unusable(found=f"libseccomp says: {exc}") from exc
    _replace_arch(body, seccomp.system_arch(), _AUDIT_ARCH[arch])
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in _begin(arch, rules) + body)


def _begin(arch: str, known: Container[int]) -> list[Instruction]:
    """
    Kill what is not of this architecture, and answer ENOSYS to numbers that have no verdict.

    -1 has the bit that marks x32, but is no call of x32: a tracer leaves it where it took a call away.
    """
    head: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQ, 1, 0, _AUDIT_ARCH[arch]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if arch == "x86_64":
        head += [(_JUMP_GE, 0, 2, _X32_BIT), (_JUMP_EQ, 1, 0, _MINUS_ONE), (_RETURN, 0, 0, _KILL_PROCESS)]
    # From the highest down, where known and unknown numbers meet. The first that is not above the
    # call's number says which of the two it is, and jumps to the answer or over it.
    edges = [n for n in range(_NUMBERS, -1, -1) if n == 0 or (n in known) != (n - 1 in known)]
    ladder = [
        (_JUMP_GE, len(edges) - place - (edge not in known), 0, edge) for place, edge in enumerate(edges)
    ]
    return [*head, *ladder, (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]


def _replace_arch(program: list[Instruction], old: int, new: int) -> None:
    """
    Change the first comparison with one AUDIT_ARCH into one with another.
    """
    for place, (operation, true, false, constant) in enumerate(program):
        if (operation, constant) == (_JUMP_EQ, old):
            program[place] = (operation, true, false, new)
            return
    raise _unusable(found="a libseccomp whose filters do not begin as expected")


if __name__ == "__main__":
    sys.stdout.writelines(write_filters(sys.argv[1]))
