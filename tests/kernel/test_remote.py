"""
Who may ask about live sandboxes, and how little it matters what is said to them. unix(7)
"""

import errno
import json
import os
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

import jail
from jail.registry import connect, find, records

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """
    Where the names of this test are.
    """
    monkeypatch.setenv("JAIL_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.mark.program("setpriv")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user(monkeypatch):
    """
    Another user's connection is refused by the directory, and hung up on without it; the user's own is answered.
    """
    code = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
    client.settimeout(5)
    try:
        client.connect(sys.argv[1])
        client.send(b'{"inspect": true}')
        print(len(client.recv(1 << 17)) > 0)
    except OSError as exc:
        print(exc.errno)
"""
    seen = []
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setenv("JAIL_RUNTIME_DIR", name)
        with jail.Sandbox(name="one"):
            socket_of_it = Path(name) / "one.sock"
            socket_of_it.chmod(0o777)
            for mode, uid in ((0o700, "65534"), (0o711, "65534"), (0o711, "0")):
                os.chmod(name, mode)
                cmd = [
                    "setpriv",
                    "--reuid",
                    uid,
                    "--clear-groups",
                    "/usr/bin/python3",
                    "-c",
                    code,
                    socket_of_it,
                ]
                seen.append(subprocess.run(cmd, capture_output=True, text=True, check=True).stdout.strip())
            os.chmod(name, 0o700)

    assert str(errno.EACCES) == seen[0]
    assert seen[1] in {"False", str(errno.ECONNRESET), str(errno.EPIPE)}
    assert "True" == seen[2]


def test_idle_client():
    """
    Whoever has connected and asked for nothing is hung up on when the sandbox is closed.
    """
    with jail.Sandbox(name="one") as box:
        with connect(find("one")) as asking:
            asking.send(json.dumps({"inspect": True}).encode())
            asking.settimeout(PATIENCE)
            assert "guarantees" in json.loads(asking.recv(1 << 17))
        with connect(find("one")) as idle:
            idle.settimeout(PATIENCE / 10)
            box.run(["true"])
            box.close()

            assert b"" == idle.recv(1)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        b"not json",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"cmd": 7}',
        b'{"cmd": []}',
        b'{"cmd": ["true"], "pty": true, "size": 7}',
        b'{"cmd": ["true"], "no_such": 7}',
        b'{"cmd": ["true"]}',
        b'{"cmd": ["true"], "on_stdout": "x", "pty": true}',
        b'{"inspect": true, "x": "' + b"y" * 190_000,
    ],
    ids=lambda packet: repr(packet[:20]),
)
def test_garbage(packet):
    """
    A packet that makes no sense ends its connection, and disturbs nobody else.
    """
    with jail.Sandbox(name="one") as box, connect(find("one")) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.send(packet)
        answers = [client.recv(1 << 17)]
        while answers[-1]:
            answers.append(client.recv(1 << 17))

        assert [] == [answer for answer in answers[:-1] if "error" not in json.loads(answer)]
        assert b"hi\n" == box.run(["echo", "hi"]).stdout
        assert "one" == find("one").name


def test_many_clients():
    """
    Twenty clients at once are each told about their own program, and one more is served after them.
    """
    with jail.Sandbox(name="one") as box:
        clients = [connect(find("one")) for _ in range(20)]
        for number, client in enumerate(clients):
            client.settimeout(PATIENCE)
            request = json.dumps({"cmd": ["sh", "-c", f"exit {number}"]}).encode()
            null = os.open("/dev/null", os.O_RDWR)
            socket.send_fds(client, [request], [null] * 3)
            os.close(null)
        answers = [[json.loads(client.recv(1 << 17)) for _ in range(2)] for client in clients]
        for client in clients:
            client.close()

        assert [*range(20)] == [answer["exit_code"] for _, answer in answers]
        assert 20 == len({started["started"] for started, _ in answers})
        assert b"hi\n" == box.run(["echo", "hi"]).stdout


def test_many_descriptors():
    """
    Descriptors that come with a packet are closed, be they too many or too few.
    """
    with jail.Sandbox(name="one") as box:
        box.run(["true"])
        for count in (1, 2, 4, 200):
            before = len(os.listdir("/proc/self/fd"))
            with connect(find("one")) as client:
                client.settimeout(PATIENCE)
                null = os.open("/dev/null", os.O_RDWR)
                socket.send_fds(client, [b'{"cmd": ["true"]}'], [null] * count)
                os.close(null)
                while client.recv(1 << 17):
                    pass
            box.run(["true"])
            assert before == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("flaw", ["group", "others", "link", "file", "foreign", "none above"])
def test_directory(flaw, place, tmp_path):
    """
    A directory that is not the user's alone is a JailError that names it, as is one that cannot be made.
    """
    place.mkdir(0o700)
    assert [] == records()  # the control
    if flaw == "foreign":
        if os.geteuid():
            pytest.skip("only root can give a directory away")
        os.chown(place, 65534, 65534)
    elif flaw in ("group", "others"):
        place.chmod(0o740 if flaw == "group" else 0o701)
    else:
        place.rmdir()
    if flaw == "link":
        (tmp_path / "real").mkdir(0o700)
        place.symlink_to(tmp_path / "real")
    elif flaw == "file":
        place.touch()
    elif flaw == "none above":
        os.environ["JAIL_RUNTIME_DIR"] = f"{place}/above/run"
    for use in (records, lambda: find("one"), lambda: jail.Sandbox(name="one")):
        with pytest.raises(jail.JailError, match="JAIL_RUNTIME_DIR") as caught:
            use()
        assert str(place) in str(caught.value)


def test_modes(place):
    """
    The directory and all that is in it are the user's alone.
    """
    before = os.umask(0)
    with jail.Sandbox(name="one"):
        os.umask(before)
        paths = [place, *place.iterdir()]
        others = {
            path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths if not path.is_socket()
        }

    assert {"run": 0, "one.json": 0} == others
