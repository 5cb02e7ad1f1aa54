"""
How a program ended, and which limits it came up against: one class for each way, each with a sentence.

Pure data. `Outcome` says why it is over; an `Event` is a limit that was reached and ended nothing: the program
was told by the kernel (EAGAIN, ENOSPC) and went on.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from .units import render_bytes

__all__ = [
    "CpuTimeExceeded",
    "DiskFull",
    "Event",
    "Exited",
    "Killed",
    "OutOfMemory",
    "Outcome",
    "OutputLimit",
    "ProcessLimit",
    "Signalled",
    "TimedOut",
    "outcome_of",
]


@dataclass(frozen=True, slots=True)
class Exited:
    """
    It called exit(3) or returned from main.
    """

    code: int

    @property
    def exit_code(self) -> int:
        """
        The code itself, 0 to 255.
        """
        return self.code

    def __str__(self) -> str:
        return f"exited with {self.code}"


@dataclass(frozen=True, slots=True)
class Signalled:
    """
    A signal ended it that the sandbox did not send.
    """

    signal: int
    core_dumped: bool = False

    @property
    def exit_code(self) -> int:
        """
        128 and the signal's number, as shells have it.
        """
        return 128 + self.signal

    def __str__(self) -> str:
        known = {member.value: member.name for member in signal.Signals}
        return f"ended by {known.get(self.signal, f'signal {self.signal}')}"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """
    Its time was over, and it was sent SIGTERM, and SIGKILL if that did not end it.

    Args:
        seconds: allowed.
        limit: the field of the policy that says so: "timeout", its own; or "wall", its sandbox's.
    """

    seconds: float
    limit: str = "timeout"

    @property
    def exit_code(self) -> int:
        """
        124, as timeout(1) has it.
        """
        return 124

    def __str__(self) -> str:
        return f"timed out after {self.seconds:g} seconds ({self.limit})"


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """
    It had more memory than it, or its sandbox, may have, and was ended for that with all that it had started.

    Args:
        limit_bytes: allowed.
        peak_bytes: the most that was seen. A watcher sees it after the act, so it may be more than the limit.
    """

    limit_bytes: int
    peak_bytes: int

    @property
    def exit_code(self) -> int:
        """
        137, 128 and SIGKILL, as docker-run(1) has it.
        """
        return 128 + int(signal.SIGKILL)

    def __str__(self) -> str:
        return f"out of memory: {_sizes(self.peak_bytes, self.limit_bytes)} (memory)"


@dataclass(frozen=True, slots=True)
class CpuTimeExceeded:
    """
    It, and all that it started, used more processor time than allowed.

    Args:
        limit_seconds: allowed.
        seconds: used.
    """

    limit_seconds: float
    seconds: float

    @property
    def exit_code(self) -> int:
        """
        152, 128 and SIGXCPU.
        """
        return 128 + int(signal.SIGXCPU)

    def __str__(self) -> str:
        used = f"used {self.seconds:.3g} of {self.limit_seconds:g} seconds"
        return f"out of processor time: {used} (cpu_seconds)"


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """
    It wrote more to its standard output and error than allowed, and was ended for that, unless it was quicker.

    Args:
        limit_bytes: allowed, of both together.
    """

    limit_bytes: int

    @property
    def exit_code(self) -> int:
        """
        153, 128 and SIGXFSZ.
        """
        return 128 + int(signal.SIGXFSZ)

    def __str__(self) -> str:
        return f"wrote more than {render_bytes(self.limit_bytes)} of output (output)"


@dataclass(frozen=True, slots=True)
class ProcessLimit:
    """
    As many processes and threads as are allowed were alive at once.

    An event where the kernel keeps the limit: fork(2) is EAGAIN. Where a watcher does it is an outcome: whoever
    had most of them was ended.

    Args:
        limit: allowed.
        peak: the most that was seen.
    """

    limit: int
    peak: int

    @property
    def exit_code(self) -> int:
        """
        137, 128 and SIGKILL.
        """
        return 128 + int(signal.SIGKILL)

    def __str__(self) -> str:
        return f"reached {self.limit} processes and threads, {self.peak} at the peak (processes)"


@dataclass(frozen=True, slots=True)
class DiskFull:
    """
    What the sandbox may write beside the host's files was used up: write(2) or open(2) is ENOSPC.

    Args:
        limit: allowed.
        peak: the most that was seen.
        unit: of both, "bytes" or "inodes".
    """

    limit: int
    peak: int
    unit: str = "bytes"

    def __str__(self) -> str:
        if self.unit == "inodes":
            return f"no space: all {self.limit} inodes are used (inodes)"
        return f"no space: {_sizes(self.peak, self.limit)} (disk)"


@dataclass(frozen=True, slots=True)
class Killed:
    """
    The caller killed it.
    """

    @property
    def exit_code(self) -> int:
        """
        137, 128 and SIGKILL.
        """
        return 128 + int(signal.SIGKILL)

    def __str__(self) -> str:
        return "killed by the caller"


Outcome = Exited | Signalled | TimedOut | OutOfMemory | CpuTimeExceeded | OutputLimit | ProcessLimit | Killed
Event = ProcessLimit | DiskFull


def _sizes(peak: int, limit: int) -> str:
    return f"{peak / (1 << 20):.1f} MiB of {limit / (1 << 20):.1f} MiB"


def outcome_of(status: int) -> Exited | Signalled:
    """
    The outcome in a wait status. Source: wait(2), ``WIFEXITED`` and its kin.

    >>> outcome_of(0x0100), outcome_of(9), outcome_of(0x80 | 11)
    (Exited(code=1), Signalled(signal=9, core_dumped=False), Signalled(signal=11, core_dumped=True))
    """
    if os.WIFEXITED(status):
        return Exited(os.WEXITSTATUS(status))
    return Signalled(os.WTERMSIG(status), os.WCOREDUMP(status))
