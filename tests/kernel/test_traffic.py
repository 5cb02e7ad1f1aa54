"""
The mover of bytes: what comes at one socket goes out at the other, whole, in order, and no faster than it is taken.
"""

import functools
import os
import random
import signal
import socket
import threading
from contextlib import ExitStack

import pytest

from jail.traffic import _CUT, _ORDER, enter, leave

PIPES = 16  # JAIL_PIPES_MAX of traffic.h
LOTS = 24 << 20  # more than two sockets and a pipe hold

pytestmark = pytest.mark.needs("proc")


class Mover:
    """
    One with an account; `pair` gives the two far ends of a pair, and what is set when that has ended.
    """

    def __init__(self, most=0):
        self.traffic = enter()
        self.account = self.called(lambda: self.traffic.open_account(most))
        self.numbers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.called(lambda: self.traffic.close_account(self.account))
        leave(self.traffic)

    def called(self, call):
        """
        What a function gives in the network thread.
        """
        given = []
        self.traffic.reactor.call(lambda: given.append(call()))
        return given[0]

    def pair(self, first=b""):
        """
        See the class; `first` has come at the mover's before it is one.
        """
        (far, program), (outside, other) = tcp_pair(), tcp_pair()
        far.sendall(first)
        ended = threading.Event()
        add = self.traffic.add
        self.numbers.append(self.called(lambda: add(program, other, self.account, ended.set)))
        return far, outside, ended

    def pipes(self):
        """
        Of the mover's pipes: how many are open, how many are taken, and the bytes in all of them.
        """
        pipes = self.traffic._mover.pipes
        return tuple(sum(getattr(pipe, what) for pipe in pipes) for what in ("is_open", "is_taken", "held"))


def tcp_pair():
    """
    Both ends of a connection: ours, and the mover's, which waits, as accept(2) makes it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname(), 60)
        return sock, server.accept()[0]


def send(sock, data):
    """
    Send all of it and end, in a thread.
    """

    def run():
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def receive(sock):
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def stuff(sock):
    """
    Send until nothing is taken any more: the number of bytes.
    """
    sent, sock_timeout = 0, sock.gettimeout()
    sock.settimeout(0.3)
    try:
        while True:
            sent += sock.send(bytes(1 << 20))
    except TimeoutError:
        return sent
    finally:
        sock.settimeout(sock_timeout)


def test_both_ways_at_once():
    """
    A bulk in either direction, the one while the other comes.
    """
    up, down = random.Random(1).randbytes(LOTS), random.Random(2).randbytes(LOTS)
    with Mover() as mover:
        far, outside, ended = mover.pair()
        with far, outside:
            threads = [send(far, up), send(outside, down)]
            got = []
            reader = threading.Thread(target=lambda: got.append(receive(outside)))
            reader.start()
            assert down == receive(far)
            reader.join()
            assert up == got[0]
            assert ended.wait(20)
            for thread in threads:
                thread.join()
        assert (len(up), len(down)) == mover.account.moved
        assert (0, 0) == mover.pipes()[1:]
        assert mover.pipes()[0] >= 1


@pytest.mark.parametrize("size", [1, 4096, 4097, 50000])
def test_what_has_come_before(size):
    """
    Bytes that were there first go first, whole, and are counted.
    """
    first = random.Random(size).randbytes(size)
    with Mover() as mover:
        far, outside, ended = mover.pair(first)
        with far, outside:
            thread = send(far, b"end")
            assert first + b"end" == receive(outside)
            thread.join()
        assert ended.wait(20)
        assert (size + 3, 0) == mover.account.moved


def test_a_limit_holds_for_what_has_come_before():
    """
    The first bytes alone may be too many.
    """
    with Mover(most=9) as mover:
        far, outside, ended = mover.pair(b"ten bytes.")
        with far, outside:
            assert ended.wait(20)
            with pytest.raises(ConnectionResetError):
                far.recv(1)


def test_urgent_byte_in_a_bulk():
    """
    splice(2) takes a byte that is urgent for the end: it is not, and what comes behind it comes.
    """
    data = random.Random(5).randbytes(LOTS)
    with Mover() as mover:
        far, outside, ended = mover.pair()
        with far, outside:

            def run():
                far.sendall(data)
                far.send(b"!", socket.MSG_OOB)
                far.sendall(data)
                far.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=run)
            thread.start()
            assert data + data == receive(outside)
            thread.join()
        assert ended.wait(20)


def test_a_server_that_sent_more_than_fits_before():
    """
    A pair that is stuck in the moment that it begins goes on when there is room.
    """
    with Mover() as mover:
        for _ in range(50):
            (far, program), (outside, other) = tcp_pair(), tcp_pair()
            program.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            ended = threading.Event()
            thread = send(outside, bytes(1 << 20))
            while len(other.recv(1 << 20, socket.MSG_PEEK)) < 1 << 15:
                pass
            mover.called(functools.partial(mover.traffic.add, program, other, mover.account, ended.set))
            with far, outside:
                far.shutdown(socket.SHUT_WR)
                assert 1 << 20 == len(receive(far))
                thread.join()
            assert ended.wait(20)


def test_silence_after_a_bulk():
    """
    One pair that has had much and now has nothing holds up no other.
    """
    with Mover() as mover:
        far, outside, ended = mover.pair()
        near, beyond, done = mover.pair()
        with far, outside, near, beyond:
            thread = threading.Thread(target=lambda: far.sendall(bytes(LOTS)))
            thread.start()
            left = LOTS
            while left:
                left -= len(outside.recv(1 << 20))
            thread.join()
            near.sendall(b"word")
            assert b"word" == beyond.recv(10)
        assert ended.wait(20)
        assert done.wait(20)


def test_small_pieces_need_no_pipe():
    """
    A pipe costs two descriptors: none is opened for what fits into the buffer.
    """
    with Mover() as mover:
        far, outside, ended = mover.pair()
        with far, outside:
            for _ in range(50):
                far.sendall(b"word")
                assert b"word" == outside.recv(10)
        assert ended.wait(20)
        assert (0, 0, 0) == mover.pipes()


def test_more_that_are_stuck_than_there_are_pipes():
    """
    Whoever is not read from keeps a pipe; those that find none are copied, and all of it comes through.
    """
    data = random.Random(3).randbytes(LOTS)
    with Mover() as mover, ExitStack() as stack:
        pairs = [mover.pair() for _ in range(PIPES + 3)]
        threads = [send(far, data) for far, _, _ in pairs[:-1]]
        far, outside, ended = pairs[-1]
        with far, outside:
            thread = send(far, data)
            assert data == receive(outside)
            thread.join()
        assert ended.wait(20)
        for far, outside, _ in pairs[:-1]:
            stack.enter_context(far)
            stack.enter_context(outside)
        assert [True] * (PIPES + 2) == [data == receive(outside) for _, outside, _ in pairs[:-1]]
        for thread in threads:
            thread.join()
        for far, outside, ended in pairs[:-1]:
            far.close()
            outside.close()
            assert ended.wait(20)
        assert (0, 0) == mover.pipes()[1:]


def test_what_is_not_taken_is_not_fetched():
    """
    A sender is held back by a receiver that does not read: between them is what sockets and one pipe hold.
    """
    with Mover() as mover:
        far, outside, ended = mover.pair()
        with far, outside:
            sent = stuff(far)
            moved = mover.account.moved[0]
            assert 0 < mover.pipes()[2] <= 262144
            assert moved < sent
        assert ended.wait(20)


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_an_end_with_bytes_on_the_way(how):
    """
    What is in a pipe goes with its pair, and never into another's.
    """
    with Mover() as mover:
        far, outside, ended = mover.pair()
        with far, outside:
            stuff(far)
            assert 0 < mover.pipes()[2]
            if how == "cut":
                mover.traffic.cut(mover.numbers[0])
            else:
                outside.close()
            assert ended.wait(20)
            assert (0, 0, 0) == mover.pipes()
        far, outside, ended = mover.pair()
        with far, outside:
            data = random.Random(4).randbytes(LOTS)
            thread = send(far, data)
            assert data == receive(outside)
            thread.join()
        assert ended.wait(20)


def test_a_reset_raises_no_signal():
    """
    A harness that has not ignored SIGPIPE, as Python does, survives those who go away in a bulk.
    """
    handler = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with Mover() as mover:
            for _ in range(20):
                far, outside, ended = mover.pair()
                with far, outside:
                    thread = threading.Thread(target=lambda sock=far: stuff_until_reset(sock))
                    thread.start()
                    outside.recv(LOTS)
                    outside.close()
                    thread.join()
                assert ended.wait(20)
    finally:
        signal.signal(signal.SIGPIPE, handler)


def test_a_limit_holds_in_a_bulk():
    """
    An account that has moved too much is cut within a piece of it.
    """
    most = 8 << 20
    with Mover(most) as mover:
        far, outside, ended = mover.pair()
        with far, outside:
            thread = threading.Thread(target=lambda: stuff_until_reset(far))
            thread.start()
            with pytest.raises(ConnectionError):
                receive(outside)
            thread.join()
        assert ended.wait(20)
        assert most < mover.account.moved[0] <= most + (1 << 20)


def stuff_until_reset(sock):
    with pytest.raises(ConnectionError):
        while True:
            sock.sendall(bytes(1 << 20), socket.MSG_NOSIGNAL)


def test_an_order_that_comes_too_late():
    """
    A pair that has ended by itself may be told to end all the same, when its number is another's already.
    """
    with Mover() as mover:
        far, outside, ended = mover.pair()
        serial = mover.traffic._pairs[mover.numbers[0]].serial
        far.close()
        outside.close()
        assert ended.wait(20)
        far, outside, ended = mover.pair()
        with far, outside:
            os.write(mover.traffic._orders, _ORDER.pack(_CUT, mover.numbers[0], serial))
            far.sendall(b"word")
            assert b"word" == outside.recv(10)
        assert mover.numbers[0] == mover.numbers[1]
        assert ended.wait(20)
