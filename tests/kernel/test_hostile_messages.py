"""
What either side makes of messages that the other would not send. `csrc/control.c`, `csrc/request.c`, `jail.exchange`

The requests go to a live sandbox over its own control socket. The events lie on a socket before `jail-init` gets
its end of it, so that they are what the harness hears first.
"""

import errno
import os
import socket
import struct
import sys
import types
import uuid

import pytest

import jail
import jail.calls
import jail.command
import jail.exchange
import jail.spawn
from jail import wire
from jail.ops import Op, OpKind
from jail.wire import Event, EventKind, ExecFlag, FileCall, Phase, RequestKind, Step

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

# Leaves its session, and says so.
DAEMON = """
import os, signal
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(done, b"1")
        signal.sigwait([])
    os._exit(0)
os.read(ready, 1)
print("up", flush=True)
signal.pause()
"""
PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture
def lodger(box):
    """
    A program that waits in that sandbox, and has left a daemon there.
    """
    process = box.popen([*PYTHON, DAEMON], stdout=jail.PIPE)
    assert b"up\n" == process.stdout.readline()
    yield process
    process.close()


@pytest.fixture
def null():
    """
    A descriptor to send along.
    """
    with open(os.devnull, "r+b") as file:
        yield file.fileno()


@pytest.fixture
def pidfd():
    """
    A descriptor of a process: of this one.
    """
    with open(os.pidfd_open(os.getpid()), "rb") as file:
        yield file.fileno()


def control(box):
    """
    The harness's end of its control socket.
    """
    return box._session.init.control


# Requests.


def packet(body=b"", *, kind=RequestKind.EXEC, number=77, total=None, offset=0):
    """
    A packet, as wrong as asked for.
    """
    return wire.PACKET.pack(kind, number, len(body) if total is None else total, offset) + body


FIRST = packet(b"1234", total=8)
LARGEST = list(wire.packets(RequestKind.EXEC, 77, bytes(wire.REQUEST_BYTES)))

SENSELESS = [
    pytest.param([b"x"], 0, id="one_byte"),
    pytest.param([packet()[:-1]], 0, id="short_header"),
    pytest.param([packet(kind=0)], 0, id="kind_0"),
    pytest.param([packet(kind=max(RequestKind) + 1)], 0, id="kind_of_the_future"),
    pytest.param([packet(kind=0xFFFFFFFF)], 4, id="largest_kind"),
    pytest.param([packet(wire.encode_plan([], []), kind=RequestKind.PLAN)], 1, id="second_plan"),
    pytest.param([packet(bytes(7), kind=RequestKind.SIGNAL)], 0, id="short_signal"),
    pytest.param([packet(bytes(9), kind=RequestKind.SIGNAL)], 0, id="long_signal"),
    pytest.param([packet(b"1234", total=3)], 4, id="more_than_it_says"),
    pytest.param([packet(b"1234", total=0)], 4, id="more_than_nothing"),
    pytest.param([packet(b"1234", total=wire.REQUEST_BYTES + 1)], 4, id="oversize"),
    pytest.param([packet(b"1234", total=0xFFFFFFFF)], 4, id="largest_total"),
    pytest.param([packet(b"1234", offset=4)], 4, id="begins_in_the_middle"),
    pytest.param([packet(total=8)], 4, id="no_progress"),
    pytest.param([FIRST, packet(b"5678", total=8, offset=4, kind=RequestKind.FILE)], 4, id="kind_changes"),
    pytest.param([FIRST, packet(b"5678", total=8, offset=4, number=78)], 4, id="exec_changes"),
    pytest.param([FIRST, packet(b"5678", total=9, offset=4)], 4, id="total_changes"),
    pytest.param([FIRST, packet(b"5678", total=8)], 4, id="offset_stays"),
    pytest.param([FIRST, packet(b"5678", total=8, offset=5)], 4, id="gap"),
    pytest.param([FIRST, packet(b"56789", total=8, offset=4)], 4, id="second_is_too_long"),
    pytest.param([FIRST, packet(total=8, offset=4)], 4, id="second_is_empty"),
    pytest.param([FIRST, packet()], 4, id="another_before_the_end"),
    pytest.param([*LARGEST[:-1], LARGEST[-1] + b"x"], 4, id="larger_than_its_place"),
    pytest.param([packet(b"1234")], 6, id="six_descriptors"),
    pytest.param([packet(b"1234")], 100, id="a_hundred_descriptors"),
]


@pytest.mark.parametrize(("packets", "n_fds"), SENSELESS)
def test_senseless_request(packets, n_fds, box, lodger, null, eyes):
    """
    A control socket that makes no sense ends its sandbox, daemons included, and the harness has others.
    """
    inside = eyes.pidfds_below(os.getpid())
    socket.send_fds(control(box), packets[:1], [null] * n_fds)
    for following in packets[1:]:
        control(box).send(following)

    assert 3 <= len(inside)
    assert [] == eyes.survivors(inside)
    with pytest.raises(jail.JailError, match="ended before it was told to: code 1, status 2"):
        lodger.wait(PATIENCE)
    with pytest.raises(jail.JailError, match="ended before it was told to"):
        box.run(["true"])
    with jail.Sandbox() as beside:
        assert b"beside\n" == beside.run(["echo", "beside"]).stdout


def test_empty_packet(box, lodger, eyes):
    """
    A packet of no bytes is an end of file: the sandbox ends as if it had been closed.
    """
    inside = eyes.pidfds_below(os.getpid())
    control(box).send(b"")

    assert [] == eyes.survivors(inside)
    with pytest.raises(jail.JailError, match="ended before it was told to: code 1, status 0"):
        lodger.wait(PATIENCE)


def test_others_go_on():
    """
    A sandbox that was there before goes on, and what runs in it too.
    """
    with jail.Sandbox() as beside, jail.Sandbox() as box:
        process = beside.popen(["cat"], stdin=jail.PIPE, stdout=jail.PIPE)
        control(box).send(b"x")
        with pytest.raises(jail.JailError, match="status 2"):
            box.run(["true"])

        assert b"still here" == process.communicate(b"still here")[0]
        assert jail.Exited(0) == process.outcome


@pytest.mark.needs("landlock_abi_6", "libseccomp")
def test_senseless_request_without_namespaces(ask_harness, container, tmp_path, eyes):
    """
    So it is where no namespace holds what is inside.
    """
    source, options = container
    marker = str(uuid.uuid4())
    source += """
import jail, json, sys
marker, daemon = sys.argv[1:]
with jail.Sandbox() as box:
    process = box.popen([sys.executable, "-I", "-S", "-c", daemon, marker], stdout=jail.PIPE)
    process.stdout.readline()
    box._session.init.control.send(b"x")
    try:
        process.wait(30)
    except jail.JailError as exc:
        print(json.dumps(str(exc).split(": ")[1:]))
"""

    assert ["code 1, status 2"] == ask_harness(source, marker, DAEMON, **options)
    assert [] == eyes.named(marker)
    assert [] == list((tmp_path / "scratch").iterdir())


EXEC = wire.encode_exec(b"/", [b"/bin/true"], [b"true"], [b"A=b"])
WITH_OP = wire.encode_exec(
    b"/", [b"/bin/true"], [b"true"], [], ops=[Op(OpKind.RLIMIT, "/", b"data", args=(4, 0, 0))]
)
FILE = wire.encode_file(FileCall.OPEN, b"/etc/passwd")
FILES, ARGC, ENVC, TEXT_LEN, OPS, DATA_LEN, FLAGS = range(7)
OP_KIND, OP_FLAGS, *_, OP_PATH, OP_DATA, OP_DATA_LEN, _ = [
    wire.EXEC.size + at for at in (0, 4, 8, 40, 44, 48, 52)
]


def changed(body, at, number):
    """
    A body with another number in that place.
    """
    return body[:at] + struct.pack("=I", number) + body[at + 4 :]


def changed_header(field, number, body=EXEC):
    """
    An exec with another number in its header.
    """
    return changed(body, field * 4, number)


WRONG_EXECS = {
    "nothing": b"",
    "half_a_header": EXEC[:20],
    "no_text": EXEC[: wire.EXEC.size],
    "cut_off": EXEC[:-1],
    "goes_on": EXEC + b"\0",
    "no_nul_at_the_end": EXEC[:-1] + b"x",
    "no_file": changed_header(FILES, 0),
    "no_argument": changed_header(ARGC, 0),
    "one_file_less": changed_header(FILES, 2),
    "one_argument_less": changed_header(ARGC, 2),
    "one_argument_more": changed_header(ENVC, 0),
    "one_variable_less": changed_header(ENVC, 2),
    "as_many_files_as_there_are_numbers": changed_header(FILES, 0xFFFFFFFF),
    "as_many_arguments_as_there_are_numbers": changed_header(ARGC, 0xFFFFFFFF),
    "as_many_variables_as_there_are_numbers": changed_header(ENVC, 0xFFFFFFFF),
    "less_text_than_it_says": changed_header(TEXT_LEN, 0xFFFFFFFF),
    "no_ops_where_it_says_so": changed_header(OPS, 1),
    "ops_that_overflow_32_bits": changed_header(OPS, 0x80000000),
    "no_data_where_it_says_so": changed_header(DATA_LEN, 1),
    "op_of_kind_0": changed(WITH_OP, OP_KIND, 0),
    "op_of_the_future": changed(WITH_OP, OP_KIND, max(OpKind) + 1),
    "op_with_unknown_flag": changed(WITH_OP, OP_FLAGS, 2),
    "op_with_path_outside": changed(WITH_OP, OP_PATH, 1000),
    "op_with_data_outside": changed(WITH_OP, OP_DATA, 1000),
    "op_with_data_beyond_the_end": changed(WITH_OP, OP_DATA_LEN, 0xFFFFFFFF),
    "op_without_data": changed_header(DATA_LEN, 0, WITH_OP),
}
WRONG_FILES = {
    "file_nothing": b"",
    "file_half_a_header": FILE[:8],
    "file_no_path": changed(FILE[: wire.FILE.size], 12, 0),
    "file_longer_than_it_says": changed(FILE, 12, 1),
    "file_shorter_than_it_says": changed(FILE, 12, 0xFFFFFFFF),
    "file_no_nul_at_the_end": FILE[:-1] + b"x",
}
# Sound but for the number of descriptors, the last of which is the socket.
WRONG_FDS = [
    pytest.param(RequestKind.EXEC, EXEC, 1, id="exec_with_the_socket_only"),
    pytest.param(RequestKind.EXEC, EXEC, 3, id="exec_without_standard_error"),
    pytest.param(
        RequestKind.EXEC, changed_header(FLAGS, ExecFlag.TERMINAL), 4, id="exec_at_a_terminal_with_streams"
    ),
    pytest.param(RequestKind.EXEC, EXEC, 5, id="exec_with_a_cgroup_that_it_does_not_speak_of"),
    pytest.param(
        RequestKind.EXEC, changed_header(FLAGS, ExecFlag.CGROUP), 4, id="exec_in_a_cgroup_without_it"
    ),
    pytest.param(
        RequestKind.EXEC,
        changed_header(FLAGS, ExecFlag.CGROUP | ExecFlag.TERMINAL),
        1,
        id="exec_at_a_terminal_in_a_cgroup_without_it",
    ),
    pytest.param(
        RequestKind.EXEC,
        changed_header(FLAGS, ExecFlag.CGROUP | ExecFlag.TERMINAL),
        5,
        id="exec_at_a_terminal_in_a_cgroup_with_streams",
    ),
    pytest.param(RequestKind.FILE, FILE, 2, id="file_with_one_more"),
    pytest.param(RequestKind.FILE, FILE, 4, id="file_with_those_of_an_exec"),
]


@pytest.mark.parametrize(
    ("kind", "body", "n_fds"),
    [
        *[pytest.param(RequestKind.EXEC, body, 4, id=name) for name, body in WRONG_EXECS.items()],
        *[pytest.param(RequestKind.FILE, body, 1, id=name) for name, body in WRONG_FILES.items()],
        *WRONG_FDS,
    ],
)
def test_malformed_body(kind, body, n_fds, box):
    """
    A request that is wrong in itself is EBADMSG to who waits for it, holds no descriptor, and the sandbox goes on.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    with ours, open(read_end, "rb") as stream:
        socket.send_fds(
            control(box), [packet(body, kind=kind)], [*[write_end] * (n_fds - 1), theirs.fileno()]
        )
        theirs.close()
        os.close(write_end)
        event = jail.spawn.receive_event(ours)

        assert (EventKind.FAULT, 77) == (event.kind, event.id)
        assert (Phase.EXEC, wire.NO_OP, Step.MESSAGE) == (event.phase, event.op, event.op_kind)
        assert errno.EBADMSG == event.err
        assert (b"", b"") == (ours.recv(1), stream.read())
    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize(
    ("kind", "body", "n_fds"),
    [
        pytest.param(RequestKind.EXEC, EXEC, 4, id="exec"),
        pytest.param(RequestKind.EXEC, WITH_OP, 4, id="exec_with_op"),
        pytest.param(RequestKind.FILE, FILE, 1, id="file"),
    ],
)
def test_sound_body(kind, body, n_fds, box, null):
    """
    The control: the same bytes, when they are right, are carried out.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        fds = [*[null] * (n_fds - 1), theirs.fileno()]
        socket.send_fds(control(box), [packet(body, kind=kind)], fds)
        event = jail.spawn.receive_event(ours)

        expected = EventKind.FILE if kind is RequestKind.FILE else EventKind.EXITED
        assert (expected, 77, 0, 0) == (event.kind, event.id, event.err, event.status)


def test_cgroup_that_is_none(box, null):
    """
    What comes in the place of a cgroup and is none is a fault of clone(2), and nothing is started outside of one.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        body = changed_header(FLAGS, ExecFlag.CGROUP)
        socket.send_fds(control(box), [packet(body)], [*[null] * 4, theirs.fileno()])
        theirs.close()
        event = jail.spawn.receive_event(ours)

        assert (EventKind.FAULT, 77, Step.CLONE) == (event.kind, event.id, event.op_kind)
        # Where programs have no cgroups jail-init may not call clone3(2).
        assert (errno.EBADF if jail.probe().has("cgroup") else errno.ENOSYS) == event.err
        assert b"" == ours.recv(1)
    assert b"on\n" == box.run(["echo", "on"]).stdout


def test_no_descriptor_to_complain_to(box):
    """
    Where not even the socket came nobody is told, and the sandbox goes on.
    """
    control(box).send(packet(EXEC))
    control(box).send(packet(b""))

    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("name", ["nothing", "one_argument_less", "op_of_kind_0"])
def test_malformed_exec_is_a_fault(name, box, monkeypatch):
    """
    The harness says so of the program that it was about, and runs the next.
    """
    with monkeypatch.context() as patched, pytest.raises(jail.SetupError, match="read the request") as caught:
        patched.setattr(jail.command.Exec, "encode", lambda _, **_options: WRONG_EXECS[name])
        box.run(["true"])

    assert errno.EBADMSG == caught.value.errno
    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize(
    ("number", "scope"), [(9, 0), (9, 0xFFFF), (-1, 1), (0, 3), (65, 3), (-(2**31), 2), (2**31 - 1, 3)]
)
def test_senseless_signal(number, scope, box):
    """
    A signal that does not exist, or is for nobody, changes nothing.
    """
    process = box.popen(["cat"], stdin=jail.PIPE, stdout=jail.PIPE)
    known = 0 <= number < 65 and scope not in (1, 2, 3)
    body = struct.pack("=iI", number, scope)
    control(box).send(packet(body, kind=RequestKind.SIGNAL, number=4711 if known else process.id))

    assert b"on\n" == box.run(["echo", "on"]).stdout
    assert b"still here" == process.communicate(b"still here")[0]


# Events.


def event(kind=EventKind.STARTED, **fields):
    """
    The bytes of an event.
    """
    zeros = dict.fromkeys(Event._fields, 0)
    return wire.EVENT.pack(*(zeros | {"kind": kind, "op": wire.NO_OP} | fields).values())


@pytest.fixture
def overheard(monkeypatch):
    """
    Has packets lie on the next socket that a module makes for `jail-init` to talk on.
    """
    with monkeypatch.context() as patched:

        def overheard(module, *packets, fds=()):
            def socketpair(*args):
                patched.undo()
                ours, theirs = socket.socketpair(*args)
                for one in packets:
                    socket.send_fds(theirs, [one], fds)
                return ours, theirs

            changed_socket = types.SimpleNamespace(**{**vars(socket), "socketpair": socketpair})
            patched.setattr(module, "socket", changed_socket)

        yield overheard


# How a caller comes to hear events: each way of reading them, and each kind of descriptor that may come along.
WAYS = {
    "run": lambda box: box.run(["cat"], input=b"x"),
    "run_pty": lambda box: box.run(["cat"], input=b"x", pty=True),
    "popen": lambda box: wait(box.popen(["cat"], stdin=jail.PIPE)),
    "popen_pty": lambda box: wait(box.popen(["cat"], stdin=jail.PIPE, pty=True)),
}

SENSELESS_EVENTS = {
    "one_byte": b"x",
    "short": event()[:-1],
    "long": event() + b"x",
    "a_packet_full": bytes(wire.PACKET_BYTES),
    "garbage": b"\xff" * wire.EVENT_BYTES,
    "kind_0": event(kind=0),
    "kind_of_the_future": event(kind=max(EventKind) + 1),
}


def wait(process):
    """
    Wait for its end, which is at hand, and close what is ours.
    """
    try:
        return process.wait(PATIENCE)
    finally:
        process.close()


@pytest.mark.parametrize("n_fds", [0, 1, 2, 5])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SENSELESS_EVENTS)
def test_senseless_event(name, way, n_fds, box, null, overheard):
    """
    What is no event is a JailError, whatever descriptors came with it, and none of them stays open.
    """
    overheard(jail.exchange, SENSELESS_EVENTS[name], fds=[null] * n_fds)
    with pytest.raises(jail.JailError, match="control socket: ") as caught:
        WAYS[way](box)

    assert jail.JailError is type(caught.value)
    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("way", WAYS)
def test_socket_that_says_nothing(way, box, overheard):
    """
    A packet of no bytes is an end of file where none should be: the sandbox is given up.
    """
    overheard(jail.exchange, b"")
    with pytest.raises(jail.JailError, match="ended before it was told to"):
        WAYS[way](box)


FAULTS = {
    "fault_of_a_step": (event(EventKind.FAULT, phase=3, op_kind=Step.EXEC, err=2), errno.ENOENT),
    "fault_of_no_step": (event(EventKind.FAULT, phase=3, op_kind=4711, err=2), errno.ENOENT),
    "fault_of_no_errno": (event(EventKind.FAULT, phase=3, op_kind=Step.EXEC, err=-1), -1),
    "fault_of_no_phase": (event(EventKind.FAULT, phase=99, op_kind=Step.EXEC, err=2), errno.ENOENT),
    "fault_of_no_op": (event(EventKind.FAULT, phase=3, op=2**31 - 1, op_kind=1, err=2), errno.ENOENT),
    "fault_of_a_negative_op": (event(EventKind.FAULT, phase=3, op=-(2**31), op_kind=1, err=2), errno.ENOENT),
}


@pytest.mark.parametrize("n_fds", [0, 1, 2, 5])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FAULTS)
def test_senseless_fault(name, way, n_fds, box, null, overheard):
    """
    A fault of what does not exist is a SetupError all the same, and descriptors that come with it are closed.
    """
    said, expected = FAULTS[name]
    overheard(jail.exchange, said, fds=[null] * n_fds)
    with pytest.raises(jail.SetupError) as caught:
        WAYS[way](box)

    assert expected == caught.value.errno
    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("n_fds", [1, 2, 5])
@pytest.mark.parametrize("way", WAYS)
def test_descriptors_that_nobody_asked_for(way, n_fds, box, null, overheard):
    """
    Started with descriptors that are not what they should be: closed, and an error of jail's where they matter.
    """
    overheard(jail.exchange, event(pid=5), b"x", fds=[null] * n_fds)
    with pytest.raises(jail.JailError):
        WAYS[way](box)

    assert b"on\n" == box.run(["echo", "on"]).stdout


def test_terminal_that_is_none(box, pidfd, null, overheard):
    """
    So is what comes in the place of a terminal and is none.
    """
    overheard(jail.exchange, event(pid=5), fds=[pidfd, null])
    with pytest.raises(jail.JailError):
        WAYS["popen_pty"](box)

    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("kind", [EventKind.READY, EventKind.FILE])
@pytest.mark.parametrize("way", WAYS)
def test_event_of_another_socket(kind, way, box, null, overheard):
    """
    Sound events that belong elsewhere, with descriptors, change nothing: what comes after them counts.
    """
    overheard(jail.exchange, event(kind), event(kind, id=4711), b"x", fds=[null, null])
    with pytest.raises(jail.JailError, match="control socket: "):
        WAYS[way](box)

    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, jail.Exited(0)), (3 << 8, jail.Exited(3)), (9, jail.Signalled(9)), (0x7F, jail.Signalled(127))],
)
def test_exited_before_started(status, expected, way, box, null, overheard):
    """
    An end without a beginning is what it says: who asks for no descriptor is told of no start, and a shepherd that
    was killed has told of none.
    """
    overheard(jail.exchange, event(EventKind.EXITED, status=status, pid=5), fds=[null, null])
    ended = WAYS[way](box)

    assert expected.exit_code == (ended if isinstance(ended, int) else ended.exit_code)
    assert b"on\n" == box.run(["echo", "on"]).stdout


@pytest.mark.parametrize("way", WAYS)
def test_started_twice(way, box, pidfd, overheard):
    """
    Nor does it leave anything open to say more than once that a program has started, by whatever number.
    """
    master, slave = os.openpty()
    with open(master, "rb"), open(slave, "rb"):
        started = [event(pid=pid) for pid in (0, -1, 5, 0)]
        overheard(jail.exchange, *started, b"x", fds=[master, pidfd] if way == "run_pty" else [pidfd, master])
        with pytest.raises(jail.JailError, match="control socket: "):
            WAYS[way](box)

    assert b"on\n" == box.run(["echo", "on"]).stdout


FILE_ANSWERS = {
    **{name: (said, 1) for name, said in SENSELESS_EVENTS.items()},
    "end_of_file": (b"", 0),
    "fault": (event(EventKind.FAULT, phase=3, op_kind=Step.MESSAGE, err=errno.EBADMSG), 1),
    "fault_of_no_op": (event(EventKind.FAULT, phase=3, op=2**31 - 1, op_kind=1, err=2), 1),
    "started": (event(pid=5), 1),
    "exited": (event(EventKind.EXITED), 1),
    "opened_without_a_descriptor": (event(EventKind.FILE), 0),
}


@pytest.mark.parametrize("name", FILE_ANSWERS)
def test_senseless_answer_about_a_file(name, box, null, overheard):
    """
    Of a file too: what is no answer is a JailError, and its descriptors are closed.
    """
    said, n_fds = FILE_ANSWERS[name]
    overheard(jail.calls, said, fds=[null] * n_fds)
    with pytest.raises(jail.JailError):
        box._session.file(FileCall.OPEN, "/etc/passwd", flags=os.O_RDONLY)


def test_failed_open_with_a_descriptor(box, null, overheard):
    """
    A call that failed has nothing to bring.
    """
    overheard(jail.calls, event(EventKind.FILE, err=errno.EACCES), fds=[null])
    with pytest.raises(PermissionError):
        box._session.file(FileCall.OPEN, "/etc/passwd", flags=os.O_RDONLY)


def enter():
    """
    Make a sandbox, and wait for it.
    """
    with jail.Sandbox():
        raise AssertionError("it was ready")


def run():
    """
    Run a program in one of its own.
    """
    jail.run(["true"])


@pytest.mark.parametrize("act", [enter, run])
@pytest.mark.parametrize("n_fds", [0, 5])
@pytest.mark.parametrize("name", SENSELESS_EVENTS)
def test_senseless_event_instead_of_ready(name, n_fds, act, null, overheard):
    """
    On the control socket it is a JailError too, and nothing is left of the sandbox.
    """
    overheard(jail.spawn, SENSELESS_EVENTS[name], fds=[null] * n_fds)
    with pytest.raises(jail.JailError, match="control socket: ") as caught:
        act()

    assert jail.JailError is type(caught.value)


@pytest.mark.parametrize("act", [enter, run])
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(event(EventKind.STARTED, pid=5), id="started"),
        pytest.param(event(EventKind.EXITED), id="exited"),
        pytest.param(event(EventKind.FILE), id="file"),
        pytest.param(event(EventKind.FAULT, phase=2, op_kind=Step.MESSAGE, err=errno.EBADMSG), id="fault"),
        pytest.param(event(EventKind.FAULT, phase=2, op=2**31 - 1, op_kind=1, err=2), id="fault_of_no_op"),
        pytest.param(b"", id="end_of_file"),
    ],
)
def test_other_event_instead_of_ready(said, act, overheard):
    """
    So is everything else that is not READY.
    """
    overheard(jail.spawn, said)
    with pytest.raises(jail.JailError):
        act()
