"""
The same cases for a runtime that is told by a file: what Docker would write into config.json, by its own rules.

Pure. What stands in Docker's seccomp profile for which capability, machine and kernel is decided here as Docker
decides it, once, when a container is made.

Source: opencontainers/runtime-spec, config-linux.md; moby's profiles/seccomp and oci/caps.
"""

import copy
import re
from typing import NamedTuple

from container.cases import MOST_PROCESSES, UNCONFINED

__all__ = ["render_config", "resolve_profile"]

_CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def render_config(case, spec, profile, *, root, process, mounts, machine, kernel):
    """
    A config.json for one case.

    Args:
        case: one of `CASES`.
        spec: what ``runc spec`` has printed: Docker's mounts, and the parts of /proc and /sys that it covers.
        profile: Docker's seccomp profile, as it is in its source.
        root: the directory that becomes the container's root.
        process: what runs in it: its args, cwd and env.
        mounts: directories of the host by the place where they are shown, read-only.
        machine: as uname(2) has it, for the profile.
        kernel: the release, likewise.
    """
    config = copy.deepcopy(spec)
    uid, _, gid = (case.user or "0:0").partition(":")
    bounding = capabilities(case)
    held = [] if case.user else bounding
    config["process"] = {
        **process,
        "user": {"uid": int(uid), "gid": int(gid)},
        "noNewPrivileges": case.no_new_privs,
        "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
    }
    config["root"] = {"path": root, "readonly": case.read_only}
    config["hostname"] = case.name
    config["mounts"] = [*_own_mounts(case, spec["mounts"]), *map(_bind, mounts.items())]
    linux = config["linux"]
    linux["cgroupsPath"] = f"/jail-test-{case.name}"
    if {"type": "cgroup"} not in linux["namespaces"]:
        linux["namespaces"].append({"type": "cgroup"})  # as Docker and runc have it on cgroup v2
    linux["resources"]["pids"] = {"limit": MOST_PROCESSES}
    linux["sysctl"] = {"net.ipv6.conf.all.disable_ipv6": "0"}
    if not case.masked:
        linux["maskedPaths"] = linux["readonlyPaths"] = []
    if case.seccomp != UNCONFINED:
        linux["seccomp"] = resolve_profile(profile, bounding, machine, kernel)
    return config


def capabilities(case):
    """
    The bounding set of a case.
    """
    kept = () if "ALL" in case.drop else [name for name in _CAPABILITIES if name not in case.drop]
    return [f"CAP_{name}" for name in (*kept, *case.add)]


def _own_mounts(case, mounts):
    for mount in mounts:
        if mount["destination"] != "/sys/fs/cgroup":
            yield mount
        elif case.divides_cgroup:
            yield mount | {"options": [option for option in mount["options"] if option != "ro"]}
        else:
            yield mount
    if case.read_only:
        yield {
            "destination": "/tmp",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "nodev", "mode=1777"],
        }


def _bind(item):
    inside, outside = item
    return {
        "destination": inside,
        "type": "bind",
        "source": str(outside),
        "options": ["rbind", "ro", "nosuid", "nodev"],
    }


def resolve_profile(profile, bounding, machine, kernel):
    """
    The rules of a profile of Docker's that are for this container, here.

    >>> rules = [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    ...          {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]
    >>> profile = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": rules}
    >>> [rule["names"] for rule in resolve_profile(profile, [], "x86_64", "6.12.1")["syscalls"]]
    [['clone3']]
    >>> [rule["names"] for rule in resolve_profile(profile, ["CAP_SYS_ADMIN"], "x86_64", "6.12.1")["syscalls"]]
    [['mount']]
    """
    here = _Here(frozenset(bounding), _ARCHITECTURES[machine], _version(kernel))
    native = f"SCMP_ARCH_{machine.upper()}"
    families = [
        [entry["architecture"], *(entry.get("subArchitectures") or ())]
        for entry in profile["archMap"]
        if entry["architecture"] == native
    ]
    resolved = {key: profile[key] for key in ("defaultAction", "defaultErrnoRet") if key in profile}
    resolved["architectures"] = [name for family in families for name in family]
    resolved["syscalls"] = [
        {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key) is not None}
        for rule in profile["syscalls"]
        if here.meets_all(rule.get("includes") or {}) and not here.meets_one(rule.get("excludes") or {})
    ]
    return resolved


class _Here(NamedTuple):
    """
    What the conditions of a rule are about.
    """

    bounding: frozenset[str]
    architecture: str
    kernel: tuple[int, int]

    def meets_all(self, conditions):
        """
        Of what includes a rule every condition counts, and every capability.
        """
        architectures = conditions.get("arches") or [self.architecture]
        since = _version(conditions.get("minKernel") or "0.0")
        caps = set(conditions.get("caps") or ())
        return self.architecture in architectures and caps <= self.bounding and since <= self.kernel

    def meets_one(self, conditions):
        """
        Of what excludes a rule one is enough.
        """
        architectures, caps = conditions.get("arches") or (), set(conditions.get("caps") or ())
        since = conditions.get("minKernel")
        return (
            self.architecture in architectures
            or bool(caps & self.bounding)
            or (since is not None and _version(since) <= self.kernel)
        )


def _version(text):
    """
    The version that a release or a condition begins with.

    >>> _version("6.18.44-cloud"), _version("4.8")
    ((6, 18), (4, 8))
    """
    major, minor = re.match(r"(\d+)\.(\d+)", text).groups()
    return int(major), int(minor)
