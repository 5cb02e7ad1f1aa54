"""
Whether a process is still the one that it was: a pid is given again, a pid with its start time is not.
"""

from __future__ import annotations

__all__ = ["started"]


def started(pid: int) -> int | None:
    """
    When a process was started, in clock ticks since boot; None when there is none, or only what is left of one
    until its parent waits. Source: proc_pid_stat(5).
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(fields[18])
