"""
What a table of verdicts says where a tier makes no promise.
"""

from typing import NamedTuple

__all__ = ["Unpromised"]


class Unpromised(NamedTuple):
    """
    What happens all the same, and why nothing is promised about it.
    """

    verdict: object
    reason: str
