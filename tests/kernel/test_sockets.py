"""
Unix sockets that a policy names, and those that it does not. `jail.sockets`, unix(7)
"""

import errno
import os
import socket
import subprocess

import pytest

import jail
import jail.sockets
from jail import resolve as resolving

PYTHON = jail.probe().bin_directory + "/python3"
CONNECT = "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture
def listening():
    """
    Makes a socket at a path, listens on it and closes it in the end.
    """
    made = []

    def listening(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(os.fspath(path))
        made[-1].listen()
        return path

    yield listening
    for listener in made:
        listener.close()


@pytest.mark.needs("userns")
def test_allow_named(tmp_path, listening, attempt, inside):
    """
    The named socket can be connected to; the one beside it is not there, nor anything else of the directory.
    """
    named, other = listening(tmp_path / "named"), listening(tmp_path / "other")
    names = inside(
        "import json, os, sys; print(json.dumps(os.listdir(sys.argv[1])))", tmp_path, sockets=[named]
    )

    assert 0 == attempt(CONNECT, named, sockets=[named])
    assert errno.ENOENT == attempt(CONNECT, other, sockets=[named])
    assert errno.ENOENT == attempt(CONNECT, named)
    assert ["named"] == names


@pytest.mark.needs("userns")
def test_allow_by_a_link(tmp_path, listening, attempt):
    """
    A link to a socket is there inside as well, and leads to it.
    """
    link = tmp_path / "link"
    link.symlink_to(listening(tmp_path / "named"))

    assert 0 == attempt(CONNECT, link, sockets=[link])


@pytest.mark.needs("userns")
@pytest.mark.parametrize("act", ["os.unlink(path)", "os.rename(path, path + '-moved')"])
def test_deny_changing(act, tmp_path, listening, attempt):
    """
    A program that may connect can neither remove nor move the socket, which is a mount point: EBUSY. Its own it can.
    """
    named = listening(tmp_path / "named")
    own = "path = '/tmp/own'; socket.socket(socket.AF_UNIX).bind(path); "

    assert errno.EBUSY == attempt(f"path = sys.argv[1]; {act}", named, sockets=[named])
    assert 0 == attempt(own + act, sockets=[named])
    assert named.is_socket()


@pytest.mark.needs("userns")
def test_allow_own(attempt):
    """
    A socket that a program makes in a place of its own can be connected to.
    """
    code = "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "

    assert 0 == attempt(code + CONNECT, "/tmp/own")


@pytest.mark.needs("userns")
@pytest.mark.parametrize("less", [{}, {"network": "none"}, {"deny": ["/usr/share"]}])
def test_allow_of_another_program(less, tmp_path):
    """
    What one program of a sandbox listens on, another can connect to, also one that has less.
    """
    server = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('own'); s.listen(); "
        "print('ready', flush=True); s.accept()[0].sendall(b'word')"
    )
    client = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('own'); print(s.recv(9).decode())"
    fields = {"workspace": str(tmp_path), "workspace_access": "write", "timeout": 60}
    with jail.Sandbox(**fields) as box, box.popen([PYTHON, "-c", server], stdout=jail.PIPE) as process:
        assert b"ready\n" == process.stdout.readline()
        assert b"word\n" == box.run([PYTHON, "-c", client], **less).stdout
        assert 0 == process.wait()


@pytest.mark.needs("userns", "proc", "landlock_abi_9")
@pytest.mark.parametrize("access", ["read", "write"])
def test_deny_in_what_is_shown(access, tmp_path, listening, attempt):
    """
    A socket of the host's that lies in a visible directory, and that no rule names: EACCES, by stream and by datagram.
    """
    named, other = listening(tmp_path / "named"), listening(tmp_path / "other")
    shown = {access: [tmp_path], "sockets": [named]}
    send = "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', sys.argv[1])"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(os.fspath(tmp_path / "datagrams"))

        assert 0 == attempt(CONNECT, named, **shown)
        assert errno.EACCES == attempt(CONNECT, other, **shown)
        assert errno.EACCES == attempt(send, tmp_path / "datagrams", **shown)
        assert 0 == attempt(send, tmp_path / "datagrams", sockets=[tmp_path / "datagrams"])


@pytest.mark.needs("userns")
def test_deny_abstract(tmp_path, listening, attempt):
    """
    An abstract socket of the host's is not there, with a socket by path or without: ECONNREFUSED.
    """
    named, name = listening(tmp_path / "named"), f"jail-test-{os.getpid()}"
    connect = f"socket.socket(socket.AF_UNIX).connect('\\0{name}')"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        assert errno.ECONNREFUSED == attempt(connect, sockets=[named])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{name}")


@pytest.mark.needs("userns")
def test_refuse_exchanged(tmp_path, listening, attempt, monkeypatch):
    """
    A socket that is exchanged between the judgement and the mount is not shown: ESTALE.
    """
    named, other = listening(tmp_path / "named"), listening(tmp_path / "other")
    assert 0 == attempt(CONNECT, named, sockets=[named])
    find_socket = resolving.find_socket

    def exchanged(path, key):
        found = find_socket(path, key)
        os.rename(other, named)
        return found

    monkeypatch.setattr(resolving, "find_socket", exchanged)
    with pytest.raises(jail.SetupError) as caught:
        attempt(CONNECT, named, sockets=[named])

    assert errno.ESTALE == caught.value.errno


@pytest.mark.parametrize("spelling", ["docker.sock", "link", "sub/../docker.sock"])
def test_refuse_powerful(spelling, tmp_path, listening):
    """
    Docker's socket is refused under any spelling, with the reason, and taken where it is said to be powerful.
    """
    power = listening(tmp_path / "docker.sock")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(power)
    named = f"{tmp_path}/{spelling}"

    with pytest.raises(jail.PolicyError, match=r"root on this host.*privileged_sockets"):
        jail.run(["true"], sockets=[named])


@pytest.mark.needs("userns")
def test_allow_powerful(tmp_path, listening, attempt):
    """
    What is named as powerful is shown, and only that.
    """
    power = listening(tmp_path / "docker.sock")

    assert 0 == attempt(CONNECT, power, privileged_sockets=[power])


def test_refuse_another_name_of_it(tmp_path, listening, monkeypatch):
    """
    A hard link to a powerful socket is that socket; one to another is not.
    """
    power = listening(tmp_path / "place/real")
    os.link(power, tmp_path / "alias")
    row = jail.sockets.Power("It", "who may talk to it is root on this host", (), (f"{tmp_path}/place/*",))
    monkeypatch.setattr(jail.sockets, "POWERS", (row,))

    with pytest.raises(jail.PolicyError, match="a socket of It"):
        jail.sockets.find_socket(f"{tmp_path}/alias", "sockets")
    assert jail.sockets.find_socket(os.fspath(listening(tmp_path / "mine")), "sockets")


def test_refuse_a_directory_that_shows_it(tmp_path, listening, monkeypatch):
    """
    A tree with a powerful socket in it is refused, though it is denied itself; not where its directory is.
    """
    power = listening(tmp_path / "place/real")
    row = jail.sockets.Power("It", "who may talk to it is root on this host", (), (f"{tmp_path}/place/*",))
    monkeypatch.setattr(jail.sockets, "POWERS", (row,))

    for deny in ([], [power]):
        with pytest.raises(jail.PolicyError, match="of It, is in what is shown"):
            jail.run(["true"], read=[tmp_path], deny=deny)
    assert 0 == jail.run(["true"], read=[tmp_path], deny=[power.parent]).exit_code


def test_refuse_what_is_no_socket(tmp_path, listening):
    """
    A file is no socket, a socket no file, and what is missing has to be optional.
    """
    (tmp_path / "file").touch()
    rules = [
        ({"sockets": [tmp_path / "file"]}, "is no socket"),
        ({"sockets": [tmp_path / "missing"]}, "does not exist"),
        ({"read": [listening(tmp_path / "named")]}, "Name it in sockets"),
    ]

    for fields, words in rules:
        with pytest.raises(jail.PolicyError, match=words):
            jail.run(["true"], **fields)
    optional = {"path": tmp_path / "missing", "optional": True}
    assert 0 == jail.run(["true"], sockets=[optional]).exit_code


@pytest.mark.needs("landlock_abi_6", "libseccomp")
def test_refuse_without_mounts(tmp_path, listening, ask_harness, container):
    """
    Where there are no mounts no socket can be told from another, so the policy is refused; without, it runs.
    """
    source, options = container
    code = """
import jail, json, sys
def tried(**fields):
    try: return jail.run(["true"], **fields).exit_code
    except jail.UnsupportedError as exc: return exc.feature
print(json.dumps([tried(), tried(sockets=[sys.argv[1]])]))
"""
    named = listening(tmp_path / "named")

    assert [0, "sockets"] == ask_harness(source + code, os.fspath(named), **options)


@pytest.mark.needs("userns")
@pytest.mark.program("ssh-agent", "ssh-add")
def test_ssh_agent(tmp_path):
    """
    ssh-add lists the keys of an agent outside by its socket, and cannot without.
    """
    agent = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True
            )
            environment = {**os.environ, "SSH_AUTH_SOCK": os.fspath(agent)}
            subprocess.run(["ssh-add", "-q", tmp_path / "key"], env=environment, check=True)
            env = {"SSH_AUTH_SOCK": agent}
            listed = jail.run(["ssh-add", "-l"], env=env, sockets=[agent])
            without = jail.run(["ssh-add", "-l"], env=env)
        finally:
            process.terminate()

    assert (0, True) == (listed.exit_code, "(ED25519)" in listed.stdout.text)
    assert 2 == without.exit_code
