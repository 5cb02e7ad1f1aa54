"""
``jail run --report`` and ``--json``: what is known of a run, in a file. `jail.report`, `jail.destination`
"""

import json
import os
import re
import subprocess
import sys

import pytest

import jail
from jail.destination import Destination

pytestmark = pytest.mark.needs("userns")

PATIENCE = 60.0  # seconds: matplotlib looks for fonts when it is used for the first time
JAIL = (sys.executable, "-m", "jail")

# Takes 32 MiB and keeps a processor busy for a while, with a second process.
BUSY = """
import subprocess, sys, time
taken = b"x" * (32 << 20)
child = subprocess.Popen(["sleep", "0.4"])
until = time.monotonic() + 0.5
while time.monotonic() < until:
    pass
sys.exit(child.wait() + 3)
"""


@pytest.fixture
def run(tmp_path):
    """
    Runs ``jail run`` in a directory of its own: exit code, standard output and error.
    """

    def run(*args, code=None):
        cmd = [sys.executable, "-c", code] if code else JAIL
        done = subprocess.run(
            [*cmd, "run", *map(os.fspath, args)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_report(run, tmp_path):
    """
    The page has the run's outcome and charts of what it used; the exit code is the program's.
    """
    options = ["--report", "run.html", "--json", "run.json", "--memory", "256M"]
    code, out, err = run(*options, "--", sys.executable, "-c", BUSY)
    page = (tmp_path / "run.html").read_text()
    known = json.loads((tmp_path / "run.json").read_text())

    assert (3, "", "") == (code, out, err)
    assert "exited with 3" in page
    assert re.search(r"peak [\d.]+ MiB, limit 256 MiB", page)
    assert 2 == max(known["timeline"]["processes"])
    assert 32 << 20 < max(known["timeline"]["memory_bytes"])
    assert len(page.encode()) < 150_000


def test_report_of_an_instant(run, tmp_path):
    """
    A program that is over before it can be looked at twice has a page as well.
    """
    assert (0, "", "") == run("--report", "run.html", "--", "true")
    assert "exited with 0" in (tmp_path / "run.html").read_text()


def test_report_at_a_terminal(run, tmp_path):
    """
    With a terminal of the program's own it is the same.
    """
    code, out, err = run("-t", "--report", "run.html", "--", "sh", "-c", "tty; sleep 0.3; exit 4")

    assert (4, "/dev/pts/0\n", "") == (code, out, err)
    page = (tmp_path / "run.html").read_text()
    assert ("exited with 4" in page, page.count("<svg")) == (True, 1)


@pytest.mark.parametrize("option", ["--report", "--json"])
def test_report_replaces(option, run, tmp_path):
    """
    What a file had before is gone, and what a link leads to is written.
    """
    (tmp_path / "old").write_text("old" * 100_000)
    (tmp_path / "link").symlink_to("old")

    assert 0 == run(option, "link", "--", "true")[0]
    assert "old" not in (tmp_path / "old").read_text()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("option", ["--report", "--json"])
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("missing/file", "No such file or directory"),
        (".", "Is a directory"),
        ("977", "Bad file descriptor"),
        ("9" * 40, "Python int too large"),
    ],
)
def test_refuse_before_it_runs(option, target, why, run, tmp_path):
    """
    That nothing can be written there is said before the program runs.
    """
    code, out, err = run(option, target, "--", "echo", "ran")

    assert (125, "") == (code, out)
    assert err.startswith(f"jail: {option}: cannot write the result to {target}: {why}")
    assert [] == list(tmp_path.iterdir())


def test_refuse_without_matplotlib(run, tmp_path):
    """
    So is that there is nothing to draw with, and what would bring it.
    """
    code = "import sys; sys.modules['matplotlib'] = None; from jail.cli import main; sys.exit(main())"

    assert (
        125,
        "",
        "jail: charts: needs matplotlib 3.8; found none. pip install 'jail[report]' installs it\n",
    ) == run("--report", "run.html", "--", "echo", "ran", code=code)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--report", "--json"])
def test_report_nothing_of_no_run(option, run, tmp_path):
    """
    Where no program could be started no file is left, and one that was there is as it was.
    """
    (tmp_path / "old").write_text("old")

    assert 127 == run(option, "new", "--", "no-such-program")[0]
    assert 127 == run(option, "old", "--", "no-such-program")[0]
    assert {"old": "old"} == {path.name: path.read_text() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("option", ["--report", "--json"])
@pytest.mark.parametrize(
    "act", ["ln -sf ../outside work/file", "rm work/file", "mv work/file work/other; echo > work/file"]
)
def test_deny_turning_it_elsewhere(option, act, run, tmp_path):
    """
    A program that puts a link in the file's place has us write nothing there; that is said.
    """
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").write_text("untouched")
    line = act.replace("../outside", str(tmp_path / "outside")).replace("work/", "")
    options = ["--profile", "build", "--workspace", "work", option, "work/file"]

    assert (0, "", "") == run(*options, "--", "true")  # the control
    code, _, err = run(*options, "--", "sh", "-c", line)

    why = "it was moved or replaced while the program ran"
    assert (125, f"jail: {option}: cannot write the result to work/file: {why}\n") == (code, err)
    assert "untouched" == (tmp_path / "outside").read_text()


def test_report_to_a_descriptor(tmp_path):
    """
    A number is a descriptor, which stays the caller's and is written where it stands.
    """
    with (tmp_path / "file").open("w+") as file:
        file.write("before ")
        file.flush()
        with Destination(str(file.fileno()), "--json") as destination:
            destination.write("after")
        file.seek(0)
        assert "before after" == file.read()


def test_refuse_a_full_disk():
    """
    What cannot be written is no result: the error says why.
    """
    with (
        Destination("/dev/full", "--json") as destination,
        pytest.raises(
            jail.PolicyError, match=r"^--json: cannot write the result to /dev/full: No space left"
        ),
    ):
        destination.write("text")
