"""
What live sandboxes use, and ``jail top``. `jail.meter`, `jail.top`
"""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys

import psutil
import pytest

import jail
from jail.errors import MeasurementError
from jail.meter import read_all
from jail.registry import find, records

pytestmark = pytest.mark.needs("userns")

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
JAIL = (sys.executable, "-m", "jail")
PYTHON = (sys.executable, "-I", "-S", "-c")
TITLES = "NAME  HARNESS  AGE  CPU%"


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """
    The names of this test are in a place of their own: that of its panes.
    """
    monkeypatch.setenv("JAIL_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def program():
    """
    Starts a program in a sandbox and waits until it, and whoever else is to, has said "up".
    """
    started = []

    def program(box, *cmd, ups=1):
        process = box.popen(cmd, stdin=jail.PIPE, stdout=jail.PIPE)
        started.append(process)
        assert [b"up\n"] * ups == [process.stdout.readline() for _ in range(ups)]
        return process

    yield program
    for process in started:
        process.kill()
        process.wait(PATIENCE)
        process.close()


@pytest.fixture
def start(program):
    """
    Starts a sandbox with a name, and a program in it.
    """
    boxes = []

    def start(name, *cmd, **fields):
        box = jail.Sandbox(name=name, **fields)
        boxes.append(box)
        box.__enter__()
        if cmd:
            program(box, *cmd)
        return box

    yield start
    for box in boxes:
        box.close()


def top(*args, **options):
    """
    One ``jail top``: exit code, standard output and error.
    """
    options = {
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "text": True,
        "timeout": PATIENCE,
    } | options
    done = subprocess.run([*JAIL, "top", *args], **options)
    return done.returncode, done.stdout, done.stderr


def reading(name="one"):
    """
    What is read of one sandbox.
    """
    ((_, found),) = read_all([find(name)])
    return found


BUSY = "x = b'x' * (48 << 20); print('up', flush=True)\nwhile True: pass"
IDLE = "x = b'x' * (24 << 20); print('up', flush=True); import time; time.sleep(1000)"


def test_report_what_is_used(start):
    """
    A program that keeps a processor busy and memory taken is seen to; one that does nothing, not.
    """
    start("busy", *PYTHON, BUSY)
    start("idle", *PYTHON, IDLE)
    start("empty")
    code, out, err = top("--json", "-n", "2", "-d", "0.5s")
    looks = [{row["name"]: row for row in json.loads(line)} for line in out.splitlines()]
    first, last = looks

    assert (0, "", 2) == (code, err, len(looks))
    assert ["busy", "empty", "idle"] == sorted(last) == sorted(first)
    assert all(0.0 < look["busy"]["cpu_percent"] < 120.0 for look in looks)
    assert last["idle"]["cpu_percent"] < last["busy"]["cpu_percent"]
    assert first["busy"]["cpu_seconds"] < last["busy"]["cpu_seconds"]
    assert 48 << 20 < last["busy"]["memory_bytes"] < 64 << 20
    assert 24 << 20 < last["idle"]["memory_bytes"] < 40 << 20
    assert (0, [], 0.0) == tuple(last["empty"][key] for key in ("memory_bytes", "commands", "cpu_percent"))
    assert [1, 1, 0] == [last[name]["processes"] for name in ("busy", "idle", "empty")]
    assert os.getpid() == last["busy"]["harness_pid"]


def test_report_processes(start, program):
    """
    Threads are counted; the commands are those that were started, and the daemons that they have left.
    """
    threads = "import threading, time\nfor _ in range(4): threading.Thread(target=time.sleep, args=(1000,)).start()\n"
    daemon = "print('up', flush=True); import time; time.sleep(1000)"
    box = start("one", *PYTHON, threads + "print('up', flush=True)")
    program(box, "sh", "-c", 'sleep 999 & ("$@" &); echo up; wait', "sh", *PYTHON, daemon, ups=2)
    found = reading()

    assert (5 + 3, 3) == (found.processes, len(found.commands))
    assert shlex.join([*PYTHON, daemon]) in found.commands
    assert [] == [command for command in found.commands if command.startswith("sleep")]


def test_report_what_is_shared_once(start, program):
    """
    What processes share is counted once, and not for each of them.
    """
    code = """
import os, time
x = b"x" * (32 << 20)
for _ in range(4):
    if not os.fork():
        print("up", flush=True)
        time.sleep(1000)
time.sleep(1000)
"""
    program(start("one"), *PYTHON, code, ups=4)
    found = reading()

    assert 5 == found.processes
    assert 32 << 20 < found.memory_bytes < 64 << 20


def test_report_what_has_ended(start):
    """
    The processor time of programs that have ended is not forgotten: a rate would go below nothing.
    """
    box = start("one")
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    box.run([*PYTHON, burn])
    box.run(["sh", "-c", '"$@"; true', "sh", *PYTHON, burn])

    assert 0.55 < reading().cpu_seconds < 5.0


def test_deny_control_in_commands(start, program):
    """
    A command line is shown in one line, as a shell takes it, with nothing in it that a terminal obeys.
    """
    program(start("one"), "sh", "-c", "echo up\n\tread x", "a\x1b[2Jb", "\u202ec", b"\xff", "")

    assert (r"sh -c 'echo up^J^Iread x' 'a^[[2Jb' '<U+202E>c' '\udcff' ''",) == reading().commands
    assert "a^[[2Jb" in top("--once")[1]


def test_deny_control_in_names(start, program):
    """
    A program without arguments is shown by its process's name, in which nothing is obeyed either.
    """
    line = """cp "$(command -v cat)" /tmp/a$'\\e[2J'; echo up; exec -a '' /tmp/a*"""
    process = program(start("one"), "bash", "-c", line)
    process.stdin.write(b"up\n")  # to cat, which has been executed when it answers
    assert b"up\n" == process.stdout.readline()

    assert ("[a^[[2J]",) == reading().commands


@pytest.mark.program("bash")
def test_deny_hiding_by_name(start, program):
    """
    A program that has jail-init's name to the byte, and has come to it by killing its shepherd, is counted.
    """
    script = """
kill -KILL $PPID
while [[ $status != *PPid:?1[^0-9]* ]]; do status=$(< /proc/$$/status); done
echo up
read line
"""
    process = start("one").popen(["bash", "-c", "exec -a jail-init bash"], stdin=jail.PIPE, stdout=jail.PIPE)
    process.stdin.write(script.encode())
    assert b"up\n" == process.stdout.readline()
    found = reading()
    process.close()

    assert 1 == found.processes
    assert 0 < found.memory_bytes


def test_report_what_vanishes(start):
    """
    A sandbox that ends between two looks is left out; programs that end while they are looked at are no error.
    """
    box = start("one")
    other = start("other", "sh", "-c", "echo up; while :; do /bin/true & /bin/true; done")
    both = records()
    for _ in range(30):
        assert ["one", "other"] == [record.name for record, _ in read_all(both)]
    box.close()
    assert ["other"] == [record.name for record, _ in read_all(both)]
    other.close()
    assert [] == read_all(both)


@pytest.mark.needs("landlock")
def test_report_without_namespaces(harness, container):
    """
    Where a sandbox is no PID namespace it is the same, and the processes of the harness are not counted.
    """
    source, options = container
    code = f"""
import jail, sys
with jail.Sandbox(name="one", waive=["pids"]) as box:
    process = box.popen([*{PYTHON!r}, {IDLE!r}], stdout=jail.PIPE)
    print(process.stdout.readline().decode().strip(), flush=True)
    sys.stdin.read()
"""
    other = harness(source + code, stdin=subprocess.PIPE, **options)
    assert "up" == other.await_line()
    found = reading()

    assert (shlex.join([*PYTHON, IDLE]),) == found.commands
    assert 24 << 20 < found.memory_bytes < 40 << 20


@pytest.mark.needs("cgroup")
def test_report_of_a_cgroup(start):
    """
    What the sandbox's cgroup says, where it has one: and that is what its processes say.
    """
    start("one", *PYTHON, IDLE)
    found = reading()

    assert ("cgroup", 1, (shlex.join([*PYTHON, IDLE]),)) == (found.source, found.processes, found.commands)
    assert 24 << 20 < found.memory_bytes < 64 << 20


@pytest.fixture
def group(start, program, tmp_path):
    """
    A directory like a cgroup's, for a sandbox with a shell in it that has a child; and its record.
    """
    process = program(start("one"), "sh", "-c", "echo up; cat; :")
    process.stdin.write(b"up\n")
    assert b"up\n" == process.stdout.readline()
    (child,) = psutil.Process(process.host_pid).children()
    place = tmp_path / "group"
    for leaf in ("1", "2"):
        (place / "programs" / leaf).mkdir(parents=True)
    for name, text in {
        "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
        "memory.current": "4096\n",
        "pids.current": "2\n",
        "1/cgroup.procs": "",
        "2/cgroup.procs": f"{process.host_pid}\n{child.pid}\n",
    }.items():
        (place / "programs" / name).write_text(text)
    return place / "programs", dataclasses.replace(find("one"), cgroup=str(place))


def test_report_files_of_a_cgroup(group):
    """
    A cgroup's files are what counts, and of the processes in it those without a parent there are the commands.
    """
    ((_, found),) = read_all([group[1]])

    assert (1.5, 4096, 2, ("sh -c 'echo up; cat; :'",), "cgroup") == (
        found.cpu_seconds,
        found.memory_bytes,
        found.processes,
        found.commands,
        found.source,
    )


@pytest.mark.parametrize("name", ["cpu.stat", "memory.current", "pids.current"])
def test_report_cgroup_that_does_not_count(name, group):
    """
    Where a file of a controller is missing the processes are asked; one that says nonsense is an error.
    """
    place, record = group
    (place / name).write_text("nonsense\n")
    with pytest.raises(MeasurementError, match="not what cpu"):
        read_all([record])
    (place / name).unlink()
    ((_, found),) = read_all([record])

    assert "processes" == found.source


def without_psutil(*args):
    """
    One ``jail top`` where psutil is not installed.
    """
    code = "import sys; sys.modules['psutil'] = None; from jail.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "top", *args], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_refuse_without_psutil(start):
    """
    Where there is neither a cgroup nor psutil the error has the command that brings it; with nothing to read all is
    well.
    """
    code, out, err = without_psutil("--once")
    assert (0, TITLES, "") == (code, out[: len(TITLES)], err)
    start("one", cgroup="none")
    code, out, err = without_psutil("--once")

    assert (125, "") == (code, out)
    assert err == (
        "jail: top: needs psutil 5.9, for a sandbox without a cgroup; found none. "
        "pip install 'jail[psutil]' installs it\n"
    )


def test_report_cgroup_without_psutil(group, monkeypatch):
    """
    A sandbox with a cgroup needs no psutil.
    """
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert ["cgroup"] == [found.source for _, found in read_all([group[1]])]


def test_report_tables(start):
    """
    What is no terminal gets plain tables, as many as asked for, sorted as asked for.
    """
    start("small", *PYTHON, BUSY)
    start("large", *PYTHON, IDLE.replace("24", "64"))
    code, out, err = top("-n", "2", "-d", "0.1", "--sort", "memory")
    tables = [table.splitlines() for table in out.split("\n\n")]

    assert (0, "", 2) == (code, err, len(tables))
    assert ["NAME", "large", "small"] * 2 == [line.split()[0] for table in tables for line in table]
    assert ["NAME", "small", "large"] == [line.split()[0] for line in top()[1].splitlines()]
    assert 3 == len(top("--once", "-n", "5")[1].splitlines())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-d", "soon"], "jail: -d: 'soon' is not understood"),
        (["-d", "0"], "jail: -d: at least 0.1 seconds"),
        (["-n", "0"], "jail: -n: at least one"),
        (["-n", "many"], "jail top: argument -n: invalid int value: 'many'"),
        (["--sort", "name"], "jail top: argument --sort: invalid choice: 'name'"),
    ],
)
def test_refuse_options(args, message):
    """
    Options that make no sense are refused.
    """
    code, out, err = top(*args)

    assert (125, "") == (code, out)
    assert message in err


def test_report_to_nobody(start):
    """
    Whoever reads no further ends it.
    """
    start("one")
    with subprocess.Popen([*JAIL, "top", "-n", "1000", "-d", "0.1"], stdout=-1, stderr=-1) as process:
        process.stdout.readline()
        process.stdout.close()

        assert (141, b"") == (process.wait(PATIENCE), process.stderr.read())


def shows(*names):
    """
    Whether a screen has the titles, and these sandboxes in this order.
    """
    return lambda lines: (
        len(lines) > 1
        and lines[1].startswith("NAME")
        and list(names) == [line.split()[0] for line in lines[2:] if line]
    )


@pytest.mark.program("tmux", "stty")
def test_keys(start, pane):
    """
    Keys sort, sandboxes come and go, and q ends it: the terminal, and what was on it, are as they were.
    """
    busy = start("busy", *PYTHON, BUSY)
    start("large", *PYTHON, IDLE.replace("24", "64"))
    one = pane("top", "-d", "0.2")
    one.await_screen(shows("busy", "large"))
    assert "0\n" == one.tmux("display-message", "-p", "#{cursor_flag}")
    one.type("m")
    assert "jail top: 2 sandboxes, by MEMORY" in one.await_screen(shows("large", "busy"))[0]
    one.type("c")
    assert "jail top: 2 sandboxes, by CPU%" in one.await_screen(shows("busy", "large"))[0]
    start("later")
    one.await_screen(shows("busy", "large", "later"))
    busy.close()
    assert "jail top: 2 sandboxes" in one.await_screen(shows("large", "later"))[0]
    one.type("q")

    assert ["on the screen before", "status:0", "looked"] == one.await_end(0)[-3:]
    assert "1 1\n" == one.tmux("display-message", "-p", "#{cursor_flag} #{wrap_flag}")


@pytest.mark.program("tmux", "stty")
def test_resize(start, pane):
    """
    Each change of the screen's size is followed at once; what does not fit is left out, and said to be.
    """
    for number in range(5):
        start(f"box{number}")
    one = pane("top", "-d", "1h")
    assert "PROCS" in one.await_screen(shows(*(f"box{number}" for number in range(5))))[1]
    one.tmux("resize-window", "-x", "40", "-y", "5")
    lines = one.await_screen(shows("box0", "box1", "and"))
    assert ("NAME", "COMMAND", "and 3 more") == (*lines[1].split()[:: len(lines[1].split()) - 1], lines[-1])
    one.tmux("resize-window", "-x", "1", "-y", "1")
    one.await_screen(lambda lines: ["j"] == lines)
    one.tmux("resize-window", "-x", "80", "-y", "24")
    one.await_screen(shows(*(f"box{number}" for number in range(5))))
    one.type("", "C-c")
    one.await_end(0)


@pytest.mark.program("tmux", "stty")
def test_hostile_names_on_the_screen(start, program, pane):
    """
    A command line that is long, wide, and full of escape sequences stays in its line.
    """
    box = start("one")
    start("two")
    cmd = ["sh", "-c", "echo up; read x", "\x1b[2J\x1b[H", "\u65e5\u672c" * 80, "\u0301" * 90, "\n\n\n"]
    program(box, *cmd)
    one = pane("top", "-d", "0.2", "--sort", "memory")
    one.await_screen(shows("one", "two"))
    one.tmux("resize-window", "-x", "150", "-y", "24")
    lines = one.await_screen(lambda lines: len(lines[2]) > 80)

    assert "'^[[2J^[[H' '\u65e5\u672c" in lines[2]
    assert 4 == len([line for line in lines if line])
    one.tmux("resize-window", "-x", "40", "-y", "24")
    one.await_screen(lambda lines: "PROCS" not in lines[1])
    one.tmux("resize-window", "-x", "80", "-y", "24")
    one.await_screen(lambda lines: "PROCS" in lines[1])
    one.type("q")
    one.await_end(0)


@pytest.mark.program("tmux", "stty")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_ended_by_a_signal(number, status, start, pane):
    """
    However it is ended, the terminal is as it was.
    """
    start("one")
    one = pane("top", "-d", "1h")
    one.await_screen(shows("one"))
    leader = psutil.Process(int(one.tmux("display-message", "-p", "#{pane_pid}")))
    (process,) = [child for child in leader.children(recursive=True) if child.cmdline()[-3:] == ["top", "-d", "1h"]
                  and not child.children()]  # fmt: skip
    process.send_signal(number)

    one.await_end(status)


@pytest.mark.program("tmux", "bash", "stty")
def test_stopped_and_continued(start, at_pane):
    """
    Ctrl-Z gives the screen back to the shell, and fg brings the table again.
    """
    start("one")
    one = at_pane("bash", "--norc", "-i")
    one.type("PS1='she''ll> '; clear", "Enter")
    one.await_line("shell>")
    one.type(f"{sys.executable} -m jail top -d 1h", "Enter")
    one.await_screen(shows("one"))
    one.type("", "C-z")
    assert "Stopped" in "".join(one.await_screen(lambda lines: lines[-1] == "shell>")[-4:])
    one.type("stty -a | grep -c ' echo '; fg", "Enter")
    one.await_screen(shows("one"))
    one.type("q")
    assert "1" in one.await_screen(lambda lines: lines[-1] == "shell>")
    one.type("", "C-d")
    one.await_end(0)


@pytest.mark.program("tmux", "stty")
def test_rounds(start, pane):
    """
    After so many looks it ends, and the last table stays to be read.
    """
    start("one")
    lines = pane("top", "-n", "2", "-d", "0.1").await_end(0)

    assert ["on the screen before", "status:0", "looked"] == [lines[-5], *lines[-2:]]
    assert ["NAME", "one"] == [line.split()[0] for line in lines[-4:-2]]


@pytest.mark.program("tmux", "stty")
def test_once(start, pane):
    """
    With --once there is a table and nothing else, at a terminal as well.
    """
    start("one")
    lines = pane("top", "--once").await_end(0)

    assert ["NAME", "one", "status:0"] == [line.split()[0] for line in lines[-4:-1]]
