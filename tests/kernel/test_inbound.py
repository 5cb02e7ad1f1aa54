"""
The ways into a sandbox: `Sandbox.connect`, and the ports that it publishes. network_namespaces(7)
"""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"

# Says "up", and then sends back what it gets, to many at once, until each has ended.
ECHO = """
import asyncio, sys
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()
async def main():
    async with await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2])) as server:
        print("up", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def serving(box, port=8080, host="127.0.0.1"):
    """
    Such a server, from when it listens.
    """
    with box.popen([PYTHON, "-I", "-c", ECHO, host, str(port)], stdout=jail.PIPE) as server:
        assert b"up\n" == server.stdout.readline()
        yield server
        server.kill()


def talk(sock, data=b"word"):
    """
    What comes back for some bytes and their end; a reset is told once, to whoever reads or writes first. tcp(7)
    """
    errors, got = [], []

    def guard(act):
        try:
            act()
        except OSError as exc:
            errors.append(exc)

    with sock:
        sock.settimeout(30)
        send = threading.Thread(
            target=guard, args=(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)),)
        )
        send.start()
        guard(lambda: got.extend(iter(lambda: sock.recv(65536), b"")))
        send.join()
    for exc in sorted(errors, key=lambda exc: exc.errno != errno.ECONNRESET):
        raise exc
    return b"".join(got)


def visit(place, data=b"word"):
    """
    The same, of a published port; or the errno.
    """
    try:
        return talk(socket.create_connection(place, 30), data)
    except OSError as exc:
        return exc.errno


# Sandbox.connect


@pytest.mark.parametrize("network", ["none", ["a.test"]])
def test_connect(network):
    """
    A server inside is reached, and where none listens it is the kernel's refusal.
    """
    with jail.Sandbox(network=network) as box:
        with pytest.raises(ConnectionRefusedError):
            box.connect(8080)
        with serving(box):
            assert b"wordend" == talk(box.connect(8080, timeout=30))
            with pytest.raises(ConnectionRefusedError):
                box.connect(8081)


def test_connect_to_ipv6():
    """
    An address of the other family makes a socket of that.
    """
    with jail.Sandbox() as box, serving(box, host="::1"):
        assert b"wordend" == talk(box.connect(8080, host="::1"))
        with pytest.raises(ConnectionRefusedError):
            box.connect(8080)


def test_connect_in_time():
    """
    A server that lets nobody in is waited for as long as the caller says.
    """
    full = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 8080), backlog=0); c = socket.socket(); "
        "c.connect(('127.0.0.1', 8080)); print('up', flush=True); time.sleep(99)"
    )
    with jail.Sandbox() as box, box.popen([PYTHON, "-I", "-c", full], stdout=jail.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(TimeoutError):
            box.connect(8080, timeout=0.1)
        process.kill()


@pytest.mark.parametrize(
    ("port", "host", "why"),
    [
        (0, "127.0.0.1", "port: 0 is no port"),
        (65536, "127.0.0.1", "port: 65536 is no port"),
        (8080, "localhost", "host: .* is no address inside"),
        (443, "127.0.0.1", "port: port 443 inside is the way out"),
        (53, "127.0.0.1", "port: port 53 inside is the way out"),
    ],
)
def test_refuse_where_no_server_can_be(port, host, why):
    """
    What would lead to the relay, and so out again, is refused, like nonsense.
    """
    with jail.Sandbox(network=["a.test"]) as box, pytest.raises(jail.PolicyError, match=f"^{why}"):
        box.connect(port, host=host)


def test_refuse_without_a_network_of_its_own():
    """
    In the host's network it would lead to the host.
    """
    with jail.Sandbox(network="host") as box, pytest.raises(jail.UnsupportedError, match=r"^connect: "):
        box.connect(8080)


def test_connect_from_asyncio():
    """
    The same, awaited, many at once, and in no thread.
    """

    async def talk_to(box):
        reader, writer = await asyncio.open_connection(sock=await box.connect(8080, timeout=30))
        writer.write(b"word")
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    async def main():
        async with jail.aio.Sandbox() as box:
            with pytest.raises(ConnectionRefusedError):
                await box.connect(8080)
            server = await box.popen([PYTHON, "-I", "-c", ECHO, "127.0.0.1", "8080"], stdout=jail.PIPE)
            assert b"up\n" == await server.stdout.readline()
            threads = threading.active_count()
            found = await asyncio.gather(*(talk_to(box) for _ in range(20)))
            assert threads == threading.active_count()
            server.kill()
            await server.wait()
            server.close()
        return found

    assert [b"wordend"] * 20 == asyncio.run(main())


# publish


@pytest.mark.parametrize("network", ["none", ["a.test"]])
def test_publish(network):
    """
    A free port of the host's loopback leads to a server inside, both ways and to the ends of both.
    """
    data = os.urandom(1 << 21)
    with jail.Sandbox(network=network, publish=["0:8080"]) as box, serving(box):
        address, port = box.published[8080]
        assert "127.0.0.1" == address
        assert data + b"end" == visit((address, port), data)
        assert 2 * len(data) + 3 == box.usage.network_bytes


def test_publish_at_places():
    """
    Each at its own address and port; one that is not loopback is there only when it was written.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]  # which 127.0.0.3 has as well
        places = [f"127.0.0.3:{port}:8080", "[::1]:0:8081"]
        with jail.Sandbox(publish=places) as box, serving(box, 8080), serving(box, 8081):
            assert ("127.0.0.3", port) == box.published[8080]
            assert "::1" == box.published[8081][0]
            assert b"wordend" == visit(box.published[8080])
            assert b"wordend" == visit(box.published[8081])
            assert errno.ECONNREFUSED == visit(("127.0.0.4", port))
            assert errno.ECONNREFUSED == visit(("127.0.0.1", box.published[8081][1]))


def test_publish_server_that_comes_later():
    """
    Until somebody listens inside it resets.
    """
    with jail.Sandbox(publish=["0:8080"]) as box:
        assert errno.ECONNRESET == visit(box.published[8080])
        with serving(box):
            assert b"wordend" == visit(box.published[8080])


def test_publish_many_at_once():
    """
    More visitors than sockets are made ahead.
    """
    found = []
    with jail.Sandbox(publish=["0:8080"]) as box, serving(box):
        place = box.published[8080]
        threads = [threading.Thread(target=lambda: found.append(visit(place))) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [b"wordend"] * 40 == found


def test_refuse_port_in_use():
    """
    What is somebody else's is an error before the sandbox is built, and nothing is left behind.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(jail.SetupError, match=f"^publish 127.0.0.1:{port}:80: ") as caught:
            jail.Sandbox(publish=["0:8080", f"{port}:80"])
    with jail.Sandbox(publish=[f"{port}:80"]) as box:
        assert {80: ("127.0.0.1", port)} == box.published

    assert errno.EADDRINUSE == caught.value.errno
    assert 'or a free one: "0:80"' in str(caught.value)


def test_refuse_address_of_nobody():
    """
    So is an address that the host does not have. RFC 5737
    """
    with pytest.raises(jail.SetupError, match="no such address") as caught:
        jail.Sandbox(publish=["192.0.2.1:0:8080"])

    assert errno.EADDRNOTAVAIL == caught.value.errno


def test_close_while_visitors_are_there():
    """
    They are cut, and the port is free at once; so it is when a visitor waits to be let in.
    """
    with jail.Sandbox(publish=["0:8080"]) as box, serving(box):
        place = box.published[8080]
        with socket.create_connection(place, 30) as sock:
            sock.sendall(b"word")
            assert b"word" == sock.recv(9)
            box.close()
            with contextlib.suppress(ConnectionResetError):
                assert b"" == sock.recv(9)
    with jail.Sandbox(publish=[f"{place[1]}:8080"]) as box:
        assert place == box.published[8080]


def test_limit_of_connections():
    """
    One visitor too many is reset, and let in when there is room.
    """
    with jail.Sandbox(publish=["0:8080"], network_connections=1) as box, serving(box):
        place = box.published[8080]
        with socket.create_connection(place, 30) as sock:
            sock.sendall(b"word")
            assert b"word" == sock.recv(9)
            assert errno.ECONNRESET == visit(place)
            sock.shutdown(socket.SHUT_WR)
            assert b"end" == sock.recv(9)
        for _ in range(1000):
            if b"wordend" == visit(place):
                return
    pytest.fail("nobody is let in any more")


def test_limit_of_bytes():
    """
    What visitors send and get counts; when it is too much they are cut.
    """
    with jail.Sandbox(publish=["0:8080"], network_bytes="64K") as box, serving(box):
        assert b"wordend" == visit(box.published[8080])
        assert errno.ECONNRESET == visit(box.published[8080], bytes(1 << 20))


def test_limit_of_idle_time():
    """
    Who moves nothing is cut.
    """
    with (
        jail.Sandbox(publish=["0:8080"], network_idle=1) as box,
        serving(box),
        socket.create_connection(box.published[8080], 30) as sock,
    ):
        sock.sendall(b"word")
        assert b"word" == sock.recv(9)
        with pytest.raises(ConnectionResetError):
            sock.recv(9)


def test_forked_copy_of_the_harness():
    """
    A forked child holds no published port, and cannot connect.
    """
    with jail.Sandbox(publish=["0:8080"]) as box, serving(box):
        place = box.published[8080]
        assert b"wordend" == visit(place)
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(go)
                os.read(ready, 1)
                box.connect(8080)
            except jail.JailError:
                code = 0
            finally:
                os._exit(code)
        os.close(ready)
        assert b"wordend" == visit(place)
        box.close()
        with socket.create_server(place):  # the child is there, and does not listen
            os.close(go)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_publish_from_asyncio():
    """
    The same sandbox, awaited.
    """

    async def main():
        async with jail.aio.Sandbox(publish=["0:8080"]) as box:
            server = await box.popen([PYTHON, "-I", "-c", ECHO, "127.0.0.1", "8080"], stdout=jail.PIPE)
            assert b"up\n" == await server.stdout.readline()
            found = await asyncio.to_thread(visit, box.published[8080])
            server.kill()
            await server.wait()
            server.close()
        return found

    assert b"wordend" == asyncio.run(main())


def test_publish_at_a_prompt():
    """
    The command says on standard error which port is free.
    """
    serve = "import socket; s = socket.create_server(('127.0.0.1', 8080)); s.accept()[0].sendall(b'hello')"
    command = [sys.executable, "-m", "jail", "run", "-p", "0:8080", "--", PYTHON, "-I", "-c", serve]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        line = run.stderr.readline()
        assert line.startswith("jail: 127.0.0.1:")
        assert line.endswith(" leads to port 8080 inside\n")
        place = "127.0.0.1", int(line.split()[1].rpartition(":")[2])
        while visit(place, b"") != b"hello":
            assert run.poll() is None
        assert 0 == run.wait(30)
