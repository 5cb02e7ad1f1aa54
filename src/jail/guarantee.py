"""
What a sandbox promises, in the words that a policy waives and a result reports.

Pure data. Which mechanism keeps a guarantee on which host is decided in `plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["GUARANTEES", "Guarantee", "Strength"]

GUARANTEES: dict[str, str] = {
    "filesystem.read": "only the listed files and directories can be read",
    "filesystem.write": "only the writable ones can be changed",
    "filesystem.metadata": "modes, owners, times and attributes outside of the writable ones cannot be changed",
    "network": "no bytes leave but to what is named",
    "processes": "processes outside cannot be seen, signalled or traced",
    "ipc": "no shared memory, message queue, semaphore, key or abstract socket of the host is in reach",
    "privileges": "no capability is held and none can be gained",
    "syscalls": "only the system calls that ordinary programs need exist",
    "terminal": "the caller's terminal cannot be typed into or taken",
    "descriptors": "only standard input, output and error are open",
    "environment": "only named variables are passed on",
    "memory": "memory is bounded",
    "cpu": "the use of processors is bounded",
    "pids": "the number of processes is bounded",
    "disk": "what can be written is bounded",
    "io": "the traffic with disks is bounded",
    "output": "what is written to standard output and error is bounded",
    "time": "the run ends in time",
    "teardown": "no process outlives the sandbox",
}


class Strength(StrEnum):
    """
    Who keeps the promise: the kernel at the moment of the act, a process of ours that watches, or nobody.
    """

    KERNEL = "kernel"
    SUPERVISED = "supervised"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Guarantee:
    """
    One promise and what keeps it.

    Args:
        name: a key of `GUARANTEES`.
        mechanism: the kernel's own terms ("mount namespace, Landlock"); empty where it was waived.
        strength: who enforces it.
        promise: one sentence, with this sandbox's numbers and paths where it has any.
    """

    name: str
    mechanism: str
    strength: Strength
    promise: str
