"""
Wrong bytes to all that reads requests, under the compiler's sanitizers. `fuzz_requests.c`

JAIL_FUZZ_SECONDS is how long each of the two runs takes. A failure names its seed, which brings it back.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

import jail
import jail.planning
from jail import wire
from jail.ops import Op, OpKind
from jail.wire import ExecFlag, FileCall

pytestmark = pytest.mark.program("cc")

SOURCE = Path(__file__).with_name("fuzz_requests.c")
CSRC = Path(__file__).parents[2] / "csrc"
# init.c has an entry point of its own, spawn.c, traffic.c and piece.c are the harness's; request.c is included by the fuzzer.
NOT_LINKED = {"init.c", "spawn.c", "traffic.c", "piece.c", "request.c"}
CFLAGS = "-std=gnu11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all".split()
SECONDS = float(os.environ.get("JAIL_FUZZ_SECONDS", "5"))


def compile_c(*args, cwd):
    """
    Have the compiler do this, with sanitizers; what it says is shown.
    """
    done = subprocess.run([shutil.which("cc"), *CFLAGS, *args], cwd=cwd, capture_output=True, text=True)
    assert (0, "") == (done.returncode, done.stderr)


def missing_sanitizer(place):
    """
    Why the compiler cannot make programs with sanitizers that run here; empty where it can.
    """
    (place / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [shutil.which("cc"), *CFLAGS, "-o", "empty", "empty.c"]
    for step in (command, [place / "empty"]):
        done = subprocess.run(step, cwd=place, capture_output=True, text=True)
        if done.returncode:
            return f"cc has no sanitizers here: {done.stderr.strip()[-200:]}"
    return ""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """
    The fuzzer. The C files are compiled as they are for jail-init, without a C library's headers.
    """
    place = tmp_path_factory.mktemp("fuzz")
    if reason := missing_sanitizer(place):
        verdict = pytest.fail if os.environ.get("JAIL_REQUIRE_PROGRAMS") == "1" else pytest.skip
        verdict(reason)
    files = sorted(path for path in CSRC.glob("*.c") if path.name not in NOT_LINKED)
    compile_c("-ffreestanding", "-c", *files, cwd=place)
    objects = [f"{path.stem}.o" for path in files]
    compile_c(f"-I{CSRC}", "-Wall", "-Wextra", "-o", "fuzz_requests", SOURCE, *objects, cwd=place)
    return place / "fuzz_requests"


def bodies():
    """
    Requests as they are sent, by name: a plan of this host, and of each kind some that have all there is in it.
    """
    plan, _ = jail.planning.make_plan(jail.load_policy("default"))
    each_kind = [Op(kind, f"/{kind.name}", kind.name.encode(), (1, 2, 3, 4)) for kind in OpKind]
    env = [f"NAME_{number}={'x' * number}".encode() for number in range(40)]
    whole = {"ops": plan.each_exec, "flags": ExecFlag.LAST | ExecFlag.PIDFD, "timeout": 1.5, "grace": 2.0}
    limits = {"tasks": 7, "memory": 1 << 40, "cpu": 0.5, "sample": 0.005}
    return {
        "plan_of_this_host": wire.encode_plan(plan.setup, plan.each_exec),
        "plan_of_each_kind": wire.encode_plan(each_kind, each_kind[::-1]),
        "plan_of_one_op": wire.encode_plan([], [Op(OpKind.RLIMIT, args=(4, 0, 0), optional=True)]),
        "plan_of_nothing": wire.encode_plan([], []),
        "exec": wire.encode_exec(b"/", [b"/bin/true"], [b"true"], []),
        "exec_of_several_files": wire.encode_exec(b"/home", [b"/a/x", b"/b/x", b"/c/x"], [b"x", b""], env),
        "exec_with_ops": wire.encode_exec(b"/tmp", [b"/bin/sh"], [b"sh", b"-c", b"exit"], env[:3], **whole),
        "exec_of_each_op": wire.encode_exec(b"/", [b"/bin/true"], [b"true"], env[:1], ops=each_kind),
        "exec_at_a_terminal": wire.encode_exec(
            b"/", [b"/bin/sh"], [b"sh"], [b"TERM=xterm"], flags=ExecFlag.TERMINAL, size=(24, 80)
        ),
        "exec_in_a_cgroup": wire.encode_exec(
            b"/", [b"/bin/true"], [b"true"], env[:2], flags=ExecFlag.CGROUP, **limits
        ),
        "exec_at_a_terminal_in_a_cgroup": wire.encode_exec(
            b"/", [b"/bin/sh"], [b"sh"], [], flags=ExecFlag.TERMINAL | ExecFlag.CGROUP, size=(24, 80)
        ),
        "exec_with_limits": wire.encode_exec(
            b"/", [b"/bin/true"], [b"true"], [], ops=each_kind[:3], **limits
        ),
        "exec_with_much": wire.encode_exec(b"/", [b"/bin/true"], [b"true", *[b"y" * 100] * 700], env),
        "file_open": wire.encode_file(FileCall.OPEN, b"/tmp/file", flags=os.O_CREAT, mode=0o600),
        "file_mkdir": wire.encode_file(FileCall.MKDIR, b"/tmp/" + b"d" * 200, mode=0o700),
        "file_unlink": wire.encode_file(FileCall.UNLINK, b""),
    }


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """
    A directory with those requests, a file each.
    """
    place = tmp_path_factory.mktemp("seeds")
    for name, body in bodies().items():
        (place / name).write_bytes(body)
    return place


def fuzz(program, seeds, seed, seconds):
    """
    The counts that a run ends with. Fails with all that it said when it ends otherwise.
    """
    command = [program, seeds, str(seed), str(round(seconds * 1000))]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (0, "") == (done.returncode, done.stderr), f"seed {seed}\n{done.stderr}"
    return {name: int(number) for name, number in (field.split("=") for field in done.stdout.split())}


def test_allow_what_is_sent(program, seeds):
    """
    The control: each request as it is sent is accepted by its own reader, and by no other.
    """
    counts = fuzz(program, seeds, 1, 0)
    kinds = [path.name.split("_")[0] for path in seeds.iterdir()]

    assert len(kinds) == counts["runs"]
    assert [kinds.count(kind) for kind in ("plan", "exec", "file")] == [
        counts[name] for name in ("plans", "execs", "files")
    ]


@pytest.mark.parametrize("seed", [pytest.param(1, id="fixed"), pytest.param(None, id="random")])
def test_no_byte_is_read_that_was_not_sent(program, seeds, seed):
    """
    Whatever is sent is refused as a whole, or all that it points to lies within it.
    """
    counts = fuzz(program, seeds, random.getrandbits(32) if seed is None else seed, SECONDS)

    assert [] == [name for name, count in counts.items() if count == 0]
