"""
The harness's network thread, and what all sandboxes share in there: one's errors are not another's. `jail.reactor`
"""

import resource
import socket
import threading
import time

import pytest

import jail
from jail import question, traffic
from jail.denial import Question
from jail.dial import Lookups
from jail.question import Questions
from jail.reactor import Reactor

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
PYTHON = (jail.probe().bin_directory + "/python3", "-c")
PIPES = {"stdin": jail.PIPE, "stdout": jail.PIPE}

ASK = r"""
import socket, struct
input()
query = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + b"\1a\7example\0" + struct.pack(">2H", 1, 1)
with socket.create_connection(("192.0.2.1", 53), 30) as asked:
    asked.sendall(struct.pack(">H", len(query)) + query)
    print("asked", flush=True)
    print("answered" if asked.recv(99)[2:4] == query[:2] else "lost", flush=True)
"""


@pytest.fixture
def reactor():
    """
    A thread of this test's own.
    """
    reactor = Reactor("jail-test")
    yield reactor
    reactor.stop()


def test_call_raises(reactor):
    """
    What is called in the thread and fails, fails where it was called; and the thread goes on.
    """

    def fail():
        raise ValueError("of the call")

    with pytest.raises(ValueError, match="of the call"):
        reactor.call(fail)
    seen = []
    reactor.call(lambda: seen.append(threading.current_thread()))

    assert [reactor.thread] == seen


def both_told(reactor, ask):
    """
    Two that wait for the same answer, the first of which fails at it: what the second is told.
    """
    told, seen = threading.Event(), []

    def fail(_):
        raise ValueError("of the first")

    def note(answer):
        seen.append(answer)
        told.set()

    reactor.call(lambda: (ask(fail), ask(note)))
    assert told.wait(PATIENCE)
    return seen[0]


def test_one_lookup_for_two(reactor, caplog):
    """
    Who waits for a name is told of it, whatever becomes of another who does.
    """
    lookups = Lookups(reactor, lambda _: ["192.0.2.1"])
    found = both_told(reactor, lambda on_found: lookups.find("a.example", on_found))

    assert ["192.0.2.1"] == [str(address) for address in found]
    assert ["of the first"] == [str(record.exc_info[1]) for record in caplog.records]


def test_one_question_for_two(reactor, caplog):
    """
    The same for what the harness is asked.
    """
    questions = Questions(reactor, lambda _: True)
    asked = Question("a.example", 443, "", "a.example")

    assert both_told(reactor, lambda on_answer: questions.put(asked, on_answer)) is True
    assert ["of the first"] == [str(record.exc_info[1]) for record in caplog.records]


def test_refusals_are_bounded(reactor, monkeypatch):
    """
    A program that asks for ever new names does not have the harness remember all of them.
    """
    monkeypatch.setattr(question, "_REFUSED_MAX", 3)
    questions = Questions(reactor, lambda _: False)
    for number in range(10):
        told = threading.Event()
        asked = Question(f"{number}.example", 443, "", "")
        reactor.call(lambda asked=asked, told=told: questions.put(asked, lambda _: told.set()))
        assert told.wait(PATIENCE)

    assert ["7.example", "8.example", "9.example"] == [asked.subject for asked in questions._refused]


@pytest.mark.needs("userns", "netns")
def test_too_many_sandboxes(monkeypatch):
    """
    A sandbox for which there is no place is refused with a JailError, and leaves no thread behind.
    """
    monkeypatch.setattr(traffic, "_ACCOUNTS_MAX", 1)
    with jail.Sandbox(network=["a.example"]) as box:
        with pytest.raises(jail.JailError, match="more than 1 sandboxes with an allowlist"):
            jail.Sandbox(network=["a.example"])
        assert 0 == box.run(["true"]).exit_code

    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("jail-")]


@pytest.mark.needs("userns", "netns")
def test_no_descriptor_left():
    """
    A program that asks for a name by TCP where the harness has no descriptor left is answered when it has, and the
    thread does not turn meanwhile.
    """
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with jail.Sandbox(network=["a.example"]) as box, box.popen([*PYTHON, ASK], **PIPES) as process:
        try:
            with socket.socket() as lowest:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), hard))
            process.stdin.write(b"go\n")
            assert b"asked\n" == process.stdout.readline()
            began = time.process_time()
            time.sleep(0.5)
            assert time.process_time() - began < 0.25  # it would be all of it
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert b"answered\n" == process.stdout.readline()


FORK = """
import jail, os, threading
from jail import traffic
entered = threading.Event()
def hold():
    with traffic._shared._lock:
        entered.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
entered.wait()
child = os.fork()
if child == 0:
    with jail.Sandbox(network=["a.example"]) as box:
        os._exit(box.run(["true"]).exit_code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


@pytest.mark.needs("userns", "netns")
@pytest.mark.timeout(60)
def test_forked_child(ask_harness):
    """
    A forked copy of the harness makes a sandbox, although another thread was about to when it was forked.
    """
    assert 0 == ask_harness(FORK)
