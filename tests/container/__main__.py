"""
Runs tests in real containers: each case in turn, what is promised there and then what is tried, and what came of it.

``make test-container`` starts it and says in `make help` what it takes. The exit status is 0 if every test of every
case passed.
"""

import argparse
import fcntl
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from container.cases import CASES, IN_DOCKER, NEWER, docker_arguments
from container.daemon import NoDaemon, started
from container.image import make_image
from container.inside import NO_TESTS, TREE, follow, pytest_command, variables_of
from container.profile import NoProfile, get_newer_profile
from container.selection import PROMISES, choose

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / "build" / "container"


class Verdict(NamedTuple):
    """
    What came of one case.
    """

    case: str
    words: str
    is_well: bool


def main():
    """
    Run what was asked for.
    """
    asked = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and not without tidying up
    try:
        with locked(), started(CACHE / "docker") as docker:
            image = make_image(docker, TOP, asked.wheel)
            verdicts = [run_case(docker, image, CASES[name], asked) for name in asked.cases]
    except NoDaemon as exc:
        print(f"No container can be had here: {exc}", file=sys.stderr)
        return 1
    print()
    for verdict in verdicts:
        print(f"{verdict.case:16} {verdict.words}")
    return 0 if all(verdict.is_well for verdict in verdicts) else 1


@contextmanager
def locked():
    """
    Keep others out of the cache of this checkout.
    """
    (CACHE / "docker").mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoDaemon(f"another run has {CACHE}: wait for it") from None
        yield


def parse(arguments):
    """
    What was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="python -m container", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cases = "\n".join(f"{name}: {CASES[name].about}" for name in IN_DOCKER)
    parser.add_argument("--wheel", type=Path, required=True, help="of what is to be tested")
    parser.add_argument("--cases", default="", help=cases)
    parser.add_argument(
        "--tests", default="", help="paths from the top, or ci: a selection that takes minutes"
    )
    parser.add_argument("-k", default="", dest="words", help="as for pytest")
    asked = parser.parse_args(arguments)
    asked.cases = asked.cases.split() or IN_DOCKER
    if unknown := set(asked.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return asked


def run_case(docker, image, case, asked):
    """
    Run the tests of one case: first in a container whose first process is the harness, then in one with an init,
    because the others kill harnesses, and somebody has to reap what those leave.
    """
    try:
        arguments = arguments_of(case)
    except NoProfile as exc:
        return Verdict(case.name, f"left out: {exc}", is_well=True)
    tests = choose(asked.tests, case.name, TOP)
    promises = [test for test in tests if test.startswith(PROMISES)]
    others = [test for test in tests if test not in promises]
    said = [
        run(docker, case.name, [*options, *arguments], image, part, asked.words)
        for options, part in (([], promises), (["--init"], others))
        if part
    ]
    statuses = {status for status, _ in said}
    words = "; ".join(closing for _, closing in said)
    return Verdict(case.name, words, is_well=statuses in ({0}, {0, NO_TESTS}))


def arguments_of(case):
    """
    What makes the case's container, with the file that it may want.
    """
    newer = get_newer_profile(CACHE) if case.seccomp == NEWER else None
    return docker_arguments(case, newer_profile=newer)


def run(docker, name, options, image, tests, words):
    """
    Run tests in one container: pytest's status, and its closing line.
    """
    print(f"\n=== {name}: docker run {' '.join(options)}", flush=True)
    variables = [f"--env={variable}={value}" for variable, value in variables_of(name).items()]
    command = docker.command(
        "run",
        "--rm",
        *options,
        f"--workdir={TREE}",
        *variables,
        image,
        *pytest_command("python3", tests, words),
    )
    return follow(command, env=docker.environment)


if __name__ == "__main__":
    sys.exit(main())
