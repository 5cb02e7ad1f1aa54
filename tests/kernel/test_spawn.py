"""
What a failing set-up reports, op by op, and that nothing is left of it. `jail.spawn`, `csrc/run.c`
"""

import errno
import os
import signal
import struct

import pytest

import jail
import jail.spawn
from jail.command import Exec
from jail.exchange import Exchange
from jail.loop import Loop
from jail.notify import notify_op
from jail.ops import AMBIENT, NAMESPACES, Clone, MountAttribute, Op, OpKind, ProcPlace
from jail.wire import RequestKind, Step

pytestmark = pytest.mark.needs("userns")

MAP = Op(OpKind.USERNS_MAP, args=(0, os.geteuid(), 0, os.getegid()))
PRIVATE = Op(OpKind.MOUNT_PRIVATE)
SCRATCH = Op(OpKind.SCRATCH, args=(1 << 20, 1 << 10))
NO_NEW_PRIVS = Op(OpKind.NO_NEW_PRIVS)
USR = Op(OpKind.BIND, "/usr", b"/usr", (int(MountAttribute.RDONLY),))
TREE = (MAP, PRIVATE, SCRATCH, USR)
IN_USR = "/usr/no/such/place"
COVERED = (*TREE, Op(OpKind.COVERS, "/proc/self", args=(1,)), Op(OpKind.PIVOT))


def refusing(call):
    """
    A filter under which one system call is ENOTTY, which no kernel would say of it.
    """
    numbers = {
        "prctl": (157, 167),
        "capset": (126, 91),
        "keyctl": (250, 219),
        "sched_setaffinity": (203, 122),
    }
    x86_64, aarch64 = numbers[call]
    number = {"x86_64": x86_64, "aarch64": aarch64}[jail.probe().arch]
    program = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (6, 0, 0, 0x00050000 | errno.ENOTTY),
        (6, 0, 0, 0x7FFF0000),
    ]
    return Op(OpKind.SECCOMP, data=b"".join(struct.pack("=HBBI", *line) for line in program))


# For each kind: namespaces to be in, ops that succeed, one that fails, and how.
FAULTS = [
    (NAMESPACES, (), Op(OpKind.USERNS_MAP, args=(0, 4711, 0, 4711)), errno.EPERM),
    (Clone.USER, (), PRIVATE, errno.EPERM),
    (Clone.USER, (), SCRATCH, errno.EPERM),
    (NAMESPACES, TREE, Op(OpKind.DIRECTORY, IN_USR, args=(0o755,)), errno.EXDEV),
    (NAMESPACES, (*TREE, Op(OpKind.SYMLINK, "/link", b"x")), Op(OpKind.SYMLINK, "/link", b"x"), errno.EEXIST),
    (NAMESPACES, TREE, Op(OpKind.BIND, "/new", b"/no/such/place", (0,)), errno.ENOENT),
    (NAMESPACES, TREE, Op(OpKind.BIND, "/new", b"/proc/self/exe", (0,)), errno.ELOOP),
    (NAMESPACES, TREE, Op(OpKind.BIND, "/new", b"/usr", (1 << 40,)), errno.EINVAL),
    (NAMESPACES, TREE, Op(OpKind.BIND, IN_USR, b"/usr", (0,)), errno.EXDEV),
    (NAMESPACES, TREE, Op(OpKind.WRITABLE, IN_USR, args=(0o700, 0)), errno.EXDEV),
    (NAMESPACES, TREE, Op(OpKind.FILE, IN_USR, b"text"), errno.EXDEV),
    (NAMESPACES, TREE, Op(OpKind.FILE, "/big", bytes(2 << 20)), errno.ENOSPC),
    (NAMESPACES, TREE, Op(OpKind.HIDE, IN_USR), errno.ENOENT),
    (NAMESPACES & ~Clone.PID, TREE, Op(OpKind.PROC, "/proc", args=(0,)), errno.EPERM),
    (NAMESPACES, TREE, Op(OpKind.DEVPTS, IN_USR), errno.EXDEV),
    (NAMESPACES, TREE, Op(OpKind.OVERLAY, "/over", b"/no/such/place:/usr"), errno.ENOENT),
    (NAMESPACES, (MAP,), Op(OpKind.PIVOT), errno.EBADF),
    (Clone.USER, (), Op(OpKind.LOOPBACK), errno.EPERM),
    (Clone.USER, (), Op(OpKind.LOCAL_ROUTE, args=(2,)), errno.EPERM),
    (NAMESPACES, (MAP,), Op(OpKind.LISTEN, args=(99, 1, 8080)), errno.EAFNOSUPPORT),
    (NAMESPACES, (MAP,), Op(OpKind.LISTEN, args=(2, 1, 80)), errno.EACCES),
    (NAMESPACES, (MAP,), Op(OpKind.LISTEN, args=(2, 1, 8080)), errno.EBADF),  # nobody awaits the socket
    (0, (Op(OpKind.NO_NEW_PRIVS),), Op(OpKind.NOTIFY), errno.EINVAL),
    (0, (Op(OpKind.NO_NEW_PRIVS),), notify_op(os.uname().machine), errno.EBADF),  # nor the listener
    (Clone.USER, (), Op(OpKind.HOSTNAME, data=b"jail"), errno.EPERM),
    (NAMESPACES, (MAP,), Op(OpKind.HOSTNAME, data=b"x" * 65), errno.EINVAL),
    (NAMESPACES, (NO_NEW_PRIVS, refusing("keyctl")), Op(OpKind.KEYRING), errno.ENOTTY),
    (0, (), Op(OpKind.RLIMIT, args=(99, 1, 1)), errno.EINVAL),
    (0, (), Op(OpKind.RLIMIT, args=(7, 2, 1)), errno.EINVAL),
    (0, (), Op(OpKind.LANDLOCK_RULESET, args=(1 << 63, 0, 0)), errno.EINVAL),
    (
        0,
        (Op(OpKind.LANDLOCK_RULESET, args=(1, 0, 0)),),
        Op(OpKind.LANDLOCK_PATH, IN_USR, args=(1, 1)),
        errno.ENOENT,
    ),
    (0, (NO_NEW_PRIVS,), Op(OpKind.LANDLOCK_PATH, "/usr", args=(1, 1)), errno.EBADF),
    (0, (NO_NEW_PRIVS,), Op(OpKind.LANDLOCK_RESTRICT), errno.EBADF),
    (0, (NO_NEW_PRIVS, refusing("capset")), Op(OpKind.CAPABILITIES), errno.ENOTTY),
    (0, (NO_NEW_PRIVS, refusing("prctl")), Op(OpKind.NO_NEW_PRIVS), errno.ENOTTY),
    (0, (NO_NEW_PRIVS, refusing("prctl")), Op(OpKind.UNDUMPABLE), errno.ENOTTY),
    (0, (), Op(OpKind.SUBREAPER, args=(1,)), errno.ENOTRECOVERABLE),
    (0, (NO_NEW_PRIVS, refusing("prctl")), Op(OpKind.SUBREAPER, args=(0,)), errno.ENOTTY),
    (0, (NO_NEW_PRIVS,), Op(OpKind.SECCOMP, data=b"1234567"), errno.EINVAL),
    (0, (NO_NEW_PRIVS,), Op(OpKind.SECCOMP, data=b""), errno.EINVAL),
    (0, (NO_NEW_PRIVS,), Op(OpKind.SECCOMP, data=bytes(8)), errno.EINVAL),
    (0, (), Op(OpKind.PROCESSORS, args=(0,)), errno.EINVAL),
    (0, (NO_NEW_PRIVS, refusing("sched_setaffinity")), Op(OpKind.PROCESSORS, args=(1,)), errno.ENOTTY),
    (0, (), Op(OpKind.WATCH, "/no/such/place", args=(0, 0, 0, ProcPlace.OUTSIDE)), errno.ENOENT),
    (0, (), Op(OpKind.WATCH, "/usr", args=(0, 0, 0, ProcPlace.OUTSIDE)), errno.ENOENT),
    (0, (), Op(OpKind.WATCH, "/proc/self/stat", args=(0, 0, 0, ProcPlace.OUTSIDE)), errno.ENOTDIR),
    (NAMESPACES, TREE, Op(OpKind.WATCH, "/proc", args=(0, 0, 0, ProcPlace.INSIDE)), errno.ENOENT),
    (0, (), Op(OpKind.COVERS, "/no/such/place", args=(1,)), errno.ENOENT),
    (0, (), Op(OpKind.COVERS, "/proc/self", args=(0,)), errno.EINVAL),
    (0, (), Op(OpKind.COVER, "/usr"), errno.EBADF),
    (NAMESPACES, COVERED, Op(OpKind.COVER, "/usr/bin"), errno.ESTALE),  # in a mount, and not its root
    (NAMESPACES, COVERED, Op(OpKind.COVER, "/no/such/place"), errno.ENOENT),
    (
        NAMESPACES,
        (*COVERED, Op(OpKind.COVER, "/usr")),
        Op(OpKind.COVER, "/usr"),
        errno.EINVAL,
    ),  # one too many
]
# It remembers two numbers, and no number is wrong.
WITHOUT_A_FAULT = {OpKind.LIFETIME}


def spawn(flags, setup, each_exec=()):
    """
    A jail-init with this plan.
    """
    return jail.spawn.spawn_init(int(flags), AMBIENT if flags & Clone.MNT else 0, setup, each_exec)


def carry_out(init, number):
    """
    Have /bin/true run to its end; what goes wrong is raised.
    """
    exchange, loop = Exchange(init, number, Exec(args=["/bin/true"], env={}, directory="/")), Loop()
    exchange.attach(loop)
    loop.run_until(lambda: exchange.is_over)
    if exchange.error:
        raise exchange.error


def await_ready(init):
    """
    Wait for the set-up, and have nothing left of it.
    """
    try:
        init.await_ready()
    finally:
        init.close()


def test_every_kind_has_a_fault():
    """
    No kind of op is missing below, but for what makes no call.
    """
    assert set(OpKind) - WITHOUT_A_FAULT == {failing.kind for _, _, failing, _ in FAULTS}


@pytest.mark.parametrize(
    ("flags", "before", "failing", "expected"),
    FAULTS,
    ids=[f"{f[2].kind.name}-{errno.errorcode[f[3]]}" for f in FAULTS],
)
def test_fault(flags, before, failing, expected):
    """
    An op that fails is reported with its place in the plan, its errno, its call and its path; what follows is not done.
    """
    received = []
    init = spawn(flags, [*before, failing, Op(OpKind.RLIMIT, args=(98, 0, 0))])
    init_fault, jail.spawn.Init.fault = (
        jail.spawn.Init.fault,
        lambda self, event: received.append(event) or init_fault(self, event),
    )
    try:
        with pytest.raises(jail.SetupError) as caught:
            await_ready(init)
    finally:
        jail.spawn.Init.fault = init_fault

    assert (len(before), failing.kind, expected) == (received[0].op, received[0].op_kind, received[0].err)
    assert (expected, failing.path or None) == (caught.value.errno, caught.value.path)
    assert "(2)" in caught.value.syscall


@pytest.mark.parametrize(
    ("failing", "expected"),
    [(Op(OpKind.RLIMIT, args=(99, 1, 1)), errno.EINVAL), (Op(OpKind.LANDLOCK_RESTRICT), errno.EBADF)],
)
def test_fault_of_a_program(failing, expected):
    """
    An op that fails for a program is that program's SetupError, and the sandbox goes on.
    """
    init = spawn(0, [NO_NEW_PRIVS], [Op(OpKind.RLIMIT, args=(4, 0, 0)), failing])
    try:
        init.await_ready()
        for number in (1, 2):
            with pytest.raises(jail.SetupError) as caught:
                carry_out(init, number)
            assert expected == caught.value.errno
    finally:
        init.close()


def test_optional():
    """
    An optional op may find nothing, and fails as any other when something else is wrong.
    """
    missing = Op(OpKind.BIND, "/new", b"/no/such/place", (0,), optional=True)
    await_ready(spawn(NAMESPACES, [*TREE, missing, Op(OpKind.PIVOT)]))
    with pytest.raises(jail.SetupError) as caught:
        await_ready(spawn(NAMESPACES, [*TREE, Op(OpKind.BIND, IN_USR, b"/usr", (0,), optional=True)]))
    assert errno.EXDEV == caught.value.errno


def test_missing_jail_init(monkeypatch, tmp_path):
    """
    Where jail-init is missing, or may not be executed, that is a SetupError that names it.
    """
    (tmp_path / "no-program").write_text("x")
    for name, expected in (("missing", errno.ENOENT), ("no-program", errno.EACCES)):
        monkeypatch.setattr(jail.spawn, "INIT_PATH", str(tmp_path / name))
        with pytest.raises(jail.SetupError) as caught:
            spawn(NAMESPACES, [])
        assert (expected, str(tmp_path / name)) == (caught.value.errno, caught.value.path)


def test_refused_clone():
    """
    A clone that is refused is a SetupError of that step.
    """
    with pytest.raises(jail.SetupError, match="start a process") as caught:
        jail.spawn.spawn_init(1 << 63, 0, [], [])

    assert (errno.EINVAL, "clone(2)") == (caught.value.errno, caught.value.syscall)


def test_refused_capability():
    """
    So is a capability that cannot be kept.
    """
    with pytest.raises(jail.SetupError, match="capabilities") as caught:
        jail.spawn.spawn_init(int(Clone.USER), 1 << 63, [], [])

    assert errno.EINVAL == caught.value.errno
    assert Step.CAPABILITIES.name.lower() in caught.value.op


def test_fault_while_a_program_is_asked_for(monkeypatch):
    """
    A fault that happens while the first program is already asked for is reported as itself, not as a lost sandbox.
    """
    real = jail.spawn.Init.request

    def request(self, kind, *args):
        if kind is RequestKind.PLAN:
            signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP)
        real(self, kind, *args)
        if kind is RequestKind.EXEC:
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)

    monkeypatch.setattr(jail.spawn.Init, "request", request)
    init = spawn(NAMESPACES, [*TREE, Op(OpKind.HIDE, IN_USR)])
    try:
        with pytest.raises(jail.SetupError) as caught:
            carry_out(init, 1)
    finally:
        init.close()

    assert (errno.ENOENT, IN_USR) == (caught.value.errno, caught.value.path)
