"""
``jail ps``, ``inspect``, ``kill`` and ``exec``: a live sandbox, used from another process. `jail.live`
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import jail
from jail.loop import pump

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
JAIL = (sys.executable, "-m", "jail")
HARNESS = """
import jail, sys
with jail.Sandbox(name="one") as box:
    print(box._session.init.pid, flush=True)
    for line in sys.stdin:
        try: print(box.run(["echo", "ran"]).stdout.text.strip(), flush=True)
        except jail.JailError as exc: print(exc, flush=True)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """
    The names of this test are in a place of their own; the pump lets go before anybody counts descriptors.
    """
    monkeypatch.setenv("JAIL_RUNTIME_DIR", str(tmp_path / "run"))
    yield
    if thread := pump.thread:
        thread.join(PATIENCE)


@pytest.fixture
def box(tmp_path):
    """
    A live sandbox named ``one``, beside whose workspace there is a secret.
    """
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "work").mkdir()
    with jail.Sandbox(name="one", workspace=tmp_path / "work", env={"OF_POLICY": "1"}) as box:
        yield box


def run(*args, stdin=b""):
    """
    One command line of ours: exit code, standard output and error.
    """
    done = subprocess.run([*JAIL, *map(os.fspath, args)], input=stdin, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


def execute(*cmd, stdin=b""):
    """
    ``jail exec one --`` and so on.
    """
    return run("exec", "one", "--", *cmd, stdin=stdin)


def test_ps(box, tmp_path):
    """
    It lists each named sandbox with its harness and directory; as JSON also its policy and pids.
    """
    code, out, err = run("ps")
    header, line = map(str.split, out.decode().splitlines())
    (record,) = json.loads(run("ps", "--json")[1])

    assert (0, b"", "NAME") == (code, err, header[0])
    assert ("one", str(os.getpid()), str(tmp_path / "work")) == (line[0], line[1], line[-1])
    assert ("one", os.getpid(), box.policy.to_toml()) == (
        record["name"],
        record["harness_pid"],
        record["policy"],
    )
    box.close()
    assert (0, b"[]\n", b"") == run("ps", "--json")


def test_inspect(box):
    """
    It prints what is known, the guarantees included.
    """
    code, out, err = run("inspect", "one")
    known = json.loads(out)

    assert (0, b"", "one") == (code, err, known["name"])
    assert [g.name for g in box.guarantees] == [g["name"] for g in known["guarantees"]]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["exec", "one", "--", "true"], 0),
        (["exec", "one", "--", "sh", "-c", "exit 7"], 7),
        (["exec", "one", "--", "sh", "-c", "kill -TERM $$"], 128 + 15),
        (["exec", "one", "--", "no-such-program"], 127),
        (["exec", "one", "--", "/etc"], 126),
        (["exec", "--timeout", "0.1s", "one", "--", "sleep", "1000"], 124),
        (["exec", "--cwd", "/nowhere", "one", "--", "true"], 125),
        (["exec", "--env", "NO_EQUALS_SIGN", "one", "--", "true"], 125),
        (["exec", "two", "--", "true"], 125),
        (["exec", "one", "--", "echo", "x" * 100_000, "x" * 100_000], 125),
        (["inspect", "two"], 125),
        (["kill", "two"], 1),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else value,
)
def test_exit_code(args, expected, box):
    """
    The exit code is the program's own, or says why there is none; our own failures are said on standard error.
    """
    code, out, err = run(*args)

    assert (expected, b"") == (code, out)
    assert (expected in {1, 125, 126, 127}) == err.startswith(b"jail: ")


def test_streams(box):
    """
    Input goes in, megabytes of output come out whole, and standard error apart from it.
    """
    sent = os.urandom(3 << 20)

    assert (0, sent, b"") == execute("cat", stdin=sent)
    assert (0, b"", sent) == execute("sh", "-c", "cat >&2", stdin=sent)


def test_output_left_in_a_pipe(box, eyes):
    """
    What a program has left in its pipe when it ended comes out whole, however large it has made that pipe.
    """
    code = """
import fcntl, os, sys
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(2, b"up\\n")
sys.stdin.read()
os.write(1, b"x" * 1_000_000)
"""
    cmd = [*JAIL, "exec", "one", "--", sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(cmd, stdin=-1, stdout=-1, stderr=-1) as client:
        assert b"up\n" == client.stderr.readline()
        inside = eyes.pidfds_below(box._session.init.pid)
        client.stdin.close()
        assert [] == eyes.survivors(inside, PATIENCE)

        assert 1_000_000 == len(client.stdout.read())


def test_confined(box, tmp_path):
    """
    What is started is confined like the rest: it sees the same files, the policy's variables, and no secret.
    """
    assert 0 == execute("sh", "-c", "echo shared > /tmp/f; mkdir /tmp/d")[0]
    assert b"shared\n" == box.read_file("/tmp/f")
    assert (0, b"1 mine\n", b"") == run(
        "exec", "--env", "MINE=mine", "--cwd", "/tmp/d", "one", "--", "sh", "-c", "echo $OF_POLICY $MINE"
    )
    assert b"/tmp/d\n" == run("exec", "--cwd", "/tmp/d", "one", "--", "pwd")[1]
    assert f"{tmp_path}/work\n".encode() == execute("pwd")[1]
    code, out, err = execute("cat", tmp_path / "secret")
    assert (1, b"") == (code, out)
    assert b"No such file" in err
    status = execute("cat", "/proc/self/status")[1].decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert ("1", "2", "0" * 16) == (fields["NoNewPrivs"], fields["Seccomp"], fields["CapEff"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_killed_client(number, box, eyes):
    """
    When the client ends, what it has started is gone within a second, daemons included; the sandbox lives.
    """
    marker = str(uuid.uuid4())
    line = f"setsid sh -c 'echo up; sleep 1000; :' {marker} & wait"
    with subprocess.Popen([*JAIL, "exec", "one", "--", "sh", "-c", line, marker], stdout=-1) as client:
        assert b"up\n" == client.stdout.readline()
        inside = eyes.pidfds_below(box._session.init.pid)
        assert 3 <= len(inside)
        client.send_signal(number)
        client.wait(PATIENCE)

    assert [] == eyes.survivors(inside)
    assert [] == eyes.named(marker)
    assert b"hi\n" == box.run(["echo", "hi"]).stdout


def test_twenty_at_once(box):
    """
    Twenty clients at once each get what is theirs.
    """
    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(lambda n: execute("sh", "-c", f"cat; exit {n}", stdin=b"%d" % n), range(20)))

    assert [(n, b"%d" % n, b"") for n in range(20)] == seen


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_kill(stopped, harness, eyes):
    """
    Kill ends a sandbox within a second, even while its harness is stopped; that is told when it tries again.
    """
    other = harness(HARNESS, stdin=subprocess.PIPE)
    init = int(other.await_line())
    other.process.stdin.write("\n")
    other.process.stdin.flush()
    assert "ran" == other.await_line()
    if stopped:
        other.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, other.process.pid, os.WSTOPPED | os.WNOWAIT)
    inside = {init: os.pidfd_open(init)}
    assert (0, b"", b"") == run("kill", "one")

    assert [] == eyes.survivors(inside)
    other.process.send_signal(signal.SIGCONT)
    other.process.stdin.write("\n")
    other.process.stdin.flush()
    assert "ended from outside" in other.await_line()


def test_kill_from_inside(box, eyes):
    """
    No signal that a program sends to pid 1 does anything, SIGTERM included; from outside it does.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        execute("kill", f"-{number}", "1")
        box.run(["kill", f"-{number}", "1"])
        assert b"hi\n" == box.run(["echo", "hi"]).stdout
    init = box._session.init.pid
    inside = {init: os.pidfd_open(init)}
    os.kill(init, signal.SIGTERM)
    assert [] == eyes.survivors(inside)
