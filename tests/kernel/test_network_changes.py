"""
Rules that change while a sandbox lives, and a harness that is asked. `Sandbox.network`, `ask`
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
NO_NAME = 200 - socket.EAI_NONAME

# Exits with the errno of what went wrong; or, when it was told a line, waits for the end.
TALK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    s.sendall(b"hello\\n")
    print(s.recv(100).decode(), end="", flush=True)
    if len(sys.argv) > 3:
        s.settimeout(30)
        s.recv(1)
except socket.gaierror as exc:
    sys.exit(200 - exc.errno)
except OSError as exc:
    sys.exit(exc.errno)
"""


@pytest.fixture
def echo():
    """
    The port of a server on 127.0.0.1 that says what it is told.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(sock):
            with sock, contextlib.suppress(ConnectionResetError):
                while data := sock.recv(4096):
                    sock.sendall(data)

        def accept():
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def local(_name):
    """
    A resolver for which every name is this host.
    """
    return ["127.0.0.1"]


def talk(box, name, port):
    return box.run([PYTHON, "-I", "-c", TALK, name, str(port)], timeout=60)


def talking(box, name, port):
    """
    A program that has a connection, and waits.
    """
    process = box.popen([PYTHON, "-I", "-c", TALK, name, str(port), "wait"], text=True, stdout=jail.PIPE)
    assert "hello\n" == process.stdout.readline()
    return process


def test_allow_a_rule(echo):
    """
    What was added is reached, on a port that nobody has listened on before, and nothing else is.
    """
    with jail.Sandbox(network=[], resolver=local) as box:
        assert NO_NAME == talk(box, "ok.test", echo).exit_code
        assert errno.ECONNREFUSED == talk(box, "127.0.0.1", echo).exit_code
        box.network.allow(f"ok.test:{echo}", f"127.0.0.1:{echo}")

        assert 0 == talk(box, "ok.test", echo).exit_code
        assert NO_NAME == talk(box, "other.test", echo).exit_code
        assert [f"ok.test:{echo}", f"127.0.0.1:{echo}"] == [str(rule) for rule in box.network.rules]
        assert () == box.policy.network


def test_revoke_a_rule(echo):
    """
    Who is connected by the rule is cut, the name is forgotten, and another's connection goes on.
    """
    rules = [f"{name}:{echo}" for name in ("ok.test", "stays.test", "127.0.0.1")]
    with (
        jail.Sandbox(network=rules, resolver=local) as box,
        talking(box, "ok.test", echo) as gone,
        talking(box, "stays.test", echo) as stays,
    ):
        box.network.revoke(f"ok.test:{echo}")

        assert errno.ECONNRESET == gone.wait(20)
        assert NO_NAME == talk(box, "ok.test", echo).exit_code
        assert stays.poll() is None
        assert ["ok.test"] == [denial.subject for denial in box.denials if denial.port == echo]
        stays.kill()


def test_revoke_the_rule_of_an_address(echo):
    """
    A name that leads to what may not be reached any more leads nowhere, and nor does what is connected already.
    """
    rules = [f"ok.test:{echo}", f"127.0.0.0/8:{echo}"]
    with jail.Sandbox(network=rules, resolver=local) as box, talking(box, "ok.test", echo) as process:
        box.network.revoke(f"127.0.0.0/8:{echo}")

        assert errno.ECONNRESET == process.wait(20)
        assert errno.ECONNRESET == talk(box, "ok.test", echo).exit_code


def test_deny_a_rule(echo):
    """
    What is denied is denied whatever allows it.
    """
    rules = [f"*:{echo}", f"127.0.0.1:{echo}"]
    with jail.Sandbox(network=rules, resolver=local) as box, talking(box, "a.test", echo) as process:
        box.network.deny("a.test")

        assert errno.ECONNRESET == process.wait(20)
        assert NO_NAME == talk(box, "a.test", echo).exit_code
        assert 0 == talk(box, "b.test", echo).exit_code
        assert ["a.test"] == [str(rule) for rule in box.network.denied]


def test_ports_that_come_and_go(echo):
    """
    Who listens for a rule goes with it, so that nothing adds up; several threads may add at once.
    """
    with jail.Sandbox(network=[], resolver=local) as box:
        talk(box, "127.0.0.1", echo)  # the first listeners have come by then
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            box.network.allow(f"127.0.0.1:{echo}", "ok.test:2000-2100")
            box.network.revoke(f"127.0.0.1:{echo}", "ok.test:2000-2100")
            assert errno.ECONNREFUSED == talk(box, "127.0.0.1", echo).exit_code
        assert before == len(os.listdir("/proc/self/fd"))

        threads = [threading.Thread(target=box.network.allow, args=(f"127.0.0.1:{echo}",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0 == talk(box, "127.0.0.1", echo).exit_code
        assert 1 == len(box.network.rules)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda reach: reach.allow("a b"), "network: 'a b'", id="no_rule"),
        pytest.param(
            lambda reach: reach.revoke("other.test"), "other.test:80,443 is none of the rules", id="not_there"
        ),
        pytest.param(
            lambda reach: reach.allow("a.test:1000-2000"), "more than 128 ports", id="too_many_ports"
        ),
        pytest.param(lambda reach: reach.deny("a.test/udp"), "deny_network: 'a.test/udp'", id="no_denial"),
    ],
)
def test_refuse_change(change, why):
    """
    Nonsense changes nothing.
    """
    with jail.Sandbox(network=["ok.test"], resolver=local) as box:
        before = box.network.rules, box.network.denied
        with pytest.raises(jail.PolicyError, match=why):
            change(box.network)

        assert before == (box.network.rules, box.network.denied)


def test_refuse_no_list(echo):
    """
    Where there is no relay there is nothing to change, and nothing to ask.
    """
    with jail.Sandbox() as box, pytest.raises(jail.PolicyError, match='network: it is "none"'):
        box.network.allow(f"127.0.0.1:{echo}")
    with pytest.raises(jail.PolicyError, match='network: it is "none", and ask'):
        jail.Sandbox(ask=lambda _question: True)


def test_refuse_port_of_a_program():
    """
    A port on which a program listens cannot be listened on; the rule is not added.
    """
    code = "import socket; s = socket.create_server(('127.0.0.1', 7000)); print(flush=True); s.accept()"
    with (
        jail.Sandbox(network=[]) as box,
        box.popen([PYTHON, "-I", "-c", code], text=True, stdout=jail.PIPE) as process,
    ):
        assert "\n" == process.stdout.readline()
        with pytest.raises(jail.SetupError, match="listening on port 7000") as caught:
            box.network.allow("127.0.0.1:7000")

        assert errno.EADDRINUSE == caught.value.errno
        assert () == box.network.rules
        process.kill()


def test_refuse_closed():
    """
    A sandbox that has ended has no rules to change.
    """
    with jail.Sandbox(network=[]) as box:
        pass
    with pytest.raises(jail.JailError, match="closed"):
        box.network.allow("ok.test")


@pytest.mark.parametrize(
    ("answer", "expected", "times"),
    [
        pytest.param(True, 0, 1, id="allow_from_now_on"),
        pytest.param(False, errno.ECONNRESET, 1, id="deny_from_now_on"),
        pytest.param(None, errno.ECONNRESET, 2, id="deny_this_time"),
    ],
)
def test_ask(answer, expected, times, echo):
    """
    The harness is asked while the program waits, and remembers what it said; a denied name it is not asked about.
    """
    asked = []

    def ask(question):
        asked.append((question.subject, question.port, question.rule))
        return answer

    with jail.Sandbox(
        network=[f"127.0.0.1:{echo}"], deny_network=["denied.test"], resolver=local, ask=ask
    ) as box:
        results = [talk(box, "ok.test", echo) for _ in range(2)]

        assert [expected, expected] == [result.exit_code for result in results]
        assert {("ok.test", echo, f"ok.test:{echo}")} == set(asked)
        assert times == len(asked) or (
            answer is None and times < len(asked)
        )  # a program may try both its addresses
        assert NO_NAME == talk(box, "denied.test", echo).exit_code
        assert {"ok.test"} == {subject for subject, _, _ in asked}
        denied = {"the harness was asked, and did not allow it"} if expected else set()
        assert denied == {denial.why for denial in results[0].denials}


def test_ask_about_an_address(echo):
    """
    An address that no rule names may be allowed; what a name leads to is judged as ever.
    """
    asked = []

    def ask(question):
        asked.append((question.subject, question.port, question.why))
        return True

    with jail.Sandbox(network=[f"192.0.2.1:{echo}"], resolver=local, ask=ask) as box:
        assert errno.ECONNRESET == talk(box, "ok.test", echo).exit_code
        assert 0 == talk(box, "127.0.0.1", echo).exit_code
        assert 0 == talk(box, "ok.test", echo).exit_code

    assert [
        ("ok.test", echo, "no rule allows this name and port"),
        ("127.0.0.1", echo, "127.0.0.1 is loopback, and no rule names it"),
    ] == asked


def test_ask_once_for_many(echo):
    """
    Several that want the same wait for one answer.
    """
    asked, answer = [], threading.Event()

    def ask(question):
        asked.append(question)
        return answer.wait(30)

    with jail.Sandbox(network=[f"127.0.0.1:{echo}"], resolver=local, ask=ask) as box:
        command = [PYTHON, "-I", "-c", TALK, "ok.test", str(echo)]
        processes = [box.popen(command, stdout=jail.DEVNULL) for _ in range(4)]
        while not asked:
            processes[0].poll()
        answer.set()

        assert [0] * 4 == [process.wait(60) for process in processes]
    assert 1 == len(asked)


async def later(_question):
    return True


def mistaken(_question):
    raise KeyError("of the caller's own")


@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited")
@pytest.mark.parametrize(("ask", "said"), [(mistaken, "of the caller's own"), (later, "ask gave <coroutine")])
def test_ask_gives_no_answer(ask, said, echo, caplog):
    """
    An error of the caller's is logged, and is a refusal; so is what is no answer, though it is true.
    """
    with jail.Sandbox(network=[f"127.0.0.1:{echo}"], resolver=local, ask=ask) as box:
        assert errno.ECONNRESET == talk(box, "ok.test", echo).exit_code
    assert said in caplog.text


def test_close_while_asked(echo):
    """
    A sandbox ends although nobody has answered; the answer that comes then is nobody's.
    """
    asked, answer = threading.Event(), threading.Event()

    def ask(_question):
        asked.set()
        return answer.wait(30)

    box = jail.Sandbox(network=[f"127.0.0.1:{echo}"], resolver=local, ask=ask)
    box.popen([PYTHON, "-I", "-c", TALK, "ok.test", str(echo)], stdout=jail.DEVNULL)
    assert asked.wait(30)
    box.close()
    answer.set()
    with jail.Sandbox(network=[f"127.0.0.1:{echo}"]) as other:
        assert 0 == talk(other, "127.0.0.1", echo).exit_code


def test_ask_on_the_loop(echo):
    """
    A coroutine function is awaited on the loop, which goes on meanwhile.
    """

    async def ask(_question):
        await asyncio.sleep(0.01)
        return True

    async def main():
        rules = [f"127.0.0.1:{echo}"]
        async with jail.aio.Sandbox(network=rules, resolver=local, ask=ask) as box:
            return await box.run([PYTHON, "-I", "-c", TALK, "ok.test", str(echo)], timeout=60)

    assert 0 == asyncio.run(main()).exit_code


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("yes", 0, id="allow"),
        pytest.param("n", errno.ECONNRESET, id="deny"),
        pytest.param("", errno.ECONNRESET, id="deny_this_time"),
    ],
)
def test_ask_at_the_terminal(typed, expected, echo):
    """
    ``jail run --ask`` asks at the terminal, though its streams are elsewhere.
    """
    master, slave = os.openpty()
    run = [sys.executable, "-m", "jail", "run", "--ask", "--network", f"192.0.2.1:{echo}", "--"]
    run += [PYTHON, "-I", "-c", TALK, "127.0.0.1", str(echo)]
    command = ["setsid", "--ctty", "sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *run]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        asked = os.read(master, 4096)
        os.write(master, f"{typed}\n".encode())

        assert expected == process.wait(60)
    os.close(master)
    os.close(slave)
    assert f"jail: 127.0.0.1, port {echo}: 127.0.0.1 is loopback".encode() in asked


def test_refuse_ask_without_a_terminal():
    """
    Nobody is there to be asked, or the terminal is the program's.
    """
    for option, why in ("--ask", b"needs a controlling terminal"), ("--ask -t", b"exclude each other"):
        command = ["setsid", "--wait", sys.executable, "-m", "jail", "run", *option.split(), "--", "true"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert (125, True) == (result.returncode, why in result.stderr)
