"""
In which states of the guest the tests run, on which kernels, and which tests.
"""

from dataclasses import dataclass

from selection import NAMESPACES

# What every kernel of the namespace tier must have, so that no skip can hide a feature's absence.
_FEATURES = (
    "userns,proc,netns,devpts,overlay,keyring,landlock,seccomp,seccomp_notify,clone3,pidfd,cgroup,libseccomp"
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    One state of a guest.

    Args:
        name: what is said for it, and to the scripts inside.
        description: for people.
        tests: paths, as pytest takes them; patterns are expanded in the checkout.
        require: for JAIL_REQUIRE.
        since, before: the versions of kernels that it is for.
        init: "systemd", or "jail-vm" for the script that does without.
    """

    name: str
    description: str
    tests: tuple[str, ...]
    require: str
    since: tuple[int, int] = (5, 12)
    before: tuple[int, int] = (1000, 0)
    init: str = "jail-vm"

    def fits(self, kernel):
        """
        Whether this kernel can be in this state.
        """
        return self.since <= kernel.version < self.before


CONFIGURATIONS = (
    Configuration("user", "an ordinary user with a delegated cgroup, in JAIL_CGROUP", NAMESPACES, _FEATURES),
)
