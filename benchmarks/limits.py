"""
How soon a limit is kept where jail-init keeps it, and what its looking costs.

::

    python benchmarks/limits.py [--n 20]

A program that takes memory says with each MiB when it did; what it says last, less when it went over, is how long it
was let. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

import jail
from one_shot import describe_machine

LIMIT_MIB = 256
HOG = f"""
import os, time
held = []
while True:
    held.append(b"x" * (1 << 20))
    if len(held) > {LIMIT_MIB} - 32:
        os.write(1, b"%d %f\\n" % (len(held), time.monotonic()))
"""
BURN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def overshoot() -> tuple[float, float]:
    """
    Milliseconds and MiB beyond the limit, by what the program itself had counted.
    """
    result = jail.run(
        [sys.executable, "-I", "-S", "-c", HOG], memory=f"{LIMIT_MIB}M", cgroup="none", timeout=60
    )
    rows = [line.split() for line in result.stdout.splitlines() if line.count(b" ") == 1]
    counted = {int(mib): float(seconds) for mib, seconds in rows}
    over = {mib: seconds for mib, seconds in counted.items() if mib >= LIMIT_MIB}
    if not over:
        return 0.0, 0.0  # the interpreter's own memory counts, too: it was ended before it had counted so far
    return (max(over.values()) - min(over.values())) * 1e3, float(max(over) - LIMIT_MIB)


def looking() -> float:
    """
    Processor time of jail-init while a program runs for half a second, in thousandths of the program's.
    """
    with jail.Sandbox(memory="1G", cgroup="none") as box:
        (init,) = psutil.Process().children()
        before = _ran(init.pid)
        box.run([sys.executable, "-I", "-S", "-c", BURN])
        after = _ran(init.pid)
    return (after - before) / 0.5e9 * 1e3


def _ran(pid: int) -> int:
    """
    Nanoseconds on a processor. Source: proc(5), Documentation/scheduler/sched-stats.rst.
    """
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--n", type=int, default=20)
    count = parser.parse_args().n
    for name, text in describe_machine(count, 0).items():
        print(f"{name:8} {text}")
    print(f"\nA limit of {LIMIT_MIB} MiB, kept by jail-init:\n")
    late = [overshoot() for _ in range(count)]
    rows: dict[str, list[float]] = {
        "ended after going over, ms": [ms for ms, _ in late],
        "had more than the limit, MiB": [mib for _, mib in late],
        "jail-init's time, per mille of the program's": [looking() for _ in range(count)],
    }
    pick: dict[str, Callable[[list[float]], float]] = {"median": statistics.median, "max": max}
    print(f"{'':46}" + "".join(f"{name:>10}" for name in pick))
    for name, values in rows.items():
        print(f"{name:46}" + "".join(f"{of(values):10.2f}" for of in pick.values()))


if __name__ == "__main__":
    main()
