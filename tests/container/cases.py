"""
The containers that the library has to work in, as data: how each is started, under Docker.

A case is named for what it is. What must be had there is in `expected`, under the same name; how the same
container is started by another runtime is read off Docker's own, in `oci`.

Source: docker-run(1); "Restricted" in Kubernetes' Pod Security Standards.
"""

from dataclasses import dataclass

__all__ = ["CASES", "IN_DOCKER", "MOST_PROCESSES", "NEWER", "UNCONFINED", "Case", "docker_arguments"]

NEWER = "newer"
UNCONFINED = "unconfined"
MOST_PROCESSES = 500  # a fork bomb that nobody stops is to harm its container alone


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One container, as far as it is another than ``docker run`` alone would make it.

    Args:
        name: what CASES= takes.
        about: who has such a container.
        user: ``uid:gid``; None is root.
        seccomp: which filter: None is Docker's own, "newer" that of a later Docker, or "unconfined".
        masked: whether parts of /proc and /sys are covered, which keeps a user namespace from a fresh /proc.
        no_new_privs: whether execve(2) may grant nothing.
        drop, add: capabilities.
        read_only: whether the root is, with a tmpfs at /tmp.
        divides_cgroup: whether its cgroup v2 is mounted writable; Docker can do that from 28 on.
    """

    name: str
    about: str
    user: str | None = None
    seccomp: str | None = None
    masked: bool = True
    no_new_privs: bool = False
    drop: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    read_only: bool = False
    divides_cgroup: bool = False


_ALL = (
    Case(name="default-root", about="docker run, and nothing else"),
    Case(name="newer-root", about="the same, with the seccomp profile of a later Docker", seccomp=NEWER),
    Case(name="user", about="an image with a USER", user="1000:1000", no_new_privs=True),
    Case(
        name="restricted",
        about="Kubernetes' `restricted`, and a root that is read-only",
        user="1000:1000",
        no_new_privs=True,
        drop=("ALL",),
        read_only=True,
    ),
    Case(name="sysadmin", about="what is tried when mount(2) is EPERM", add=("SYS_ADMIN",)),
    Case(name="unconfined-root", about="seccomp given up, as for a browser", seccomp=UNCONFINED),
    Case(name="unconfined-user", about="the same as a user", seccomp=UNCONFINED, user="1000:1000"),
    Case(
        name="unmasked-root",
        about="what the library's own advice comes to",
        seccomp=UNCONFINED,
        masked=False,
    ),
    Case(
        name="unmasked-user",
        about="the same as a user",
        seccomp=UNCONFINED,
        masked=False,
        user="1000:1000",
    ),
    Case(
        name="delegated-root",
        about="the same as root, who may divide his cgroup v2",
        seccomp=UNCONFINED,
        masked=False,
        divides_cgroup=True,
    ),
)

CASES = {case.name: case for case in _ALL}
IN_DOCKER = [case.name for case in _ALL if not case.divides_cgroup]


def docker_arguments(case, *, newer_profile=None):
    """
    The words for ``docker run`` that make this container.

    Pure. No container has a network: the tests bring what they talk to.

    Args:
        case: one of `CASES`.
        newer_profile: the file with the later Docker's seccomp profile, for the cases that want it.
    """
    words = [
        "--network=none",
        "--sysctl=net.ipv6.conf.all.disable_ipv6=0",
        f"--pids-limit={MOST_PROCESSES}",
    ]
    if case.user:
        words.append(f"--user={case.user}")
    if case.seccomp:
        words.append(f"--security-opt=seccomp={newer_profile if case.seccomp == NEWER else case.seccomp}")
    if case.seccomp == UNCONFINED:
        # Where there is AppArmor, docker-default denies mount(2), whatever seccomp permits.
        words.append("--security-opt=apparmor=unconfined")
    if not case.masked:
        words.append("--security-opt=systempaths=unconfined")
    if case.divides_cgroup:
        words.append("--security-opt=writable-cgroups=true")
    if case.no_new_privs:
        words.append("--security-opt=no-new-privileges")
    words += [f"--cap-drop={name}" for name in case.drop]
    words += [f"--cap-add={name}" for name in case.add]
    if case.read_only:
        # exec: a volume of Kubernetes' is mounted so, and Docker's tmpfs would not be.
        words += ["--read-only", "--tmpfs=/tmp:exec,mode=1777"]
    return words
