r"""
Run programs that nobody trusts: with fewer files, no network, bounded memory and time, without root.

>>> import jail
>>> jail.run(["echo", "hello"]).stdout  # doctest: +SKIP
b'hello\n'
"""

from __future__ import annotations

from .command import DEVNULL, PIPE, STDOUT
from .errors import JailError, MeasurementError, PolicyError, ProgramError, SetupError, UnsupportedError
from .files import Entry
from .guarantee import Guarantee, Strength
from .host import Host
from .policy import Policy, PolicyPath
from .probe import probe
from .process import Process
from .profile import load_policy, parse_policy
from .result import Exited, Killed, Outcome, Output, Result, Signalled, Text, TimedOut, Usage
from .sandbox import Sandbox, run

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Entry",
    "Exited",
    "Guarantee",
    "Host",
    "JailError",
    "Killed",
    "MeasurementError",
    "Outcome",
    "Output",
    "Policy",
    "PolicyError",
    "PolicyPath",
    "Process",
    "ProgramError",
    "Result",
    "Sandbox",
    "SetupError",
    "Signalled",
    "Strength",
    "Text",
    "TimedOut",
    "UnsupportedError",
    "Usage",
    "load_policy",
    "parse_policy",
    "probe",
    "run",
]
