"""
The filter by which the kernel asks the harness for a program's connections, where there is no network namespace.

Pure. Of socket(2) and connect(2) a program carries out nothing itself: the harness makes the socket, and connects its
own copy of it, to an address that it has read once and judged (`broker`). All that could lead around those two is
EPERM. Landlock, which lets no program connect or bind by TCP here, is the wall behind it. seccomp_unotify(2)
"""

from __future__ import annotations

import errno
import struct

from .host import Host
from .ops import AF_INET, AF_INET6, SOCK_STREAM, Op, OpKind
from .policy import Policy
from .tier import Tier, choose_tier

__all__ = ["CONNECT", "LANDLOCK_CONNECTS", "SOCKET", "is_brokered", "notify_op", "why_not_brokered"]

LANDLOCK_CONNECTS = 4

# scripts/syscall.tbl of Linux
SOCKET = {"aarch64": 198, "x86_64": 41}
CONNECT = {"aarch64": 203, "x86_64": 42}
_BIND = {"aarch64": 200, "x86_64": 49}
_LISTEN = {"aarch64": 201, "x86_64": 50}  # without bind(2) the kernel chooses a port, unseen by Landlock
_SENDTO = {"aarch64": 206, "x86_64": 44}
_SENDMSG = {"aarch64": 211, "x86_64": 46}
_SENDMMSG = {"aarch64": 269, "x86_64": 307}
_SETSOCKOPT = {"aarch64": 208, "x86_64": 54}
_IO_URING = (425, 426, 427)  # whose work no filter sees

_MSG_FASTOPEN = 0x2000_0000  # connects by sending: tcp(7)
# By level: what has the first packet go elsewhere than to the address that was judged, or connects later.
_OPTIONS = {
    0: (4,),  # IPPROTO_IP: IP_OPTIONS, with a source route in it (RFC 791)
    6: (30, 31),  # IPPROTO_TCP: TCP_FASTOPEN_CONNECT, TCP_ULP
    41: (6, 32, 57),  # IPPROTO_IPV6: IPV6_2292PKTOPTIONS, IPV6_FLOWLABEL_MGR, IPV6_RTHDR
}

# struct sock_filter of linux/filter.h: code, jt, jf, k; SECCOMP_RET_* and the offsets of struct seccomp_data.
_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _AND, _JUMP_EQ, _JUMP_SET, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_ALLOW, _ERRNO, _NOTIFY = 0x7FFF_0000, 0x0005_0000, 0x7FC0_0000
_TYPE_MASK = 0xF

_Block = list[tuple[int, int, int, int]]

_ALLOWED: _Block = [(_RETURN, 0, 0, _ALLOW)]
_REFUSED: _Block = [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
_ASKED: _Block = [(_RETURN, 0, 0, _NOTIFY)]


def why_not_brokered(policy: Policy, host: Host) -> str | None:
    """
    What a list would need here that a broker is not; None where it keeps it.
    """
    if host.landlock_abi < LANDLOCK_CONNECTS or not host.has("broker"):
        return "a network namespace of its own; or Landlock ABI 4 of Linux 6.7, and seccomp user notification"
    rules = policy.network if isinstance(policy.network, tuple) else ()
    datagrams = [str(rule) for rule in rules if rule.protocol == "udp"]
    if datagrams:
        return f'a network namespace of its own for "{datagrams[0]}": without one there is TCP alone'
    named = [str(rule) for rule in rules if not rule.is_address]
    if named and not policy.proxy_variables:
        return (
            f'a network namespace of its own for "{named[0]}": without one nobody can answer names; or '
            "proxy_variables, for programs that leave names to a proxy"
        )
    for field in ("network_connections", "network_idle", "network_bytes", "network_proxy"):
        if getattr(policy, field) is not None:
            return f"a network namespace of its own for {field}: without one bytes do not pass the harness"
    return None


def is_brokered(policy: Policy, host: Host) -> bool:
    """
    Whether the harness makes and connects the sockets of this policy's programs.
    """
    listed = isinstance(policy.network, tuple)
    return listed and choose_tier(host) is Tier.LANDLOCK and why_not_brokered(policy, host) is None


def notify_op(arch: str) -> Op:
    """
    The filter, beside the built-in one, which is the stricter where the two differ and has killed other ABIs.

    Args:
        arch: as uname(2) has it.
    """
    blocks = {
        CONNECT[arch]: _ASKED,
        SOCKET[arch]: _socket(),
        _BIND[arch]: _REFUSED,
        _LISTEN[arch]: _REFUSED,
        _SENDTO[arch]: _without_flag(3),
        _SENDMSG[arch]: _without_flag(2),
        _SENDMMSG[arch]: _without_flag(3),
        _SETSOCKOPT[arch]: _setsockopt(),
        **dict.fromkeys(_IO_URING, _REFUSED),
    }
    program: _Block = [(_LOAD, 0, 0, 0)]  # the call's number
    for number, block in blocks.items():
        program += [(_JUMP_EQ, 0, len(block), number), *block]
    program += _ALLOWED
    return Op(OpKind.NOTIFY, data=b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))


def _load(place: int) -> tuple[int, int, int, int]:
    """
    The low half of an argument: the kernel takes an int for each of these.
    """
    return _LOAD, 0, 0, 16 + 8 * place


def _socket() -> _Block:
    """
    TCP over IPv4 and IPv6 is asked for. Which protocols those types may have, the built-in filter says.
    """
    return [
        _load(0),
        (_JUMP_EQ, 2, 0, AF_INET),
        (_JUMP_EQ, 1, 0, AF_INET6),
        *_REFUSED,
        _load(1),
        (_AND, 0, 0, _TYPE_MASK),
        (_JUMP_EQ, 0, 1, SOCK_STREAM),
        *_ASKED,
        *_REFUSED,
    ]


def _without_flag(place: int) -> _Block:
    return [_load(place), (_JUMP_SET, 0, 1, _MSG_FASTOPEN), *_REFUSED, *_ALLOWED]


def _setsockopt() -> _Block:
    block: _Block = []
    for level, options in _OPTIONS.items():
        tests = [test for option in options for test in ((_JUMP_EQ, 0, 1, option), *_REFUSED)]
        of_level = [_load(2), *tests, *_ALLOWED]
        block += [_load(1), (_JUMP_EQ, 0, len(of_level), level), *of_level]
    return [*block, *_ALLOWED]
