"""
Every tier that this host offers, each with a harness to attack; and the same acts outside, as controls.
"""

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from escape.harness import ACT, PYTHON
from escape.verdicts import Unpromised
from escape.world import World

HARNESS = Path(__file__).with_name("harness.py")
REQUIRED = frozenset(filter(None, os.environ.get("JAIL_REQUIRE", "").split(",")))
TIERS = {"namespaces": "userns", "Landlock": "landlock"}

# How long the harness may take to answer. What takes longer hangs, or can be held up by what is inside.
ANSWER_SECONDS = 60.0


def below(pid):
    """
    The processes below another that live, zombies not counted.
    """
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


class Hung(AssertionError):
    """
    The harness did not answer in time.
    """


class Harness:
    """
    A process that uses jail at one tier, and is asked to do things there.
    """

    def __init__(self, tier, **options):
        self.tier = tier
        self.process = subprocess.Popen(
            [sys.executable, str(HARNESS), tier], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )
        self.hello = self._answer(ANSWER_SECONDS)
        self.pid = self.hello.get("pid")

    def _answer(self, seconds):
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise Hung(f"no answer within {seconds} seconds")
        line = self.process.stdout.readline()
        assert line, f"the harness ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, source, *, seconds=ANSWER_SECONDS, **names):
        """
        Have the harness execute `source`, and give what it leaves in `answer`; an exception is its name.
        """
        self.tell(source, **names)
        reply = self._answer(seconds)
        return reply["answer"] if "answer" in reply else reply["error"]

    def tell(self, source, **names):
        """
        The same without waiting.
        """
        self.process.stdin.write(json.dumps({"source": source, "names": names}).encode() + b"\n")
        self.process.stdin.flush()

    def attempt(self, act, *args, seconds=ANSWER_SECONDS, **fields):
        """
        How an act inside ended: "done", an errno, a signal, "timed out", or the name of jail's exception.
        """
        return self.ask(
            "answer = attempt(act, *args, **fields)[0]",
            seconds=seconds, act=act, args=[str(arg) for arg in args], fields=fields,
        )  # fmt: skip

    def output(self, act, *args, **fields):
        """
        What an act inside printed, as lines. It must have been done.
        """
        verdict, text = self.ask(
            "answer = attempt(act, *args, **fields)", act=act, args=[str(arg) for arg in args], fields=fields
        )
        assert "done" == verdict
        return text.splitlines()

    def expect(self, table):
        """
        The line of a table of verdicts for this tier.
        """
        verdict = table[self.tier]
        return verdict.verdict if isinstance(verdict, Unpromised) else verdict

    def below_proc(self, verdict):
        """
        A verdict about a file of /proc: a container may leave us none to mount, and then nothing is there.
        """
        return "ENOENT" if self.tier != "Landlock" and not self.hello["proc"] else verdict

    def end(self):
        """
        Leave nothing of it, nor of what it started: where a test fails that may be much, and hostile.
        """
        for _ in range(100):
            alive = below(self.pid)
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not alive:
                break
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def started(name, **options):
    """
    A harness of a tier, or a skip that names what is missing.
    """
    harness = Harness(name, **options)
    if harness.hello.get("tier", "").casefold() != name.casefold():
        harness.end()
        reason = f"host lacks {TIERS[name]}: {harness.hello}"
        if TIERS[name] in REQUIRED:
            pytest.fail(f"required on this machine, {reason}", pytrace=False)
        pytest.skip(reason)
    return harness


@pytest.fixture(scope="module", params=TIERS)
def tier(request):
    """
    A harness at each tier that this host offers; one for all tests.
    """
    harness = started(request.param)
    yield harness
    harness.end()


@pytest.fixture
def lone(tier, tmp_path):
    """
    A harness for one test, which may hang or be killed; what it leaves to be swept is in a place of its own.
    """
    (tmp_path / "scratch").mkdir()
    harness = started(tier.tier, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")})
    yield harness
    harness.end()


@pytest.fixture
def outside():
    """
    The same act without a sandbox, for controls: "done", an errno or a signal.
    """

    def outside(act, *args, namespace=False, **options):
        prelude = f"libc.unshare({namespace:#x}) and sys.exit('unshare')\n" if namespace else ""
        cmd = [*PYTHON, ACT, prelude + act, *map(str, args)]
        ended = subprocess.run(cmd, capture_output=True, text=True, timeout=60, check=False, **options)
        if ended.returncode < 0:
            return signal.Signals(-ended.returncode).name
        assert "" == ended.stderr
        return errno.errorcode.get(
            ended.returncode, "done" if ended.returncode == 0 else str(ended.returncode)
        )

    return outside


@pytest.fixture
def place(tmp_path):
    """
    A part of the host: a workspace, a neighbour with a secret in it that nobody is shown, and files in both.
    """
    tmp_path.chmod(0o755)
    for name in ("workspace", "outside", "workspace/d", "workspace/d/e"):
        (tmp_path / name).mkdir()
    for name in ("outside/secret", "workspace/f", "workspace/secret", "workspace/d/f", "workspace/d/e/f"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def workspace(place):
    """
    The workspace of `place`.
    """
    return place / "workspace"


@contextlib.contextmanager
def _opened(path, flags):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def opened():
    """
    Opens a file for the length of a with statement.
    """
    return _opened


@pytest.fixture
def world():
    """
    The servers and the resolver.
    """
    world = World()
    yield world
    world.close()
