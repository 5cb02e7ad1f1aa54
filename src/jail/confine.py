"""
The ops that take rights away: Landlock, and single system calls.

Pure.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping
from enum import IntFlag

from .layout import writable_places
from .ops import Op, OpKind
from .policy import Policy
from .view import Tree, View, is_below

__all__ = ["landlock_ops", "landlock_ops_of_less", "refusal_op", "scope_ops"]


class Access(IntFlag):
    """
    ``LANDLOCK_ACCESS_FS_*`` of landlock(7).
    """

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15
    RESOLVE_UNIX = 1 << 16


# The first ABI that has a right; those not named came with ABI 1, Linux 5.13.
_SINCE = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5, Access.RESOLVE_UNIX: 9}

_READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
_WRITE = (
    _READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SOCK
    | Access.MAKE_FIFO
    | Access.MAKE_SYM
    | Access.REFER
    | Access.TRUNCATE
)
_DEVICE = Access.READ_FILE | Access.READ_DIR | Access.WRITE_FILE | Access.TRUNCATE | Access.IOCTL_DEV
# What landlock_add_rule(2) takes for a file; the rest are rights of a directory, EINVAL there.
_OF_A_FILE = (
    Access.EXECUTE
    | Access.WRITE_FILE
    | Access.READ_FILE
    | Access.TRUNCATE
    | Access.IOCTL_DEV
    | Access.RESOLVE_UNIX
)

SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6
SCOPE_SIGNAL = 1 << 1  # ABI 6
_NET_BIND_AND_CONNECT_TCP = 0b11  # ABI 4

# What a single call is refused with, and the calls' numbers: scripts/syscall.tbl of Linux.
REFUSALS = {"clone3": errno.ENOSYS, "sched_setaffinity": errno.EPERM}
_NUMBERS = {
    "aarch64": {"clone3": 435, "sched_setaffinity": 122},
    "x86_64": {"clone3": 435, "sched_setaffinity": 203},
}
# struct sock_filter of linux/filter.h: code, jt, jf, k. seccomp.py has more of this.
_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _JUMP_EQ, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000


def _known(abi: int) -> Access:
    known = Access(0)
    for right in Access:
        if _SINCE.get(right, 1) <= abi:
            known |= right
    return known


def _path(path: str, access: Access, abi: int, *, optional: bool = False) -> Op:
    access &= _known(abi)
    return Op(OpKind.LANDLOCK_PATH, path, args=(int(access), int(access & _OF_A_FILE)), optional=optional)


def _ruleset(abi: int, *, network: bool, sockets: bool = False) -> Op:
    """
    Args:
        abi: of the kernel.
        network: TCP is left alone.
        sockets: unix sockets are not: but for those of the same domain, each that may be connected to is named.
    """
    files = _known(abi) if sockets else _known(abi) & ~Access.RESOLVE_UNIX
    net = 0 if network or abi < 4 else _NET_BIND_AND_CONNECT_TCP
    scopes = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= 6 else 0
    return Op(OpKind.LANDLOCK_RULESET, args=(int(files), net, scopes))


def landlock_ops(policy: Policy, view: View, abi: int, *, mounts: bool, is_one: bool = False) -> list[Op]:
    """
    The ruleset and what it allows, not yet entered.

    Args:
        policy: for the network and the waivers.
        view: what may be reached.
        abi: at least 2: with ABI 1 no file can be moved to another directory (EXDEV).
        mounts: the tree is the sandbox's own, so everything in it may be read; otherwise it is the host's,
            and each of the view's trees is named.
        is_one: all programs are in one domain, so that they reach each other's sockets.
    """
    is_one &= abi >= _SINCE[Access.RESOLVE_UNIX]
    rules = _rules_in_own_tree(view, abi, sockets=is_one) if mounts else _rules_on_host(policy, view, abi)
    # Inside a network namespace there is nothing but lo, and that is the programs' own.
    return [_ruleset(abi, network=mounts or policy.network == "host", sockets=is_one), *rules]


def landlock_ops_of_less(
    view: View, abi: int, *, unread: frozenset[str], unwritten: frozenset[str]
) -> list[Op]:
    """
    The ruleset for a program that is to have less than the tree of its sandbox, which is the sandbox's own.

    A rule is for all that lies below, mounts included, and none takes away: so a directory that holds what is
    taken gets less itself.

    Args:
        view: what may be reached, with `View.siblings` for all that is hidden.
        abi: as for `landlock_ops`.
        unread: trees and hidden paths that this program is not to read, and its sandbox may.
        unwritten: trees that it is not to write, and its sandbox may.
    """
    rules = [_path(tree.path, _WRITE if tree.writable else _READ, abi) for tree in _without_hidden(view)]
    places = [place for place in writable_places(view) if not _holds(place, unread)]
    rules += [_path(place, _READ if _holds(place, unwritten) else _WRITE, abi) for place in places]
    whole = [] if unread else [_path("/", _READ, abi)]
    ours = [_path("/proc", _READ, abi, optional=True), _path("/dev", _DEVICE, abi)]
    return [_ruleset(abi, network=True), *whole, *ours, *rules]


def _holds(place: str, paths: frozenset[str]) -> bool:
    return any(is_below(path, place) for path in paths)


def _rules_in_own_tree(view: View, abi: int, *, sockets: bool) -> Iterator[Op]:
    yield _path("/", _READ, abi)
    yield _path("/dev", _DEVICE, abi)
    for path in writable_places(view):
        yield _path(path, _WRITE, abi)
    for tree in view.trees:
        if tree.inode is not None:
            if sockets:
                yield _path(tree.path, Access.RESOLVE_UNIX, abi)
        elif is_below(tree.path, "/dev"):
            yield _path(tree.path, _DEVICE, abi)
        elif tree.writable:
            yield _path(tree.path, _WRITE, abi)


def _rules_on_host(policy: Policy, view: View, abi: int) -> Iterator[Op]:
    for tree in _without_hidden(view):
        yield _path(tree.path, _WRITE if tree.writable else _READ, abi, optional=True)
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        yield _path(f"/dev/{device}", _DEVICE, abi, optional=True)
    if "processes" in policy.waive:
        yield _path("/proc", _READ, abi)
    if view.scratch:
        yield _path(view.scratch, _WRITE, abi)


def _without_hidden(view: View) -> Iterator[Tree]:
    """
    The trees, with each that holds something hidden replaced by what lies beside that.
    """
    siblings = dict(view.siblings)
    opened = {t.path for t in view.trees if any(is_below(path, t.path) for path in view.hidden)}
    yield from (tree for tree in view.trees if tree.path not in opened)
    beside = {tree for path in view.hidden for tree in siblings.get(path, ())}
    for tree in sorted(beside):
        if not any(is_below(path, tree.path) for path in view.hidden):
            yield tree


def scope_ops(abi: int) -> list[Op]:
    """
    A domain around `jail-init` and all that it starts, that keeps their signals in. Landlock ABI 6.

    A domain that does not speak of REFER denies it all the same (landlock(7)), so this one allows it
    everywhere: without that no file could be moved to another directory.
    """
    return [
        Op(OpKind.LANDLOCK_RULESET, args=(int(Access.REFER), 0, SCOPE_SIGNAL)),
        _path("/", Access.REFER, abi),
        Op(OpKind.LANDLOCK_RESTRICT),
    ]


def refusal_op(arch: str, calls: Mapping[str, int]) -> Op:
    """
    A filter beside the built-in one, for calls that it lets through.

    It does not look at the architecture: the built-in one has killed whoever comes with another.

    Args:
        arch: as uname(2) has it.
        calls: name -> errno; names of `REFUSALS`.
    """
    program = [(_LOAD, 0, 0, 0)]  # the call's number is the first of struct seccomp_data
    for name, error in sorted(calls.items()):
        program += [(_JUMP_EQ, 0, 1, _NUMBERS[arch][name]), (_RETURN, 0, 0, _ERRNO | error)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return Op(OpKind.SECCOMP, data=b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
