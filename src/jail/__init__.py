r"""
Run programs that nobody trusts: with fewer files, no network, bounded memory and time, without root.

>>> import jail
>>> jail.run(["echo", "hello"]).stdout  # doctest: +SKIP
b'hello\n'
"""

from __future__ import annotations

from .errors import JailError, MeasurementError, PolicyError, ProgramError, SetupError, UnsupportedError
from .guarantee import Guarantee, Strength
from .host import Host
from .policy import Policy, PolicyPath
from .probe import probe
from .profile import load_policy, parse_policy
from .result import Exited, Killed, Outcome, Output, Result, Signalled, TimedOut, Usage
from .sandbox import Sandbox, run

__all__ = [
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
    "ProgramError",
    "Result",
    "Sandbox",
    "SetupError",
    "Signalled",
    "Strength",
    "TimedOut",
    "UnsupportedError",
    "Usage",
    "load_policy",
    "parse_policy",
    "probe",
    "run",
]
