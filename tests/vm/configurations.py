"""
In which states of the guest the tests run, on which kernels, and what must be there in each.
"""

from dataclasses import dataclass

from . import selection

# What a host of the namespace tier has on each of these kernels, so that a skip cannot hide that it is gone.
_WITHOUT_USERNS = ("landlock", "seccomp", "seccomp_notify", "clone3", "pidfd", "cgroup", "libseccomp")
_NAMESPACES = ("userns", "proc", "netns", "devpts", "overlay", "keyring", *_WITHOUT_USERNS)

# Linux, and the ABI of Landlock that came with it. landlock(7), "VERSIONS"
_LANDLOCK = {(5, 13): 1, (5, 19): 2, (6, 2): 3, (6, 7): 4, (6, 10): 5, (6, 12): 6, (6, 15): 7}


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    One state of a guest.

    Args:
        name: what is said for it; the scripts in ``inside`` know it by that.
        description: for people.
        tests: paths or patterns, from the top of the checkout.
        ci: the same, where there are but minutes; empty where it is not for CI.
        features: what the host must have, in the words of `needs`.
        since, before: the versions of kernels that it is for.
        init: "systemd", or "script" for ``inside/init`` alone.
    """

    name: str
    description: str
    tests: tuple[str, ...]
    ci: tuple[str, ...] = ()
    features: tuple[str, ...] = _NAMESPACES
    since: tuple[int, int] = (5, 12)
    before: tuple[int, int] = (1000, 0)
    init: str = "script"

    def fits(self, kernel):
        """
        Whether this kernel can be in this state.
        """
        return self.since <= kernel.version < self.before

    def required(self, kernel):
        """
        For JAIL_REQUIRE: `features`, and each ABI of Landlock that this kernel must have.
        """
        newest = max((abi for since, abi in _LANDLOCK.items() if since <= kernel.version), default=0)
        abis = (f"landlock_abi_{abi}" for abi in range(1, newest + 1))
        return ",".join((*self.features, *(abis if "landlock" in self.features else ())))


CONFIGURATIONS = (
    Configuration(
        "user",
        "an ordinary user, whom a cgroup is delegated to; it is in JAIL_CGROUP",
        selection.ROOMS,
        selection.CI_ROOMS,
    ),
    Configuration(
        "systemd",
        "a scope with Delegate=yes of the user's own systemd, of which a cgroup is to be made",
        selection.DELEGATED,
        selection.CI_DELEGATED,
        init="systemd",
    ),
    Configuration(
        "service",
        "a service with User= and Delegate=yes of the system's systemd, likewise",
        selection.DELEGATED,
        init="systemd",
    ),
    Configuration(
        "userns-off",
        "kernel.unprivileged_userns_clone=0: user namespaces are EPERM",
        selection.REFUSED,
        features=_WITHOUT_USERNS,
    ),
    Configuration(
        "userns-none",
        "user.max_user_namespaces=0: user namespaces are ENOSPC",
        selection.REFUSED,
        selection.CI_REFUSED,
        features=_WITHOUT_USERNS,
    ),
    Configuration(
        "userns-denied",
        "an AppArmor profile without userns: user namespaces are EACCES",
        selection.LANDLOCK,
        features=_WITHOUT_USERNS,
        since=(6, 12),
    ),
    Configuration(
        "userns-stripped",
        "an AppArmor profile without capabilities: user namespaces are to be had, and cannot be used",
        selection.REFUSED,
        selection.CI_REFUSED,
        features=_WITHOUT_USERNS,
        since=(6, 12),
    ),
    Configuration(
        "runc",
        "containers under runc, as Docker has them on cgroup v2; and one whose cgroup is writable",
        selection.CONTAINED,
        features=(),  # each container has its own list
        since=(6, 12),
    ),
    Configuration(
        "too-old",
        "below Linux 5.12, where jail refuses",
        selection.TOO_OLD,
        features=("seccomp", "pidfd"),
        before=(5, 12),
        since=(0, 0),
    ),
)
