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
from kernel.servers import full_server

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


def link_of(fd):
    """
    What a descriptor is for; nothing where it is that of the listing itself.
    """
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return ""


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
                kept = sum("eventpoll" in link_of(fd) for fd in os.listdir("/proc/self/fd"))
                own = jail.run(talk("a.test", echo), **rules("a.test", echo), timeout=60).stdout
                code = 0 if own == b"word\n" and kept == 0 else 2
            except BaseException:
                code = 3
            finally:
                os._exit(code)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert b"word\n" == box.run(talk("a.test", echo)).stdout


# One connection that goes nowhere yet, and another that is answered: then the first is on its way.
TWO = """
import socket, sys
a = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
input()
b = socket.create_connection(("127.0.0.1", int(sys.argv[3])), 20)
b.sendall(b"word")
print(b.recv(4).decode(), flush=True)
input()
"""


def ends():
    """
    The addresses and ports that this process has sockets at.
    """
    found = set()
    for fd, link in [(int(fd), link_of(fd)) for fd in os.listdir("/proc/self/fd")]:
        if link.startswith("socket:"):
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.family != socket.AF_UNIX:
                    found.add(sock.getsockname())
    return found


@contextlib.contextmanager
def silent_server():
    """
    A server that takes a connection and says nothing.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(20)
        yield listener, lambda: stack.enter_context(listener.accept()[0])


@contextlib.contextmanager
def busy_server():
    """
    One that takes none.
    """
    with full_server() as listener:
        yield listener, lambda: None


@pytest.mark.parametrize(
    ("server", "host", "proxied"),
    [
        pytest.param(busy_server, "127.0.0.1", False, id="dialled"),
        pytest.param(silent_server, "ok.test", False, id="listened_to"),
        pytest.param(busy_server, "192.0.2.1", True, id="proxy_dialled"),
        pytest.param(silent_server, "192.0.2.1", True, id="proxy_asked"),
    ],
)
def test_forked_copy_of_a_connection_on_its_way(server, host, proxied, echo):
    """
    A forked child holds none of its sockets, wherever it is: it would keep a server waiting.
    """
    with server() as (listener, await_connection):
        port = listener.getsockname()[1]
        proxy = {"network_proxy": f"http://127.0.0.1:{port}"} if proxied else {}
        rules = [f"{host}:{port}", f"127.0.0.1:{port}", f"127.0.0.1:{echo}"]
        command = [PYTHON, "-I", "-c", TWO, host, str(port), str(echo)]
        before = {*ends(), ("127.0.0.1", echo)}
        with (
            jail.Sandbox(network=rules, resolver=lambda _: ["127.0.0.1"], **proxy) as box,
            box.popen(command, text=True, stdin=jail.PIPE, stdout=jail.PIPE) as process,
        ):
            await_connection()
            process.stdin.write("\n")
            process.stdin.flush()
            assert "word\n" == process.stdout.readline()
            pid = os.fork()
            if pid == 0:
                os._exit(len(ends() - before))
            assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            process.kill()
