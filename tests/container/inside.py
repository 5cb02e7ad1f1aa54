"""
What runs in a container: pytest, told which case it is in, and its words as they come.
"""

import re
import subprocess

from container.expected import EXPECTED

__all__ = ["NO_TESTS", "TREE", "follow", "pytest_command", "variables_of"]

TREE = "/srv/jail"  # where the checkout is shown
NO_TESTS = 5  # pytest's status where nothing was selected
# A sandbox is to be had in each case, and Landlock's scopes, ABI 6, are what it stands on in some.
_ALWAYS = frozenset(("sandbox", *(f"landlock_abi_{abi}" for abi in range(1, 7))))


def variables_of(name):
    """
    The environment that a case's tests need: what must be there is named, so that no skip can hide its absence.
    """
    return {
        "JAIL_CONTAINER_CASE": name,
        "JAIL_REQUIRE": ",".join(sorted(EXPECTED[name].features | _ALWAYS)),
        "JAIL_REQUIRE_PROGRAMS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
    }


def pytest_command(python, tests, words=""):
    """
    The command line, for a root that may be read-only.
    """
    return [python, "-m", "pytest", "-p", "no:cacheprovider", *(["-k", words] if words else []), *tests]


def follow(command, **options):
    """
    Run it and tell what it says: its status, and pytest's closing line.
    """
    closing = None
    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", **options,
    )  # fmt: skip
    try:
        for line in running.stdout:
            print(line, end="", flush=True)
            if found := re.fullmatch(r"=+ (.* in [\d.]+s.*?) =+\n", line):
                closing = found[1]
        status = running.wait()
        return status, closing or f"ended without a word, with {status}"
    finally:
        running.kill()  # where we were interrupted; what it has started is for others to end
        running.wait()
        running.stdout.close()
