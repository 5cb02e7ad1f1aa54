"""
One system call of a program's that waits for the harness: what was asked, what is in memory for it, and the answer.
seccomp_unotify(2)

A pid is good for as long as its call waits: whatever was read by it is used only after `is_waiting` has said so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "Call",
    "Target",
    "answer",
    "hand_in",
    "is_waiting",
    "parse_target",
    "read_memory",
    "receive_call",
    "socket_inode",
]

# struct seccomp_notif, seccomp_notif_resp and seccomp_notif_addfd, and their ioctl(2)s: linux/seccomp.h
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDFD = struct.Struct("=QIIII")
_RECEIVE, _SEND, _IS_VALID, _ADD = 0xC050_2100, 0xC018_2101, 0x4008_2102, 0x4018_2103
_ADDFD_FLAG_SEND = 2  # the descriptor is the call's result: Linux 5.14

_FLOW_LABEL = 0xFFFFF  # what of sin6_flowinfo is the label; Python takes nothing else
_IN6_BYTES = 24  # SIN6_LEN_RFC2133: without a scope
_BYTES: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: _IN6_BYTES}
_IN6 = struct.Struct("!2xHI16s")

# To whom a socket is connected that is connected to nobody: ip(7), ipv6(7)
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1", "::ffff:0.0.0.0": "::ffff:127.0.0.1"}  # noqa: S104 - not bound

_SOCKET = re.compile(r"socket:\[([0-9]+)\]", re.ASCII)


class Call(NamedTuple):
    """
    A call that waits.

    Args:
        id: of the notification.
        pid: of the thread, as the harness sees it.
        number: of the call.
        args: as they were in the registers: they change no more.
    """

    id: int
    pid: int
    number: int
    args: tuple[int, ...]


def receive_call(listener: int) -> Call | None:
    """
    The next one; None where it has been given up meanwhile.

    Raises:
        EOFError: nobody is left under the filter.
    """
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    events = poll.poll(0)
    if not events:
        return None
    if not events[0][1] & select.POLLIN:  # the ioctl would wait
        raise EOFError
    buffer = bytearray(_NOTIF.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except FileNotFoundError:
        return None
    call_id, pid, _, number, _, _, *args = _NOTIF.unpack(buffer)
    return Call(call_id, pid, number, tuple(args))


def is_waiting(listener: int, call_id: int) -> bool:
    """
    Whether the call still waits: its thread has not been interrupted, and its pid is still its own.
    """
    try:
        fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", call_id))
    except FileNotFoundError:
        return False
    return True


def answer(listener: int, call_id: int, error: int) -> None:
    """
    Let the call return: 0, or this errno. Nothing where it waits no more.
    """
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(listener, _SEND, bytearray(_RESPONSE.pack(call_id, 0, -error, 0)))


def hand_in(listener: int, call_id: int, fd: int, flags: int) -> None:
    """
    Let the call return a descriptor for what `fd` is one for.

    Args:
        listener: whose call it is.
        call_id: of the notification.
        fd: the harness's.
        flags: ``O_CLOEXEC``, or 0.

    Raises:
        OSError: the program can have no more (EMFILE), or waits no more (ENOENT).
    """
    fcntl.ioctl(listener, _ADD, _ADDFD.pack(call_id, _ADDFD_FLAG_SEND, fd, 0, flags))


def read_memory(pid: int, address: int, size: int) -> bytes:
    """
    What a thread has in its memory now.

    Raises:
        OSError: EFAULT where it has less; EACCES where it is not for the harness to see (ptrace(2), access modes).
    """
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, size, address)
    except (OSError, OverflowError):
        data = b""
    finally:
        os.close(fd)
    if len(data) != size:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return data


def socket_inode(pid: int, fd: int) -> int:
    """
    Which socket a descriptor of a thread is for, by a number that no other has while it is open.

    Raises:
        OSError: EBADF, ENOTSOCK; EACCES as above.
    """
    try:
        found = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{fd}"))
    except FileNotFoundError as exc:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from exc
    if not found:
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Target:
    """
    Whom to connect to, as it was read.

    Args:
        family: AF_INET or AF_INET6.
        address: as text, without a zone.
        port: from 0.
        flow, scope: of IPv6.
    """

    family: int
    address: str
    port: int
    flow: int = 0
    scope: int = 0

    @property
    def tuple(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """
        As Python's sockets take it.
        """
        short = (self.address, self.port)
        return short if self.family == socket.AF_INET else (*short, self.flow, self.scope)


def parse_target(data: bytes) -> Target:
    """
    A target from a struct sockaddr. Pure.

    Raises:
        OSError: EINVAL for one that is too short, EAFNOSUPPORT for any other family: as connect(2) has them.
    """
    family = int.from_bytes(data[:2], "little")
    if len(data) < 2 or len(data) < _BYTES.get(family, 0):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if family == socket.AF_INET:
        text = socket.inet_ntop(family, data[4:8])
        return Target(family, _UNSPECIFIED.get(text, text), int.from_bytes(data[2:4], "big"))
    if family != socket.AF_INET6:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    port, flow, packed = _IN6.unpack(data[:_IN6_BYTES])
    scope = int.from_bytes(data[_IN6_BYTES : _IN6_BYTES + 4], "little")  # alone in the order of the host
    text = socket.inet_ntop(family, packed)
    return Target(family, _UNSPECIFIED.get(text, text), port, flow & _FLOW_LABEL, scope)
