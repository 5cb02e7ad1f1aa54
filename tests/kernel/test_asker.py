"""
Which process inside was refused something on its network. proc_pid_net(5), proc_pid_fd(5)

Where the harness connects programs' sockets: test_broker.py.
"""

import json
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"
PORT = 4567

# Says who it is, and does one thing.
PROGRAM = """
import ctypes, os, socket, sys, threading
comm = bytes.fromhex(sys.argv[1])
ctypes.CDLL(None).prctl(15, comm, 0, 0, 0)  # PR_SET_NAME
print(os.getpid(), flush=True)
P = int(sys.argv[2])
try: exec(sys.argv[3])
except OSError as exc: sys.exit(abs(exc.errno) or 99)
"""

TCP = "s = socket.create_connection(('10.0.0.1', P), 20); s.recv(1)"
TCP_6 = "s = socket.create_connection(('2001:db8::1', P), 20); s.recv(1)"
DUAL = "s = socket.socket(socket.AF_INET6); s.settimeout(20); s.connect(('::ffff:10.0.0.1', P)); s.recv(1)"
NAME = "socket.getaddrinfo('other.test', P)"
NAME_BY_TCP = """
s = socket.create_connection(('127.0.0.1', 53), 20)
question = bytes.fromhex('000101000001000000000000056f746865720474657374000001' '0001')
s.sendall(len(question).to_bytes(2, 'big') + question); s.recv(1)
"""
# Once a name is answered, twice, what was sent before has been looked at.
UDP = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); {connect}
s.sendto(b'x', ('10.0.0.1', P))
for _ in range(2): socket.getaddrinfo('known.test', P)
"""
CHILD = (
    """
pid = os.fork()
if pid: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(os.getpid(), flush=True)
"""
    + TCP
)
THREAD = """
def act():
    ctypes.CDLL(None).prctl(15, b"a thread", 0, 0, 0)
    socket.create_connection(("10.0.0.1", P), 20).recv_into(bytearray(1))
threading.excepthook = lambda _: None
t = threading.Thread(target=act); t.start(); t.join()
"""


CHILD_OF_THREAD = f"""
def act():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) if (pid := os.fork()) else None
    print(os.getpid(), flush=True)
    try: exec({TCP!r})
    finally: os._exit(0)
t = threading.Thread(target=act); t.start(); t.join()
"""


@pytest.fixture
def box():
    """
    A sandbox whose programs find listeners, and may connect nowhere that they try to.
    """
    rules = [f"192.0.2.1:{PORT}", f"192.0.2.1:{PORT}/udp", f"[2001:db8::2]:{PORT}", f"known.test:{PORT}"]
    with jail.Sandbox(network=rules, timeout=120) as box:
        yield box


def attempt(box, code, comm=b"a program"):
    """
    A program that tries, as it is called and numbered by itself.
    """
    result = box.run([PYTHON, "-I", "-c", PROGRAM, comm.hex(), str(PORT), code], text=True)
    assert "" == result.stderr
    return result, int(result.stdout.split()[-1])


@pytest.mark.parametrize(
    ("code", "subject"),
    [
        pytest.param(TCP, "10.0.0.1", id="tcp"),
        pytest.param(TCP_6, "2001:db8::1", id="tcp_of_ipv6"),
        pytest.param(DUAL, "10.0.0.1", id="ipv4_of_an_ipv6_socket"),
        pytest.param(CHILD, "10.0.0.1", id="child"),
        pytest.param(THREAD, "10.0.0.1", id="thread"),
        pytest.param(CHILD_OF_THREAD, "10.0.0.1", id="child_of_a_thread"),
        pytest.param(NAME, "other.test", id="name"),
        pytest.param(NAME_BY_TCP, "other.test", id="name_by_tcp"),
        pytest.param(UDP.format(connect=""), "10.0.0.1", id="udp"),
        pytest.param(UDP.format(connect="s.connect(('10.0.0.1', P))"), "10.0.0.1", id="udp_connected"),
    ],
)
def test_report_asker(code, subject, box):
    """
    A denial has what the process is called that has asked, and its pid as the sandbox has it.
    """
    result, pid = attempt(box, code)

    assert [(subject, "a program", pid)] == [(d.subject, d.comm, d.pid) for d in result.denials]
    assert f'(asked for by "a program", pid {pid}). To allow it: ' in str(result.denials[0])
    found = json.loads(result.to_json())["denials"][0]
    assert ("a program", pid, str(result.denials[0])) == (found["comm"], found["pid"], found["text"])


# The first process has closed its socket, or is gone, before anybody looks: the harness is at work until then.
CLOSED = "s = socket.create_connection(('10.0.0.1', P), 20); s.close()"
GONE = """
s = socket.create_connection(('10.0.0.1', P), 20)
os._exit(0)
"""


@pytest.mark.parametrize("code", [CLOSED, GONE], ids=["closed", "gone"])
def test_report_no_asker_who_is_gone(code, box):
    """
    Who has ended before it is looked for is not known, and what it was refused is told without it.
    """
    reactor, done = box._session.gateway.reactor, threading.Event()
    reactor.submit(done.wait)
    try:
        command = [PYTHON, "-I", "-c", PROGRAM, b"x".hex(), str(PORT), code]
        with box.popen(command, stdout=jail.DEVNULL) as process:
            assert 0 == process.wait()
    finally:
        done.set()
    _, pid = attempt(box, TCP.replace("10.0.0.1", "10.0.0.2"))

    assert [("10.0.0.1", None, None), ("10.0.0.2", "a program", pid)] == [
        (d.subject, d.comm, d.pid) for d in box.denials
    ]
    assert f"network: 10.0.0.1, port {PORT}: 10.0.0.1 is private, and no rule names it. To allow it" in str(
        box.denials[0]
    )


@pytest.mark.parametrize(
    ("comm", "shown", "quoted"),
    [
        pytest.param(b"\x1b[2J\x1b]0;x\x07", "^[[2J^[]0;x^G", '"^[[2J^[]0;x^G"', id="escape_sequences"),
        pytest.param(b"a\nb\rc\td", "a^Jb^Mc^Id", '"a^Jb^Mc^Id"', id="lines"),
        pytest.param(b'x", pid 1). "\\', 'x", pid 1). "\\', '"x\\", pid 1). \\"\\\\"', id="words_of_ours"),
        pytest.param(
            "\u202eevil\u2066".encode(), "<U+202E>evil<U+2066>", '"<U+202E>evil<U+2066>"', id="order"
        ),
        pytest.param(b"\xff\xc3\x9b", "\\udcff\u00db", '"\\\\udcff\u00db"', id="no_text"),
        pytest.param(b"", "", '""', id="nothing"),
    ],
)
def test_report_asker_as_text(comm, shown, quoted, box):
    """
    What a program calls itself is told without control characters, and in quotation marks that it cannot end.
    """
    result, pid = attempt(box, TCP, comm)

    assert [(shown, pid)] == [(d.comm, d.pid) for d in result.denials]
    assert f"no rule names it (asked for by {quoted}, pid {pid}). To allow it: " in str(result.denials[0])


def test_report_asker_of_each_run(box):
    """
    The same refusal is one in each run, and each has its own asker.
    """
    first, pid = attempt(box, TCP, b"first")
    second, other = attempt(box, TCP, b"second")

    assert [("first", pid)] == [(d.comm, d.pid) for d in first.denials]
    assert [("second", other)] == [(d.comm, d.pid) for d in second.denials]
    assert [("second", other)] == [(d.comm, d.pid) for d in box.denials]


def test_report_asker_to_ask():
    """
    The harness is told who asks; what it answers is for all who ask for the same.
    """
    questions = []

    def ask(question):
        questions.append(question)
        return False

    with jail.Sandbox(network=[f"192.0.2.1:{PORT}"], timeout=120, ask=ask) as box:
        _, pid = attempt(box, TCP)
        denied, _ = attempt(box, TCP, b"another")

    assert [("a program", pid)] == [(question.comm, question.pid) for question in questions]
    assert str(questions[0]).endswith(f' (asked for by "a program", pid {pid})')
    assert ["the harness was asked, and did not allow it"] == [d.why for d in denied.denials]


HIDDEN = f"""
for _ in range(1100): os.dup(0)
{TCP}
"""


def test_report_no_asker_who_hides(box):
    """
    Of a process with a thousand descriptors no more are looked at.
    """
    result, _ = attempt(box, HIDDEN)

    assert [("10.0.0.1", None, None)] == [(d.subject, d.comm, d.pid) for d in result.denials]
