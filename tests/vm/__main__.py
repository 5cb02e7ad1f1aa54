"""
Runs tests on other kernels, in QEMU: the matrix of kernels and configurations, and what came of it.

``make test-vm`` starts it; without arguments everything runs, on every kernel.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from container.profile import get_newer_profile

from .configurations import CONFIGURATIONS, Configuration
from .guest import Guests, choose_accelerator
from .image import get_image
from .job import pack, write_job
from .kernels import NEWEST, Kernel, get_kernel
from .selection import TIMED, expand

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / "build" / "vm"
LOGS = CACHE / "logs"
KERNELS = ("5.10", "6.1", "6.12", "6.18", NEWEST)
CI = "ci"

# A test that hangs ends with a traceback, 20 times as late as pyproject.toml has it for the usual one; a guest that
# hangs is killed.
TEST_SECONDS = 1200
GUEST_SECONDS = 3600

NO_TESTS = 5  # pytest's status where nothing was selected
CONSOLE_LINES = 40


@dataclass(frozen=True, slots=True)
class Run:
    """
    One kernel in one configuration, and what runs there.
    """

    kernel: Kernel
    configuration: Configuration
    tests: list[str]

    @property
    def title(self):
        """
        For people.
        """
        return f"Linux {self.kernel.release}, {self.configuration.name}"

    @property
    def place(self):
        """
        The directory of what it leaves.
        """
        return LOGS / f"{self.kernel.name}-{self.configuration.name}"


def main():
    """
    Run what was asked for. The exit status is 0 if every guest ended well and some test ran.
    """
    asked = parse(sys.argv[1:])
    if os.uname().machine != "x86_64":
        raise SystemExit("the guests are for x86_64, and so has to be the package that they test")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open_lock():
        return run_matrix(asked)


@contextlib.contextmanager
def open_lock():
    """
    Keep others out of the cache and the logs of this checkout.
    """
    with (CACHE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another run has {CACHE}: wait for it") from None
        yield


def run_matrix(asked):
    """
    Set up what is asked for, boot it, and tell what came of it.

    Returns:
        The exit status.
    """
    shutil.rmtree(LOGS, ignore_errors=True)
    kernels = [get_kernel(name, CACHE) for name in asked.kernels]
    runs = choose_runs(kernels, asked)
    image = get_image(TOP, CACHE)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="job-") as work:
        packed = Path(work) / "packed.tar"
        contained = any(run.configuration.name == "runc" for run in runs)
        pack(packed, TOP, get_newer_profile(CACHE) if contained else None)
        accelerator = choose_accelerator(kernels[0], Path(work))
        guests = Guests(accelerator, image, seconds=asked.seconds, echo=len(runs) == 1)
        print(
            f"{len(runs)} guests by {accelerator}, {asked.jobs} at once; what they say is in {LOGS}",
            flush=True,
        )
        options = pytest_options(asked)
        endings = carry_out_all(runs, lambda run: carry_out(run, guests, packed, options), asked.jobs)
    print()
    for run, ending in zip(runs, endings, strict=True):
        where = f"{run.kernel.name:8} {run.kernel.release:28} {run.configuration.name:16}"
        print(f"{where} {verdict(run, ending)}, {ending.seconds:.0f} s in all")
    passed = all(ending.status in (0, NO_TESTS) for ending in endings)
    return 0 if passed and any(ending.status == 0 for ending in endings) else 1


def carry_out_all(runs, carry_out, jobs):
    """
    So many at once. After an error, or an interrupt, no other is begun.
    """
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(carry_out, runs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def parse(arguments):
    """
    What was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    states = "\n".join(f"{one.name}: {one.description}" for one in CONFIGURATIONS)
    jobs = min(os.cpu_count() or 1, 4)
    parser.add_argument("--kernels", default="", help=f"series, or {NEWEST}; without: {' '.join(KERNELS)}")
    parser.add_argument("--configurations", default="", help=states)
    parser.add_argument(
        "--tests", default="", help=f"paths or patterns, or {CI}: a selection that takes minutes"
    )
    parser.add_argument("-k", default="", dest="words", help="as for pytest")
    parser.add_argument("--jobs", type=int, default=jobs, help="guests at once, each with one processor")
    parser.add_argument("--seconds", type=float, default=GUEST_SECONDS, help="a guest is killed after")
    asked = parser.parse_args(arguments)
    asked.kernels = asked.kernels.split() or KERNELS
    by_name = {one.name: one for one in CONFIGURATIONS}
    if unknown := set(asked.configurations.split()) - set(by_name):
        parser.error(f"no configuration {', '.join(unknown)}; there are {', '.join(by_name)}")
    asked.configurations = [by_name[name] for name in asked.configurations.split()] or CONFIGURATIONS
    return asked


def choose_runs(kernels, asked):
    """
    Each kernel in each configuration that fits it, as far as there are tests for it.
    """
    runs = []
    for kernel in kernels:
        for configuration in asked.configurations:
            patterns = configuration.ci if asked.tests == CI else asked.tests.split() or configuration.tests
            if configuration.fits(kernel) and patterns:
                runs.append(Run(kernel, configuration, expand(patterns, TOP)))
    if not runs:
        raise SystemExit("none of these configurations fits one of these kernels")
    return runs


def pytest_options(asked):
    """
    For pytest in every guest. Who names paths gets all that is in them.
    """
    options = [f"--timeout={TEST_SECONDS}", "--durations=10"]
    if asked.words:
        options += ["-k", asked.words]
    if asked.tests in ("", CI):
        options += [f"--deselect={name}" for name in TIMED]
    return options


def carry_out(run, guests, packed, options):
    """
    Boot a guest for this, and tell how it ended.
    """
    run.place.mkdir(parents=True)
    job = run.place / "job.tar"
    write_job(
        job,
        packed,
        settings={
            "configuration": run.configuration.name,
            "init": run.configuration.init,
            "require": run.configuration.required(run.kernel),
        },
        arguments=[*options, *run.tests],
    )
    print(f"{run.title}: started", flush=True)
    ending = guests.run(run.kernel, job, run.place)
    job.unlink()
    print(
        "\n".join([f"{run.title}: {verdict(run, ending)}", *complaint(run, ending, echo=guests.echo)]),
        flush=True,
    )
    return ending


def verdict(run, ending):
    """
    A run in one line: pytest's closing line, or why there is none.
    """
    if ending.status is None:
        why = "hung, and was killed" if ending.timed_out else "ended without a word"
        return f"FAILED: the guest {why} after {ending.seconds:.0f} s"
    closing = re.findall(r"^=+ (.* in [\d.]+s.*?) =+$", output(run), re.MULTILINE)
    line = closing[-1] if closing else "no closing line"
    return line if ending.status in (0, NO_TESTS) else f"FAILED: {line}, pytest ended with {ending.status}"


def complaint(run, ending, *, echo):
    """
    What a run said that did not end well: pytest's output, unless it was echoed; or how far the console came.
    """
    if ending.status is None:
        return (run.place / "console").read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
    return [] if echo or ending.status in (0, NO_TESTS) else [output(run)]


def output(run):
    """
    What pytest printed.
    """
    return (run.place / "results" / "output").read_text(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
