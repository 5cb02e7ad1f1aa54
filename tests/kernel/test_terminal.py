"""
The caller's terminal, while a program runs at another one. pty(7), `jail.terminal`
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import psutil
import pytest

from jail.errors import SetupError
from jail.relay import Size
from jail.terminal import Terminal

pytestmark = pytest.mark.program("setsid", "stty")

SECONDS = 30
BIG = 10 << 20
PYTHON = (sys.executable, "-I", "-S", "-c")

# A harness: its arguments are those of the program that runs at a terminal of its own.
HARNESS = """
import os, signal, subprocess, sys
from jail.relay import Size
from jail.terminal import Terminal
def fail(*_): raise RuntimeError
signal.signal(signal.SIGUSR1, fail)
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))
sys.stderr = open(os.devnull, "w")
master, slave = os.openpty()
program = subprocess.Popen(["setsid", "--ctty", *sys.argv[1:]], stdin=slave, stdout=slave, stderr=slave)
os.close(slave)
with Terminal() as terminal:
    terminal.relay(master, os.pidfd_open(program.pid))
os.close(master)
sys.exit(program.wait())
"""

# Leads the session at the caller's terminal and outlives the harness, as a shell does.
LEADER = '"$@"; echo "status:$?"; read x'

# What every program does first. NOFLSH: else the kernel, after it has sent SIGINT, throws away what the program
# has written by then.
HELLO = """
import os, signal, sys, termios
attributes = termios.tcgetattr(0)
attributes[3] |= termios.NOFLSH
termios.tcsetattr(0, termios.TCSANOW, attributes)
def say(*words): print(*words, flush=True)
say(f"harness:{os.getppid()}.")
"""

# Tells what it is typed and what signals it gets.
PROGRAM = f"""
import os, signal, threading
heard = {{signal.SIGINT, signal.SIGWINCH}}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
{HELLO}
def listen():
    while number := signal.sigwait(heard):
        say("interrupted") if number == signal.SIGINT else say("size:", *os.get_terminal_size(0))
threading.Thread(target=listen, daemon=True).start()
for line in sys.stdin:
    say("got", line.strip())
say("end of input")
"""


class User:
    """
    Sits at a terminal, at which a shell runs a script.
    """

    def __init__(self, script, *args):
        self.fd, slave = os.openpty()
        self.set_odd_attributes()
        Size(30, 100).apply(self.fd)
        cmd = ["setsid", "--ctty", "sh", "-c", script, "sh", *args]
        self.process = subprocess.Popen(cmd, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = bytearray()

    def set_odd_attributes(self):
        """
        Some that no program sets by itself, so that a reset to the usual ones is seen.
        """
        attributes = termios.tcgetattr(self.fd)
        attributes[3] &= ~termios.ECHOCTL
        attributes[6][termios.VKILL] = b"\x18"
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        self.attributes = termios.tcgetattr(self.fd)

    def is_raw(self):
        """
        Whether what is typed is neither echoed, nor edited, nor made signals of, and nothing shown is changed.
        """
        _, oflag, _, lflag, *_ = termios.tcgetattr(self.fd)
        local = termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN
        return not lflag & local and not oflag & termios.OPOST

    def type(self, keys):
        """
        Type.
        """
        os.write(self.fd, keys)

    def await_text(self, text):
        """
        Read until this is shown, and give all that was, up to its end.
        """
        deadline = time.monotonic() + SECONDS
        looked = 0
        while self.seen.find(text, looked) < 0:
            looked = max(0, len(self.seen) - len(text))
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {bytes(self.seen)[-500:]!r}"
            self.seen += os.read(self.fd, 65536)
        end = self.seen.index(text) + len(text)
        shown = bytes(self.seen[:end])
        del self.seen[:end]
        return shown

    def await_harness(self):
        """
        The harness, when the program is there.
        """
        self.await_text(b"harness:")
        return psutil.Process(int(self.await_text(b".")[:-1]))

    def end(self):
        """
        Leave nothing.
        """
        everyone = [*psutil.Process(self.process.pid).children(recursive=True), self.process]
        for process in everyone:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def user():
    """
    Starts shells at terminals, and ends them with all that they have started.
    """
    started = []

    def user(script, *args):
        started.append(User(script, *args))
        return started[-1]

    yield user
    for one in started:
        one.end()


@pytest.fixture
def session(user):
    """
    A user whose shell runs the harness with some program, which is there.
    """

    def session(code=PROGRAM, script=LEADER):
        one = user(script, sys.executable, "-c", HARNESS, *PYTHON, code)
        return one, one.await_harness()

    return session


def await_true(condition):
    """
    Ask until it is so.
    """
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "too late"
        select.select([], [], [], 0.01)  # nothing tells when a terminal's attributes change


def test_both_ways(session):
    """
    What is typed reaches the program, and what that writes is shown; Ctrl-D ends its input, and its exit code
    is the harness's.
    """
    user, _ = session()
    assert user.is_raw()
    user.type(b"hello\r")
    user.await_text(b"got hello\r\n")
    user.type(b"\x04")
    user.await_text(b"end of input\r\n")
    user.await_text(b"status:0\r\n")


def test_interrupt_goes_inside(session):
    """
    Ctrl-C is a byte to the caller's terminal and SIGINT to the program, after which both go on.
    """
    user, harness = session()
    user.type(b"\x03")
    user.await_text(b"interrupted")
    user.type(b"on\r")
    user.await_text(b"got on")
    assert harness.is_running()


def test_resize(session):
    """
    The program's terminal gets the size of the caller's whenever that changes.
    """
    user, _ = session()
    for rows, columns in (31, 101), (50, 132):
        Size(rows, columns).apply(user.fd)
        user.await_text(f"size: {columns} {rows}\r\n".encode())


def test_size_at_the_start(user):
    """
    A program that looks at once sees the caller's size.
    """
    one = user(LEADER, sys.executable, "-c", HARNESS, "sh", "-c", "read x; stty size")
    await_true(one.is_raw)
    one.type(b"\r")
    one.await_text(b"30 100\r\n")


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(None, 0, id="report_end"),
        pytest.param(signal.SIGUSR1, 1, id="report_exception"),
        pytest.param(signal.SIGUSR2, 7, id="report_system_exit"),
        pytest.param(signal.SIGINT, 130, id="report_keyboard_interrupt"),
        pytest.param(signal.SIGTERM, 143, id="report_sigterm"),
        pytest.param(signal.SIGHUP, 129, id="report_sighup"),
        pytest.param(signal.SIGQUIT, 131, id="report_sigquit"),
    ],
)
def test_attributes_are_restored(session, number, status):
    """
    However the harness ends, the terminal is as it was, and the exit status is the one that belongs to it.
    """
    user, harness = session()
    assert user.is_raw()
    if number is None:
        user.type(b"\x04")
    else:
        harness.send_signal(number)
    user.await_text(f"status:{status}\r\n".encode())

    assert user.attributes == termios.tcgetattr(user.fd)


def test_attributes_are_restored_at_exit(user):
    """
    Even by a harness that enters and never leaves.
    """
    code = "from jail.terminal import Terminal; terminal = Terminal(); terminal.__enter__(); input()"
    one = user(LEADER, sys.executable, "-c", code)
    await_true(one.is_raw)
    one.type(b"\n")
    one.await_text(b"status:0\r\n")

    assert one.attributes == termios.tcgetattr(one.fd)


def test_child_leaves_the_terminal_alone(user):
    """
    A process that a harness forks, and that ends by itself or by a signal, restores nothing,
    and makes nothing raw that was restored since.
    """
    code = """
import os, signal, sys
from jail.terminal import Terminal
with Terminal():
    for act in (sys.exit, lambda: signal.raise_signal(signal.SIGTERM)):
        if not (pid := os.fork()):
            act()
        os.waitpid(pid, 0)
    print("forked", flush=True)
    input()
    if not (pid := os.fork()):
        os.read(0, 1)
        signal.raise_signal(signal.SIGCONT)
        os._exit(0)
print("left", flush=True)
os.waitpid(pid, 0)
"""
    one = user(LEADER, sys.executable, "-c", code)
    one.await_text(b"forked")
    assert one.is_raw()
    one.type(b"\n")
    one.await_text(b"left")
    one.type(b"\n")
    one.await_text(b"status:0\r\n")
    assert one.attributes == termios.tcgetattr(one.fd)


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_stop_and_continue(session, number):
    """
    A stopped harness leaves the shell a terminal as it was, if it could; in front again it is raw again.
    """
    stopped = "; echo stopped; read x; fg" * 2
    user, harness = session(script=f'set -m; "$@"{stopped}; echo "status:$?"; read x')
    for _ in range(2):
        harness.send_signal(number)
        user.await_text(b"stopped")
        assert (number == signal.SIGTSTP) == (user.attributes == termios.tcgetattr(user.fd))

        termios.tcsetattr(user.fd, termios.TCSANOW, user.attributes)  # as an interactive shell does
        user.type(b"\n")
        await_true(user.is_raw)
        user.type(b"on\r")
        user.await_text(b"got on")
    user.type(b"\x04")
    user.await_text(b"status:0\r\n")
    assert user.attributes == termios.tcgetattr(user.fd)


def test_background(session):
    """
    A job in the background runs, leaves the terminal alone and is not stopped; it is raw when it is in front.
    """
    user, harness = session(script='set -m; "$@" & read x; fg; echo "status:$?"; read x')
    assert user.attributes == termios.tcgetattr(user.fd)
    assert psutil.STATUS_STOPPED != harness.status()

    user.type(b"\n")
    await_true(user.is_raw)
    user.type(b"on\r")
    user.await_text(b"got on")
    user.type(b"\x04")
    user.await_text(b"status:0\r\n")


def test_to_the_front_without_a_signal(user):
    """
    A job that was in the background is raw as soon as it is typed to: bash sends no SIGCONT to one that runs.
    """
    front = "os.tcsetpgrp(0, os.getpgrp())"
    code = HARNESS.replace("raise RuntimeError", f"signal.signal(signal.SIGTTOU, signal.SIG_IGN); {front}")
    one = user(LEADER, sys.executable, "-c", f"import os; os.setpgid(0, 0)\n{code}", *PYTHON, PROGRAM)
    harness = one.await_harness()
    assert one.attributes == termios.tcgetattr(one.fd)
    harness.send_signal(signal.SIGUSR1)
    await_true(lambda: os.tcgetpgrp(one.fd) == harness.pid)
    one.type(b"on\r")
    one.await_text(b"got on")
    assert one.is_raw()


def test_restored_from_the_background(user):
    """
    One that has lost the foreground restores what it has changed, and is not stopped for it.
    """
    code = "import os\nfrom jail.terminal import Terminal\nwith Terminal(): os.setpgid(0, 0)"
    one = user(LEADER, sys.executable, "-c", code)
    one.await_text(b"status:0\r\n")

    assert one.attributes == termios.tcgetattr(one.fd)


def test_end_in_the_background(user):
    """
    A job that has ended in the background has done nothing to the terminal.
    """
    one = user(
        f"set -m; {LEADER.replace(';', '& wait $!;', 1)}", sys.executable, "-c", HARNESS, "echo", "done"
    )
    one.await_text(b"done")
    one.await_text(b"status:0\r\n")

    assert one.attributes == termios.tcgetattr(one.fd)


def test_big_output(session):
    """
    Ten megabytes arrive whole and in order, to the last byte before the end.
    """
    user, _ = session(HELLO + f"print(*('%07d' % n for n in range({BIG} // 8)), sep='\\n')")
    shown = user.await_text(b"status:0\r\n")
    expected = b"\r\n%sstatus:0\r\n" % b"".join(b"%07d\r\n" % n for n in range(BIG // 8))

    assert (len(expected), True) == (len(shown), expected == shown)


def test_user_who_does_not_read(user, tmp_path):
    """
    A flood that nobody reads is held up at its source, with no more kept than the kernel does; nobody spins.
    Ctrl-C still goes in. When the user reads it goes on, and none of it is missing.
    """
    code = f"""
import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
{HELLO}
import select
report, total = open(sys.argv[1], "w", buffering=1), 0
os.set_blocking(1, False)
for _ in range(2):
    while total < {BIG} and select.select([], [1], [], 1.0)[1]:
        total += os.write(1, b"x" * 1024)
    print(os.getppid(), total, file=report)
print(signal.sigwait([signal.SIGINT]), file=report)
os.set_blocking(1, True)
print("and more", flush=True)
"""
    os.mkfifo(tmp_path / "report")
    fd = os.open(tmp_path / "report", os.O_RDWR)
    with open(fd) as report:
        one = user(LEADER, sys.executable, "-c", HARNESS, *PYTHON, code, tmp_path / "report")
        pid, total = map(int, report.readline().split())
        harness = psutil.Process(pid)
        spent = sum(harness.cpu_times()[:2])
        assert [pid, total] == [*map(int, report.readline().split())]
        spent = sum(harness.cpu_times()[:2]) - spent
        one.type(b"\x03")
        assert signal.SIGINT == int(report.readline())

    assert 0 < total < BIG // 2
    assert spent < 0.3
    one.await_text(b".\r\n")
    shown = one.await_text(b"status:0\r\n")
    shown = shown.replace(b"^C", b"")  # its echo, if there was room for it
    assert b"x" * total + b"and more\r\nstatus:0\r\n" == shown


# Reads nothing.
STUCK = f"""
import tty; tty.setraw(0)
import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
{HELLO}
say(f"{{os.getpid()}}.")
signal.sigwait([signal.SIGUSR1])
say("alive")
"""


def type_until_stuck(fd):
    """
    Type at a program that reads nothing; how many bytes were taken.
    """
    typed = 0
    os.set_blocking(fd, False)
    while typed < BIG and select.select([], [fd], [], 1.0)[1]:
        with contextlib.suppress(BlockingIOError):
            typed += os.write(fd, b"x" * 4096)
    os.set_blocking(fd, True)
    return typed


def test_program_that_does_not_read(session):
    """
    What is typed and not taken is not kept either: the caller's terminal fills up, and its output still flows.
    """
    user, harness = session(STUCK)
    pid = int(user.await_text(b".")[:-1])
    typed = type_until_stuck(user.fd)
    spent = sum(harness.cpu_times()[:2])
    assert [] == select.select([], [user.fd], [], 1.0)[1]
    assert 0 < typed < BIG // 2
    assert sum(harness.cpu_times()[:2]) - spent < 0.3
    os.kill(pid, signal.SIGUSR1)
    user.await_text(b"alive")


def test_idle_costs_nothing(session):
    """
    With a program that has closed its terminal the harness sleeps, and shows what is written to it later.
    """
    code = f"""
{HELLO}
import select
name = os.ttyname(0)
for fd in range(3): os.close(fd)
select.select([], [], [], 1.0)
os.write(os.open(name, os.O_RDWR), b"once more")
"""
    user, harness = session(code)
    spent = sum(harness.cpu_times()[:2])
    user.await_text(b"once more")

    assert sum(harness.cpu_times()[:2]) - spent < 0.3


@pytest.mark.parametrize(
    ("code", "stuck"),
    [
        pytest.param(PROGRAM, False, id="report_hang_up"),
        pytest.param(STUCK, True, id="report_hang_up_with_input_left"),
    ],
)
def test_hang_up(code, stuck):
    """
    Without its terminal a harness that ignores SIGHUP returns.
    """
    harness = HARNESS.replace("with Terminal", "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nwith Terminal")
    harness = harness.replace("sys.exit(program.wait())", "os.write(int(os.environ['OUT']), b'returned')")
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    fd, slave = os.openpty()
    cmd = ["setsid", "--ctty", sys.executable, "-c", harness, *PYTHON, code]
    env = {**os.environ, "OUT": str(write_end)}
    process = subprocess.Popen(cmd, stdin=slave, stdout=slave, stderr=slave, env=env, pass_fds=[write_end])
    os.close(slave)
    os.close(write_end)
    with open(read_end, "rb") as report:
        assert b"harness:" in os.read(fd, 8)
        assert not stuck or 0 < type_until_stuck(fd) < BIG
        os.close(fd)
        assert b"returned" == report.read()
    assert 0 == process.wait(SECONDS)


# In this process: an input and output that are no terminals.


@contextlib.contextmanager
def program(*cmd):
    """
    A program at a terminal of its own: the master, and a pidfd.
    """
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    process = subprocess.Popen(["setsid", "--ctty", *cmd], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    ended = os.pidfd_open(process.pid)
    try:
        yield master, ended
    finally:
        process.kill()
        process.wait()
        os.close(ended)
        os.close(master)


@contextlib.contextmanager
def files(tmp_path, text):
    """
    An input with this text in it, and an output.
    """
    (tmp_path / "input").write_bytes(text)
    with open(tmp_path / "input", "rb") as source, open(tmp_path / "output", "w+b") as sink:
        yield source.fileno(), sink.fileno(), sink


def content(output):
    """
    What was written, from the start.
    """
    output.seek(0)
    return output.read()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"a line\n", id="line"),
        pytest.param(b"a line\nand no more", id="cut"),
        pytest.param(b"%063d\n" % 7 * 20_000, id="big"),
    ],
)
def test_end_of_input(tmp_path, text):
    """
    An input that is no terminal ends for the program as well, in the middle of a line too.
    """
    with files(tmp_path, text) as (source, sink, output), program("cat") as (master, ended):
        with Terminal(source, sink) as terminal:
            terminal.relay(master, ended)
        assert text.replace(b"\n", b"\r\n") == content(output)


def test_end_of_input_once(tmp_path):
    """
    The end is told once: the program that reads on waits, and is waited for.
    """
    code = """
import signal, sys
assert "text\\n" == sys.stdin.read()
signal.signal(signal.SIGALRM, lambda *_: sys.exit("waits"))
signal.setitimer(signal.ITIMER_REAL, 0.5)
print([sys.stdin.readline()])
"""
    with files(tmp_path, b"text\n") as (source, sink, output), program(*PYTHON, code) as (master, ended):
        with Terminal(source, sink) as terminal:
            terminal.relay(master, ended)
        assert b"waits\r\n" == content(output)


@pytest.mark.parametrize(
    ("inert", "shown"),
    [
        pytest.param(False, b"\x1b[31mred\x07\r\n\xc3", id="allow_controls"),  # the control
        pytest.param(True, b"^[[31mred^G\r\n\xc3", id="deny_controls"),
    ],
)
def test_inert(tmp_path, inert, shown):
    """
    The output is made inert if that is asked for, to the last byte.
    """
    cmd = ("printf", r"\033[31mred\007\n\303")
    with files(tmp_path, b"") as (source, sink, output), program(*cmd) as (master, ended):
        with Terminal(source, sink) as terminal:
            terminal.relay(master, ended, inert=inert)
        assert shown == content(output)


@contextlib.contextmanager
def slow_output(pause=0.0, most=1 << 30):
    """
    A small pipe, and what has been read from it, with a pause before each page: at `most` bytes it is closed.
    """
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    got = bytearray()

    def read():
        while len(got) < most and (piece := os.read(read_end, 4096)):
            got.extend(piece)
            select.select([], [], [], pause)
        os.close(read_end)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield write_end, got
    finally:
        os.close(write_end)
        reader.join()


def test_both_ways_at_once(tmp_path):
    """
    Much of both input and output, faster than either side takes it, arrives whole.
    """
    text = b"".join(b"%063d\n" % n for n in range(20_000))
    with (
        files(tmp_path, text) as (source, _, _),
        slow_output() as (sink, got),
        program("cat") as (master, ended),
        Terminal(source, sink) as terminal,
    ):
        terminal.relay(master, ended)
    assert text.replace(b"\n", b"\r\n") == got


@pytest.mark.timeout(60)
def test_others_who_write_on(tmp_path):
    """
    What a program leaves running at its terminal does not hold up the end.
    """
    cmd = ("sh", "-c", "trap '' HUP; yes & head -c 200000 /dev/zero")
    with files(tmp_path, b"") as (source, _, _), slow_output(0.001, 4 << 20) as (sink, got):
        with program(*cmd) as (master, ended), Terminal(source, sink) as terminal:
            terminal.relay(master, ended)
        assert b"y" in got
    assert 200_000 == got.count(b"\0")


@contextlib.contextmanager
def users_terminal():
    """
    A terminal that is no session's: both ends of it.
    """
    ends = os.openpty()
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


def test_what_is_the_callers_is_given_back():
    """
    Handlers, the wake-up descriptor and the blocking modes are the same after as before.
    """

    def state():
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        wake = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wake)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return handlers, wake, blocked, [os.get_blocking(fd) for fd in (master, slave)]

    with users_terminal() as (_, slave), program("true") as (master, ended):
        before = state()
        with Terminal(slave, slave) as terminal:
            assert before != state()
            terminal.relay(master, ended)
        assert before == state()


def test_handler_of_the_caller(monkeypatch):
    """
    The caller's own handler is called with the terminal as it was; when it returns the terminal is raw again.
    """
    with users_terminal() as (_, slave):
        states = [termios.tcgetattr(slave)]
        previous = signal.signal(signal.SIGTERM, lambda *_: states.append(termios.tcgetattr(slave)))
        try:
            with Terminal(slave, slave):
                raw = termios.tcgetattr(slave)
                signal.raise_signal(signal.SIGTERM)
                assert raw == termios.tcgetattr(slave)
        finally:
            signal.signal(signal.SIGTERM, previous)

    assert states[0] == states[1] != raw


def test_ignored_signal_stays_ignored():
    """
    Under nohup(1) a hang-up is none.
    """
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with users_terminal() as (_, slave), Terminal(slave, slave):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_not_the_main_thread():
    """
    A thread, which hears no signals, relays as well, and sees another size when it looks again.
    """
    code = "import os\nprint('ready', flush=True)\ninput()\nprint(*os.get_terminal_size(0), flush=True)"
    with users_terminal() as (user, slave), program(*PYTHON, code) as (master, ended):
        before = termios.tcgetattr(slave)

        def work():
            with Terminal(slave, slave) as terminal:
                terminal.relay(master, ended)

        thread = threading.Thread(target=work)
        thread.start()
        await_true(lambda: before != termios.tcgetattr(slave))
        assert b"ready\r\n" == os.read(user, 100)
        Size(50, 132).apply(user)
        await_true(lambda: Size(50, 132) == Size.of(master))
        os.write(user, b"\r")
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert before == termios.tcgetattr(slave)
        assert b"132 50\r\n" == os.read(user, 100)


def test_output_that_nobody_reads(tmp_path):
    """
    A pipe whose reader is gone is an error of the caller's output, not the program's end.
    """
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with (
            files(tmp_path, b"") as (source, _, _),
            program("echo", "text") as (master, ended),
            Terminal(source, write_end) as terminal,
            pytest.raises(BrokenPipeError),
        ):
            terminal.relay(master, ended)
    finally:
        os.close(write_end)


def test_output_that_is_hung_up():
    """
    A terminal that is hung up under the output, with an input of another kind, ends it without an error.
    """
    user, slave = os.openpty()
    read_end, write_end = os.pipe()

    def hang_up():
        assert b"first\r\r\n" == os.read(user, 100)
        os.close(user)
        os.write(write_end, b"\n")

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        cmd = ("sh", "-c", "echo first; read x; echo second; exec sleep 1000")
        with program(*cmd) as (master, ended), Terminal(read_end, slave) as terminal:
            terminal.relay(master, ended)
    finally:
        thread.join()
        for fd in (slave, read_end, write_end):
            os.close(fd)


def test_no_master(tmp_path):
    """
    What is not the master of a pseudoterminal is refused before a byte is moved.
    """
    with files(tmp_path, b"text") as (source, sink, output):
        with Terminal(source, sink) as terminal, pytest.raises(SetupError) as caught:
            terminal.relay(source, source)
        assert (errno.ENOTTY, b"") == (caught.value.errno, content(output))


def test_size(tmp_path):
    """
    A terminal has the size that it is given; one without, and what is none, has 24 rows of 80 columns.
    """
    with users_terminal() as (master, slave), files(tmp_path, b"") as (source, _, _):
        assert [Size(24, 80)] * 2 == [Size.of(slave), Size.of(source)]
        Size(50, 132).apply(master)
        assert Size(50, 132) == Size.of(slave)
        with pytest.raises(termios.error):
            Size(50, 132).apply(source)
