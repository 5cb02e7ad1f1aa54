"""
That nothing is left, neither process nor file, where no namespace holds them. prctl(2), PR_SET_CHILD_SUBREAPER
"""

import signal
import uuid

import pytest

pytestmark = pytest.mark.needs("landlock_abi_6", "libseccomp")

DAEMON = """
import os, signal, sys
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(done, b"1")
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import signal; signal.sigwait([])", sys.argv[1]])
    os._exit(0)
os.read(ready, 1)
open(os.environ["TMPDIR"] + "/left", "w").close()
os.makedirs(os.environ["HOME"] + "/a/b")
os.mkdir(os.environ["HOME"] + "/a/b/locked", 0)
print("up", flush=True)
if sys.argv[2:] != ["and leave"]: signal.pause()
"""
HARNESS = """
import jail, os, signal, sys
marker, payload = sys.argv[1:]
daemon = [sys.executable, "-I", "-S", "-c", payload, marker]
"""


def test_daemon(ask_harness, container, tmp_path, eyes):
    """
    A daemon that left its session ends with its sandbox, and the scratch directory is gone.
    """
    source, options = container
    marker = str(uuid.uuid4())
    source += HARNESS + "print(jail.run([*daemon, 'and leave']).exit_code)"

    assert 0 == ask_harness(source, marker, DAEMON, **options)
    assert [] == eyes.named(marker)
    assert [] == list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_dead_harness(number, harness, ask_harness, container, tmp_path, eyes):
    """
    When the harness is killed all inside are gone at once; the next sandbox sweeps what is left of its files.
    """
    source, options = container
    marker = str(uuid.uuid4())
    killed = harness(
        source + HARNESS + "jail.run(daemon, on_stdout=lambda _: print('up', flush=True))",
        marker,
        DAEMON,
        **options,
    )
    killed.await_line()
    inside = killed.descendants()

    assert eyes.named(marker)[1:]
    assert -number == killed.kill(number)
    assert [] == eyes.survivors(inside)
    assert [] == eyes.named(marker)
    (left,) = (tmp_path / "scratch").iterdir()
    assert (left / "tmp/left").exists()
    assert 0 == ask_harness(source + "import jail; print(jail.run(['true']).exit_code)", **options)
    assert [] == list((tmp_path / "scratch").iterdir())


def test_scratch_of_a_live_harness(harness, ask_harness, container, tmp_path):
    """
    The scratch directory of a harness that lives is not swept.
    """
    source, options = container
    living = harness(
        source + HARNESS + "jail.run(daemon, on_stdout=lambda _: print('up', flush=True))",
        "x",
        DAEMON,
        **options,
    )
    living.await_line()
    before = sorted((tmp_path / "scratch").rglob("*"))

    assert 0 == ask_harness(source + "import jail; print(jail.run(['true']).exit_code)", **options)
    assert before == sorted((tmp_path / "scratch").rglob("*"))
    living.kill()


def test_unremovable_scratch(ask_harness, container, tmp_path):
    """
    Directories that nobody may enter are removed all the same, and nothing of the caller's is touched for it.
    """
    source, options = container
    (tmp_path / "x").mkdir(mode=0o711)
    code = """
import json, jail, os, sys
make = "import os; os.mkdir(os.environ['TMPDIR'] + '/x', 0); os.makedirs('a/b/c'); os.mkdir('a/b/c/x', 0)"
with jail.Sandbox() as box:
    ended = box.run([sys.executable, "-I", "-S", "-c", make])
print(json.dumps([ended.exit_code, ended.stderr.text]))
"""
    assert [0, ""] == ask_harness(source + code, cwd=tmp_path, **options)
    assert [] == list((tmp_path / "scratch").iterdir())
    assert 0o40711 == (tmp_path / "x").stat().st_mode


def test_many_at_once(ask_harness, container, tmp_path):
    """
    Sandboxes that are made at the same time do not take each other's scratch directories.
    """
    source, options = container
    code = """
import concurrent.futures, json, jail
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    codes = set(pool.map(lambda _: jail.run(["true"]).exit_code, range(200)))
print(json.dumps(sorted(codes)))
"""
    assert [0] == ask_harness(source + code, **options)
    assert [] == list((tmp_path / "scratch").iterdir())
