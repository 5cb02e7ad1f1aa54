"""
What a run is said to have cost, beside what somebody else says of the same run. time(1), wait4(2), cgroup-v2.rst

Tolerances are stated with each figure.
"""

import pickle
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jail
import jail.usage

BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"
FIELDS = {
    "user_seconds": r"User time \(seconds\): (\S+)",
    "system_seconds": r"System time \(seconds\): (\S+)",
    "memory_peak_bytes": r"Maximum resident set size \(kbytes\): (\S+)",
    "minor_faults": r"Minor \(reclaiming a frame\) page faults: (\S+)",
    "major_faults": r"Major \(requiring I/O\) page faults: (\S+)",
    "voluntary_switches": r"Voluntary context switches: (\S+)",
    "involuntary_switches": r"Involuntary context switches: (\S+)",
}


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.mark.program("time")
def test_report_what_time_reports():
    """
    GNU time, run inside around the same program, has the same figures: times within 50 ms, memory within 4 MiB (by
    what it was read at), faults within 500 and switches within 200 (time itself has some of each).
    """
    code = BURN.format(0.3) + "x = b'x' * (64 << 20)\n"
    result = jail.run(["/usr/bin/time", "-v", *python(code)], cgroup="none")
    said = {name: float(re.search(pattern, result.stderr.text)[1]) for name, pattern in FIELDS.items()}
    said["memory_peak_bytes"] *= 1024
    tolerance = {"user_seconds": 0.05, "system_seconds": 0.05, "memory_peak_bytes": 4 << 20}
    tolerance |= {
        "minor_faults": 500,
        "major_faults": 50,
        "voluntary_switches": 200,
        "involuntary_switches": 200,
    }

    differences = {name: abs(getattr(result.usage, name) - said[name]) for name in said}
    assert {} == {name: value for name, value in differences.items() if value > tolerance[name]}
    assert said["user_seconds"] + said["system_seconds"] > 0.25
    assert said["memory_peak_bytes"] > 64 << 20


def test_report_wall_and_processor_time():
    """
    What a program says of its own times is what is reported: within 50 ms, and a start of the interpreter.
    """
    code = BURN.format(0.3) + "import os; print(*os.times()[:2])"
    result = jail.run(python(code), cgroup="none")
    user, system = map(float, result.stdout.split())

    assert abs(result.usage.cpu_seconds - user - system) < 0.05
    assert result.usage.wall_seconds >= 0.3


def test_report_bytes_written(tmp_path):
    """
    Bytes written to a disk are counted: those of a file that is as large, within a MiB.
    """
    if Path("/proc/self/io").read_text().count("write_bytes") == 0:
        pytest.skip("the kernel does not count")
    code = f"f = open({str(tmp_path / 'f')!r}, 'wb')\nfor i in range(16): f.write(b'x' * (1 << 20))\nf.flush()\nimport os; os.fsync(f)"
    result = jail.run(python(code), write=[tmp_path], cgroup="none")

    assert "" == result.stderr.text
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, check=True).stdout
    mebibytes = 0 if kind == b"tmpfs\n" else 16  # which is no disk, as /tmp may be
    assert mebibytes << 20 <= result.usage.written_bytes <= mebibytes + 1 << 20


def test_report_output_bytes():
    """
    Bytes of both streams, kept or not.
    """
    code = "import os; os.write(1, b'x' * 1000); os.write(2, b'y' * 500)"

    assert 1500 == jail.run(python(code), output_limit=10).usage.output_bytes


@pytest.mark.needs("userns", "proc")
def test_report_processes():
    """
    Processes and threads are counted as they start, and those alive at once as they are seen.
    """
    code = "import os, time\nfor i in range(9):\n  if os.fork() == 0:\n    time.sleep(0.3)\n    os._exit(0)\nfor i in range(9): os.wait()"
    usage = jail.run(python(code), cgroup="none").usage

    assert (10, 10) == (usage.processes_started, usage.processes_peak)
    assert 1 == jail.run(["true"], cgroup="none").usage.processes_started


@pytest.mark.needs("userns", "proc")
def test_report_memory_of_all():
    """
    The peak is of all processes together: four of 30 MiB are no 30, within what an interpreter takes of its own.
    """
    code = "import os, time\nfor i in range(4):\n  if os.fork() == 0:\n    x = b'x' * (30 << 20)\n    time.sleep(0.4)\n    os._exit(0)\nfor i in range(4): os.wait()"
    usage = jail.run(python(code), cgroup="none").usage

    assert 120 << 20 < usage.memory_peak_bytes < 200 << 20
    assert "what jail-init saw as it looked" == usage.sources["memory_peak_bytes"]


@pytest.mark.needs("userns")
def test_report_disk():
    """
    What the sandbox's own files took at most.
    """
    code = "import os\nopen('/tmp/f', 'wb').write(b'x' * (5 << 20))"

    assert 5 << 20 <= jail.run(python(code)).usage.disk_peak_bytes < 6 << 20


def test_report_where_each_figure_is_from():
    """
    Every figure that is there names its source, and one that is not is None.
    """
    usage = jail.run(["true"]).usage
    figures = usage.as_dict()
    derived = {"setup", "sources", "cpu_seconds", "setup_seconds"}

    assert {name for name, value in figures.items() if value is not None} - derived == set(usage.sources)
    assert usage.network_bytes is None


def test_report_the_phases_of_setting_up():
    """
    The first run of a sandbox has them, the second does not.
    """
    with jail.Sandbox() as box:
        first, second = box.run(["true"]).usage, box.run(["true"]).usage

    assert {"plan", "spawn", "build"} <= set(first.setup)
    assert sum(first.setup.values()) == first.setup_seconds > 0
    assert ({}, 0) == (second.setup, second.setup_seconds)


def test_report_the_sandbox():
    """
    A sandbox has cost what its programs have, in the background or not.
    """
    with jail.Sandbox(cgroup="none") as box:
        runs = [box.run(python(BURN.format(0.1))), box.popen(python(BURN.format(0.1))).result()]
        total = box.usage

    assert total.user_seconds == pytest.approx(sum(run.usage.user_seconds for run in runs))
    assert total.memory_peak_bytes == max(run.usage.memory_peak_bytes for run in runs)
    assert total.wall_seconds > 0.2


def test_report_the_sandbox_of_many_threads(monkeypatch):
    """
    Whatever thread a program was run by, what it cost is in the sum: of six that add up after each other run.
    """
    monkeypatch.setattr(jail.usage, "_LEDGER_ROWS", 2)
    add_up = jail.usage.add_up
    monkeypatch.setattr(jail.usage, "add_up", lambda usages: (add_up(usages), time.sleep(0.003))[0])
    with jail.Sandbox() as box:

        def work():
            for _ in range(10):
                box.run(["echo"])

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 60 == box.usage.output_bytes


def test_report_timeline():
    """
    A timeline has a sample for each interval, and shows what was used when.
    """
    code = "import time\nx = []\nfor i in range(10):\n  x.append(b'x' * (4 << 20))\n  time.sleep(0.05)"
    result = jail.run(python(code), timeline=0.05, cgroup="none")
    timeline = result.timeline

    assert 5 <= len(timeline) <= 14
    assert sorted(timeline.seconds) == list(timeline.seconds)
    # The last one may be of a program that is about to be gone.
    assert max(timeline.memory_bytes) - timeline.memory_bytes[1] > 16 << 20
    assert set(timeline.processes) <= {1}
    assert jail.run(["true"]).timeline is None


def test_refuse_timeline_that_is_too_fine():
    """
    jail-init looks every 5 ms at most.
    """
    with pytest.raises(jail.PolicyError, match="timeline"):
        jail.run(["true"], timeline=0.001)


def test_a_result_can_be_sent_elsewhere():
    """
    A grader's workers send results to each other.
    """
    result = jail.run(["echo", "hello"], timeline=0.01)

    assert result.usage == pickle.loads(pickle.dumps(result)).usage
