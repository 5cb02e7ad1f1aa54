"""Hosts that are not this one: kernels, containers and switches as measured elsewhere."""

from __future__ import annotations

from jail.host import FEATURES, Host

_NAMESPACED = {"userns", "proc", "netns", "devpts", "overlay", "keyring"}


def _without(*features: str) -> frozenset[str]:
    return frozenset(FEATURES) - {"privileged", *features}


FULL = Host(features=_without())
ROOT = Host(uid=0, gid=0, user="root", home="/root", features=_without())
LANDLOCK_ABI = {abi: Host(features=_without(), landlock_abi=abi) for abi in range(1, 11)}
NO_LANDLOCK = Host(kernel="6.1", features=_without("landlock"), landlock_abi=0)
MASKED_PROC = Host(features=_without("proc"), container="docker")
DOCKER = Host(
    uid=0,
    gid=0,
    user="root",
    home="/root",
    features=_without(*_NAMESPACED),
    missing={"userns": "clone(2): EPERM"},
    cures={"userns": "In Docker: --security-opt seccomp=unconfined."},
    container="docker",
)
DOCKER_USER = Host(features=_without(*_NAMESPACED), container="docker")
DOCKER_OLD = Host(features=_without(*_NAMESPACED), landlock_abi=5, container="docker")
PRIVILEGED = Host(uid=0, gid=0, user="root", home="/root", features=_without("userns") | {"privileged"})
BARE = Host(kernel="5.10", features=_without("landlock", *_NAMESPACED), landlock_abi=0)
NO_SECCOMP = Host(features=_without("seccomp"))

ALL = {
    "full": FULL,
    "root": ROOT,
    "no-landlock": NO_LANDLOCK,
    "masked-proc": MASKED_PROC,
    "docker": DOCKER,
    "docker-user": DOCKER_USER,
    "docker-old": DOCKER_OLD,
    "privileged": PRIVILEGED,
    **{f"landlock-{abi}": host for abi, host in LANDLOCK_ABI.items()},
}
