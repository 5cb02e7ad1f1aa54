"""
Both sides of the control socket mean the same bytes. `jail.wire`, `jail.ops`, `csrc/boundary.h`
"""

import errno
import struct

import pytest

from jail import _core, fault, ops, wire
from jail.errors import JailError, PolicyError
from jail.ops import Op, OpKind, ProcPlace
from jail.wire import End, EventKind, ExecFlag, FileCall, Hit, Phase, RequestKind, Scope, Step

LAYOUTS = {
    "jail_packet": wire.PACKET,
    "jail_plan": wire.PLAN,
    "jail_op": wire.OP,
    "jail_exec": wire.EXEC,
    "jail_file": wire.FILE,
    "jail_signal": wire.SIGNAL,
    "jail_event": wire.EVENT,
}
ENUMS = {
    "JAIL_OP_": OpKind,
    "JAIL_REQUEST_": RequestKind,
    "JAIL_EVENT_": EventKind,
    "JAIL_PHASE_": Phase,
    "JAIL_STEP_": Step,
    "JAIL_SCOPE_": Scope,
    "JAIL_EXEC_": ExecFlag,
    "JAIL_FILE_": FileCall,
    "JAIL_END_": End,
    "JAIL_HIT_": Hit,
    "JAIL_PROC_": ProcPlace,
}
# Names of the same beginning that are no member of the enum.
LIMITS = {"JAIL_OP_MAX_", "JAIL_REQUEST_BYTES"}

# The rooms that only remember what they are told.
WITHOUT_A_CALL = {OpKind.LIFETIME}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    """
    Each structure has the size and the offsets that the compiler gave it.
    """
    layout, kind = LAYOUTS[name], _core.ffi.typeof(f"struct {name}")
    offsets, at = [], 0
    for code in layout.format.lstrip("=").replace("4Q", "QQQQ"):
        offsets.append(at)
        at += struct.calcsize("=" + code)
    compiled = []
    for _, field in kind.fields:
        length = field.type.length if field.type.kind == "array" else 1
        item = _core.ffi.sizeof(field.type) // length
        compiled += [field.offset + item * i for i in range(length)]

    assert _core.ffi.sizeof(kind) == layout.size
    assert compiled == offsets


@pytest.mark.parametrize("prefix", ENUMS)
def test_numbers(prefix):
    """
    Each enum has the names and numbers of the header, all of them and no more.
    """
    header = {name: getattr(_core.lib, name) for name in dir(_core.lib) if name.startswith(prefix)}

    assert {f"{prefix}{member.name}": member.value for member in ENUMS[prefix]} == {
        name: number for name, number in header.items() if name not in LIMITS
    }


def test_limits():
    """
    So have the limits.
    """
    assert (wire.NO_OP, wire.PACKET_BYTES, wire.REQUEST_BYTES, wire.OPTIONAL) == (
        _core.lib.JAIL_NO_OP,
        _core.lib.JAIL_PACKET_BYTES,
        _core.lib.JAIL_REQUEST_BYTES,
        _core.lib.JAIL_OPTIONAL,
    )
    assert max(OpKind) + 1 == _core.lib.JAIL_OP_MAX_


@pytest.mark.parametrize("kind", OpKind)
def test_kind_has_words(kind):
    """
    Each op has a meaning for people and the names of its calls.
    """
    assert ops.render_op(Op(kind, "/path", b"data"))
    assert ("(2)" in fault._CALLS[kind]) == (kind not in WITHOUT_A_CALL)
    assert (fault._CALLS[kind] == "no call") == (kind in WITHOUT_A_CALL)


@pytest.mark.parametrize("step", Step)
def test_step_has_words(step):
    """
    So has each step.
    """
    assert fault._STEPS[step]
    assert fault._CALLS[step]


def test_hints_are_of_what_exists():
    """
    Each hint is about an op or a step, and an errno.
    """
    known = {*OpKind, *Step}

    assert set() == {key for key in fault._HINTS if key[0] not in known or key[1] not in errno.errorcode}


@pytest.mark.parametrize(
    ("size", "count"), [(0, 1), (1, 1), (65520, 1), (65521, 2), (131040, 2), (131041, 3)]
)
def test_packets(size, count):
    """
    A request is cut into packets that say where they belong, and put together again.
    """
    body = bytes(range(256)) * (size // 256 + 1)
    cut = list(wire.packets(RequestKind.EXEC, 7, body[:size]))
    heads = [wire.PACKET.unpack_from(packet) for packet in cut]

    assert count == len(cut)
    assert body[:size] == b"".join(packet[wire.PACKET.size :] for packet in cut)
    assert [(RequestKind.EXEC, 7, size, 65520 * i) for i in range(count)] == heads
    assert max(map(len, cut)) <= wire.PACKET_BYTES


@pytest.mark.parametrize(
    "packet", [b"", b"x", bytes(wire.EVENT_BYTES), b"\xff" * wire.EVENT_BYTES, bytes(wire.EVENT_BYTES + 1)]
)
def test_refuse_event(packet):
    """
    What is no event is a JailError that shows the bytes.
    """
    with pytest.raises(JailError, match="control socket"):
        wire.decode_event(packet)


def test_event():
    """
    An event is decoded field by field.
    """
    numbers = (4, 2, 3, -1, 108, 13, 5, 256, *range(1, 12), *range(21, 25), 1 << 63)
    event = wire.decode_event(wire.EVENT.pack(*numbers))

    assert (EventKind.EXITED, *numbers[1:]) == event
    assert (End.TIME, Hit.BYTES, 3, 4) == (event.end, event.hits, event.tasks, event.started)
    assert (23, 24, 1 << 63) == (event.memory, event.disk, event.wall_ns)


def test_plan():
    """
    A plan's ops find their path and data behind them, and all of it ends in a NUL.
    """
    body = wire.encode_plan(
        [Op(OpKind.BIND, "/in", b"/out", (1, 2))], [Op(OpKind.RLIMIT, args=(4, 0, 0), optional=True)]
    )
    setup, each, length, _ = wire.PLAN.unpack_from(body)
    bind = wire.OP.unpack_from(body, wire.PLAN.size)
    rlimit = wire.OP.unpack_from(body, wire.PLAN.size + wire.OP.size)
    data = body[-length:]

    assert (1, 1) == (setup, each)
    assert (OpKind.BIND, 0, 1, 2, 0, 0) == bind[:6]
    assert (OpKind.RLIMIT, wire.OPTIONAL, 4) == rlimit[:3]
    assert (b"/in\0", b"/out\0") == (data[bind[6] :][:4], data[bind[7] :][:5])
    assert (4, b"\0") == (bind[8], data[-1:])


@pytest.mark.parametrize(
    "args",
    [
        pytest.param((b"/", [], [b"x"], []), id="no_file"),
        pytest.param((b"/", [b"x"], [], []), id="no_argument"),
        pytest.param((b"/\0", [b"x"], [b"x"], []), id="nul"),
        pytest.param((b"/", [b"x"], [b"x"], [b"V=" + bytes(1)]), id="nul_in_a_variable"),
        pytest.param((b"/", [b"x"], [b"x" * wire.REQUEST_BYTES], []), id="too_long"),
    ],
)
def test_refuse_exec(args):
    """
    What execve(2) could not be told is a PolicyError.
    """
    with pytest.raises(PolicyError):
        wire.encode_exec(*args)
