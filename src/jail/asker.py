"""
Which process inside has asked for something on the network. proc_pid_net(5), proc_pid_fd(5), proc_pid_status(5)

Read from /proc, in the network thread, where others wait: so no more is looked at than takes some milliseconds, and a
sandbox that is refused without end is looked at for a small part of the time. It is told, and judged by nowhere: a
program that hides is not known, one that has passed its socket on is known as whoever has it, and nothing fails.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from .denial import Asker
from .inert import render_inert_line

if TYPE_CHECKING:
    from .rule import Protocol

__all__ = ["Askers", "End", "Origin", "asker_of", "find_inode", "origin_of", "parse_pids"]

_LINES_MAX = 4096  # of a table of sockets
_TASKS_MAX = 128
_DESCRIPTORS_MAX = 1024
_CHILDREN_BYTES = 4096
_COMM_BYTES = 64
_STATUS_BYTES = 16384  # NStgid comes after the groups, of which a harness may have hundreds

# How long may be looked: at once, and as a part of the time from then on. A look takes 0.1 ms for UDP; for TCP it takes
# 5, since the kernel goes through the connections of the whole host.
_BURST_SECONDS = 0.1
_SHARE = 0.05

_MAPPED = (
    bytes(10) + b"\xff\xff"
)  # before an IPv4 address that an IPv6 socket talks to: RFC 4291 section 2.5.5.2

# An address in 4 or 16 bytes, and a port.
End = tuple[bytes, int]
Order = Literal["little", "big"]


class Origin(NamedTuple):
    """
    Where a connection or a datagram comes from, as the socket of the program has it.

    Args:
        protocol: "tcp" or "udp".
        local: its own address, and port.
        remote: those that it talks to.
    """

    protocol: Protocol
    local: tuple[str, int]
    remote: tuple[str, int]


def origin_of(sock: socket.socket, accepted_at: tuple[str, int] | None = None) -> Origin | None:
    """
    That of an accepted connection; None where it is gone.

    Args:
        sock: that was accepted.
        accepted_at: its name, if that is known.
    """
    try:
        return Origin("tcp", sock.getpeername()[:2], accepted_at or sock.getsockname()[:2])
    except OSError:
        return None


def find_inode(
    lines: Iterable[str], protocol: Protocol, local: End, remote: End, *, byteorder: Order = sys.byteorder
) -> int | None:
    """
    The inode of the socket with these ends. Pure.

    One of UDP may be bound to every address, and connected to none: then it is the one that could be meant, if there
    is just one.

    Args:
        lines: of /proc/net/tcp, tcp6, udp or udp6; no more are taken than it needs.
        protocol: "tcp" or "udp".
        local: its own end.
        remote: the other.
        byteorder: of the kernel, which writes each 32 bits of an address as a number.
    """
    exact = _render_end(local, byteorder), _render_end(remote, byteorder)
    nothing = bytes(len(local[0]))
    loose = itertools.product(
        (exact[0], _render_end((nothing, local[1]), byteorder)),
        (exact[1], _render_end((nothing, 0), byteorder)),
    )
    possible = set(loose) if protocol == "udp" else {exact}
    found = set()
    for line in lines:
        fields = line.split(maxsplit=10)
        if tuple(fields[1:3]) in possible and len(fields) > 9 and fields[9].isdecimal():
            if tuple(fields[1:3]) == exact:
                return int(fields[9]) or None  # 0: its process has closed it
            found.add(int(fields[9]))
    return next(iter(found)) or None if len(found) == 1 else None


def _render_end(end: End, byteorder: Order) -> str:
    address, port = end
    words = (int.from_bytes(address[at : at + 4], byteorder) for at in range(0, len(address), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def parse_pids(status: bytes) -> tuple[int, int] | None:
    r"""
    A process as we have it and as it has itself, from the status of one of its threads. Pure.

    >>> parse_pids(b"Name:\tcurl\nTgid:\t812\nNStgid:\t812\t3\n")
    (812, 3)
    """
    fields = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    ours, inside = fields.get(b"Tgid", b"").split(), fields.get(b"NStgid", b"").split()
    return (int(ours[0]), int(inside[-1])) if ours and inside else None


def asker_of(tid: int) -> Asker | None:
    """
    The process that a thread is of; None where there is none. Never raises.

    Args:
        tid: as the harness has it.
    """
    with contextlib.suppress(OSError, ValueError):
        if pids := parse_pids(_read(f"/proc/{tid}/status", _STATUS_BYTES)):
            comm = _read(f"/proc/{pids[0]}/comm", _COMM_BYTES).removesuffix(b"\n")
            return Asker(render_inert_line(os.fsdecode(comm)), pids[1])
    return None


class Askers:
    """
    Finds them, in one sandbox that has a network of its own.

    Args:
        init_pid: of its `jail-init`, as the harness has it.
        has_ended: whether that is nobody's pid any more.
        clock: of seconds.
    """

    def __init__(
        self, init_pid: int, has_ended: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._init_pid = init_pid
        self._has_ended = has_ended
        self._clock = clock
        self._left = _BURST_SECONDS
        self._at = clock()

    def find(self, origin: Origin) -> Asker | None:
        """
        The process that has the socket which something comes from; of several, one. None where none is found, or it
        was looked for too much lately. Never raises.
        """
        began = self._clock()
        self._left = min(_BURST_SECONDS, self._left + (began - self._at) * _SHARE)
        self._at = began
        if self._left <= 0:
            return None
        asker = None
        with contextlib.suppress(OSError, ValueError):
            inode = _inode(self._init_pid, origin)
            asker = _holder(self._init_pid, inode) if inode else None
        self._left -= self._clock() - began
        return None if self._has_ended() else asker


def _inode(pid: int, origin: Origin) -> int | None:
    """
    Raises:
        OSError, ValueError: it is not known.
    """
    protocol = origin.protocol
    ends = [(_packed(address), port) for address, port in (origin.local, origin.remote)]
    tables = {f"{protocol}6": ends}
    if len(ends[0][0]) == 4:
        tables = {protocol: ends, f"{protocol}6": [(_MAPPED + address, port) for address, port in ends]}
    for name, (local, remote) in tables.items():
        with open(f"/proc/{pid}/net/{name}", encoding="ascii") as lines:
            inode = find_inode(itertools.islice(lines, _LINES_MAX), protocol, local, remote)
        if inode:
            return inode
    return None


def _packed(address: str) -> bytes:
    text = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _holder(init_pid: int, inode: int) -> Asker | None:
    """
    A process below this one that has a descriptor for a socket.
    """
    left = _DESCRIPTORS_MAX
    for pid in _family(init_pid):
        for path in _entries(f"/proc/{pid}/fd", left):
            left -= 1
            if _is_socket(path, inode):
                asker = asker_of(pid)
                return asker if _is_socket(path, inode) else None  # the pid was its own all the while
    return None


def _is_socket(path: str, inode: int) -> bool:
    try:
        return os.readlink(path) == f"socket:[{inode}]"
    except OSError:
        return False


def _family(pid: int) -> Iterator[int]:
    """
    A process and those that descend from it, the latest first. proc_pid_task(5), "children"
    """
    waiting, left = [pid], _TASKS_MAX
    while waiting and left > 0:
        pid = waiting.pop()
        yield pid
        tasks = _entries(f"/proc/{pid}/task", left)
        left -= max(1, len(tasks))
        for task in tasks:
            with contextlib.suppress(OSError):
                children = _read(f"{task}/children", _CHILDREN_BYTES)
                waiting += map(int, children[: children.rfind(b" ") + 1].split())


def _entries(directory: str, most: int) -> list[str]:
    """
    The first paths in a directory, which may be a hostile program's to fill; none where it is gone.
    """
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in itertools.islice(entries, most)]
    except OSError:
        return []


def _read(path: str, most: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(most)
