"""
What is installed is whole: built the ways that users build it, and run where no source tree is.

Each step starts from the one before: the tree as it stands, an sdist, a wheel from that, an environment with it.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = "import jail; print(jail.run(['/bin/echo', 'hi']).stdout)"

pytestmark = [pytest.mark.slow, pytest.mark.program("cc")]


def call(*command, cwd="/"):
    """
    What a command prints. Fails with all that it said.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.fail(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def make_environment(path, *wanted):
    """
    A new environment with these installed, by a pip that is told nothing special; its interpreter.
    """
    call(sys.executable, "-m", "venv", path)
    call(f"{path}/bin/python", "-m", "pip", "install", "--quiet", *wanted)
    return f"{path}/bin/python"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """
    A source distribution, from a copy of the tree: building writes into it.
    """
    tree = tmp_path_factory.mktemp("tree") / "jail"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".git", "build", "*.so", "jail-init", "*.egg-info")
    )
    target = tmp_path_factory.mktemp("sdist")
    call(sys.executable, "-m", "build", "--sdist", "--outdir", target, cwd=tree)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """
    A wheel, from the sdist alone.
    """
    target = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, sdist)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """
    The interpreter of an environment in which only the wheel and what it asks for are installed.
    """
    return make_environment(tmp_path_factory.mktemp("clean") / "venv", wheel)


def test_wheel_is_for_every_python(wheel):
    """
    One wheel per architecture, for Python 3.11 and all later ones.
    """
    assert wheel.name == f"jail-0.1.0-cp311-abi3-linux_{os.uname().machine}.whl"


def test_wheel_is_whole(wheel):
    """
    The wheel has every module, profile and filter of the tree, what was compiled, and nothing else.
    """
    sources = (
        "src/jail/*.py",
        "src/jail/*.pyi",
        "src/jail/filters/*.bpf",
        "profiles/*.toml",
        "profiles/*.py",
    )
    found = (str(path.relative_to(ROOT)) for pattern in sources for path in ROOT.glob(pattern))
    expected = {f"jail/{name.removeprefix('src/jail/')}" for name in found}
    expected |= {"jail/_core.abi3.so", "jail/bin/jail-init", "jail/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("jail-0.1.0.dist-info/")}
        mode = archive.getinfo("jail/bin/jail-init").external_attr >> 16

    assert expected == names
    assert mode & 0o777 == 0o755


def test_sdist_has_what_tests_and_readers_need(sdist):
    """
    From an sdist everything can be built, tested and read.
    """
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert set() == {
        "LICENSE", "Makefile", "README.md", "csrc/boundary.h", "csrc/spawn.c", "profiles/default.toml",
        "tests/conftest.py", "tests/test_packaging.py", "tools/run-tests",
    } - names  # fmt: skip
    assert [] == [name for name in names if name.endswith((".so", ".o", ".pyc", "/jail-init"))]


@pytest.mark.needs("userns")
def test_wheel_runs_a_program(python):
    """
    An installed jail runs a program, with no source tree near.
    """
    assert call(python, "-c", RUN) == "b'hi\\n'\n"


def test_wheel_knows_its_profiles(python):
    """
    The built-in profiles came with it.
    """
    listed = {line.split()[0] for line in call(python, "-m", "jail", "profiles").splitlines()}

    assert set() == {"agent", "build", "compute", "default"} - listed


@pytest.mark.needs("userns")
def test_wheel_brings_its_command(python):
    """
    `jail` is a command of that environment.
    """
    assert call(Path(python).with_name("jail"), "run", "--", "/bin/echo", "hi") == "hi\n"


@pytest.mark.needs("userns")
def test_editable_install_runs_a_program(sdist, tmp_path):
    """
    ``pip install -e .`` serves as well; the programs are built into the tree.
    """
    call("tar", "-xf", sdist, "-C", tmp_path)
    tree = tmp_path / "jail-0.1.0"
    editable = make_environment(tmp_path / "venv", "-e", tree)

    assert call(editable, "-c", RUN) == "b'hi\\n'\n"
    assert call(editable, "-c", "import jail; print(jail.__file__)") == f"{tree}/src/jail/__init__.py\n"
    assert os.access(tree / "src/jail/bin/jail-init", os.X_OK)
