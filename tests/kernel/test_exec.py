"""
How a program is found and started, and what it gets. execve(2), execvp(3)
"""

import errno
import json
import os
import sys
import threading

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture
def programs(tree):
    """
    Files in a tree that a name may mean: a program, a text, a directory, a script for nobody.
    """
    (tree / "program").write_text("#!/bin/sh\necho here\n")
    (tree / "program").chmod(0o755)
    (tree / "text").write_text("#!/bin/sh\necho here\n")
    (tree / "noise").write_bytes(b"\x00\x01\x02")
    (tree / "noise").chmod(0o755)
    (tree / "orphan").write_text("#!/no/such/interpreter\n")
    (tree / "orphan").chmod(0o755)
    return tree


@pytest.mark.parametrize(
    ("cmd", "expected"),
    [
        pytest.param("program", errno.ENOENT, id="refuse_not_on_path"),
        pytest.param("{}/missing", errno.ENOENT, id="refuse_missing"),
        pytest.param("{}/program/x", errno.ENOTDIR, id="refuse_below_a_file"),
        pytest.param("{}/text", errno.EACCES, id="refuse_without_x"),
        pytest.param("{}/d", errno.EACCES, id="refuse_directory"),
        pytest.param("{}/noise", errno.ENOEXEC, id="refuse_noise"),
        pytest.param("{}/orphan", errno.ENOENT, id="refuse_without_interpreter"),
        pytest.param("{}/" + "x" * 300, errno.ENAMETOOLONG, id="refuse_long_name"),
        pytest.param("", errno.ENOENT, id="refuse_empty_name"),
    ],
)
def test_refuse(cmd, expected, programs):
    """
    What cannot be executed is a SetupError with the kernel's errno, and names the file; what can be, runs.
    """
    with jail.Sandbox(read=[programs]) as box:
        with pytest.raises(jail.SetupError) as caught:
            box.run([cmd.format(programs)])
        assert b"here\n" == box.run([f"{programs}/program"]).stdout

    assert expected == caught.value.errno
    assert ("execve(2)", cmd.format(programs)) == (caught.value.syscall, caught.value.path or "")
    assert caught.value.op.startswith("execute")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("{}", 0, id="allow_only"),
        pytest.param("/nowhere:{}", 0, id="allow_after_missing"),
        pytest.param("{}/f:{}", 0, id="allow_after_file"),
        pytest.param("{}/d:{}", 0, id="allow_after_forbidden"),
        pytest.param("", 0, id="allow_empty_is_here"),
        pytest.param("/nowhere:", 0, id="allow_empty_at_the_end"),
        pytest.param("/nowhere", errno.ENOENT, id="refuse_missing"),
        pytest.param("{}/d:/nowhere", errno.EACCES, id="refuse_forbidden"),
    ],
)
def test_path(path, expected, programs):
    """
    A name without a slash is looked for on the sandbox's PATH; what is forbidden there is passed over.
    """
    (programs / "d" / "program").write_text("not for execution")
    rules = {"read": [programs], "env": {"PATH": path.format(programs, programs)}}
    try:
        found = jail.run("program", cwd=programs, **rules)
    except jail.SetupError as exc:
        assert expected == exc.errno
    else:
        assert (expected, b"here\n") == (found.exit_code, found.stdout)


def test_relative_name(programs):
    """
    A name with a slash is looked for from the directory in which the program starts.
    """
    assert b"here\n" == jail.run("./program", cwd=programs, read=[programs]).stdout
    with pytest.raises(jail.SetupError) as caught:
        jail.run("./program", read=[programs])
    assert errno.ENOENT == caught.value.errno


def test_directory(tree, inside):
    """
    A program starts in cwd; one that is absent inside is a SetupError that names the step.
    """
    code = "import json, os; print(json.dumps(os.getcwd()))"
    with jail.Sandbox(read=[tree]) as box:
        assert json.dumps(str(tree)) == box.run([*PYTHON, code], cwd=tree).stdout.text.strip()
        for place, expected in ((tree / "missing", errno.ENOENT), (tree / "f", errno.ENOTDIR)):
            with pytest.raises(jail.SetupError, match="change to the working directory") as caught:
                box.run(["true"], cwd=place)
            assert (expected, "chdir(2)") == (caught.value.errno, caught.value.syscall)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"cmd": ["echo", "a\0b"]}, id="refuse_nul_in_argument"),
        pytest.param({"cmd": ["tr\0ue"]}, id="refuse_nul_in_name"),
        pytest.param({"cmd": ["true"], "env": {"V": "a\0b"}}, id="refuse_nul_in_value"),
        pytest.param({"cmd": ["true"], "env": {"V\0": "1"}}, id="refuse_nul_in_variable"),
        pytest.param({"cmd": ["true"], "env": {"A=B": "1"}}, id="refuse_equals_in_variable"),
        pytest.param({"cmd": ["true"], "env": {"": "1"}}, id="refuse_nameless_variable"),
        pytest.param({"cmd": ["true"], "cwd": "/tmp\0"}, id="refuse_nul_in_directory"),
        pytest.param({"cmd": []}, id="refuse_nothing"),
        pytest.param({"cmd": ["true"], "shell": True}, id="refuse_list_for_shell"),
        pytest.param({"cmd": ["echo", "x" * (16 << 20)]}, id="refuse_more_than_a_request_holds"),
    ],
)
def test_refuse_request(request_):
    """
    What execve(2) could not be told is a PolicyError, and the sandbox goes on.
    """
    with jail.Sandbox() as box:
        with pytest.raises(jail.PolicyError):
            box.run(**request_)
        assert 0 == box.run(["true"]).exit_code


def test_shell():
    """
    With shell=True one string is read by /bin/sh inside; without it, it is a program's name.
    """
    assert b"a b\n" == jail.run("echo a  b | cat", shell=True).stdout
    assert 7 == jail.run("exit 7", shell=True).exit_code
    with pytest.raises(jail.SetupError) as caught:
        jail.run("echo a")
    assert errno.ENOENT == caught.value.errno


def test_programs_at_once():
    """
    Programs that run in one sandbox at the same time keep their streams and their ends apart.
    """
    with jail.Sandbox() as box:
        results = {}

        def run(number):
            results[number] = box.run(["sh", "-c", f"cat; exit {number}"], input=str(number))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {n: (n, str(n).encode()) for n in range(16)} == {
        n: (r.exit_code, r.stdout) for n, r in results.items()
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", jail.Exited(0)),
        ("raise SystemExit(255)", jail.Exited(255)),
        ("import os; os.kill(os.getpid(), 9)", jail.Signalled(9)),
        ("import os; os.abort()", jail.Signalled(6)),
        ("import ctypes; ctypes.string_at(0)", jail.Signalled(11)),
    ],
)
def test_outcome(code, expected):
    """
    The outcome is what wait(2) says of the program.
    """
    result = jail.run([*PYTHON, code])

    assert expected == result.outcome
    assert result.usage.wall_seconds > 0


def test_fault_of_a_one_shot():
    """
    What cannot be executed is a SetupError although the sandbox ends with it, at the same moment.
    """
    for _ in range(100):
        with pytest.raises(jail.SetupError) as caught:
            jail.run("no-such-program")
        assert errno.ENOENT == caught.value.errno


def test_set_up_fault_before_a_run(tree):
    """
    A set-up that failed is reported by the first run as what it was, however late that comes.
    """
    (tree / "gone").mkdir()
    real, jail.session.spawn_init = (
        jail.session.spawn_init,
        lambda *args, **cgroup: (tree / "gone").rmdir() or real(*args, **cgroup),
    )
    try:
        box = jail.Sandbox(read=[tree / "gone"])
    finally:
        jail.session.spawn_init = real
    os.waitid(os.P_PIDFD, box._session.init.pidfd, os.WEXITED | os.WNOWAIT | 0x40000000)  # __WALL
    with pytest.raises(jail.SetupError) as caught:
        box.run(["true"])
    box.close()

    assert (errno.ENOENT, str(tree / "gone")) == (caught.value.errno, caught.value.path)
