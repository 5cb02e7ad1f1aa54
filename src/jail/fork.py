"""
What a forked copy of the harness must let go of.

A sandbox belongs to the process that made it. A child that os.fork(2) makes of that process has copies of its
descriptors: they would keep a sandbox alive when the harness is dead, and it cannot wait for what is not its
child. So the copies are dropped, in the child, at once.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Owned", "forget_in_child"]


class Owned(Protocol):
    """
    Something that only the process that made it may use.
    """

    def forget(self) -> None:
        """
        Drop the descriptors and do nothing else. May be called again, in a child's child.
        """


_owned: weakref.WeakSet[Owned] = weakref.WeakSet()


def forget_in_child(owned: Owned) -> None:
    """
    Have a forked child drop its copy.
    """
    _owned.add(owned)


def _forget() -> None:
    for owned in list(_owned):
        owned.forget()


os.register_at_fork(after_in_child=_forget)
