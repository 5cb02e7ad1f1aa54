r"""
Run programs that nobody trusts: with fewer files, no network, bounded memory and time, without root.

>>> import jail
>>> jail.run(["echo", "hello"]).stdout  # doctest: +SKIP
b'hello\n'
"""

from __future__ import annotations

from .command import DEVNULL, PIPE, STDOUT
from .denial import Denial, Question
from .errors import JailError, MeasurementError, PolicyError, ProgramError, SetupError, UnsupportedError
from .files import Entry
from .guarantee import Guarantee, Strength
from .host import Host
from .outcome import (
    CpuTimeExceeded,
    DiskFull,
    Event,
    Exited,
    Killed,
    Outcome,
    OutOfMemory,
    OutputLimit,
    ProcessLimit,
    Signalled,
    TimedOut,
)
from .policy import Policy, PolicyPath
from .probe import probe
from .process import Process
from .profile import load_policy, parse_policy
from .reach import Reach
from .result import Output, Result, Text
from .sandbox import Sandbox, run
from .timeline import Timeline
from .usage import Pressure, Usage

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CpuTimeExceeded",
    "Denial",
    "DiskFull",
    "Entry",
    "Event",
    "Exited",
    "Guarantee",
    "Host",
    "JailError",
    "Killed",
    "MeasurementError",
    "OutOfMemory",
    "Outcome",
    "Output",
    "OutputLimit",
    "Policy",
    "PolicyError",
    "PolicyPath",
    "Pressure",
    "Process",
    "ProcessLimit",
    "ProgramError",
    "Question",
    "Reach",
    "Result",
    "Sandbox",
    "SetupError",
    "Signalled",
    "Strength",
    "Text",
    "TimedOut",
    "Timeline",
    "UnsupportedError",
    "Usage",
    "load_policy",
    "parse_policy",
    "probe",
    "run",
]
