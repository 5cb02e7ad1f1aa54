"""
What the files of cgroups say, and whose a cgroup is, from texts and directories as a kernel has them. cgroup-v2.rst

Directories in a temporary place stand for cgroups where only names, files, owners and locks are looked at. What a
kernel does with them is tested in ``tests/kernel/test_cgroup.py``.
"""

import fcntl
import os
import subprocess
from contextlib import suppress

import pytest

from jail import cgroup, delegation
from jail.cgroup import Leaf, name_of
from jail.errors import JailError, MeasurementError, UnsupportedError
from jail.limits import Bounds
from jail.liveness import started
from jail.policy import Policy
from jail.usage import Pressure

IS_ROOT = os.geteuid() == 0
EVERY = ("cpu", "io", "memory", "pids")

CPU_STAT = """\
usage_usec 1750000
user_usec 1500000
system_usec 250000
nr_periods 10
nr_throttled 3
throttled_usec 125000
"""
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
FILES = {
    "cpu.stat": CPU_STAT,
    "io.stat": "8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n",
    "memory.current": "4096\n",
    "memory.peak": "1048576\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n",
    "pids.current": "3\n",
    "pids.peak": "12\n",
    "pids.events": "max 4\n",
    "cpu.pressure": PRESSURE.format(1500000),
    "memory.pressure": PRESSURE.format(250000),
    "io.pressure": PRESSURE.format(0),
}


@pytest.fixture
def directory(tmp_path):
    """
    Makes directories with files in them, and gives their paths.
    """

    def directory(name, files=None, **changes):
        path = tmp_path / name
        path.mkdir()
        changed = {file.replace("_", ".", 1): text for file, text in changes.items()}
        for file, text in {**(FILES if files is None else files), **changed}.items():
            if text is not None:
                (path / file).write_text(text)
        return os.fspath(path)

    return directory


# Texts.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", (0, 0), id="no_device"),
        pytest.param("8:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n", (100, 20), id="one"),
        pytest.param(
            "8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=4 dios=1\n8:0 rbytes=10 wbytes=20 rios=1 wios=1\n",
            (11, 22),
            id="two",
        ),
        # A device that has seen nothing yet is a line with a number alone; seen on Linux 6.
        pytest.param("259:0 \n8:0 rbytes=5 wbytes=0\n", (5, 0), id="a_device_without_figures"),
        pytest.param(
            "8:0 rbytes=5 wbytes=6 cost.vrate=100.00 cost.usage=3 new\n", (5, 6), id="words_of_the_future"
        ),
        pytest.param(f"8:0 rbytes={2**64} wbytes={2**64 - 1}\n", (2**64, 2**64 - 1), id="large"),
    ],
)
def test_report_io(text, expected):
    """
    Bytes read and written, of all devices together.
    """
    assert expected == cgroup._io(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(PRESSURE.format(1500000), 1.5, id="some_and_full"),
        pytest.param("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", 0.0, id="some"),
        pytest.param("full avg10=0.00 total=9\n", 0.0, id="no_some"),
        pytest.param("", 0.0, id="nothing"),
    ],
)
def test_report_stalled(text, expected):
    """
    Seconds in which some task stalled; what stalled all of them is in that.
    """
    assert expected == cgroup._stalled(text)


def test_report_table(directory):
    """
    Keys and numbers, those not known here too.
    """
    found = cgroup._table(directory("g") + "/memory.events")

    assert {"low": 0, "high": 0, "max": 3, "oom": 1, "oom_kill": 2, "oom_group_kill": 1} == found
    assert {} == cgroup._table(directory("empty", {"cpu.stat": ""}) + "/cpu.stat")


@pytest.mark.parametrize("text", ["user_usec\n", "user_usec one\n", "a 1 2\n", "max\n", "user_usec 1.5\n"])
def test_refuse_table(text, directory):
    """
    What is none is a MeasurementError that names the file and shows the text.
    """
    path = directory("g", {"cpu.stat": text}) + "/cpu.stat"
    with pytest.raises(MeasurementError) as caught:
        cgroup._table(path)

    assert f"{path}: {text!r} is no table of numbers" == str(caught.value)


@pytest.mark.parametrize("text", ["", "max\n", "1 2\n", "1.5\n"])
def test_refuse_number(text, directory):
    """
    So is what is no number.
    """
    path = directory("g", {"memory.peak": text}) + "/memory.peak"
    with pytest.raises(MeasurementError) as caught:
        cgroup._number(path)

    assert f"{path}: {text!r} is no number" == str(caught.value)
    assert 4096 == cgroup._number(directory("control") + "/memory.current")


# What is written.


@pytest.mark.parametrize(
    ("bounds", "controllers", "expected"),
    [
        pytest.param(Bounds(), EVERY, {}, id="nothing"),
        pytest.param(Bounds(memory=4096), EVERY, {"memory.max": "4096", "memory.swap.max": "0"}, id="memory"),
        pytest.param(Bounds(processes=7), EVERY, {"pids.max": "7"}, id="processes"),
        pytest.param(Bounds(cpus=1.5), EVERY, {"cpu.max": "150000 100000"}, id="cpus"),
        pytest.param(Bounds(cpus=0.01), EVERY, {"cpu.max": "1000 100000"}, id="least"),
        pytest.param(Bounds(cpus=8192.0), EVERY, {"cpu.max": "819200000 100000"}, id="most"),
        pytest.param(Policy(memory="1M", cpus=2, processes=3), ("io",), {}, id="without_the_controllers"),
        pytest.param(Policy(processes=3, cpus=2), ("pids",), {"pids.max": "3"}, id="with_one_of_them"),
        pytest.param(Bounds(cpu_seconds=1.0, output=1, wall=1.0, disk=1, inodes=1), EVERY, {}, id="others"),
    ],
)
def test_report_settings(bounds, controllers, expected):
    """
    Limits that are set, of controllers that are there, in the units of their files.
    """
    assert expected == dict(cgroup._settings(bounds=bounds, controllers=controllers))


def test_report_what_is_not_taken(directory):
    """
    A file that does not take a text is an error that has both.
    """
    path = directory("g", {})
    with pytest.raises(FileNotFoundError) as caught:
        cgroup._write(f"{path}/pids.max", "7")

    assert f"{path}/pids.max" == caught.value.filename
    assert not os.path.exists(f"{path}/pids.max")
    with pytest.raises(OSError, match="for '7'") as caught:
        cgroup._write("/dev/full", "7")
    assert "/dev/full" == caught.value.filename


# What a program has cost.


def figures_of(path, above, controllers=EVERY):
    leaf = Leaf(path, controllers, above)
    try:
        return leaf.figures()
    finally:
        leaf.close()


def test_report_figures(directory):
    """
    Each figure is that of its file, in the units of `Usage`, and names the file.
    """
    found = figures_of(directory("1"), directory("programs"))

    assert {
        "user_seconds": (1.5, "cgroup cpu.stat"),
        "system_seconds": (0.25, "cgroup cpu.stat"),
        "read_bytes": (4096, "cgroup io.stat"),
        "written_bytes": (512, "cgroup io.stat"),
        "memory_peak_bytes": (1 << 20, "cgroup memory.peak"),
        "processes_peak": (12, "cgroup pids.peak"),
        "pressure": (Pressure(1.5, 0.25, 0.0), "cgroup *.pressure"),
        "throttled_seconds": (0.0, "cgroup cpu.stat, of all programs meanwhile"),
    } == found


@pytest.mark.parametrize(
    ("absent", "lost"),
    [
        pytest.param({"memory_peak": None}, {"memory_peak_bytes"}, id="before_5.19"),
        pytest.param({"pids_peak": None}, {"processes_peak"}, id="before_6.1"),
        pytest.param({"cpu_pressure": None}, {"pressure"}, id="without_psi"),
    ],
)
def test_report_figures_of_older_kernels(absent, lost, directory):
    """
    A file that this kernel does not have is a figure less.
    """
    whole = figures_of(directory("1"), directory("programs"))
    found = figures_of(directory("2", **absent), directory("others"))

    assert whole.keys() - lost == found.keys()


@pytest.mark.parametrize("controllers", [(), ("pids",), ("cpu",), ("io", "memory")])
def test_report_figures_of_controllers_that_are_there(controllers, directory):
    """
    Files of a controller that was not given are not looked for; processor time is there without one.
    """
    names = {file.split(".")[0] for file in FILES} - {*controllers}
    gone = dict.fromkeys(
        f for f in FILES if f.split(".")[0] in names and not f.endswith((".stat", ".pressure"))
    )
    found = figures_of(directory("1", **gone), directory("programs", **gone), controllers)
    of_controllers = {
        "cpu": {"throttled_seconds"},
        "io": {"read_bytes", "written_bytes"},
        "memory": {"memory_peak_bytes"},
        "pids": {"processes_peak"},
    }

    expected = {"user_seconds", "system_seconds", "pressure"}
    assert expected.union(*(of_controllers[name] for name in controllers)) == set(found)


def test_report_what_happened_meanwhile(directory):
    """
    What is counted for all programs is counted from a program's start; what is its own, from nothing.
    """
    above = directory("programs")
    leaf = Leaf(directory("1", pids_events="max 1\n"), EVERY, above)

    assert (1, 2, (4096, 1.75, 3)) == (leaf.refused_forks, leaf.oom_kills, leaf.now())
    with open(f"{above}/pids.events", "w") as file:
        file.write("max 9\n")
    with open(f"{above}/cpu.stat", "w") as file:
        file.write(CPU_STAT.replace("125000", "625000"))
    assert 5 == leaf.refused_forks
    assert 0.5 == leaf.figures()["throttled_seconds"][0]
    leaf.close()


def test_report_nothing_of_controllers_that_are_not_there(directory):
    """
    The control: without controllers there is neither an event nor a sample, and no file is opened for them.
    """
    leaf = Leaf(directory("1", {}), (), directory("programs", {}))

    assert (0, 0, None) == (leaf.refused_forks, leaf.oom_kills, leaf.now())
    leaf.close()
    assert -1 == leaf.fd
    leaf.close()


# Whose a cgroup is.


def mounted(*lines):
    """
    The text of mountinfo with these mounts of cgroups, each ``root place kind``, after others.
    """
    fields = [line.split() for line in ("/ / ext4", "/ /proc proc", *lines)]
    return "".join(
        f"{number} 1 0:{number} {root} {place} rw,nosuid shared:9 - {kind} {kind} rw\n"
        for number, (root, place, kind) in enumerate(fields, 30)
    )


@pytest.fixture
def proc(monkeypatch):
    """
    Has what /proc says of this process's cgroup, and of mounts, be these texts.
    """
    real = delegation._text

    def proc(own="0::/\n", mountinfo=""):
        said = {"/proc/self/cgroup": own, "/proc/self/mountinfo": mountinfo}
        monkeypatch.setattr(delegation, "_text", lambda path: said[path] if path in said else real(path))

    return proc


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        pytest.param(["/ /sys/fs/cgroup cgroup2"], ("v2", "/sys/fs/cgroup"), id="v2"),
        pytest.param(
            ["/ /sys/fs/cgroup/pids cgroup", "/ /sys/fs/cgroup/unified cgroup2"],
            ("hybrid", "/sys/fs/cgroup/unified"),
            id="hybrid",
        ),
        pytest.param(["/ /sys/fs/cgroup/pids cgroup"], ("v1", None), id="v1"),
        pytest.param([], ("none", None), id="none"),
        pytest.param(
            ["/ /sys/fs/cgroup cgroup2", "/ /run/other cgroup2"],
            ("v2", "/sys/fs/cgroup"),
            id="the_first_of_two",
        ),
    ],
)
def test_report_hierarchy(mounts, expected, proc):
    """
    Which cgroups are mounted, and where those of v2 are.
    """
    proc(mountinfo=mounted(*mounts))

    assert expected == delegation.hierarchy()


@pytest.mark.parametrize(
    ("own", "root", "expected"),
    [
        pytest.param("0::/\n", "/", "", id="root"),
        pytest.param("0::/user.slice/shell\n", "/", "user.slice/shell", id="below"),
        pytest.param("9:pids:/x\n1:name=systemd:/y\n0::/user.slice\n", "/", "user.slice", id="hybrid"),
        # A container without a cgroup namespace: what is mounted begins with its own.
        pytest.param("0::/docker/1/user.slice\n", "/docker/1", "user.slice", id="in_what_is_mounted"),
        pytest.param("0::/docker/1\n", "/docker/1", "", id="what_is_mounted"),
        pytest.param("0::/docker/2\n", "/docker/1", None, id="beside_what_is_mounted"),
        pytest.param("0::/../elsewhere\n", "/", None, id="outside_of_the_namespace"),
        pytest.param("0::/gone\n", "/", None, id="not_there"),
        pytest.param("9:pids:/x\n", "/", None, id="v1"),
    ],
)
def test_report_own(own, root, expected, proc, tmp_path):
    """
    The directory of the process's own cgroup, as what is mounted shows it; None where it does not.
    """
    (tmp_path / "cgroup/user.slice/shell").mkdir(parents=True)
    (tmp_path / "cgroup/elsewhere").mkdir()
    mount = os.fspath(tmp_path / "cgroup")
    proc(own, mounted(f"{root} {mount} cgroup2"))

    assert (None if expected is None else f"{mount}/{expected}".rstrip("/")) == delegation._own(mount)


class Tree:
    """
    Directories that are the caller's to divide, or not: for root as systemd marks it, for others by what may be
    written.
    """

    def __init__(self, top):
        self.top = os.fspath(top)
        self.add("")

    def add(self, name, *, is_ours=False, procs=""):
        """
        A directory, and who is in it.
        """
        path = f"{self.top}/{name}".rstrip("/")
        os.makedirs(path, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(f"{path}/cgroup.procs")  # as it was added before
        with open(f"{path}/cgroup.procs", "w") as file:
            file.write(procs)
        if not IS_ROOT:
            os.chmod(f"{path}/cgroup.procs", 0o644 if is_ours else 0o444)
        else:
            try:
                os.setxattr(path, "user.delegate", b"1" if is_ours else b"0")
            except OSError as exc:
                pytest.skip(f"no extended attributes in {self.top}: {exc.strerror}")
        return path


@pytest.fixture
def tree(tmp_path):
    """
    Such directories.
    """
    (tmp_path / "cgroup").mkdir()
    return Tree(tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("ours", "with_processes", "expected"),
    [
        pytest.param({"a/b", "a/b/c"}, {"a/b/c"}, "a/b", id="allow_the_one_above"),
        pytest.param({"a", "a/b", "a/b/c"}, {"a/b", "a/b/c"}, "a", id="allow_beyond_one_with_processes"),
        pytest.param({"a/b/c"}, {"a/b/c"}, None, id="deny_own_alone"),
        pytest.param({"a", "a/b/c"}, {"a/b/c"}, None, id="deny_beyond_anothers"),
        pytest.param({"a/b", "a/b/c"}, {"a/b", "a/b/c"}, None, id="deny_one_with_processes"),
        pytest.param({"", "a", "a/b", "a/b/c"}, {"a", "a/b", "a/b/c"}, "", id="allow_the_top"),
        pytest.param(set(), {"a/b/c"}, None, id="deny_nothing_ours"),
    ],
)
def test_report_delegated(ours, with_processes, expected, tree):
    """
    The nearest above this process's own that is the caller's, without a break, and has no processes.
    """
    for name in ("", "a", "a/b", "a/b/c"):
        tree.add(name, is_ours=name in ours, procs="1\n" if name in with_processes else "")

    found = delegation._delegated(f"{tree.top}/a/b/c", tree.top)
    assert (None if expected is None else f"{tree.top}/{expected}".rstrip("/")) == found


@pytest.mark.parametrize(
    ("own", "with_processes", "expected"),
    [
        pytest.param("u.slice/x.service/a", set(), "u.slice/x.service", id="allow_its_unit"),
        pytest.param("u.slice/x.service/a", {"u.slice/x.service"}, None, id="deny_beyond_its_unit"),
        pytest.param("u.slice/x.service", set(), None, id="deny_beyond_itself"),
        pytest.param(
            "u.slice/x.service/a/b", {"u.slice/x.service/a"}, "u.slice/x.service", id="allow_in_its_unit"
        ),
    ],
)
def test_report_delegated_within_a_unit(own, with_processes, expected, tree):
    """
    What lies above the unit of systemd's that it is in is systemd's, be it the caller's to write or not.
    """
    for name in ("u.slice", "u.slice/x.service", "u.slice/x.service/a", "u.slice/x.service/a/b"):
        tree.add(name, is_ours=True, procs="1\n" if name in with_processes else "")

    found = delegation._delegated(f"{tree.top}/{own}", tree.top)
    assert (None if expected is None else f"{tree.top}/{expected}") == found


def test_report_delegated_stops_at_the_mount(tree, tmp_path):
    """
    What lies above what is mounted is no cgroup.
    """
    Tree(tmp_path).add("", is_ours=True)

    assert None is delegation._delegated(tree.top, tree.top)


@pytest.fixture
def hierarchy(tree, proc):
    """
    Cgroups as a user has them whose service manager delegates: a session, in which the caller is, in what is theirs.
    """
    controllers = "cpuset cpu io memory pids\n"
    for name in ("", "user", "user/session"):
        path = tree.add(name, is_ours=name != "", procs="1\n" if name == "user/session" else "")
        for file in ("cgroup.controllers", "cgroup.subtree_control"):
            with open(f"{path}/{file}", "w") as opened:
                opened.write(controllers)
    proc("0::/user/session\n", mounted(f"/ {tree.top} cgroup2"))
    return tree.top


def test_find_place(hierarchy):
    """
    What is delegated is taken, with the controllers that are wanted; those that are on are not switched on.
    """
    facts, why = delegation.find_place("auto")

    assert (f"{hierarchy}/user", "v2", "") == (facts.path, facts.version, why)
    assert ("cpu", "io", "memory", "pids") == facts.controllers
    with open(f"{hierarchy}/user/cgroup.subtree_control") as file:
        assert "cpuset cpu io memory pids\n" == file.read()


def test_find_place_without_a_controller(hierarchy):
    """
    One that is not there to give is not among the facts.
    """
    with open(f"{hierarchy}/user/cgroup.controllers", "w") as file:
        file.write("memory pids\n")
    with open(f"{hierarchy}/user/cgroup.subtree_control", "w") as file:
        file.write("memory pids\n")

    assert ("memory", "pids") == delegation.find_place("auto")[0].controllers


def test_find_place_by_name(hierarchy):
    """
    A directory that is named is taken as it is.
    """
    assert f"{hierarchy}/user" == delegation.find_place(f"{hierarchy}/user")[0].path


@pytest.mark.parametrize("wish", ["auto", "own", "systemd", "/named"])
def test_no_place_without_cgroups(wish, proc):
    """
    Without cgroup v2 there is none: auto goes on without and says why, what was asked for by name is refused.
    """
    proc()
    if wish == "auto":
        facts, why = delegation.find_place(wish)
        assert (None, (), "none", "no cgroup v2 is mounted") == (
            facts.path,
            facts.controllers,
            facts.version,
            why,
        )
        return
    with pytest.raises(UnsupportedError, match="no cgroup v2 is mounted") as caught:
        delegation.find_place(wish)
    assert "cgroup" == caught.value.feature


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"cgroup.controllers": "hugetlb\n"}, "cgroup v1 has them", id="no_controllers"),
        pytest.param({"user/cgroup.procs": "1\n"}, "has processes, and nothing above it", id="processes"),
    ],
)
def test_no_place(changes, why, hierarchy):
    """
    Why there is none is said.
    """
    for file, text in changes.items():
        with open(f"{hierarchy}/{file}", "w") as opened:
            opened.write(text)
    facts, said = delegation.find_place("auto")

    assert (None, "v2") == (facts.path, facts.version)
    assert why in said
    assert (None, "none was wanted") == (
        delegation.find_place("none")[0].path,
        delegation.find_place("none")[1],
    )


@pytest.mark.skipif(IS_ROOT, reason="root may write everything")
@pytest.mark.parametrize("file", ["user/cgroup.subtree_control", "user/cgroup.procs"])
def test_no_place_that_cannot_be_written(file, hierarchy):
    """
    One that the caller may not divide, or enter, is refused by the file.
    """
    os.chmod(f"{hierarchy}/{file}", 0o444)
    with pytest.raises(UnsupportedError, match=f"{file} cannot be written"):
        delegation.find_place(f"{hierarchy}/user")


def test_refuse_to_leave(hierarchy, monkeypatch):
    """
    A cgroup that is not the caller's is not left: the error says where to.
    """

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(JailError, match=r"cannot move to .*/user/session/harness: Permission denied"):
        delegation._leave(f"{hierarchy}/user/session")


# What dead harnesses leave.


def dead_pid():
    """
    A pid that was a process's a moment ago, and when that was started.
    """
    with subprocess.Popen(["sleep", "1000"]) as process:
        at = started(process.pid)
        process.kill()
    return process.pid, at


@pytest.fixture
def left(tmp_path):
    """
    Makes a directory as a harness leaves it, with those of its programs in it.
    """

    def left(name):
        (tmp_path / name / "programs" / "1").mkdir(parents=True)
        (tmp_path / name / "init").mkdir()
        return tmp_path / name

    return left


def test_sweep_what_the_dead_have_left(left, tmp_path):
    """
    A maker that is gone, by its pid or by when that was started, and no lock: it is removed whole.
    """
    pid, at = dead_pid()
    ours = started(os.getpid())
    swept = [
        left(f"jail-{pid}-{at}-0"),
        left(f"jail-{pid}-{at}-17"),
        left(f"jail-{os.getpid()}-{ours - 1}-0"),
    ]
    delegation.sweep(os.fspath(tmp_path))

    assert [] == [path.name for path in swept if path.exists()]


def test_sweep_nothing_of_the_living(left, tmp_path):
    """
    The control: a maker that lives has it, locked or not yet.
    """
    kept = left(name_of(0))
    delegation.sweep(os.fspath(tmp_path))

    assert (kept / "programs" / "1").is_dir()


def test_sweep_nothing_that_is_locked(left, tmp_path):
    """
    A pid says little of another PID namespace: a lock says that its maker lives, until it is gone.
    """
    pid, at = dead_pid()
    kept = left(f"jail-{pid}-{at}-0")
    lock = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    delegation.sweep(os.fspath(tmp_path))
    assert (kept / "programs" / "1").is_dir()

    os.close(lock)
    delegation.sweep(os.fspath(tmp_path))
    assert not kept.exists()


@pytest.mark.parametrize(
    "name",
    [
        "jail", "jail-", "jail-4194304", "jail-4194304-", "jail-4194304-5", "jail-4194304-5-", "jail-4194304-5-x",
        "jail-4194304-None-0", "jail-x-5-0", "jail--5-0", "jail-4194304-5-0-", "prison-4194304-5-0",
        "xjail-4194304-5-0", "jail-4194304-5-0\n", "jail-\u0664-5-0",
    ],
)  # fmt: skip
def test_sweep_nothing_of_another_name(name, left, tmp_path):
    """
    What is not named as ours is somebody's, and left alone with all that runs in it.
    """
    kept = left(name)
    delegation.sweep(os.fspath(tmp_path))

    assert (kept / "programs" / "1").is_dir()


def test_sweep_what_cannot_be_removed(left, tmp_path):
    """
    Something that is still in use stays for the next time, and keeps nobody from the rest.
    """
    pid, at = dead_pid()
    busy, other = left(f"jail-{pid}-{at}-0"), left(f"jail-{pid}-{at}-1")
    (busy / "file").write_text("no cgroup has this, so it cannot be removed")
    delegation.sweep(os.fspath(tmp_path))

    assert (True, False) == (busy.exists(), other.exists())


def test_a_name_says_whose_it_is():
    """
    This process, when it was started, and which of its sandboxes.
    """
    found = delegation._NAME.fullmatch(name_of(12))

    assert (os.getpid(), started(os.getpid())) == (int(found["pid"]), int(found["started"]))
    assert name_of(12) != name_of(13)


def test_started_is_of_those_who_live():
    """
    Nobody, or what is left of one until its parent waits, has not been started.
    """
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert None is started(process.pid)
    process.wait()
    assert None is started(process.pid)
    assert started(os.getpid()) >= started(os.getppid()) > 0
