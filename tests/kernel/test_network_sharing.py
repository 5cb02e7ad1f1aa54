"""
The way out of several sandboxes at once, from threads, from asyncio, and in a forked copy of the harness.
"""

import asyncio
import contextlib
import os
import socket
import threading

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"

TALK = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(sys.argv[3].encode())
s.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: s.recv(99), b"")).decode())
"""


@pytest.fixture
def echo():
    """
    The port of a server that sends back what it gets, one connection after the other.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                conn, _ = server.accept()
                with conn, contextlib.suppress(ConnectionError):
                    while data := conn.recv(999):
                        if data == b"end":
                            return
                        conn.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        yield port
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"end")
        thread.join()


def rules(name, port):
    return {"network": [f"{name}:{port}", f"127.0.0.1:{port}"], "resolver": lambda _: ["127.0.0.1"]}


def talk(name, port, word="word"):
    return [PYTHON, "-I", "-c", TALK, name, str(port), word]


def test_each_has_its_own_names(echo):
    """
    What one sandbox may reach the other may not, though both ask the same harness.
    """
    with jail.Sandbox(**rules("a.test", echo)) as one, jail.Sandbox(**rules("b.test", echo)) as other:
        assert b"word\n" == one.run(talk("a.test", echo)).stdout
        assert b"word\n" == other.run(talk("b.test", echo)).stdout
        for box, name in ((one, "b.test"), (other, "a.test")):
            result = box.run(talk(name, echo))
            assert (1, b"") == (result.exit_code, result.stdout)
            assert [name] == [denial.subject for denial in result.denials]


def test_one_ends_and_the_other_goes_on(echo):
    """
    Connections of one sandbox are cut with it, and of no other.
    """
    with jail.Sandbox(**rules("a.test", echo)) as other:
        for _ in range(5):
            with jail.Sandbox(**rules("a.test", echo)) as one:
                assert b"word\n" == one.run(talk("a.test", echo)).stdout
            assert b"word\n" == other.run(talk("a.test", echo)).stdout


def test_from_threads(echo):
    """
    Several threads make sandboxes with a way out, and end them, at once.
    """
    results = []

    def run():
        results.append(jail.run(talk("a.test", echo), **rules("a.test", echo), timeout=60).stdout)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [b"word\n"] * 8 == results
    assert set() == {t.name for t in threading.enumerate()} & {"jail-network", "jail-traffic"}


def test_from_asyncio(echo):
    """
    The same, awaited.
    """

    async def main():
        async with jail.aio.Sandbox(**rules("a.test", echo)) as box:
            found = await asyncio.gather(*(box.run(talk("a.test", echo, str(n))) for n in range(3)))
            denied = await box.run(talk("b.test", echo))
        return [result.stdout for result in found], [denial.subject for denial in denied.denials]

    assert ([b"0\n", b"1\n", b"2\n"], ["b.test"]) == asyncio.run(main())


def links():
    """
    What this process has open.
    """
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            yield os.readlink(f"/proc/self/fd/{fd}")


def test_forked_copy_of_the_harness(echo):
    """
    A forked child holds no socket of the sandbox's, can make sandboxes of its own, and disturbs none of its parent's.
    """
    with jail.Sandbox(**rules("a.test", echo)) as box:
        assert b"word\n" == box.run(talk("a.test", echo)).stdout
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                kept = sum("eventpoll" in link for link in links())
                own = jail.run(talk("a.test", echo), **rules("a.test", echo), timeout=60).stdout
                code = 0 if own == b"word\n" and kept == 0 else 2
            except BaseException:
                code = 3
            finally:
                os._exit(code)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert b"word\n" == box.run(talk("a.test", echo)).stdout
