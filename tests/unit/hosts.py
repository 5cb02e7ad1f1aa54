"""Hosts that are not this one: kernels, containers and switches as measured elsewhere."""

from __future__ import annotations

from typing import Any

from jail.host import FEATURES, CgroupFacts, Host

_NAMESPACED = ("userns", "proc", "netns", "devpts", "overlay", "keyring")
_ROOT = {"uid": 0, "gid": 0, "user": "root", "home": "/root"}

ALL_CONTROLLERS = ("cpu", "io", "memory", "pids")
# What systemd gives to each user's manager: user@.service, Delegate=.
USERS_CONTROLLERS = ("cpu", "memory", "pids")


def _host(*absent: str, controllers: tuple[str, ...] = (), **facts: Any) -> Host:
    """
    A host without these features; and without a place for cgroups, unless they have controllers there.
    """
    place = CgroupFacts("/sys/fs/cgroup/given", controllers) if controllers else CgroupFacts()
    gone = {*absent} if controllers else {"cgroup", *absent}
    if "userns" not in gone or "netns" in gone:  # a caller's own privilege brings them all
        gone.add("privileged")
    return Host(features=frozenset(FEATURES) - gone, cgroup=place, **facts)


FULL = _host()
ROOT = _host(**_ROOT)
LANDLOCK_ABI = {abi: _host(landlock_abi=abi) for abi in range(1, 11)}
NO_LANDLOCK = _host("landlock", kernel="6.1", landlock_abi=0)
MASKED_PROC = _host("proc", container="docker")
DOCKER = _host(
    *_NAMESPACED,
    **_ROOT,
    missing={"userns": "clone(2): EPERM"},
    cures={"userns": "In Docker: --security-opt seccomp=unconfined."},
    container="docker",
)
DOCKER_USER = _host(*_NAMESPACED, container="docker")
DOCKER_OLD = _host(*_NAMESPACED, landlock_abi=5, container="docker")
PRIVILEGED = _host("userns", **_ROOT)
CGROUP = _host(controllers=ALL_CONTROLLERS)
CGROUP_ROOT = _host(controllers=ALL_CONTROLLERS, **_ROOT)
CGROUP_OF_A_USER = _host(controllers=USERS_CONTROLLERS)
CGROUP_WITH_PIDS = _host(controllers=("pids",))
CGROUP_WITH_MEMORY = _host(controllers=("memory",))
CGROUP_MASKED_PROC = _host("proc", controllers=ALL_CONTROLLERS, container="docker")
CGROUP_WITHOUT_USERNS = _host(*_NAMESPACED, controllers=ALL_CONTROLLERS)
CGROUP_PRIVILEGED = _host("userns", controllers=ALL_CONTROLLERS, container="docker", **_ROOT)
BARE = _host("landlock", *_NAMESPACED, kernel="5.10", landlock_abi=0)
NO_SECCOMP = _host("seccomp")

ALL = {
    "full": FULL,
    "root": ROOT,
    "no-landlock": NO_LANDLOCK,
    "masked-proc": MASKED_PROC,
    "docker": DOCKER,
    "docker-user": DOCKER_USER,
    "docker-old": DOCKER_OLD,
    "privileged": PRIVILEGED,
    "cgroup": CGROUP,
    "cgroup-root": CGROUP_ROOT,
    "cgroup-of-a-user": CGROUP_OF_A_USER,
    "cgroup-with-pids": CGROUP_WITH_PIDS,
    "cgroup-with-memory": CGROUP_WITH_MEMORY,
    "cgroup-masked-proc": CGROUP_MASKED_PROC,
    "cgroup-without-userns": CGROUP_WITHOUT_USERNS,
    "cgroup-privileged": CGROUP_PRIVILEGED,
    **{f"landlock-{abi}": host for abi, host in LANDLOCK_ABI.items()},
}
