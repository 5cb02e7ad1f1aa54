"""
What `make demo` shows, and that it would say so if it were otherwise. `tools/demo.py`
"""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("userns", "netns")

DEMO = Path(__file__).parents[2] / "tools/demo.py"

ACTS = 5
SUITE = """
import pytest
def test_one(): ...
def test_two(): ...
def test_wrong(): assert False
@pytest.mark.skip
def test_later(): ...
"""
# It passes on the host, unless that is called as sandboxes are.
TELLING_SUITE = "import os\ndef test_where():\n    assert os.uname().nodename != 'jail'\n"

# Stand-ins for jail.run. The last has no sandbox at all.
WEAKER = {
    "strict": "run",
    "server": "lambda cmd, **fields: run(cmd, **(fields | {'network': 'host'}))",
    "key": "lambda cmd, **fields: run(cmd, **(fields | {'read': [*fields['read'], os.environ['HOME']]}))",
    "file": "lambda cmd, **fields: run(cmd, **(fields | {'read': [], 'write': fields['read']}))",
    "all": "without",
}
HARNESS = """
import os, runpy, subprocess, sys, jail
run = jail.run
def without(cmd, *, workspace, env=None, **fields):
    done = subprocess.run(cmd, cwd=workspace, env=os.environ | (env or {}), capture_output=True)
    real = run(["true"])
    out, err = jail.Output(done.stdout), jail.Output(done.stderr)
    return jail.Result(real.args, real.outcome, out, err, real.usage, real.guarantees)
jail.run = eval(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def demo(tmp_path):
    """
    Runs the demo on a project with these tests, by that stand-in for jail.run.
    """

    def demo(suite, weaker="strict"):
        archive = tmp_path / "project-1.0.tar.gz"
        with tarfile.open(archive, "w:gz") as sdist:
            member = tarfile.TarInfo("project-1.0/test_suite.py")
            member.size = len(suite)
            sdist.addfile(member, io.BytesIO(suite.encode()))
        cmd = [sys.executable, "-c", HARNESS, WEAKER[weaker], DEMO, archive]
        return subprocess.run(cmd, capture_output=True, text=True, check=False)

    return demo


def test_demo(demo):
    """
    Outcomes are alike on both sides, every act is done outside and refused inside, and both bills are shown.
    """
    done = demo(SUITE)
    lines = done.stdout.splitlines()

    assert (0, "") == (done.returncode, done.stderr)
    assert [["2", "1", "1"]] * 2 == [line.split()[-4:-1] for line in lines[1:3]]
    assert ACTS == sum(line.endswith(" refused") for line in lines)
    assert ["What was enforced", "What it cost"] == [line for line in lines if line.startswith("What ")]
    assert "All was refused, and all else is the same." == lines[-1]


@pytest.mark.parametrize(
    ("weaker", "reached"),
    [
        pytest.param("server", ["connect to a server of this host, 127.0.0.1"], id="network"),
        pytest.param("key", ["read ~/.ssh/id_ed25519"], id="home"),
        pytest.param("file", ["write to a file outside of its own tree"], id="write"),
    ],
)
def test_report_a_hole(weaker, reached, demo):
    """
    What a weaker sandbox lets through is named, and is a failure; all else is still refused.
    """
    done = demo(SUITE, weaker)
    lines = done.stdout.splitlines()

    assert (1, "") == (done.returncode, done.stderr)
    assert reached == [line.split("done")[0].strip() for line in lines if line.endswith("NOT REFUSED")]
    assert ACTS - 1 == sum(line.endswith(" refused") for line in lines)
    assert "NOT AS IT SHOULD BE: see above." == lines[-1]


def test_report_no_sandbox(demo):
    """
    Where there is no sandbox nothing is refused, but for tracing where the host's own Yama refuses that.
    """
    done = demo(SUITE, "all")
    told = [line for line in done.stdout.splitlines() if line.endswith(("refused", "REFUSED"))]

    assert (1, "") == (done.returncode, done.stderr)
    assert ACTS == len(told)
    assert ["NOT"] * (ACTS - 1) == [line.split()[-2] for line in told if "by ptrace" not in line]


def test_report_different_outcomes(demo):
    """
    A test that passes outside and fails inside is named, and is a failure.
    """
    done = demo(TELLING_SUITE)

    assert (1, "") == (done.returncode, done.stderr)
    assert "  ending differently: test_suite.py::test_where" in done.stdout.splitlines()


def test_report_no_index():
    """
    Without a package index the demo says so in one line each for what and why.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    }  # discard: nobody listens
    done = subprocess.run([sys.executable, DEMO], env=env, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()

    assert (1, "") == (done.returncode, done.stdout)
    assert "This demo runs the tests of toolz 1.0.0. pip cannot get it from the package index:" == lines[0]
    assert (2, True) == (len(lines), lines[1].startswith("ERROR: "))
