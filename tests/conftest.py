"""
What every test may ask of this machine, and what none may leave behind on it.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

import jail
from jail.loop import pump

REQUIRED = frozenset(filter(None, os.environ.get("JAIL_REQUIRE", "").split(",")))
PROGRAMS_REQUIRED = os.environ.get("JAIL_REQUIRE_PROGRAMS") == "1"
PUMP_SECONDS = 30.0  # it ends at once when nothing runs; what is still waited for after that is left behind
LEAK_CHECKED = tuple(Path(__file__).parent / name for name in ("kernel", "escape", "vm"))

# A property may take its time on a slow machine; one that hangs is for the suite's own timeout.
settings.register_profile("jail", parent=settings.default, deadline=None)
settings.load_profile("jail")


def pytest_report_header():
    """
    Who runs the tests, and what this host can do for them.
    """
    host = jail.probe()
    return f"jail: uid {os.geteuid()}, {host.kernel}, features: {', '.join(sorted(host.features))}"


def pytest_runtest_setup(item):
    """
    Skip what cannot be tried here, naming what is missing; fail where this machine was said to have it.
    """
    for mark in item.iter_markers("needs"):
        verdict(set(mark.args) - features(), "host lacks", lambda missing: missing & REQUIRED)
    for mark in item.iter_markers("program"):
        missing = {name for name in mark.args if not shutil.which(name)}
        verdict(missing, "not installed:", lambda missing: missing if PROGRAMS_REQUIRED else set())


def features():
    """
    Those of the host, and each ABI of Landlock that it has: "landlock_abi_3" stands for ABI 3 or later.
    """
    host = jail.probe()
    return host.features | {f"landlock_abi_{abi}" for abi in range(1, host.landlock_abi + 1)}


def verdict(missing, reason, required):
    """
    Nothing, a skip or a failure.
    """
    if required(missing):
        pytest.fail(f"required on this machine, {reason} {sorted(required(missing))}", pytrace=False)
    if missing:
        pytest.skip(f"{reason} {', '.join(sorted(missing))}")


@pytest.fixture(autouse=True)
def _no_leaks(request):
    """
    Descriptors, processes, mounts and temporary files are the same after a test as before.
    """
    if not any(request.path.is_relative_to(place) for place in LEAK_CHECKED):
        yield
        return
    before = traces()
    yield
    if thread := pump.thread:  # its end is its own affair, and nobody's to wait for
        thread.join(PUMP_SECONDS)
    after = traces()
    left = {kind: new for kind in before if (new := after[kind] - before[kind])}
    lost = {kind: old for kind in before if (old := before[kind] - after[kind])}

    assert ({}, {}) == (left, lost), "left behind, and lost"


def traces():
    """
    What a sandbox could leave behind, by kind.
    """
    return {
        "descriptors": descriptors(),
        "children": {f"{child.pid} {child.name()}" for child in psutil.Process().children(recursive=True)},
        "mounts": {line.split(" - ")[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "temporary files": {str(path) for path in Path(tempfile.gettempdir()).glob("jail-*")},
    }


def descriptors():
    """
    Each open descriptor with what it is open on. The one that lists the directory is closed again by now.
    """
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue
    return found
