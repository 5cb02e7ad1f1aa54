"""
What the matrix makes of an archive, of a guest that says something, and of one that does not. No guest is booted.
"""

import re
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from vm import __main__ as matrix
from vm.archive import mirrors, sources
from vm.configurations import CONFIGURATIONS
from vm.guest import Ending, boot
from vm.initramfs import cpio, in_order
from vm.job import pack, write_job
from vm.kernels import NEWEST, choose
from vm.selection import TIMED, expand

BY_NAME = {one.name: one for one in CONFIGURATIONS}
TOP = Path(__file__).parents[2]


def packages(*releases):
    return [f"linux-image-{release}-cloud-amd64" for release in releases]


@pytest.mark.parametrize(
    ("name", "releases", "newest"),
    [
        pytest.param("6.1", ["6.1.0-9", "6.1.0-10"], "6.1.0-10", id="by_number"),
        pytest.param("6.1", ["6.1.0-0.deb11.52", "6.1.0-8"], "6.1.0-8", id="no_backport_to_older"),
        pytest.param("6.1", ["6.12.9+deb13", "6.1.0-8"], "6.1.0-8", id="no_longer_series"),
        pytest.param("6.12", ["6.12.9+deb12", "6.12.10+deb13"], "6.12.10+deb13", id="of_two_suites"),
        pytest.param(NEWEST, ["6.9.1", "6.10.1+deb13", "5.10.0-46"], "6.10.1+deb13", id="newest"),
        pytest.param("6.1", ["6.1", "6.1.0-8"], "6.1.0-8", id="no_meta_package"),
    ],
)
def test_choose(name, releases, newest):
    """
    A series stands for its newest kernel in the archive, whichever suite has it.
    """
    assert f"{newest}-cloud-amd64" == choose(name, packages(*releases))[0]


def test_no_such_series():
    """
    A series that the archive has not ends the run, and says which there are.
    """
    with pytest.raises(
        SystemExit, match=re.escape("no kernel 4.9 in the archive; it has 5.10 6.1, and newest")
    ):
        choose("4.9", packages("6.1.0-8", "5.10.0-46"))


def test_sources():
    """
    Every suite comes from the given place, and is checked against Debian's keys.
    """
    lines = [*sources({"Debian": "http://a/debian", "Debian-Security": "http://a/security"})]

    assert {"http://a/debian", "http://a/security"} == {line.split()[3] for line in lines}
    assert all("signed-by=/usr/share/keyrings/debian-archive-keyring.gpg" in line for line in lines)


@pytest.mark.program("apt-get")
def test_mirrors():
    """
    There is a place for each of the two archives, this machine's own where it is a Debian.
    """
    assert ["Debian", "Debian-Security"] == sorted(mirrors())
    assert all("://" in place for place in mirrors().values())


@pytest.fixture
def modules(tmp_path):
    """
    Modules of a kernel, as depmod(8) describes them.
    """
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (tmp_path / "modules.dep").write_text(
        "kernel/virtio_pci.ko.xz: kernel/modern-dev.ko.xz kernel/ring.ko.xz\n"
        "kernel/modern-dev.ko.xz: kernel/ring.ko.xz\n"
        "kernel/ring.ko.xz:\n"
        "kernel/virtio_blk.ko.xz: kernel/ring.ko.xz\n"
    )
    return tmp_path


def test_modules_in_order(modules):
    """
    Each module comes after what it needs, once; one that is built in is no file.
    """
    found = [file.name for file in in_order(modules, ["virtio_pci", "virtio_blk", "ext4"])]

    assert ["ring.ko.xz", "modern-dev.ko.xz", "virtio_pci.ko.xz", "virtio_blk.ko.xz"] == found


def test_missing_module(modules):
    """
    One that is nowhere is an error, and not a guest that finds no disk.
    """
    with pytest.raises(KeyError, match="overlay"):
        in_order(modules, ["overlay"])


def test_cpio_header():
    """
    An entry is a header of 110 characters, a name and the content, each padded to four.
    """
    entry = cpio((), [("init", b"#!x", 0o755)]).split(b"070701")[1]

    assert b"000081ED" == entry[8:16]  # the mode: a regular file, 0755
    assert b"00000003" == entry[48:56]  # its size
    assert b"init\0\0#!x\0" == entry[104:]


def guest_that(source):
    return [sys.executable, "-c", source]


@pytest.mark.parametrize(
    ("source", "status"),
    [
        pytest.param("print('[1.0] noise\\njail-vm: ended with 0\\r')", 0, id="passed"),
        pytest.param("print('jail-vm: ended with 1')", 1, id="failed"),
        pytest.param("print('the test said jail-vm: ended with 0')", None, id="said_by_something_else"),
        pytest.param("import sys; sys.exit(0)", None, id="nothing_said"),
    ],
)
def test_boot(source, status, tmp_path):
    """
    A guest's verdict is the line that it ends with; without one there is none.
    """
    ending = boot(guest_that(source), tmp_path / "console", seconds=60)

    assert (status, False) == (ending.status, ending.timed_out)


def test_boot_of_a_guest_that_hangs(tmp_path):
    """
    A guest that hangs is killed when its time is over, and what it had said is there.
    """
    source = "print('so far', flush=True); import signal; signal.sigwait([])"
    ending = boot(guest_that(source), tmp_path / "console", seconds=1)

    assert (None, True) == (ending.status, ending.timed_out)
    assert "so far\n" == (tmp_path / "console").read_text()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """
    A run with a place for what it leaves, and results of pytest's there.
    """
    monkeypatch.setattr(matrix, "LOGS", tmp_path)
    run = matrix.Run(SimpleNamespace(name="6.1", release="6.1.0-8"), BY_NAME["user"], [])
    (run.place / "results").mkdir(parents=True)
    (run.place / "console").write_text("".join(f"line {number}\n" for number in range(100)))
    (run.place / "results/output").write_text("===== 1 passed in 65.00s (0:01:05) =====\n")
    return run


@pytest.mark.parametrize(
    ("status", "timed_out", "line"),
    [
        pytest.param(0, False, "1 passed in 65.00s (0:01:05)", id="passed"),
        pytest.param(1, False, "FAILED: 1 passed in 65.00s (0:01:05), pytest ended with 1", id="failed"),
        pytest.param(None, True, "FAILED: the guest hung, and was killed after 70 s", id="hung"),
        pytest.param(None, False, "FAILED: the guest ended without a word after 70 s", id="died"),
    ],
)
def test_verdict(status, timed_out, line, run):
    """
    A run is told in one line, and whatever is not pytest's own success is a failure.
    """
    assert line == matrix.verdict(run, Ending(status, 70.0, timed_out))


def test_complaint(run):
    """
    A guest that hung is told by the end of its console, one that failed by what pytest said.
    """
    hung = matrix.complaint(run, Ending(None, 70.0, timed_out=True), echo=False)

    assert ("line 60", "line 99", 40) == (hung[0], hung[-1], len(hung))
    assert ["===== 1 passed in 65.00s (0:01:05) =====\n"] == matrix.complaint(
        run, Ending(1, 70.0, False), echo=False
    )
    assert [] == matrix.complaint(run, Ending(0, 70.0, timed_out=False), echo=False)


def test_error_begins_no_other():
    """
    When a run cannot be carried out, those that have not begun do not begin.
    """
    begun = []

    def carry_out(run):
        begun.append(run)
        raise OSError(run)

    with pytest.raises(OSError, match=r"^0$"):
        matrix.carry_out_all(range(100), carry_out, 1)

    assert len(begun) < 100
    assert [0, 1, 2] == matrix.carry_out_all(range(3), int, 2)


def test_expand(tmp_path):
    """
    A pattern may stand for nothing yet; a path that is missing, or a selection of nothing, ends the run.
    """
    (tmp_path / "test_a.py").touch()

    assert ["test_a.py"] == expand(["test_[ab].py", "test_c*.py"], tmp_path)
    with pytest.raises(SystemExit, match=r"test_b\.py: no such test"):
        expand(["test_a.py", "test_b.py"], tmp_path)
    with pytest.raises(SystemExit, match="no test is there"):
        expand(["test_c*.py"], tmp_path)


@pytest.mark.parametrize("tests", ["tests", "ci"])
@pytest.mark.parametrize("name", BY_NAME)
def test_selection_is_there(name, tests):
    """
    What a configuration runs exists.
    """
    if patterns := getattr(BY_NAME[name], tests):
        assert expand(patterns, TOP)


@pytest.mark.parametrize("name", TIMED)
def test_what_is_left_out_is_there(name):
    """
    A test that is left out for its timing exists: under another name it would be run.
    """
    path, _, function = name.partition("::")

    assert f"def {function.rstrip('[')}(" in (TOP / path).read_text()


@pytest.mark.parametrize(
    ("tests", "left_out"),
    [
        pytest.param("", True, id="all"),
        pytest.param("ci", True, id="ci"),
        pytest.param("tests/kernel/test_limits.py", False, id="by_path"),
    ],
)
def test_options(tests, left_out):
    """
    Words are passed on, and what depends on time is left out unless its file is asked for.
    """
    options = matrix.pytest_options(SimpleNamespace(tests=tests, words="a or b"))

    assert "a or b" == options[options.index("-k") + 1]
    assert left_out == (f"--deselect={TIMED[0]}" in options)


@pytest.mark.parametrize(
    ("version", "abis", "names"),
    [
        pytest.param((5, 10), 0, {"too-old"}, id="5.10"),
        pytest.param((6, 1), 2, {"user", "systemd", "service", "userns-off", "userns-none"}, id="6.1"),
        pytest.param((6, 12), 6, {*BY_NAME} - {"too-old"}, id="6.12"),
        pytest.param((7, 3), 7, {*BY_NAME} - {"too-old"}, id="7.3"),
    ],
)
def test_configurations_of_a_kernel(version, abis, names):
    """
    A kernel is booted in the configurations that it can be in, and must have the Landlock that it came with.
    """
    kernel = SimpleNamespace(version=version)
    fitting = {name for name, one in BY_NAME.items() if one.fits(kernel)}
    required = BY_NAME["user"].required(kernel).split(",")

    assert names == fitting
    assert [f"landlock_abi_{abi}" for abi in range(1, abis + 1)] == [
        name for name in required if "_abi_" in name
    ]


def test_job(tmp_path):
    """
    A job is the checkout as it is, without what was built in it, and what to do; all of it is root's.
    """
    pack(tmp_path / "packed.tar", TOP)
    write_job(tmp_path / "job.tar", tmp_path / "packed.tar", settings={"a": "it's"}, arguments=["-k", "x y"])
    with tarfile.open(tmp_path / "job.tar") as archive:
        members = {member.name: member for member in archive}
        texts = [archive.extractfile(name).read() for name in ("settings", "arguments")]

    assert [b"a='it'\"'\"'s'\n", b"-k\nx y\n"] == texts
    assert {"tree/tests/vm/inside/init", "site/jail/bin/jail-init"} <= members.keys()
    assert set() == {name for name in members if "__pycache__" in name or name.startswith("tree/build")}
    assert {(0, 0)} == {(member.uid, member.gid) for member in members.values()}
