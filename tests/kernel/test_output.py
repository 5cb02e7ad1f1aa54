"""
What is kept of a program's output, what is dropped, and what it costs who runs it. pipe(7), `jail.capture`
"""

import sys

import pytest

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
MIB = 1 << 20

NUMBERS = b"".join(b"%d\n" % n for n in range(1, 100_001))  # seq 100000

# A harness: runs a line with an output limit, and prints how much its peak memory grew by that.
HARNESS = """
import jail, json, psutil, re, sys
line, limit, start = sys.argv[1:]
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
with jail.Sandbox() as box:
    box.run(line.replace("G", ""), shell=True, output_limit=limit)
    before = max(peak(), psutil.Process().memory_info().rss)
    if start == "run":
        result = box.run(line, shell=True, output_limit=limit)
    else:
        result = box.popen(line, shell=True, output_limit=limit).result(200)
    streams = result.stdout, result.stderr
    print(json.dumps([result.exit_code, peak() - before, [[len(one), one.dropped] for one in streams]]))
"""


@pytest.mark.parametrize("start", ["run", "popen"])
@pytest.mark.parametrize(
    ("line", "dropped"),
    [
        pytest.param("head -c 1G /dev/zero", [1023 * MIB, 0], id="stdout"),
        pytest.param("head -c 1G /dev/zero >&2", [0, 1023 * MIB], id="stderr"),
        pytest.param("head -c 1G /dev/zero & head -c 1G /dev/zero >&2; wait", [1023 * MIB] * 2, id="both"),
    ],
)
def test_flood(line, dropped, start, ask_harness):
    """
    Of a gigabyte each byte is counted and the limit is kept; memory grows by little, and nobody waits.
    """
    code, growth, seen = ask_harness(HARNESS, line, "1M", start)

    assert (0, [[MIB if count else 0, count] for count in dropped]) == (code, seen)
    assert growth < 64 * MIB


@pytest.mark.parametrize(("size", "dropped"), [(64 * MIB, 0), (64 * MIB + 3, 3)])
def test_default_limit(size, dropped, box):
    """
    Without a limit of the caller's it is 64 MiB, to the byte.
    """
    for result in (box.run, lambda cmd: box.popen(cmd).result(PATIENCE)):
        seen = result(["head", "-c", str(size), "/dev/zero"]).stdout
        assert (64 * MIB, dropped, dropped > 0) == (len(seen), seen.dropped, seen.truncated)


@pytest.mark.parametrize("limit", [0, 1, 2, 999, 65536, len(NUMBERS) - 1, len(NUMBERS), "1M"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_head_and_tail(limit, stream, box):
    """
    The beginning and the end are kept, of each the half to the byte, and what is missing is counted.
    """
    line = "seq 100000" if stream == "stdout" else "seq 100000 >&2"
    seen = getattr(box.run(line, shell=True, output_limit=limit), stream)
    kept = min(MIB if limit == "1M" else limit, len(NUMBERS))
    dropped, tail = len(NUMBERS) - kept, kept // 2

    assert NUMBERS[: kept - tail] + NUMBERS[len(NUMBERS) - tail :] == seen
    assert (dropped, dropped > 0) == (seen.dropped, f"\n[{dropped} bytes dropped]\n" in seen.text)


def test_both_at_once(box):
    """
    Two streams that are written in turns come whole and in order, each by itself.
    """
    code = "import os\nfor n in range(20_000): os.write(1 + n % 2, b'%d\\n' % n)"
    result = box.run([*PYTHON, code])

    assert b"".join(b"%d\n" % n for n in range(0, 20_000, 2)) == result.stdout
    assert b"".join(b"%d\n" % n for n in range(1, 20_000, 2)) == result.stderr


@pytest.mark.parametrize("background", [False, True], ids=["run", "popen"])
@pytest.mark.parametrize("redirected", ["2>&-", ">&-", ""], ids=["stdout", "stderr", "both"])
@pytest.mark.timeout(60)
def test_pipe_held_open(redirected, background, box):
    """
    What a program leaves behind, with a stream of it open, does not hold back its end, nor what it said.
    """
    line = f"echo out; echo err >&2; sleep 1000 {redirected} & echo $!"
    result = box.popen(line, shell=True).result(PATIENCE) if background else box.run(line, shell=True)

    assert (0, b"err\n") == (result.exit_code, result.stderr)
    assert b"out" == result.stdout.split()[0]
    assert 0 == box.run(["kill", "-0", result.stdout.split()[1]]).exit_code  # it lives


def test_piece_left_in_the_pipe(box):
    """
    A pipe that is full at the end is read whole, one that was made larger too.
    """
    code = "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20); os.write(1, b'x' * (1 << 20))"  # F_SETPIPE_SZ
    assert [MIB] * 10 == [len(box.run([*PYTHON, code]).stdout) for _ in range(10)]


def test_file_beyond_the_limit(box, tmp_path):
    """
    A file gets all of it: the limit is for what is kept.
    """
    with open(tmp_path / "out", "wb") as file:
        result = box.run(["seq", "100000"], stdout=file, output_limit=10)

    assert (b"", 0, NUMBERS) == (result.stdout, result.stdout.dropped, (tmp_path / "out").read_bytes())
