"""
Files while hostile programs run: they can neither mislead the harness nor have it wait. rename(2)
"""

import errno
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import jail

PYTHON = (sys.executable, "-I", "-S", "-c")

# Exchanges two names for as long as it lives. renameat2(2), RENAME_EXCHANGE
EXCHANGE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, b"there", -100, b"link", 2): raise OSError(ctypes.get_errno(), "renameat2")
print("up", flush=True)
while True: libc.renameat2(-100, b"there", -100, b"link", 2)
"""

# Acts 200 times, and until it has succeeded and failed, while a program exchanges a directory with a link.
RACE = """
import jail, json, signal, sys
from pathlib import Path
place, rules, exchange, act, expected, naive = Path(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:]
signal.alarm(60)
work, target, outside = place / "work", place / "target", place / "outside"
def outcome(code):
    try: return eval(code)
    except OSError as exc: return type(exc).__name__
def outcomes(code, wanted):
    seen, times = set(), 0
    while times < 200 or wanted not in seen or len(seen) < 2:
        seen.add(str(outcome(code))); times += 1
    return sorted(seen)
with jail.Sandbox(**rules) as box:
    process = box.popen([sys.executable, "-I", "-S", "-c", exchange], stdout=jail.PIPE)
    process.stdout.readline()
    seen = outcomes(act, expected)
    left = sorted(path.name for path in outside.iterdir()), (outside / "f").read_text()
    got = {path.read_text() for path in target.rglob("*") if path.is_file()}
    controls = outcomes(naive, 'secret')
    process.kill()
print(json.dumps([seen, left, sorted(got), controls]))
"""


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param("box.read_file('there/f').decode()", "inside", id="read"),
        pytest.param("box.write_file('there/new', 'written')", "None", id="write"),
        pytest.param("box.download('there', target)", "None", id="download"),
        pytest.param("box.upload(place / 'source', 'there/new')", "None", id="upload"),
        pytest.param("box.make_directory('there/made', parents=True)", "None", id="make_directory"),
        pytest.param("box.write_file('there/f', 'inside') or box.remove('there/f')", "None", id="remove"),
    ],
)
@pytest.mark.parametrize(
    "tier",
    [
        pytest.param("namespaces", marks=pytest.mark.needs("userns")),
        pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
    ],
)
def test_exchanged_with_a_link(tier, act, expected, ask_harness, container, tmp_path):
    """
    A directory that becomes a link out of the view while it is used is read or refused; nothing outside is read
    or written, although the harness itself may: the control.
    """
    prelude, options = container if tier == "landlock" else ("", {})
    place = tmp_path / "place"
    for name in ("work/there", "outside", "target", "source"):
        (place / name).mkdir(parents=True)
    (place / "work/there/f").write_text("inside")
    (place / "outside/f").write_text("secret")
    (place / "source/f").write_text("inside")
    (place / "work/link").symlink_to(place / "outside")
    rules = json.dumps({"workspace": str(place / "work"), "workspace_access": "write"})
    naive = "(work / 'there/f').read_text()"
    source = (prelude + RACE, place, rules, EXCHANGE, act, expected, naive)
    seen, left, got, controls = ask_harness(*source, **options)

    assert expected in seen
    assert not {"secret", "RuntimeError"} & {*seen, *got}
    assert [["f"], "secret"] == left
    assert "secret" in controls


@pytest.fixture
def alarm():
    """
    Nothing may take more than a minute.
    """

    def late(*_):
        raise RuntimeError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.needs("userns")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGSTOP", "SIGKILL"])
def test_signals(name, box, alarm):
    """
    A program that signals all it can see does not keep the harness waiting: a file is read, or a JailError; and
    the next is read when that program is gone. What it kills in time is not opened.
    """
    code = f"""
import os, signal
print("up", flush=True)
while True:
    try: os.kill(-1, signal.{name})
    except OSError: pass
"""
    box.write_file("f", "text")
    seen = set()
    with box.popen([*PYTHON, code], stdout=jail.PIPE) as process:
        process.stdout.readline()
        for _ in range(200):
            try:
                seen.add(box.read_file("f"))
            except jail.JailError as exc:
                seen.add(type(exc))
        process.kill()

    assert name == "SIGKILL" or b"text" in seen
    assert set() == seen - {b"text", jail.JailError}
    assert b"text" == box.read_file("f")


@pytest.mark.needs("userns")
def test_growing(box, alarm, tmp_path):
    """
    A file and a directory that grow meanwhile are read and copied up to the limit.
    """
    code = """
import os
os.mkdir("d"); count = 0
with open("d/f", "wb", 0) as file:
    while True:
        file.write(b"x" * 65536); count += 1
        if count == 100: print("up", flush=True)
        if count < 10000: open(f"d/{count}", "w").close()
        else: file.seek(0)
"""
    with box.popen([*PYTHON, code], stdout=jail.PIPE) as process:
        process.stdout.readline()
        for call, *args in (
            (box.read_file, "d/f"),
            (box.download, "d/f", tmp_path / "f"),
            (box.download, "d", tmp_path / "d"),
            (box.list, "d"),
        ):
            with pytest.raises(OSError) as caught:
                call(*args, limit=90)
            assert errno.EFBIG == caught.value.errno
        process.kill()

    assert 90 >= sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.needs("userns")
def test_threads(box):
    """
    Eight threads may do all of it at once, while programs run.
    """

    def use(number):
        name = f"{number}/a/f"
        for turn in range(25):
            box.write_file(name, f"{number} {turn}", parents=True)
            assert f"{number} {turn}".encode() == box.read_file(name) == box.run(["cat", name]).stdout
            assert ["f"] == [entry.name for entry in box.list(f"{number}/a")]
            box.remove(f"{number}", recursive=True)
            assert not box.exists(f"{number}")
        return number

    with ThreadPoolExecutor(8) as pool:
        assert [*range(8)] == [*pool.map(use, range(8))]
