"""
The bytes between the harness and `jail-init`: requests there, events back.

Pure: bytes in, bytes out, no socket. The layouts are those of ``csrc/boundary.h``; a test holds each size
against the compiler's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from .errors import JailError, PolicyError
from .ops import Op

__all__ = [
    "EVENT_BYTES",
    "Event",
    "EventKind",
    "Phase",
    "RequestKind",
    "Scope",
    "Step",
    "decode_event",
    "encode_exec",
    "encode_plan",
    "encode_signal",
    "packets",
]

PACKET = struct.Struct("=IIII")
PLAN = struct.Struct("=IIII")
OP = struct.Struct("=II4QIIII")
EXEC = struct.Struct("=IIIIII")
SIGNAL = struct.Struct("=ii")
EVENT = struct.Struct("=IIiiiiiiQQQQ")
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


@dataclass(frozen=True, slots=True)
class Event:
    """
    What `jail-init` said: ``struct jail_event``, field by field.

    Times are microseconds and nanoseconds, memory is KiB, as getrusage(2) and clock_gettime(2) give them.
    """

    kind: EventKind
    id: int
    phase: int
    op: int
    op_kind: int
    err: int
    pid: int
    status: int
    user_us: int
    system_us: int
    maxrss_kb: int
    wall_ns: int


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
    data = bytearray()
    ops = bytearray()
    for op in (*setup, *each_exec):
        path_at = len(data)
        data += op.path.encode("utf-8", "surrogateescape") + b"\0"
        data_at = len(data)
        data += op.data + b"\0"
        args = (*op.args, 0, 0, 0, 0)[:4]
        ops += OP.pack(op.kind, OPTIONAL if op.optional else 0, *args, path_at, data_at, len(op.data), 0)
    data += b"\0"
    return PLAN.pack(len(setup), len(each_exec), len(data), 0) + bytes(ops) + bytes(data)


def encode_exec(
    directory: bytes,
    files: Sequence[bytes],
    argv: Sequence[bytes],
    env: Sequence[bytes],
    *,
    last: bool = False,
) -> bytes:
    """
    The body of an EXEC request.

    Args:
        directory: where it starts, absolute, as seen inside.
        files: what to try to execute, in this order (execvp(3) has the rules).
        argv: at least the program's name.
        env: ``NAME=value`` each.
        last: the sandbox ends with this program.

    Raises:
        PolicyError: a NUL byte, no argument, or more than 16 MiB in all.
    """
    strings = [directory, *files, *argv, *env]
    if not files or not argv:
        raise PolicyError("is empty: name a program to run", key="cmd")
    if any(b"\0" in text for text in strings):
        raise PolicyError("has a NUL byte, which no argument of execve(2) can hold", key="cmd")
    text = b"\0".join(strings) + b"\0"
    if len(text) + EXEC.size > REQUEST_BYTES:
        raise PolicyError(f"takes {len(text)} bytes with its environment; at most {REQUEST_BYTES}", key="cmd")
    return EXEC.pack(len(files), len(argv), len(env), len(text), last, 0) + text


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
