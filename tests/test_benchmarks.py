"""
The benchmarks run: one round of each, whose figures say nothing. `network.py` takes minutes, and is left to `make bench`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PLACE = Path(__file__).parents[1] / "benchmarks"

pytestmark = [pytest.mark.needs("userns", "proc"), pytest.mark.program("cc")]


@pytest.mark.parametrize(
    ("script", "args", "rows"),
    [
        ("one_shot.py", ["--n", "2"], ["jail.run", "floor: C and jail-init", "bare: the system calls alone"]),
        ("session.py", ["--n", "2", "--gib", "1"], ["Sandbox.run", "aio.Sandbox.run"]),
        ("limits.py", ["--n", "2"], ["ended after going over, ms"]),
    ],
)
def test_round(script, args, rows):
    """
    Each contender has its row, and none is left out for a reason of this project's own.
    """
    ran = subprocess.run(
        [sys.executable, PLACE / script, *args], capture_output=True, text=True, check=False, timeout=120
    )

    assert (0, "") == (ran.returncode, ran.stderr)
    assert rows == [
        row for row in rows if any(line.startswith(row + "  ") for line in ran.stdout.splitlines())
    ]
