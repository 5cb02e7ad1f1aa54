"""
Below Linux 5.12 there is neither a tier of namespaces nor one of Landlock: jail refuses, in words.
"""

import os
import subprocess
import sys

import pytest

import jail

CURE = "Linux 5.12 or later."

pytestmark = pytest.mark.skipif(os.environ["JAIL_VM"] != "too-old", reason="this kernel is not too old")


def test_host():
    """
    The host is what it was booted for: no Landlock, no mount_setattr(2), and so no namespaces that serve.
    """
    host = jail.probe()

    assert host.kernel.startswith("5.10.")
    assert set() == {"landlock", "userns", "privileged"} & host.features


@pytest.mark.parametrize(
    "start",
    [lambda: jail.run(["true"]), jail.Sandbox, lambda: jail.run(["true"], waive=["filesystem.read"])],
    ids=["run", "sandbox", "waived"],
)
def test_refuse(start):
    """
    Whoever asks gets an UnsupportedError that says what is needed, and which kernel has it.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        start()

    assert "user namespaces, or Landlock" in caught.value.needs
    assert "EINVAL" in caught.value.found
    assert CURE in caught.value.cure


def test_doctor():
    """
    So does the doctor, who names no other cure for it.
    """
    told = subprocess.run(
        [sys.executable, "-m", "jail", "doctor"], stdout=subprocess.PIPE, text=True, check=False
    )

    assert 1 == told.returncode
    assert "Sandboxes stand on: nothing" in told.stdout
    assert f"cure: {CURE}" in told.stdout
    assert "Docker" not in told.stdout


def test_command_line():
    """
    The command line says it on standard error, and ends with 125.
    """
    run = subprocess.run(
        [sys.executable, "-m", "jail", "run", "--", "true"], capture_output=True, text=True, check=False
    )

    assert (125, "", True) == (run.returncode, run.stdout, CURE in run.stderr)


def test_control():
    """
    The control: without a sandbox the same program runs.
    """
    assert 0 == subprocess.run(["true"], check=False).returncode
