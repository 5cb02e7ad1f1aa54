"""
Runs tests on other kernels, in QEMU: the matrix of kernels and configurations, and what came of it.

``make test-vm`` starts it and says in `make help` what it takes.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configurations import CONFIGURATIONS, Configuration
from guest import choose_accelerator, run_job
from image import get_image
from job import write_job
from kernels import NEWEST, Kernel, get_kernel
from selection import expand

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / "build" / "vm"
KERNELS = ("5.10", "6.1", "6.12", "6.18", NEWEST)
SECONDS = 3600
TEST_SECONDS = 1200
CI = "ci"
NO_TESTS = 5  # pytest's status where nothing was selected
CONSOLE_LINES = 40


@dataclass(frozen=True, slots=True)
class Run:
    """
    One kernel in one configuration, what runs there, and where it leaves what it leaves.
    """

    kernel: Kernel
    configuration: Configuration
    tests: tuple[str, ...]
    place: Path

    @property
    def title(self):
        """
        For people.
        """
        return f"{self.kernel.release}, {self.configuration.name}"


def main():
    """
    Run what was asked for. The exit status is 0 if every test of every run passed.
    """
    asked = parse(sys.argv[1:])
    CACHE.mkdir(parents=True, exist_ok=True)
    logs = CACHE / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    kernels = [get_kernel(name, CACHE) for name in asked.kernels]
    image = get_image(TOP, CACHE)
    runs = [
        Run(kernel, configuration, tests, logs / f"{kernel.name}-{configuration.name}")
        for kernel in kernels
        for configuration in asked.configurations
        if configuration.fits(kernel) and (tests := choose_tests(configuration, asked.tests))
    ]
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="job-") as work:
        accelerator = choose_accelerator(kernels[0], Path(work))
        print(
            f"{len(runs)} guests by {accelerator}, {asked.jobs} at once; their consoles are in {logs}",
            flush=True,
        )

        def carry_out(run):
            return _carry_out(run, accelerator, image, Path(work), asked, echo=len(runs) == 1)

        with ThreadPoolExecutor(asked.jobs) as pool:
            endings = list(pool.map(carry_out, runs))
    print()
    for run, ending in zip(runs, endings, strict=True):
        print(
            f"{run.kernel.name:8} {run.kernel.release:32} {run.configuration.name:12} {verdict(run, ending)}"
        )
    ran = any(ending.status != NO_TESTS for ending in endings)
    return 0 if ran and all(ending.status in (0, NO_TESTS) for ending in endings) else 1


def parse(arguments):
    """
    What was asked for.
    """
    parser = argparse.ArgumentParser(prog="tests/vm", description=__doc__)
    parser.add_argument("--kernels", default="")
    parser.add_argument("--configurations", default="")
    parser.add_argument("--tests", default="")
    parser.add_argument("-k", default="", dest="words")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    asked = parser.parse_args(arguments)
    asked.kernels = asked.kernels.split() or list(KERNELS)
    by_name = {configuration.name: configuration for configuration in CONFIGURATIONS}
    names = asked.configurations.split() or list(by_name)
    if unknown := set(names) - set(by_name):
        parser.error(f"no configuration {', '.join(unknown)}; there are {', '.join(by_name)}")
    asked.configurations = [by_name[name] for name in names]
    return asked


def choose_tests(configuration, asked):
    """
    The paths of tests: a configuration's own, those for "ci", or what was asked for by path. None: it is left out.
    """
    if asked == CI:
        return expand(configuration.ci, TOP) if configuration.ci else None
    return expand(asked.split() or configuration.tests, TOP)


def _carry_out(run, accelerator, image, work, asked, *, echo):
    job = work / f"{run.place.name}.tar"
    words = ["-k", asked.words] if asked.words else []
    write_job(
        job,
        TOP,
        settings={
            "configuration": run.configuration.name,
            "init": run.configuration.init,
            "require": run.configuration.required(run.kernel),
        },
        arguments=[f"--timeout={TEST_SECONDS}", *words, *run.tests],
    )
    run.place.mkdir(parents=True)
    print(f"starting {run.title}", flush=True)
    ending = run_job(run.kernel, accelerator, image, job, run.place, seconds=SECONDS, echo=echo)
    job.unlink()
    report(run, ending, echo=echo)
    return ending


def report(run, ending, *, echo):
    """
    Tell how a run ended, and what it said if it did not end well and nobody has seen it yet.
    """
    lines = [f"{run.title}: {verdict(run, ending)}"]
    if ending.status is None:
        lines += (run.place / "console").read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
    elif ending.status not in (0, NO_TESTS) and not echo:
        lines += ["", (run.place / "results" / "output").read_text(errors="replace")]
    print("\n".join(lines), flush=True)


def verdict(run, ending):
    """
    A run in one line: pytest's closing line, or why there is none.
    """
    if ending.status is None:
        why = "hung, and was killed" if ending.timed_out else "ended without a word"
        return f"{why} after {ending.seconds:.0f} s"
    text = (run.place / "results" / "output").read_text(errors="replace")
    closing = re.findall(r"^=+ (.* in [\d.]+s.*?) =+$", text, re.MULTILINE)
    return closing[-1] if closing else f"pytest ended with {ending.status} and no closing line"


if __name__ == "__main__":
    sys.exit(main())
