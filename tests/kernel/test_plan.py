"""
What jail-init makes of bytes that make no sense. `csrc/plan.c`, `csrc/control.c`
"""

import errno
import struct

import pytest

import jail
import jail.spawn
from jail.ops import AMBIENT, NAMESPACES, Op, OpKind
from jail.wire import RequestKind

pytestmark = pytest.mark.needs("userns")

NO_NEW_PRIVS = Op(OpKind.NO_NEW_PRIVS)


def spawn(*setup):
    """
    A jail-init in namespaces of its own, with these ops.
    """
    return jail.spawn.spawn_init(int(NAMESPACES), AMBIENT, setup, ())


def await_ready(init):
    """
    Wait for the set-up, and have nothing left of it.
    """
    try:
        init.await_ready()
    finally:
        init.close()


def plan(*ops, setup=None, each_exec=0, data=b"/\0", length=None):
    """
    The bytes of a plan, as wrong as asked for.
    """
    packed = b"".join(struct.pack("=II4QIIII", *op) for op in ops)
    header = struct.pack(
        "=IIII", len(ops) if setup is None else setup, each_exec, len(data) if length is None else length, 0
    )
    return header + packed + data


SOUND = (NO_NEW_PRIVS.kind, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def changed(**fields):
    """
    A sound op but for these fields.
    """
    names = ("kind", "flags", "a0", "a1", "a2", "a3", "path", "data", "data_len", "pad")
    return tuple(fields.get(name, value) for name, value in zip(names, SOUND, strict=True))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0" * 15, id="half_a_header"),
        pytest.param(plan(data=b""), id="no_data"),
        pytest.param(plan(SOUND, data=b"/"), id="no_nul_at_the_end"),
        pytest.param(plan(SOUND)[:-1], id="shorter_than_it_says"),
        pytest.param(plan(SOUND) + b"\0", id="longer_than_it_says"),
        pytest.param(plan(SOUND, setup=2), id="fewer_ops_than_it_says"),
        pytest.param(plan(SOUND, setup=0), id="more_ops_than_it_says"),
        pytest.param(
            plan(SOUND, setup=0xFFFFFFFF, each_exec=0xFFFFFFFF), id="as_many_ops_as_there_are_numbers"
        ),
        pytest.param(plan(SOUND, setup=0x80000001, each_exec=0x80000000), id="ops_that_overflow_32_bits"),
        pytest.param(plan(SOUND, length=0xFFFFFFFF), id="as_much_data_as_there_are_numbers"),
        pytest.param(plan(changed(kind=0)), id="kind_0"),
        pytest.param(plan(changed(kind=max(OpKind) + 1)), id="kind_of_the_future"),
        pytest.param(plan(changed(kind=0xFFFFFFFF)), id="largest_kind"),
        pytest.param(plan(changed(flags=2)), id="unknown_flag"),
        pytest.param(plan(changed(path=2)), id="path_outside"),
        pytest.param(plan(changed(path=0xFFFFFFFF)), id="path_far_outside"),
        pytest.param(plan(changed(data=3)), id="data_outside"),
        pytest.param(plan(changed(data=1, data_len=2)), id="data_beyond_the_end"),
        pytest.param(plan(changed(data=1, data_len=0xFFFFFFFF)), id="data_that_overflows"),
        pytest.param(plan(SOUND, changed(kind=0)), id="second_op"),
        pytest.param(plan(SOUND, changed(kind=0), setup=1, each_exec=1), id="op_of_programs"),
    ],
)
def test_malformed_plan(body, monkeypatch):
    """
    A plan that makes no sense is EBADMSG as a whole, before any of it is done.
    """
    monkeypatch.setattr(jail.spawn, "encode_plan", lambda *_: body)
    with pytest.raises(jail.SetupError, match="read the request") as caught:
        await_ready(spawn())

    assert errno.EBADMSG == caught.value.errno


def test_sound_plan(monkeypatch):
    """
    The control: the same bytes, when they are right, are carried out.
    """
    monkeypatch.setattr(jail.spawn, "encode_plan", lambda *_: plan(SOUND, SOUND, setup=1, each_exec=1))
    await_ready(spawn())


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"x", id="short"),
        pytest.param(struct.pack("=IIII", 7, 1, 0, 0), id="unknown_kind"),
        pytest.param(struct.pack("=IIII", RequestKind.PLAN, 0, 0, 0), id="second_plan"),
        pytest.param(struct.pack("=IIII", RequestKind.SIGNAL, 1, 4, 0) + b"1234", id="half_a_signal"),
        pytest.param(struct.pack("=IIII", RequestKind.EXEC, 1, 4, 4) + b"1234", id="begins_in_the_middle"),
        pytest.param(struct.pack("=IIII", RequestKind.EXEC, 1, 1 << 30, 0) + b"1234", id="too_long"),
        pytest.param(struct.pack("=IIII", RequestKind.EXEC, 1, 8, 0), id="no_progress"),
        pytest.param(struct.pack("=IIII", RequestKind.EXEC, 1, 2, 0) + b"1234", id="more_than_it_says"),
    ],
)
def test_malformed_request(packet):
    """
    A control socket that makes no sense ends the sandbox.
    """
    init = spawn(NO_NEW_PRIVS)
    init.await_ready()
    init.control.send(packet)

    assert b"" == init.control.recv(1000)
    assert "status 2" in init.close()
