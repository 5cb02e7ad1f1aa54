"""
What a sandbox stands on, here.

Pure. Two tiers. *Namespaces*: the sandbox has a tree, processes, network and names of its own, and Landlock and
seccomp stand behind them; by a user namespace, or by the caller's own privilege. *Landlock*: where no
namespaces are to be had, it shares the host's tree, of which Landlock leaves it a part; seccomp takes away what
would reach further; `jail-init` is a subreaper.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import UnsupportedError
from .host import Host

__all__ = ["LANDLOCK_SCOPES", "LANDLOCK_TRUNCATES", "LANDLOCK_USABLE", "Tier", "choose_tier", "unsupported"]

# Landlock below ABI 2 forbids every move to another directory (EXDEV), which no build survives.
LANDLOCK_USABLE = 2
LANDLOCK_TRUNCATES = 3
LANDLOCK_SCOPES = 6


class Tier(StrEnum):
    """
    What the sandbox stands on.
    """

    NAMESPACES = "namespaces"
    PRIVILEGED = "privileged namespaces"
    LANDLOCK = "Landlock"


def choose_tier(host: Host) -> Tier:
    """
    The strongest tier this host has.

    Raises:
        UnsupportedError: it has none: neither namespaces nor Landlock, or no seccomp.
    """
    if not host.has("seccomp"):
        raise unsupported(host, "syscalls", "seccomp filters, Linux 4.14", "seccomp")
    if host.has("userns"):
        return Tier.NAMESPACES
    if host.has("privileged"):
        return Tier.PRIVILEGED
    if host.landlock_abi >= LANDLOCK_USABLE:
        return Tier.LANDLOCK
    raise unsupported(host, "filesystem.read", "user namespaces, or Landlock ABI 2 of Linux 5.19", "userns")


def unsupported(host: Host, guarantee: str, needs: str, feature: str) -> UnsupportedError:
    """
    The exception for a guarantee that cannot be kept here.

    Args:
        host: this one.
        guarantee: its name.
        needs: what would keep it.
        feature: the one of `host.FEATURES` that is missing for it.
    """
    waive = f'Or go on without it: waive=["{guarantee}"].'
    cure = host.cures.get(feature)
    return UnsupportedError(
        guarantee, needs=needs, found=host.found(feature), cure=f"{cure} {waive}" if cure else waive
    )
