"""
What the contenders of a benchmark are, and the one sandbox that all of them make.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jail
from jail.environment import build_environment
from jail.ops import OpKind
from jail.plan import Plan
from jail.planning import make_plan

__all__ = ["TRUE", "Contender", "Setting", "SkippedError", "describe_setting", "timed"]

TRUE = ["/bin/true"]


class SkippedError(Exception):
    """
    Why a contender cannot take part on this machine.
    """


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One way to run a program.

    Args:
        name: of its line in the table.
        run: runs ``/bin/true``, and says how many nanoseconds it took.
        ask: runs a program, and gives what it wrote; None where there is no new sandbox to ask about.
    """

    name: str
    run: Callable[[], int]
    ask: Callable[[Sequence[str]], str] | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """
    The sandbox that is made: jail's default one, in jail's own words.
    """

    plan: Plan
    env: dict[str, str]
    directory: str

    def hidden(self) -> list[str]:
        """
        The paths that are covered in it.
        """
        return [op.path for op in self.plan.setup if op.kind is OpKind.HIDE]


def describe_setting() -> Setting:
    """
    What the default profile comes to on this host.
    """
    policy = jail.load_policy("default")
    plan, view = make_plan(policy)
    return Setting(plan, build_environment(policy, jail.probe(), view, os.environ, None), view.directory)


def timed(act: Callable[[], int]) -> int:
    """
    How many nanoseconds an act takes that returns a program's exit code. 0 is the only one with a time worth having.
    """
    started = time.perf_counter_ns()
    code = act()
    taken = time.perf_counter_ns() - started
    if code:
        msg = f"the program ended with {code}"
        raise RuntimeError(msg)
    return taken
