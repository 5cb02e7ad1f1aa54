"""
What a program used while it ran: samples, in columns, and no more of them than a chart can show.

Pure: whoever samples brings the numbers.
"""

from __future__ import annotations

import math
from array import array
from typing import Any, ClassVar

from .errors import PolicyError

__all__ = ["MAX_SAMPLES", "Timeline"]

# 64 KiB in four columns, whether a program runs for a minute or for a week.
MAX_SAMPLES = 2048


class Timeline:
    """
    Samples of one run, in the order in which they were taken.

    When it is full every two neighbours become one, and `interval_seconds` doubles: samples that come more often
    from then on become one as well. The one keeps the later time and processor time, and of memory and
    processes the larger number, so that a peak is never lost.

    Args:
        interval_seconds: between two samples.
        samples_max: how many it keeps, an even number.

    Attributes:
        seconds: since the program's start.
        memory_bytes: resident memory of all its processes.
        cpu_seconds: processor time since its start.
        processes: those that are alive, and their threads.

    Raises:
        PolicyError: the interval is not a positive number.

    >>> timeline = Timeline(0.1)
    >>> timeline.add(0.1, memory_bytes=4096, cpu_seconds=0.05, processes=1)
    >>> timeline
    Timeline(interval_seconds=0.1, samples=1)
    """

    __slots__ = (
        "_samples_max",
        "_was_full",
        "cpu_seconds",
        "interval_seconds",
        "memory_bytes",
        "processes",
        "seconds",
    )

    def __init__(self, interval_seconds: float, *, samples_max: int = MAX_SAMPLES) -> None:
        if not 0 < interval_seconds < math.inf:
            raise PolicyError("the time between two samples must be more than none", key="timeline")
        if samples_max < 2 or samples_max % 2:
            raise ValueError(f"{samples_max} is not an even number of samples")
        self.interval_seconds = interval_seconds
        self._samples_max = samples_max
        self._was_full = False
        self.seconds: array[float] = array("d")
        self.memory_bytes: array[int] = array("q")
        self.cpu_seconds: array[float] = array("d")
        self.processes: array[int] = array("q")

    def add(self, seconds: float, memory_bytes: int, cpu_seconds: float, processes: int) -> None:
        """
        One more sample.

        Raises:
            ValueError: it is older than the last.
        """
        if self.seconds and not seconds >= self.seconds[-1]:
            raise ValueError(f"a sample at {seconds} seconds comes after one at {self.seconds[-1]}")
        if self._was_full and self._place(seconds) == self._place(self.seconds[-1]):
            memory_bytes = max(memory_bytes, self.memory_bytes.pop())
            processes = max(processes, self.processes.pop())
            del self.seconds[-1], self.cpu_seconds[-1]
        self.seconds.append(seconds)
        self.memory_bytes.append(memory_bytes)
        self.cpu_seconds.append(cpu_seconds)
        self.processes.append(processes)
        if len(self) == self._samples_max:  # now, so that the next begins a new interval
            self._halve()

    def _halve(self) -> None:
        """
        Make one of every two neighbours; the last of an odd number stays as it is.
        """
        odd = len(self) % 2
        for column in (self.seconds, self.cpu_seconds):
            column[:] = column[1::2] + column[-1:] * odd
        for peaks in (self.memory_bytes, self.processes):
            peaks[:] = array("q", map(max, peaks[::2], peaks[1::2])) + peaks[-1:] * odd
        self.interval_seconds *= 2
        self._was_full = True

    def _place(self, seconds: float) -> int:
        return math.ceil(seconds / self.interval_seconds)

    def thinned(self, samples_max: int) -> Timeline:
        """
        A copy with at most so many samples, made as room is made when it is full.
        """
        copy = Timeline(self.interval_seconds)
        copy.seconds, copy.memory_bytes, copy.cpu_seconds, copy.processes = self.columns().values()
        while len(copy) > max(samples_max, 1):
            copy._halve()
        return copy

    def __len__(self) -> int:
        return len(self.seconds)

    def columns(self) -> dict[str, array[Any]]:
        """
        A copy of the columns by name, as ``pandas.DataFrame`` takes them; ``numpy.frombuffer`` takes each one.
        """
        return {
            "seconds": self.seconds[:],
            "memory_bytes": self.memory_bytes[:],
            "cpu_seconds": self.cpu_seconds[:],
            "processes": self.processes[:],
        }

    def as_dict(self) -> dict[str, Any]:
        """
        The interval, and the columns as lists: what JSON can carry.
        """
        columns = {name: column.tolist() for name, column in self.columns().items()}
        return {"interval_seconds": self.interval_seconds, **columns}

    __hash__: ClassVar[None]  # type: ignore[assignment]  # it grows

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Timeline) else NotImplemented

    def __repr__(self) -> str:
        return f"Timeline(interval_seconds={self.interval_seconds:g}, samples={len(self)})"
