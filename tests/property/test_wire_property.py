"""
What holds for every request and every event: `jail.wire`.

Requests are read back by a second reading of ``csrc/boundary.h``, which takes bytes from the front.
"""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jail import _core, wire
from jail.errors import JailError, PolicyError
from jail.ops import Op, OpKind
from jail.wire import End, Event, EventKind, ExecFlag, FileCall, Hit, Phase, RequestKind, Scope

I32 = st.integers(-(2**31), 2**31 - 1)
U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b"n"))
PATH = TEXT.map(lambda text: text.decode("utf-8", "surrogateescape"))
FLAGS = st.integers(0, max(ExecFlag) * 2 - 1).map(ExecFlag)
SECONDS = st.floats(0, 1e9)

OPS = st.lists(
    st.builds(
        Op,
        st.sampled_from(OpKind),
        PATH,
        st.binary(max_size=20),
        st.lists(U64, max_size=4).map(tuple),
        optional=st.booleans(),
    ),
    max_size=5,
)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    id=U32,
    phase=st.sampled_from(Phase) | I32,
    op=I32,
    op_kind=I32,
    err=I32,
    pid=I32,
    status=I32,
    end=st.sampled_from(End) | U32,
    hits=st.integers(0, max(Hit) * 2 - 1).map(Hit) | U32,
    tasks=U32,
    started=U32,
    user_us=U64,
    system_us=U64,
    maxrss_kb=U64,
    minor_faults=U64,
    major_faults=U64,
    read_blocks=U64,
    written_blocks=U64,
    voluntary=U64,
    involuntary=U64,
    memory=U64,
    disk=U64,
    wall_ns=U64,
)
# Bodies about the border of a packet, and of the next.
SIZES = st.integers(0, 3).flatmap(
    lambda count: st.integers(max(0, 65520 * count - 20), 65520 * count + 20)
) | st.integers(0, 300_000)

# Bytes of which no two packets have the same.
PATTERN = b"".join(number.to_bytes(4, "big") for number in range(75_000))


class Reader:
    """
    Takes structures and strings from the front of some bytes.
    """

    def __init__(self, body):
        self.left = body

    def take(self, length):
        """
        So many bytes, all of which are there.
        """
        taken, self.left = self.left[:length], self.left[length:]
        assert length == len(taken)
        return taken

    def struct(self, name):
        """
        A structure of the header, as the compiler laid it out: its fields by name.
        """
        kind = _core.ffi.typeof(f"struct {name}")
        found = _core.ffi.from_buffer(f"struct {name} *", bytearray(self.take(_core.ffi.sizeof(kind))))
        return {
            field: list(value) if isinstance(value := getattr(found, field), _core.ffi.CData) else value
            for field, _ in kind.fields
        }

    def text(self):
        """
        A string, without its NUL.
        """
        text, nul, self.left = self.left.partition(b"\0")
        assert b"\0" == nul
        return text

    def ops(self, count, data_len):
        """
        Ops, and the data that they point into.
        """
        rows = [self.struct("jail_op") for _ in range(count)]
        data = self.take(data_len)
        return [
            Op(
                OpKind(row["kind"]),
                data[row["path"] : data.index(b"\0", row["path"])].decode("utf-8", "surrogateescape"),
                data[row["data"] :][: row["data_len"]],
                tuple(row["args"]),
                optional={0: False, wire.OPTIONAL: True}[row["flags"]],
            )
            for row in rows
        ]


def padded(ops):
    """
    Ops with the four arguments that they have on the wire.
    """
    return [Op(op.kind, op.path, op.data, (*op.args, 0, 0, 0, 0)[:4], optional=op.optional) for op in ops]


def nanoseconds(seconds):
    """
    A number of these, to the precision of a float.
    """
    return pytest.approx(max(1, seconds * 1e9), abs=1)


@given(
    st.binary(max_size=wire.EVENT_BYTES * 2) | st.binary(min_size=wire.EVENT_BYTES, max_size=wire.EVENT_BYTES)
)
@example(bytes(wire.EVENT_BYTES))
@example(b"\1\0\0\0" + b"\xff" * (wire.EVENT_BYTES - 4))
def test_packet_is_an_event_or_an_error(packet):
    """
    Any bytes are an event that says the same, or a JailError and nothing else.
    """
    is_event = len(packet) == wire.EVENT_BYTES and packet[0] in set(EventKind) and not any(packet[1:4])
    try:
        event = wire.decode_event(packet)
    except JailError as exc:
        assert (JailError, False) == (type(exc), is_event)
    else:
        assert (True, packet) == (is_event, encode_event(event))
        assert isinstance(event.kind, EventKind)


def encode_event(event):
    """
    An event as the compiler lays it out.
    """
    fields = {name: getattr(event, name) for name in Event._fields}
    return bytes(_core.ffi.buffer(_core.ffi.new("struct jail_event *", fields)))


@given(EVENTS)
def test_event_comes_back(event):
    """
    An event that C could send is decoded to the same.
    """
    assert event == wire.decode_event(encode_event(event))


@given(EVENTS, st.integers(0, wire.EVENT_BYTES * 2).filter(lambda length: length != wire.EVENT_BYTES))
def test_refuse_event_of_another_length(event, length):
    """
    The beginning of an event is none, nor is one that goes on.
    """
    with pytest.raises(JailError, match=f"in a packet of {length} bytes"):
        wire.decode_event(encode_event(event).ljust(length, b"\0")[:length])


@given(SIZES, st.sampled_from(RequestKind), U32)
@example(0, RequestKind.EXEC, 0)
def test_packets_make_the_body(size, kind, exec_id):
    """
    Packets put together in their order are the body; each is full but the last, and says where it belongs.
    """
    body = PATTERN[:size]
    cut = list(wire.packets(kind, exec_id, body))
    together = b""
    for packet in cut:
        reader = Reader(packet)
        header = reader.struct("jail_packet")

        assert {"kind": kind, "id": exec_id, "total": size, "offset": len(together)} == header
        together += reader.left

    assert body == together
    assert max(1, math.ceil(size / 65520)) == len(cut)
    assert [_core.lib.JAIL_PACKET_BYTES] * (len(cut) - 1) == [len(packet) for packet in cut[:-1]]


@given(OPS, OPS)
def test_plan_comes_back(setup, each_exec):
    """
    A plan's ops are read back as they were, in two lists.
    """
    reader = Reader(wire.encode_plan(setup, each_exec))
    header = reader.struct("jail_plan")
    ops = reader.ops(header["setup_ops"] + header["exec_ops"], header["data_len"])

    assert (len(setup), len(each_exec), 0) == (header["setup_ops"], header["exec_ops"], header["pad"])
    assert (padded([*setup, *each_exec]), b"") == (ops, reader.left)


@given(
    TEXT,
    st.lists(TEXT, min_size=1, max_size=4),
    st.lists(TEXT, min_size=1, max_size=4),
    st.lists(TEXT, max_size=4),
    OPS,
    FLAGS,
    st.tuples(U16, U16),
    st.none() | SECONDS,
    SECONDS,
    st.tuples(U32, U64, st.none() | SECONDS, st.none() | SECONDS),
)
def test_exec_comes_back(directory, files, argv, env, ops, flags, size, timeout, grace, limits):  # noqa: PLR0917
    """
    All that an exec says is read back as it was, and nothing is left over.
    """
    reader = Reader(
        wire.encode_exec(
            directory,
            files,
            argv,
            env,
            ops=ops,
            flags=flags,
            size=size,
            timeout=timeout,
            grace=grace,
            **dict(zip(("tasks", "memory", "cpu", "sample"), limits, strict=True)),
        )
    )
    header = reader.struct("jail_exec")

    assert padded(ops) == reader.ops(header["ops"], header["data_len"])
    assert header["text_len"] == len(reader.left)
    assert [directory, *files, *argv, *env] == [
        reader.text() for _ in range(1 + header["files"] + header["argc"] + header["envc"])
    ]
    assert b"" == reader.left
    assert (len(files), len(argv), len(env)) == (header["files"], header["argc"], header["envc"])
    assert (flags, *size) == (header["flags"], header["rows"], header["columns"])
    assert limits[:2] == (header["tasks"], header["memory"])
    for name, seconds in (("timeout_ns", timeout), ("cpu_ns", limits[2]), ("sample_ns", limits[3])):
        assert (0 if seconds is None else nanoseconds(seconds)) == header[name]
    assert nanoseconds(grace) == header["grace_ns"]


@given(st.floats(0, 1e20, exclude_min=True))
def test_timeout_is_never_none(seconds):
    """
    However short or long a time is, it is one, and the clock can be added to it.
    """
    times = dict.fromkeys(("timeout", "grace", "cpu", "sample"), seconds)
    header = Reader(wire.encode_exec(b"/", [b"f"], [b"a"], [], **times)).struct("jail_exec")

    assert 1 <= header["timeout_ns"] < 2**63
    assert 1 == len({header[f"{name}_ns"] for name in times})


@given(
    st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 20),
)
def test_refuse_nul(strings, which, place, at):
    """
    A NUL byte anywhere in an exec's strings is refused, and names what it is about.
    """
    directory, files, argv, env = [list(texts) for texts in strings]
    texts = (directory, files, argv, env)[which]
    text = texts[place % len(texts)]
    texts[place % len(texts)] = text[:at] + b"\0" + text[at:]
    with pytest.raises(PolicyError, match="has a NUL byte") as caught:
        wire.encode_exec(directory[place % len(directory)], files, argv, env)

    assert "cmd" == caught.value.key


@given(st.sampled_from(FileCall), TEXT, U32, U32)
def test_file_comes_back(call, path, flags, mode):
    """
    A call on a file is read back as it was.
    """
    reader = Reader(wire.encode_file(call, path, flags=flags, mode=mode))
    header = reader.struct("jail_file")

    assert {"call": call, "flags": flags, "mode": mode, "text_len": len(path) + 1} == header
    assert (path, b"") == (reader.text(), reader.left)


@given(I32, st.sampled_from(Scope))
def test_signal_comes_back(number, scope):
    """
    A signal is read back as it was.
    """
    reader = Reader(wire.encode_signal(number, scope))

    assert {"signal": number, "scope": scope} == reader.struct("jail_signal")
    assert b"" == reader.left
