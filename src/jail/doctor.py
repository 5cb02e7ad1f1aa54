"""
What this host can do, what is missing, and the command that cures it.
"""

from __future__ import annotations

from .errors import UnsupportedError
from .guarantee import GUARANTEES
from .host import FEATURES, Host
from .policy import Policy
from .session import make_plan
from .tier import Tier, choose_tier

__all__ = ["diagnose"]


def diagnose(host: Host, policy: Policy) -> tuple[str, bool]:
    """
    The report of ``jail doctor``.

    Args:
        host: as probed.
        policy: the one to try; its waivers are kept.

    Returns:
        The text, and whether every guarantee of the policy can be kept here.
    """
    try:
        tier: Tier | None = choose_tier(host)
    except UnsupportedError:
        tier = None
    lost = _lost(policy) if tier else {"everything": "neither namespaces nor Landlock with seccomp"}
    parts = [
        f"Linux {host.kernel} on {host.arch}, uid {host.uid}"
        + (f", in {host.container}" if host.container else ""),
        f"Sandboxes stand on: {tier or 'nothing: this host cannot run any'}",
        "",
        *(_feature(host, name) for name in FEATURES),
        "",
    ]
    if lost:
        parts.append("Guarantees that this host cannot keep, and what would cure it:")
        parts += [f"  {name}: {why}" for name, why in lost.items()]
    else:
        parts.append("Every guarantee of this profile can be kept here.")
    return "\n".join(parts) + "\n", not lost


def _feature(host: Host, name: str) -> str:
    if host.has(name):
        detail = f"ABI {host.landlock_abi}" if name == "landlock" else FEATURES[name]
        return f"  yes  {name:15} {detail}"
    cure = host.cures.get(name)
    return f"  no   {name:15} {host.found(name)}" + (f"\n{'':23}cure: {cure}" if cure else "")


def _lost(policy: Policy) -> dict[str, str]:
    """
    The guarantees that raise, one after the other, each waived so that the next can show itself.
    """
    lost: dict[str, str] = {}
    while len(lost) < len(GUARANTEES):
        try:
            make_plan(policy.extend(waive=list(lost)))
        except UnsupportedError as exc:
            lost[exc.feature] = str(exc)
        else:
            break
    return lost
