"""
What one program in a sandbox of its own costs, beside the peers, in one run.

::

    python benchmarks/one_shot.py [--n 500] [--pause SECONDS] [--json FILE]

Every contender runs ``/bin/true`` once in each round. The order within a round is drawn anew: the kernel takes a
sandbox down after the run that made it, and no contender shall always have the same neighbour pay for that, or pay
for the same neighbour. README.md says what is compared and why that is fair.

Nothing is asserted about time. That all of them run the program under the same restrictions is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import jail
from bubblewrap import bubblewrap
from contender import TRUE, Contender, Setting, SkippedError, describe_setting, timed
from floor import floors

WARM_UP = 20
SEED = 1  # of the order within the rounds

# Told from inside, and the same in each sandbox. The arguments are what is hidden.
FACTS = """
hostname; id -u; id -g; ls /; ls /proc/sys/net/ipv4/conf; env | sort
grep -E '^(NoNewPrivs|Seccomp|CapInh|CapPrm|CapEff|CapBnd|CapAmb):' /proc/self/status
for path; do head -c 64 "$path" || ls "$path"/*; done 2>/dev/null
for path in /x /usr/x /etc/x ~/x /tmp/x /var/tmp/x /dev/shm/x; do touch $path 2>/dev/null && echo "made $path"; done
"""
# Where the plan is the same one, to the last mount.
MOUNTS = "cat /proc/self/mounts"


def enlist(always: ExitStack, setting: Setting) -> dict[str, Contender | str]:
    """
    The contenders by name, in the table's order; for one that cannot take part, why.
    """
    box = always.enter_context(jail.Sandbox())
    found: dict[str, Contender | str] = {}
    everyone = [Contender("jail.run", lambda: timed(lambda: jail.run(TRUE).exit_code), _ask_jail)]
    try:
        everyone.append(bubblewrap(always, setting))
    except SkippedError as why:
        found["bwrap"] = str(why)
    try:
        everyone += floors(always, setting)
    except SkippedError as why:
        found["floor"] = str(why)
    everyone += [
        Contender("run in a live Sandbox", lambda: timed(lambda: box.run(TRUE).exit_code)),
        Contender("subprocess.run, no sandbox", lambda: timed(_subprocess)),
    ]
    for contender in everyone:
        try:
            _check(contender, setting)
            found[contender.name] = contender
        except SkippedError as why:
            found[contender.name] = str(why)
    return found


def _ask_jail(command: Sequence[str]) -> str:
    return jail.run(command).check().stdout.text


def _subprocess() -> int:
    return subprocess.run(TRUE, capture_output=True, check=False).returncode


def _check(contender: Contender, setting: Setting) -> None:
    """
    End the benchmark where a contender's sandbox is another one than jail's.
    """
    if contender.ask is None:
        return
    scripts = [FACTS] if contender.name == "bwrap" else [FACTS, MOUNTS]
    for script in scripts:
        command = ["/bin/sh", "-c", f"{script.strip()}\ntrue", "sh", *setting.hidden()]
        ours, theirs = _ask_jail(command), contender.ask(command)
        if ours != theirs:
            sys.exit(f"not the same sandbox:\n\njail\n{ours}\n{contender.name}\n{theirs}")


def measure(contenders: Sequence[Contender], rounds: int, pause: float) -> dict[str, list[int]]:
    """
    Nanoseconds of each run, by contender.
    """
    order = random.Random(SEED)
    samples: dict[str, list[int]] = {contender.name: [] for contender in contenders}
    for number in range(WARM_UP + rounds):
        for contender in order.sample(contenders, len(contenders)):
            taken = contender.run()
            if number >= WARM_UP:
                samples[contender.name].append(taken)
            if pause:
                time.sleep(pause)
    return samples


def describe_machine(rounds: int, pause: float) -> dict[str, str]:
    """
    What a reader must know to judge a number.
    """
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} processors",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "bwrap": _version(["bwrap", "--version"]),
        "user": "root" if os.geteuid() == 0 else "an ordinary one",
        "n": f"{rounds} after {WARM_UP} to warm up, {pause:g} s between runs",
        "load": f"{os.getloadavg()[0]:.2f} before the first run",
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _version(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    except FileNotFoundError:
        return "absent"


def render(samples: Mapping[str, Sequence[int]], skipped: Mapping[str, str]) -> str:
    """
    The table: microseconds, and each median beside bwrap's and the floor's.
    """
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    width = max(len(name) for name in (*samples, *skipped))
    lines = [f"{'µs':{width}}  {'median':>8} {'p99':>8} {'min':>8}  {'of bwrap':>8} {'of floor':>8}"]
    for name, taken in samples.items():
        p99 = statistics.quantiles(taken, n=100)[-1]
        cells = "".join(f" {value / 1000:8.0f}" for value in (medians[name], p99, min(taken)))
        ratios = "".join(
            f" {_ratio(medians, name, beside):>8}" for beside in ("bwrap", "floor: C and jail-init")
        )
        lines.append(f"{name:{width}} {cells} {ratios}")
    lines += [f"{name:{width}}  skipped: {why}" for name, why in skipped.items()]
    return "\n".join(lines)


def _ratio(medians: Mapping[str, float], name: str, beside: str) -> str:
    return f"{medians[name] / medians[beside]:.2f}" if beside in medians else "-"


def main() -> None:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument(
        "--n", type=int, default=500, metavar="ROUNDS", help="runs of each contender, default 500"
    )
    parser.add_argument(
        "--pause", type=float, default=0.0, metavar="SECONDS", help="between runs, default none"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to put every single sample")
    arguments = parser.parse_args()
    if arguments.n < 2:
        parser.error(f"--n {arguments.n}: there is no p99 of fewer than 2 runs")
    machine = describe_machine(arguments.n, arguments.pause)
    with ExitStack() as always:
        found = enlist(always, describe_setting())
        contenders = [contender for contender in found.values() if isinstance(contender, Contender)]
        samples = measure(contenders, arguments.n, arguments.pause)
    print("\n".join(f"{key:8} {value}" for key, value in machine.items()), end="\n\n")
    print(render(samples, {name: why for name, why in found.items() if isinstance(why, str)}))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "nanoseconds": samples}))


if __name__ == "__main__":
    main()
