"""
What one more program in a live sandbox costs, beside ``subprocess.run``, in a small harness and in a large one.

::

    python benchmarks/session.py [--n 500] [--gib 4] [--json FILE]

Two harnesses, one of which has written to that much memory, run ``/bin/true`` in turn: each way once in each round,
in an order that is drawn anew. A harness is a process of its own, which times itself.

Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import jail
import jail.aio
from contender import TRUE, timed
from one_shot import SEED, WARM_UP, describe_machine

SMALL = 0
WAYS = ("subprocess.run", "Sandbox.run", "Sandbox.popen, wait", "aio.Sandbox.run", "asyncio's subprocess")


def ways(always: ExitStack) -> dict[str, Callable[[], int]]:
    """
    Each way to run a program, by name; gives its exit code.
    """
    box = always.enter_context(jail.Sandbox())
    runner = always.enter_context(asyncio.Runner())
    aio_box = runner.run(_entered())
    always.callback(lambda: runner.run(aio_box.close()))
    return {
        "subprocess.run": lambda: subprocess.run(TRUE, capture_output=True, check=False).returncode,
        "Sandbox.run": lambda: box.run(TRUE).exit_code,
        "Sandbox.popen, wait": lambda: box.popen(TRUE).wait(),
        "aio.Sandbox.run": lambda: runner.run(_run(aio_box)),
        "asyncio's subprocess": lambda: runner.run(_exec()),
    }


async def _entered() -> jail.aio.Sandbox:
    return await jail.aio.Sandbox().__aenter__()


async def _run(box: jail.aio.Sandbox) -> int:
    return (await box.run(TRUE)).exit_code


async def _exec() -> int:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*TRUE, stdout=pipe, stderr=pipe)
    await process.communicate()
    return process.returncode or 0


def work(gib: int) -> None:
    """
    Be a harness: a line names a way, the answer is its nanoseconds.
    """
    held = mmap.mmap(-1, max(gib << 30, mmap.PAGESIZE))
    for page in range(0, len(held), mmap.PAGESIZE):
        held[page] = 1
    with ExitStack() as always:
        table = ways(always)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, flush=True)
        for line in sys.stdin:
            print(timed(table[line.rstrip("\n")]), flush=True)


class Harness:
    """
    A process that runs programs on demand, and holds as much memory.
    """

    def __init__(self, gib: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", str(gib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.resident_mib = int(self._answer())

    def _answer(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a harness ended with {self._process.wait()}")
        return line

    def run(self, way: str) -> int:
        """
        One run: its nanoseconds.
        """
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(f"{way}\n")
        return int(self._answer())

    def close(self) -> None:
        """
        End it.
        """
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def measure(harnesses: Mapping[int, Harness], rounds: int) -> dict[tuple[str, int], list[int]]:
    """
    Nanoseconds of each run, by way and GiB of the harness.
    """
    order = random.Random(SEED)
    everyone = [(way, gib) for way in WAYS for gib in harnesses]
    samples: dict[tuple[str, int], list[int]] = {key: [] for key in everyone}
    for number in range(WARM_UP + rounds):
        for way, gib in order.sample(everyone, len(everyone)):
            taken = harnesses[gib].run(way)
            if number >= WARM_UP:
                samples[way, gib].append(taken)
    return samples


def render(samples: Mapping[tuple[str, int], Sequence[int]], gib: int) -> str:
    """
    The table: microseconds, each beside ``subprocess.run`` in the same harness, and the large beside the small.
    """
    medians = {key: statistics.median(taken) for key, taken in samples.items()}
    width = max(map(len, WAYS))
    lines = [
        f"{'µs':{width}}  {'median':>8} {'p99':>8} {'of subprocess.run':>18} {f'at {gib} GiB':>10} {'of small':>9}"
    ]
    for way in WAYS:
        small, large = medians[way, SMALL], medians[way, gib]
        p99 = statistics.quantiles(samples[way, SMALL], n=100)[-1]
        beside = small / medians["subprocess.run", SMALL]
        cells = (
            f"{small / 1000:8.0f} {p99 / 1000:8.0f} {beside:18.2f} {large / 1000:10.0f} {large / small:9.2f}"
        )
        lines.append(f"{way:{width}}  {cells}")
    return "\n".join(lines)


def main() -> None:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--n", type=int, default=500, metavar="ROUNDS", help="runs of each way, default 500")
    parser.add_argument("--gib", type=int, default=4, help="memory of the large harness, default 4")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to put every single sample")
    parser.add_argument("--work", type=int, metavar="GIB", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work)
        return
    if arguments.n < 2:
        parser.error(f"--n {arguments.n}: there is no p99 of fewer than 2 runs")
    machine = describe_machine(arguments.n, 0.0)
    with ExitStack() as always:
        harnesses = {gib: Harness(gib) for gib in (SMALL, arguments.gib)}
        for harness in harnesses.values():
            always.callback(harness.close)
        samples = measure(harnesses, arguments.n)
    resident = ", ".join(f"{harness.resident_mib} MiB" for harness in harnesses.values())
    print("\n".join(f"{key:8} {value}" for key, value in machine.items()))
    print(f"resident {resident}", end="\n\n")
    print(render(samples, arguments.gib))
    if arguments.json:
        flat = {f"{way}, {gib} GiB": taken for (way, gib), taken in samples.items()}
        arguments.json.write_text(json.dumps({"machine": machine, "nanoseconds": flat}))


if __name__ == "__main__":
    main()
