"""
The bytes between the harness and `jail-init`: requests there, events back.

Pure: bytes in, bytes out, no socket. The layouts are those of ``csrc/boundary.h``; a test holds each size
against the compiler's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

from .errors import JailError, PolicyError
from .ops import Op

__all__ = [
    "EVENT_BYTES",
    "End",
    "Event",
    "EventKind",
    "ExecFlag",
    "FileCall",
    "Hit",
    "Phase",
    "RequestKind",
    "Scope",
    "Step",
    "decode_event",
    "encode_exec",
    "encode_file",
    "encode_plan",
    "encode_signal",
    "nanoseconds",
    "packets",
]

PACKET = struct.Struct("=IIII")
PLAN = struct.Struct("=IIII")
OP = struct.Struct("=II4QIIII")
EXEC = struct.Struct("=IIIIIIIIIIQQQQQ")
FILE = struct.Struct("=IIII")
SIGNAL = struct.Struct("=ii")
EVENT = struct.Struct("=IIiiiiiiIIIIQQQQQQQQQQQQ")
EVENT_BYTES = EVENT.size

PACKET_BYTES = 65536
REQUEST_BYTES = 16777216
OPTIONAL = 1
NO_OP = -1


class RequestKind(IntEnum):
    """
    ``enum jail_request_kind``.
    """

    PLAN = 1
    EXEC = 2
    SIGNAL = 3
    FILE = 4


class Scope(IntEnum):
    """
    ``enum jail_scope``: whom a signal is for.
    """

    PROCESS = 1
    GROUP = 2
    TREE = 3


class EventKind(IntEnum):
    """
    ``enum jail_event_kind``.
    """

    READY = 1
    FAULT = 2
    STARTED = 3
    EXITED = 4
    FILE = 5
    SAMPLE = 6
    SOCKET = 7


class End(IntEnum):
    """
    ``enum jail_end``: the limit that a program was ended for.
    """

    NONE = 0
    TIME = 1
    WALL = 2
    CPU = 3
    MEMORY = 4
    TASKS = 5


class Hit(IntFlag):
    """
    ``enum jail_hit``: limits that were reached, and ended nothing.
    """

    TASKS = 1
    BYTES = 2
    INODES = 4


class ExecFlag(IntFlag):
    """
    ``enum jail_exec_flag``: how a program is started.
    """

    LAST = 1
    TERMINAL = 2
    PIDFD = 4
    CGROUP = 8


class FileCall(IntEnum):
    """
    ``enum jail_file_call``: what is done with a file, in the place of a program.
    """

    OPEN = 1
    MKDIR = 2
    UNLINK = 3
    SOCKET = 4


class Phase(IntEnum):
    """
    ``enum jail_phase``: when a fault happened.
    """

    SPAWN = 1
    SETUP = 2
    EXEC = 3


class Step(IntEnum):
    """
    ``enum jail_step``: what failed when it was not an op.
    """

    CLONE = 100
    CAPABILITIES = 101
    DESCRIPTORS = 102
    INIT = 103
    MESSAGE = 104
    SESSION = 105
    DIRECTORY = 106
    SIGNALS = 107
    EXEC = 108
    TERMINAL = 109


_NO_FLAGS = ExecFlag(0)


class Event(NamedTuple):
    """
    What `jail-init` said: ``struct jail_event``, field by field.

    Times are microseconds and nanoseconds, `maxrss_kb` is KiB and blocks are 512 bytes, as getrusage(2) and
    clock_gettime(2) give them; `memory` and `disk` are bytes.
    """

    kind: EventKind
    id: int
    phase: int
    op: int
    op_kind: int
    err: int
    pid: int = 0
    status: int = 0
    end: int = 0
    hits: int = 0
    tasks: int = 0
    started: int = 0
    user_us: int = 0
    system_us: int = 0
    maxrss_kb: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    read_blocks: int = 0
    written_blocks: int = 0
    voluntary: int = 0
    involuntary: int = 0
    memory: int = 0
    disk: int = 0
    wall_ns: int = 0


def decode_event(packet: bytes) -> Event:
    """
    One event from one packet.

    Raises:
        JailError: the packet has another length, or names no kind. `jail-init` never sends one; whoever
            gets it should end the sandbox.
    """
    try:
        kind, *rest = EVENT.unpack(packet)
        return Event(EventKind(kind), *rest)
    except (struct.error, ValueError) as exc:
        msg = f"control socket: {exc} in a packet of {len(packet)} bytes: {packet[:64].hex()}"
        raise JailError(msg) from exc


def encode_plan(setup: Sequence[Op], each_exec: Sequence[Op]) -> bytes:
    """
    The body of a PLAN request: ``struct jail_plan``, its ops, and their data, which ends in a NUL.
    """
    ops, data = encode_ops((*setup, *each_exec))
    return PLAN.pack(len(setup), len(each_exec), len(data), 0) + ops + data


def encode_ops(ops: Iterable[Op]) -> tuple[bytes, bytes]:
    """
    Ops as ``struct jail_op[]``, and the data that they point into. It ends in a NUL.
    """
    data = bytearray()
    rows = bytearray()
    for op in ops:
        path_at = len(data)
        data += op.path.encode("utf-8", "surrogateescape") + b"\0"
        data_at = len(data)
        data += op.data + b"\0"
        args = (*op.args, 0, 0, 0, 0)[:4]
        rows += OP.pack(op.kind, OPTIONAL if op.optional else 0, *args, path_at, data_at, len(op.data), 0)
    return bytes(rows), bytes(data + b"\0")


def encode_exec(
    directory: bytes,
    files: Sequence[bytes],
    argv: Sequence[bytes],
    env: Sequence[bytes],
    *,
    ops: Sequence[Op] = (),
    flags: ExecFlag = _NO_FLAGS,
    size: tuple[int, int] = (0, 0),
    timeout: float | None = None,
    grace: float = 0.0,
    tasks: int = 0,
    memory: int = 0,
    cpu: float | None = None,
    sample: float | None = None,
) -> bytes:
    """
    The body of an EXEC request.

    Args:
        directory: where it starts, absolute, as seen inside.
        files: what to try to execute, in this order (execvp(3) has the rules).
        argv: at least the program's name.
        env: ``NAME=value`` each.
        ops: what this program carries out after the plan's ops for each.
        flags: how it is started.
        size: rows and columns of its terminal, if it gets one.
        timeout: seconds until SIGTERM; None for never.
        grace: seconds from there to SIGKILL.
        tasks: processes and threads that it may have; 0 for no limit, or one that the kernel keeps.
        memory: bytes, likewise.
        cpu: seconds of processor time that it may use; None for no limit.
        sample: seconds between two SAMPLE events; None for none.

    Raises:
        PolicyError: a NUL byte, no argument, or more than 16 MiB in all.
    """
    strings = [directory, *files, *argv, *env]
    if not files or not argv:
        raise PolicyError("is empty: name a program to run", key="cmd")
    if any(b"\0" in text for text in strings):
        raise PolicyError("has a NUL byte, which no argument of execve(2) can hold", key="cmd")
    text = b"\0".join(strings) + b"\0"
    rows, data = encode_ops(ops) if ops else (b"", b"")
    length = EXEC.size + len(rows) + len(data) + len(text)
    if length > REQUEST_BYTES:
        raise PolicyError(f"takes {length} bytes with its environment; at most {REQUEST_BYTES}", key="cmd")
    counts = len(files), len(argv), len(env), len(text), len(ops), len(data), flags, *size, tasks
    limits = nanoseconds(timeout), nanoseconds(grace) or 1, memory, nanoseconds(cpu), nanoseconds(sample)
    return EXEC.pack(*counts, *limits) + rows + data + text


def nanoseconds(seconds: float | None) -> int:
    """
    0 for None, and otherwise at least 1: a timeout of 0 would be none. At most what 64 bits hold beside the
    clock: 292 years.
    """
    return 0 if seconds is None else max(1, min(round(seconds * 1e9), (1 << 63) - 1))


def encode_file(call: FileCall, path: bytes, *, flags: int = 0, mode: int = 0) -> bytes:
    """
    The body of a FILE request: ``struct jail_file`` and the path, absolute, as seen inside.

    Raises:
        ValueError: a NUL byte in the path.
    """
    if b"\0" in path:
        raise ValueError("embedded null byte")
    return FILE.pack(call, flags, mode, len(path) + 1) + path + b"\0"


def encode_signal(signal: int, scope: Scope) -> bytes:
    """
    The body of a SIGNAL request.
    """
    return SIGNAL.pack(signal, scope)


def packets(kind: RequestKind, exec_id: int, body: bytes) -> Iterator[bytes]:
    """
    A request as the packets that carry it. Descriptors belong to the first.
    """
    room = PACKET_BYTES - PACKET.size
    for offset in range(0, max(len(body), 1), room):
        yield PACKET.pack(kind, exec_id, len(body), offset) + body[offset : offset + room]
