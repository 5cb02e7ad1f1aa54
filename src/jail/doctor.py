"""
What this host can do, what is missing, and the command that cures it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import UnsupportedError
from .guarantee import GUARANTEES
from .host import FEATURES, Host
from .limits import choose_keepers
from .planning import make_plan
from .policy import Policy
from .promises import decide
from .tier import Tier, choose_tier
from .view import View

__all__ = ["diagnose"]

_LIMITS = ("memory", "cpu", "pids", "disk", "io", "output", "time")


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
        *(_limits(host, tier) if tier else ()),
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


def _limits(host: Host, tier: Tier) -> Iterator[str]:
    """
    Who keeps each limit here, and what would have the kernel do it.
    """
    everything = Policy(
        memory=1,
        cpus=0.5,
        processes=1,
        disk=1,
        io=1,
        output=1,
        timeout=1,
        waive=list(GUARANTEES),
        strict=False,
    )
    keepers = choose_keepers(everything, host, userns=tier is Tier.NAMESPACES)
    yield "Limits, and who keeps them:"
    for guarantee in decide(everything, host, View(), tier, keepers):
        if guarantee.name in _LIMITS:
            how = f"{guarantee.strength}: {guarantee.mechanism}" if guarantee.mechanism else guarantee.promise
            yield f"  {guarantee.name:7} {how.removeprefix('waived: ')}"
    if not host.has("cgroup"):
        yield "  With a cgroup, see above, the kernel would keep memory, cpu, pids and, with its controller, io."
    yield ""


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
