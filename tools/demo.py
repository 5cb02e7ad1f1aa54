"""
`make demo`: another project's test suite outside and inside a sandbox, then with a hostile file among its tests.

The project comes from the package index; or name the source archive of another: tools/demo.py ARCHIVE. Everything
is run outside as well, so that each refusal stands beside what would have happened. The key that is stolen there,
the file, the server and the process were made for it.

Exits with 1 where anything was not refused, a test ended otherwise, or it cannot be shown here.
"""

import errno
import fcntl
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jail
from jail.explain import render_guarantees

# Its tests are in its archive and need nothing but pytest. A hash, because pip asks the archive about itself.
PROJECT = "toolz"
VERSION = "1.0.0"
HASH = "sha256:2c86e3d9a04798ac556793bced838816296a2f085017664e4995cb40a1047a02"

# -rA: a line for each test at the end, and what it printed before that.
SUITE = (sys.executable, *"-m pytest -rA --rootdir=. -p no:cacheprovider".split())
SUITE_ENV = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."}
OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|XFAIL|XPASS|SKIPPED \[\d+\]) (.+?)(?: - .*)?$", re.MULTILINE)

HOSTILE = """
import ctypes, errno, fcntl, os, pathlib, signal, socket, sys, time
import pytest

def key():
    sys.stderr.write(pathlib.Path("~/.ssh/id_ed25519").expanduser().read_text())

def file():
    with open(os.environ["DEMO_FILE"], "a") as notes:
        notes.write("changed")

def server():
    socket.create_connection(("127.0.0.1", int(os.environ["DEMO_PORT"]))).close()

def process():
    seize, end_it_with_me = 0x4206, 0x100000  # PTRACE_SEIZE, PTRACE_O_EXITKILL
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(seize, int(os.environ["DEMO_PID"]), None, ctypes.c_void_p(end_it_with_me)):
        raise OSError(ctypes.get_errno(), "ptrace")

def daemon():
    ready, begun = os.pipe()
    if os.fork():
        os.close(begun)
        os.read(ready, 1)
        return
    try:
        os.setsid()
        if not os.fork():
            signal.alarm(60)
            lock = os.open("lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for fd in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            os.write(begun, b".")
            os.closerange(3, lock)
            os.closerange(lock + 1, 1024)
            while os.path.exists("lock"):
                time.sleep(0.05)
    finally:
        os._exit(0)

@pytest.mark.parametrize("act", [key, file, server, process, daemon])
def test_hostile(act):
    try:
        act()
        came_of_it = "done"
    except OSError as error:
        came_of_it = errno.errorcode[error.errno]
    print("act", act.__name__, came_of_it)
"""
ACT = re.compile(r"^act (\w+) (\w+)$", re.MULTILINE)
ACTS = {
    "key": "read ~/.ssh/id_ed25519",
    "file": "write to a file outside of its own tree",
    "server": "connect to a server of this host, 127.0.0.1",
    "process": "trace a process of this host, by ptrace",
    "daemon": "leave a process behind, by fork and setsid",
}
# By which errno: with namespaces, or where there is Landlock and seccomp alone.
REFUSED = {
    "key": {"ENOENT", "EACCES"},
    "file": {"EROFS", "EACCES"},
    "server": {"ECONNREFUSED", "EPERM"},
    "process": {"EPERM"},
    "daemon": {"done"},  # it may start, and ends with the sandbox
}


@dataclass(frozen=True)
class Run:
    """
    What a run of the suite wrote and took. `result` is there where it was in a sandbox.
    """

    text: str
    seconds: float
    result: jail.Result | None = None

    @property
    def tests(self) -> Counter[tuple[str, str]]:
        """
        Outcome and name of each test, but for the hostile ones.
        """
        return Counter(pair for pair in OUTCOME.findall(self.text) if "::test_hostile[" not in pair[1])

    @property
    def acts(self) -> dict[str, str]:
        """
        What came of each hostile act: "done", or the errno's name.
        """
        return dict(ACT.findall(self.text))

    def count(self, kind: str) -> int:
        """
        How many tests ended so. pytest folds those that it skips: "SKIPPED [2]".
        """
        found = [(k, n) for (k, _), n in self.tests.items() if k.startswith(kind)]
        return sum(n * int(re.sub(r"\D", "", k) or 1) for k, n in found)


def main() -> int:
    """
    Show it.
    """
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        place = Path(folder).resolve()
        archive = Path(sys.argv[1]).resolve() if sys.argv[1:] else fetch(place)
        os.environ["HOME"] = str(place / "home")
        Path.home().mkdir()
        try:
            tree = unpack(archive, place / "work")
            verdicts = [show_suite(tree), show_hostile_suite(tree, place)]
        except jail.JailError as exc:
            sys.exit(f"This host cannot: {exc}")
    print(
        f"\n{'All was refused, and all else is the same.' if all(verdicts) else 'NOT AS IT SHOULD BE: see above.'}"
    )
    return 0 if all(verdicts) else 1


def fetch(place: Path) -> Path:
    """
    The project's source archive, by pip from where the caller has it look.
    """
    wanted = place / "requirements.txt"
    wanted.write_text(f"{PROJECT}=={VERSION} --hash={HASH}\n")
    pip = "-m pip download --quiet --retries=1 --timeout=20 --no-deps --require-hashes".split()
    places = [f"--no-binary={PROJECT}", f"--requirement={wanted}", f"--dest={place / 'index'}"]
    done = subprocess.run([sys.executable, *pip, *places], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        print(
            f"This demo runs the tests of {PROJECT} {VERSION}. pip cannot get it from the package index:",
            file=sys.stderr,
        )
        sys.exit(errors[0] if errors else done.stderr)
    return next((place / "index").iterdir())


def unpack(archive: Path, work: Path) -> Path:
    """
    The directory that the archive holds. Unpacked in a sandbox, as an archive may hold any path.
    """
    work.mkdir()
    cmd = [sys.executable, "-m", "tarfile", "-e", str(archive)]
    jail.run(cmd, profile="build", workspace=work, read=[archive]).check()
    return next(work.iterdir())


def outside(tree: Path, env: dict[str, str]) -> Run:
    """
    Run the suite as anybody would.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))} | SUITE_ENV | env
    start = time.perf_counter()
    done = subprocess.run(SUITE, cwd=tree, env=env, capture_output=True, text=True, check=False)
    return Run(done.stdout + done.stderr, time.perf_counter() - start)


def inside(tree: Path, env: dict[str, str], *shown: Path) -> Run:
    """
    Run the suite in a sandbox: it may write to its tree and read what is shown, both where they are.
    """
    start = time.perf_counter()
    env = SUITE_ENV | env
    result = jail.run(SUITE, profile="build", workspace=tree, read=shown, env=env, memory="2G", timeout=120)
    return Run(result.stdout.text + result.stderr.text, time.perf_counter() - start, result)


def show_suite(tree: Path) -> bool:
    """
    Whether the suite ends the same on both sides, test by test.
    """
    free, held = outside(tree, {}), inside(tree, {})
    print(f"{'The test suite of ' + tree.name:47}{'passed':>9}{'failed':>9}{'skipped':>9}{'seconds':>9}")
    for name, run in (("outside, by subprocess.run", free), ("inside, by jail.run", held)):
        failed = run.count("FAILED") + run.count("ERROR")
        print(f"  {name:45}{run.count('PASSED'):9}{failed:9}{run.count('SKIPPED'):9}{run.seconds:9.2f}")
    differing = sorted({name for _, name in (free.tests - held.tests) + (held.tests - free.tests)})
    if differing:
        print(f"  ending differently: {', '.join(differing)}")
    elif not free.tests:
        print(f"  no test ran:\n{free.text}")
    else:
        print("  test by test, the outcomes are the same")
    return bool(free.tests) and not differing


def show_hostile_suite(tree: Path, place: Path) -> bool:
    """
    Whether every hostile act was refused, by what it says itself and by what is seen from the host.
    """
    (tree / "test_hostile.py").write_text(HOSTILE)
    with host(place / "free") as there:
        free = outside(tree, there.env)
        could = there.reached(tree, free)
    with host(place / "held") as there:
        held = inside(tree, there.env, there.file)
        reached = there.reached(tree, held)
    print(f"\n{'The same with a hostile file, which tries to':49}{'outside':9}inside")
    good = free.tests == held.tests
    for act, what in ACTS.items():
        control, came = free.acts.get(act, "not tried"), held.acts.get(act, "not tried")
        refused = act not in reached and came in REFUSED[act]
        # Where Yama is, only its parent may trace a process: then there is no control for that.
        good = good and refused and (act in could or (act, control) == ("process", "EPERM"))
        print(
            f"  {what:47}{control:9}{in_words(came, refused=refused):37}{'refused' if refused else 'NOT REFUSED'}"
        )
    print(f"  its own tests meanwhile: {held.count('PASSED')} passed")
    if held.result:
        show_result(held.result)
    return good


def in_words(came: str, *, refused: bool) -> str:
    """
    An errno as perror(3) says it.
    """
    if came == "done":
        return "started; ended with the sandbox" if refused else came
    number = getattr(errno, came, 0)
    return f"{came}, {os.strerror(number)}" if number else came


def show_result(result: jail.Result) -> None:
    """
    What was enforced, and what it cost.
    """
    usage = result.usage
    cpu, peak = f"{usage.cpu_seconds:.2f} s of processor time", f"{usage.memory_peak_bytes >> 20} MiB"
    print(f"\nWhat was enforced\n{render_guarantees(result.guarantees)}")
    print("What it cost")
    print(f"  {usage.setup_seconds * 1000:.0f} ms to build the sandbox")
    print(f"  {usage.wall_seconds:.2f} s for the suite, {cpu}, {peak} at the peak of its largest process")


@dataclass(frozen=True)
class There:
    """
    What there is on the host to go for, and eyes for what came of it.
    """

    key: str
    file: Path
    server: socket.socket
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        """
        Where to find it all.
        """
        port = str(self.server.getsockname()[1])
        return {"DEMO_FILE": str(self.file), "DEMO_PORT": port, "DEMO_PID": str(self.process.pid)}

    def reached(self, tree: Path, run: Run) -> set[str]:
        """
        The acts that came through, seen from here, whatever they say themselves.
        """
        kept = (path.read_text(errors="replace") for path in tree.rglob("*") if path.is_file())
        seen = {
            "key": any(self.key in text for text in (run.text, *kept)),
            "file": self.file.read_text() != "",
            "server": self._was_connected(),
            "process": self._was_ended(),
            "daemon": _survived(tree / "lock"),
        }
        return {act for act, came_through in seen.items() if came_through}

    def _was_connected(self) -> bool:
        try:
            self.server.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def _was_ended(self) -> bool:
        try:
            self.process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            return False
        return True


def _survived(lock: Path) -> bool:
    """
    The daemon holds a lock for as long as it lives, which is for as long as the file has a name. Locks are on
    files: this one can be seen from here, wherever its holder is.
    """
    if not lock.exists():
        return False
    with lock.open() as file:
        lock.unlink()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_EX)
            return True
    return False


@contextmanager
def host(place: Path) -> Iterator[There]:
    """
    A key, a file, a server and a process.
    """
    file = place / "file"
    file.parent.mkdir()
    file.write_text("")
    key = f"the key of {secrets.token_hex()}"
    secret = Path.home() / ".ssh/id_ed25519"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text(key)
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["sleep", "600"]) as process:
        server.settimeout(0)
        try:
            yield There(key, file, server, process)
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
