"""
The first bytes of a connection to a name: what is judged is what is sent. `jail.sniffer`, tcp(7), sendfile(2)
"""

import os
import select
import socket
import threading

import pytest

from jail import sniffer
from jail.greeting import GREETING_BYTES_MAX
from jail.reactor import Reactor
from jail.sniffer import Sniffer

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
GOOD = b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
EVIL = GOOD.replace(b"good", b"evil")


@pytest.fixture
def connect():
    """
    Makes connections over loopback: the end that writes, or is written to, and the harness's.
    """
    made = []

    def connect():
        with socket.create_server(("127.0.0.1", 0)) as server:
            made.append(socket.create_connection(server.getsockname()))
            made.append(server.accept()[0])
        made[-1].setblocking(False)
        made[-2].settimeout(PATIENCE)
        return made[-2], made[-1]

    yield connect
    for sock in made:
        sock.close()


@pytest.fixture
def reactor():
    """
    The thread that all of it is done in.
    """
    reactor = Reactor("jail-test")
    yield reactor
    reactor.stop()


def await_bytes(sock):
    """
    Wait until there is something to read, or the end.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)


def test_deny_changed_pages(connect, reactor, monkeypatch):
    """
    A program that sends pages of a file, and has another Host in them once they were judged, has sent what was judged.
    The control: the same file, sent after that, is refused.
    """
    judge = sniffer.judge_greeting
    memory = os.memfd_create("greeting")
    os.write(memory, GOOD)

    def judged(*args, **options):
        verdict = judge(*args, **options)
        os.pwrite(memory, EVIL, 0)
        return verdict

    monkeypatch.setattr(sniffer, "judge_greeting", judged)
    seen = []
    for _ in range(2):
        (program, ours), (server, other) = connect(), connect()
        os.sendfile(program.fileno(), memory, 0, len(GOOD))
        await_bytes(ours)
        seen.append(Sniffer(reactor, "good.example").listen(ours, other).allowed)
        other.close()
        seen.append(server.recv(len(GOOD)))
    os.close(memory)

    assert [True, GOOD, False, b""] == seen


def wait_for(reactor, program, other, greeter):
    """
    Have it go on with copies, and what it calls back with.
    """
    told, verdicts = threading.Event(), []

    def on_end(verdict):
        verdicts.append(verdict)
        told.set()

    reactor.call(lambda: greeter.wait(program, other, on_end))
    return told, verdicts


def test_allow_in_pieces(connect, reactor):
    """
    What comes in pieces is judged when they tell, and passed on whole and once.
    """
    (program, ours), (server, other) = connect(), connect()
    greeter = Sniffer(reactor, "good.example")
    assert greeter.listen(ours, other) is None
    told, verdicts = wait_for(reactor, ours, other, greeter)
    for piece in (GOOD[:3], GOOD[3:20], GOOD[20:]):
        program.sendall(piece)
    assert told.wait(PATIENCE)
    program.sendall(b"more")  # which is the mover's to pass on

    assert [True] == [verdict.allowed for verdict in verdicts]
    assert len(GOOD) == greeter.size
    await_bytes(ours)
    assert (b"more", GOOD) == (ours.recv(100), server.recv(100))


def test_allow_to_a_slow_server(connect, reactor):
    """
    What a server does not take yet is sent when it does, and not a byte is lost.
    """
    (program, ours), (server, other) = connect(), connect()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    filled = 0
    while True:
        try:
            filled += other.send(bytes(1000))
        except BlockingIOError:
            break
    greeter = Sniffer(reactor, "good.example")
    said = GOOD.ljust(GREETING_BYTES_MAX, b"x")
    program.sendall(said)
    await_bytes(ours)
    assert greeter.listen(ours, other) is None
    told, verdicts = wait_for(reactor, ours, other, greeter)
    received = b""
    while len(received) < filled + len(said):
        received += server.recv(1 << 16)
    assert told.wait(PATIENCE)

    assert [True] == [verdict.allowed for verdict in verdicts]
    assert said == received[filled:]


@pytest.mark.parametrize(
    ("said", "allowed"),
    [(b"", True), (b"word", True), (GOOD[:-4], True), (EVIL[:-4], False), (b"\x16\x03\x01", False)],
)
def test_end(said, allowed, connect, reactor):
    """
    What ends before it tells is judged as it is.
    """
    (program, ours), (_, other) = connect(), connect()
    greeter = Sniffer(reactor, "good.example")
    assert greeter.listen(ours, other) is None
    told, verdicts = wait_for(reactor, ours, other, greeter)
    program.sendall(said)
    program.shutdown(socket.SHUT_WR)
    assert told.wait(PATIENCE)

    assert [allowed] == [verdict.allowed for verdict in verdicts]


def test_reset(connect, reactor):
    """
    A program that resets its connection has not ended it: there is no verdict.
    """
    (program, ours), (_, other) = connect(), connect()
    told, verdicts = wait_for(reactor, ours, other, Sniffer(reactor, "good.example"))
    program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    program.close()
    assert told.wait(PATIENCE)

    assert [None] == verdicts
