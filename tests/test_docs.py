"""The documents say what is so: every block of the README runs, and nothing public is left out."""

import dataclasses
import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jail
from jail.cli import _OPTIONS
from jail.errors import PolicyError
from jail.guarantee import GUARANTEES
from jail.policy import Policy

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS


@pytest.fixture
def place(tmp_path, monkeypatch):
    """
    A home with a key and data in it, and a workspace, where the README has /home/me and /srv/data.
    """
    for directory in ("home/.ssh", "home/datasets/private", "data", "workspace"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "home/.ssh/id_ed25519").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "data/table.csv").write_text("1,2,3\n")
    (tmp_path / "data/secret.csv").write_text("4,5,6\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_printed(text, place):
    """
    What a reader of the README would have seen.
    """
    return text.replace(f"{place}/home", "/home/me").replace(f"{place}/data", "/srv/data")


def test_python_blocks(place):
    """
    Each Python block of the README gives what it shows.
    """
    names = {
        "MY_KEY": place / "home/.ssh/id_ed25519",
        "DATA": place / "data",
        "WORKSPACE": place / "workspace",
    }
    source = "".join(text for language, text in BLOCKS if language == "python")
    test = doctest.DocTestParser().get_doctest(source, names, "README.md", None, None)
    checker, failures = doctest.OutputChecker(), []

    class Checker(doctest.OutputChecker):
        def check_output(self, want, got, optionflags):
            return checker.check_output(want, as_printed(got, place), optionflags)

    doctest.DocTestRunner(Checker(), optionflags=FLAGS).run(test, out=failures.append)

    assert len(test.examples) > 10
    assert "" == "".join(failures)


def commands(text):
    """
    Each command of a console block, with what it prints.
    """
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


CONSOLE = [pair for language, text in BLOCKS if language == "console" for pair in commands(text)]


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_console_blocks(command, output, place):
    """
    Each command of the README prints what it shows.
    """
    (place / "policy.toml").write_text(next(text for language, text in BLOCKS if language == "toml"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["sh", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    assert doctest.OutputChecker().check_output(output, ran.stdout, FLAGS), ran.stdout


def test_every_guarantee_is_in_the_readme_or_architecture():
    """
    A name that can be waived is a name that can be looked up.
    """
    documents = README + (TOP / "ARCHITECTURE.md").read_text()

    assert [] == [name for name in GUARANTEES if name.split(".")[0] not in documents]


def test_every_field_is_a_flag():
    """
    The words of TOML, of jail.run and of the command line are the same.
    """
    flags = {name.replace("-", "_") for name, *_ in _OPTIONS}

    assert flags == {field.name for field in dataclasses.fields(Policy)} - {"description", "interpreter"}


@pytest.mark.parametrize(
    "document", ["README.md", "ARCHITECTURE.md", "SECURITY.md", "GOTCHAS.md", "CONTRIBUTING.md"]
)
def test_files_that_are_named_exist(document):
    """
    Every test and source file that a document names is there.
    """
    text = (TOP / document).read_text()
    named = re.findall(r"\b(?:tests|csrc|src/jail|profiles|benchmarks)/[\w./]+\w", text)

    assert [] == [name for name in named if not (TOP / name).exists() and "NAME" not in name]


def test_tests_that_are_named_exist():
    """
    The tests that hold the cells of a table are there.
    """
    named = set(re.findall(r"`(test_\w+\.py)`", (TOP / "ARCHITECTURE.md").read_text()))
    there = {path.name for path in (TOP / "tests").rglob("test_*.py")}

    assert len(named) > 10
    assert set() == named - there


def test_architecture_names_every_module():
    """
    The code map leaves no file out.
    """
    text = (TOP / "ARCHITECTURE.md").read_text()
    modules = {path.name for path in (TOP / "src/jail").glob("*.py")} - {"__init__.py", "__main__.py"}

    assert set() == {name for name in modules if name not in text}


def test_errors_of_the_library_are_jail_errors():
    """
    One except clause catches them all.
    """
    errors = [getattr(jail, name) for name in jail.__all__ if name.endswith("Error")]

    assert PolicyError in errors
    assert all(issubclass(error, jail.JailError) for error in errors)
