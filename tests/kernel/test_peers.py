"""
Sandboxes that reach each other, on purpose: `peers`. network_namespaces(7)
"""

import asyncio
import errno

import pytest

import jail
import jail.aio
from kernel.test_inbound import ECHO, PYTHON, serving

pytestmark = pytest.mark.needs("userns", "netns")

TALK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    s.sendall(b"word")
    s.shutdown(socket.SHUT_WR)
    print(b"".join(iter(lambda: s.recv(99), b"")).decode())
except socket.gaierror:
    sys.exit(200)
except OSError as exc:
    sys.exit(exc.errno)
"""
NO_NAME = 200


def said(box, name="db", port=5432):
    """
    What a program got, or what it ended with.
    """
    result = box.run([PYTHON, "-I", "-c", TALK, name, str(port)], timeout=60)
    return result.stdout.text.strip() or result.exit_code


def nobody(name):
    """
    A resolver that must not be asked.
    """
    pytest.fail(f"{name} was looked up")


@pytest.fixture
def database():
    """
    A sandbox in which somebody serves on port 5432.
    """
    with jail.Sandbox() as database, serving(database, 5432):
        yield database


def test_peer(database):
    """
    The name leads to the other one's loopback, on the port of its rule, and nobody is asked for it.
    """
    with jail.Sandbox(network=["db:5432"], peers={"db": database}, resolver=nobody) as box:
        assert "wordend" == said(box)
        assert errno.ECONNREFUSED == said(box, port=5433)
        assert errno.ECONNRESET == said(box, "127.0.0.1")
        assert 11 == box.usage.network_bytes


def test_third_sandbox(database):
    """
    Who has no such peer does not reach it, by that name or any.
    """
    with jail.Sandbox(network=["db:5432"], peers={"db": database}) as box, jail.Sandbox() as third:
        assert "wordend" == said(box)
        assert NO_NAME == said(third)
        assert errno.ECONNREFUSED == said(third, "127.0.0.1")


def test_peer_by_its_own_rule_only(database):
    """
    A "*" that covers another port of it does not lead there.
    """
    with (
        serving(database, 6000),
        jail.Sandbox(network=["db:5432", "*:6000"], peers={"db": database}, resolver=nobody) as box,
    ):
        assert "wordend" == said(box)
        assert errno.ECONNRESET == said(box, port=6000)
        assert "it is another sandbox, and no rule names it with this port" in [d.why for d in box.denials]
    with jail.Sandbox(network=["db:5432,6000"], peers={"db": database}) as box, serving(database, 6000):
        assert "wordend" == said(box, port=6000)


def test_denied_peer(database):
    """
    What denies wins here, too.
    """
    with jail.Sandbox(network=["db:5432"], deny_network=["db"], peers={"db": database}) as box:
        assert NO_NAME == said(box)


def test_closed_peer(database):
    """
    When it has ended, the name leads nowhere.
    """
    with jail.Sandbox(network=["db:5432"], peers={"db": database}, resolver=nobody) as box:
        assert "wordend" == said(box)
        database.close()
        assert errno.ECONNRESET == said(box)


def test_peer_without_a_server():
    """
    As an upstream that refuses: it resets.
    """
    with jail.Sandbox() as other, jail.Sandbox(network=["db:5432"], peers={"db": other}) as box:
        assert errno.ECONNRESET == said(box)


def test_peers_from_asyncio(database):
    """
    The same, awaited; of either kind.
    """

    async def main():
        async with jail.aio.Sandbox(publish=["0:6000"]) as other:
            server = await other.popen([PYTHON, "-I", "-c", ECHO, "127.0.0.1", "6000"], stdout=jail.PIPE)
            await server.stdout.readline()
            peers = {"db": database, "web": other}
            async with jail.aio.Sandbox(network=["db:5432", "web:6000"], peers=peers) as box:
                found = await asyncio.gather(
                    *(
                        box.run([PYTHON, "-I", "-c", TALK, *where])
                        for where in (("db", "5432"), ("web", "6000"))
                    )
                )
            server.kill()
            await server.wait()
            server.close()
        return [result.stdout for result in found]

    assert [b"wordend\n"] * 2 == asyncio.run(main())


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("none", "no rule of network names"),
        (["other:5432"], "no rule of network names"),
        (["*"], "no rule of network names"),
        (["*.db:5432"], "no rule of network names"),
    ],
)
def test_refuse_peer_without_a_rule(network, why, database):
    """
    A peer is reached by what names it and its ports, and so it has to be named.
    """
    with pytest.raises(jail.PolicyError, match=f"^peers: {why}"):
        jail.Sandbox(network=network, peers={"db": database})


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "*", "DB"])
def test_refuse_peer_that_is_no_name(name, database):
    """
    Nor is an address one's name, or a spelling that no rule keeps.
    """
    with pytest.raises(jail.PolicyError, match=r"^peers: no rule of network names"):
        jail.Sandbox(network=[f"{name}:5432"], peers={name: database})


def test_refuse_way_out_of_the_peer():
    """
    The port would lead to what the other one may reach, which is nothing of this one's.
    """
    with (
        jail.Sandbox(network=["localhost:5432"]) as other,
        pytest.raises(jail.PolicyError, match=r"^peers: db: port 5432 of that sandbox is the way out"),
    ):
        jail.Sandbox(network=["db:5432"], peers={"db": other})


def test_refuse_peer_in_the_hosts_network():
    """
    Its loopback is the host's.
    """
    with (
        jail.Sandbox(network="host") as other,
        pytest.raises(jail.UnsupportedError, match=r"^peers: db: "),
    ):
        jail.Sandbox(network=["db:5432"], peers={"db": other})
