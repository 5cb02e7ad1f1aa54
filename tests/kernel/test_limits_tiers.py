"""
Limits where there are no namespaces, and where /proc is masked: the same hogs, the same ends. proc(5)
"""

import json

import pytest

MASKED = """
mount(b"none", "/proc/sys", b"tmpfs")  # as containers do: no fresh /proc is to be had then
"""

RUN = """
import json, sys, jail
code, fields = sys.argv[1], json.loads(sys.argv[2])
result = jail.run([sys.executable, "-I", "-S", "-c", code], timeout=60, grace=0.1, cgroup="none", **fields)
kept = {g.name: [g.mechanism, g.strength] for g in result.guarantees}
print(json.dumps({
    "features": sorted(jail.probe().features & {"userns", "proc"}),
    "outcome": type(result.outcome).__name__,
    "limit": getattr(result.outcome, "limit_bytes", None),
    "peak": result.usage.memory_peak_bytes,
    "errors": result.stderr.text,
    "kept": kept,
}))
"""

HOG = "a = []\nwhile True: a.append(b'x' * (1 << 20))"
TMPFS = "import os\nf = open(os.environ.get('TMPDIR', '/tmp') + '/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"
MEMFD = "import os\nwhile True: os.write(os.memfd_create('m'), b'x' * (1 << 20))"
BURN = "import os\nos.fork()\nwhile True: pass"
FORKS = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
WATCHED = ["jail-init, who looks at /proc", "supervised"]


@pytest.fixture(params=[pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6")), "masked"])
def tier(request, ask_harness, container, own_mounts):
    """
    Runs a program with limits in one of the tiers, and gives what came of it.
    """
    source, options = container
    if request.param == "masked":
        source, options = own_mounts + MASKED, {}

    def run(code, **fields):
        found = ask_harness(source + RUN, code, json.dumps(fields), **options)
        assert ([] if request.param == "landlock" else ["userns"]) == found["features"]
        return found

    run.name = request.param
    return run


pytestmark = pytest.mark.needs("userns", "landlock", "libseccomp")


@pytest.mark.parametrize("code", [pytest.param(HOG, id="anonymous"), pytest.param(MEMFD, id="memfd")])
def test_deny_memory(tier, code):
    """
    A hog is ended at the limit of the sum.
    """
    found = tier(code, memory="100M")

    assert ("OutOfMemory", 100 << 20, WATCHED) == (found["outcome"], found["limit"], found["kept"]["memory"])


def test_deny_memory_of_tmpfs(tier):
    """
    What the sandbox's own tmpfs holds counts, where it has one.
    """
    found = tier(TMPFS, memory="50M", file_size="900M" if tier.name == "masked" else "20M")

    expected = {"masked": ("OutOfMemory", ""), "landlock": ("Exited", "File too large")}[tier.name]
    assert expected[0] == found["outcome"]
    assert expected[1] in found["errors"]


def test_allow_memory(tier):
    """
    The control: what fits is left alone, and its peak is known.
    """
    found = tier("x = b'x' * (50 << 20)\nimport time; time.sleep(0.3)", memory="100M")

    assert ("Exited", "") == (found["outcome"], found["errors"])
    assert 50 << 20 < found["peak"] < 100 << 20


def test_deny_processor_time(tier):
    """
    A program's processor time is that of all that it starts.
    """
    assert "CpuTimeExceeded" == tier(BURN, cpu_seconds=0.5)["outcome"]


def test_deny_processes(tier):
    """
    A bomb is ended soon after it has become more than it may, where the kernel does not keep it from that.
    """
    found = tier(FORKS, processes=40)

    assert ("ProcessLimit", WATCHED) == (found["outcome"], found["kept"]["pids"])


def test_deny_processors(tier):
    """
    Affinity is kept, and cannot be widened.
    """
    found = tier("import os\nos.sched_setaffinity(0, range(os.cpu_count()))", cpus=1)

    assert "PermissionError: [Errno 1]" in found["errors"]
    assert "" == tier("import os\nos.sched_setaffinity(0, range(os.cpu_count()))")["errors"]
