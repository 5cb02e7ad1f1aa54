"""
Which mechanism keeps each guarantee that a policy asks for, on this host; and what is missing where none does.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .guarantee import Guarantee, Strength
from .host import Host
from .layout import tmpfs_size
from .limits import Keeper, Keepers
from .notify import why_not_brokered
from .policy import Policy
from .proxy import ENVIRONMENT
from .tier import LANDLOCK_SCOPES, LANDLOCK_TRUNCATES, LANDLOCK_USABLE, Tier, unsupported
from .view import View, is_below

__all__ = ["decide"]


def decide(policy: Policy, host: Host, view: View, tier: Tier, keepers: Keepers) -> tuple[Guarantee, ...]:
    """
    One guarantee for each that is asked for, waived ones included.

    Raises:
        UnsupportedError: one cannot be kept here and is not waived.
    """
    return tuple(_Deciding(policy, host, view, tier, keepers).decide())


@dataclass(frozen=True, slots=True)
class _Kept:
    mechanism: str
    promise: str
    strength: Strength = Strength.KERNEL


@dataclass(frozen=True, slots=True)
class _Lost:
    needs: str
    feature: str


def _listed(policy: Policy) -> str:
    """
    What the relay lets through. The namespace lets nothing: who decides is the harness.
    """
    rules = ", ".join(map(str, policy.network)) or "nothing"
    denied = f", but for {', '.join(map(str, policy.deny_network))}" if policy.deny_network else ""
    entered = f"; and none in but {_published(policy)}" if policy.publish else ""
    return f"there is no way out but the relay's, which connects to {rules}{denied}{_proxied(policy)}{_told(policy)}{entered}"


def _published(policy: Policy) -> str:
    return ", ".join(map(str, policy.publish))


def _told(policy: Policy) -> str:
    return "; programs are told of a proxy inside, which is the same" if policy.proxy_variables else ""


def _proxied(policy: Policy) -> str:
    if policy.network_proxy is None:
        return ""
    whose = "that of the environment" if policy.network_proxy == ENVIRONMENT else policy.network_proxy
    return f"; through a proxy, {whose}, which judges what names resolve to"


@dataclass(frozen=True, slots=True)
class _Deciding:
    """
    One method per guarantee: what keeps it here, what is missing, or None where it was not asked for.
    """

    policy: Policy
    host: Host
    view: View
    tier: Tier
    keepers: Keepers

    def decide(self) -> list[Guarantee]:
        table: dict[str, Callable[[], _Kept | _Lost | None]] = {
            "filesystem.read": self.read,
            "filesystem.write": self.write,
            "filesystem.metadata": self.metadata,
            "network": self.network,
            "processes": self.processes,
            "ipc": self.ipc,
            "privileges": self.privileges,
            "syscalls": self.syscalls,
            "terminal": self.terminal,
            "descriptors": self.descriptors,
            "environment": self.environment,
            "memory": self.memory,
            "cpu": self.cpu,
            "pids": self.pids,
            "disk": self.disk,
            "io": self.io,
            "output": self.output,
            "time": self.time,
            "teardown": self.teardown,
        }
        return [g for name, how in table.items() if (g := self._guarantee(name, how())) is not None]

    def _guarantee(self, name: str, how: _Kept | _Lost | None) -> Guarantee | None:
        if isinstance(how, _Kept):
            return Guarantee(name, how.mechanism, how.strength, how.promise)
        if how is None:
            return None
        if name not in self.policy.waive:
            raise unsupported(self.host, name, how.needs, how.feature)
        return Guarantee(name, "", Strength.NONE, f"waived: needs {how.needs}")

    @property
    def _own(self) -> bool:
        return self.tier is not Tier.LANDLOCK

    def _walls(self) -> str:
        if not self._own:
            return f"Landlock ABI {self.host.landlock_abi}"
        behind = self.host.landlock_abi >= LANDLOCK_USABLE
        return "mount namespace" + (f", Landlock ABI {self.host.landlock_abi}" if behind else "")

    def read(self) -> _Kept | _Lost:
        in_writable = [p for p in self.view.hidden if self._in_writable(p)]
        if in_writable and not self._own:
            return _Lost(f"a mount namespace to hide {in_writable[0]} in a writable directory", "userns")
        shown = f"only {len(self.view.trees)} trees of the host, and the sandbox's own files, can be read"
        return _Kept(self._walls(), shown)

    def write(self) -> _Kept | _Lost:
        writable = [tree.path for tree in self.view.trees if tree.writable]
        inner = [t.path for t in self.view.trees if not t.writable and self._in_writable(t.path)]
        if not self._own and self.host.landlock_abi < LANDLOCK_TRUNCATES:
            return _Lost("a mount namespace, or Landlock ABI 3 of Linux 6.2 against truncate(2)", "userns")
        if inner and not self._own:
            return _Lost(f"a mount namespace to keep {inner[0]} read-only in a writable directory", "userns")
        where = ", ".join(writable) if writable else "nothing of the host"
        return _Kept(self._walls(), f"{where} can be written, and the sandbox's own files")

    def _in_writable(self, path: str) -> bool:
        return any(t.writable and t.path != path and is_below(path, t.path) for t in self.view.trees)

    def metadata(self) -> _Kept | _Lost:
        if self._own:
            return _Kept("read-only mounts", "modes, owners, times and attributes of read-only files stay")
        if "filesystem.metadata" in self.policy.waive:
            return _Lost("seccomp to deny chmod(2) and its kin, which was waived", "userns")
        return _Kept(
            "seccomp", "chmod(2), chown(2), utime(2), setxattr(2) and their kin are EPERM everywhere"
        )

    def network(self) -> _Kept | _Lost:
        if self.policy.network == "host":
            return _Kept("", "none: the policy asks for the host's network", Strength.NONE)
        listed = isinstance(self.policy.network, tuple)
        if not self._own:
            return self._without_namespace()
        if not self.host.has("netns"):
            return _Lost("a network namespace", "netns")
        if listed:
            return _Kept("network namespace, relay in the harness", _listed(self.policy), Strength.SUPERVISED)
        entered = f", but for who comes by {_published(self.policy)}" if self.policy.publish else ""
        return _Kept("network namespace", f"there is no interface but lo, and nobody else on it{entered}")

    def _without_namespace(self) -> _Kept | _Lost:
        if self.policy.publish:
            return _Lost("a network namespace of its own, for what is published", "userns")
        if isinstance(self.policy.network, tuple):
            return self._brokered()
        return _Kept("seccomp", "no socket can be made")

    def _brokered(self) -> _Kept | _Lost:
        """
        The kernel lets no program connect; who does it for them, and decides, is the harness.
        """
        if why := why_not_brokered(self.policy, self.host):
            return _Lost(why, "userns")
        rules = ", ".join(map(str, self.policy.network)) or "nobody"
        promise = f"no socket but TCP, which the harness connects, to {rules}"
        if self.policy.proxy_variables:
            promise += ", by name through a proxy of its own"
        if self.policy.deny_network:
            promise += f", but for {', '.join(map(str, self.policy.deny_network))}"
        mechanism = f"seccomp user notification, Landlock ABI {self.host.landlock_abi}, broker in the harness"
        return _Kept(mechanism, promise, Strength.SUPERVISED)

    def processes(self) -> _Kept | _Lost:
        if self._own:
            proc = "a /proc of its own" if self.host.has("proc") else "no /proc at all"
            return _Kept("PID namespace", f"no process outside can be named; there is {proc}")
        if self.host.landlock_abi < LANDLOCK_SCOPES or "processes" in self.policy.waive:
            return _Lost("a PID namespace, or Landlock ABI 6 of Linux 6.12 and no /proc", "userns")
        return _Kept("Landlock scopes, seccomp", "no signal or trace leaves the sandbox; there is no /proc")

    def ipc(self) -> _Kept | _Lost:
        if not self._own:
            return _Kept("seccomp", "System V IPC, message queues, keys and sockets are EPERM")
        if self.policy.network == "host" and self.host.landlock_abi < LANDLOCK_SCOPES:
            return _Lost(
                "Landlock ABI 6 of Linux 6.12 to keep abstract sockets of the host's network out", "landlock"
            )
        return _Kept("IPC namespace, seccomp", "shared memory, queues and semaphores are its own; no keys")

    def privileges(self) -> _Kept:
        held = "user namespace, " if self.tier is Tier.NAMESPACES else ""
        return _Kept(
            f"{held}no_new_privs, capability sets", "no capability is held, and execve(2) grants none"
        )

    def syscalls(self) -> _Kept:
        return _Kept(
            "seccomp", "what is not on the list is ENOSYS, what is denied EPERM, other ABIs are killed"
        )

    def terminal(self) -> _Kept:
        return _Kept("setsid(2), seccomp", "no controlling terminal; TIOCSTI and TIOCLINUX are EPERM")

    def descriptors(self) -> _Kept:
        return _Kept("close_range(2)", "a program starts with 0, 1 and 2, and nothing else")

    def environment(self) -> _Kept:
        return _Kept("execve(2)", "a program starts with the variables that the policy names")

    def memory(self) -> _Kept | _Lost | None:
        if self.policy.memory is None:
            return None
        promise = f"all programs together have at most {self.policy.memory} bytes"
        if self.keepers.memory is Keeper.WATCH:
            promise += "; who has most is ended within a tenth of a second of more"
        return self._limit(self.keepers.memory, promise, "a cgroup with the memory controller")

    def cpu(self) -> _Kept | _Lost | None:
        if self.policy.cpus is None:
            return None
        promise = f"all programs together use at most {self.policy.cpus:g} processors"
        needs = "a cgroup with the cpu controller, or a whole number of processors"
        return self._limit(self.keepers.cpus, promise, needs)

    def pids(self) -> _Kept | _Lost | None:
        if self.policy.processes is None:
            return None
        promise = f"at most {self.policy.processes} processes and threads, together"
        if self.keepers.processes is Keeper.WATCH:
            promise += "; who has most is ended soon after there are more"
        needs = "a cgroup with the pids controller, or a user namespace whose maker is not root"
        return self._limit(self.keepers.processes, promise, needs)

    def io(self) -> _Kept | _Lost | None:
        if self.policy.io is None:
            return None
        promise = f"at most {self.policy.io} bytes a second to and from each disk that can be written"
        return self._limit(self.keepers.io, promise, "a cgroup with the io controller")

    def _limit(self, keeper: Keeper | None, promise: str, needs: str) -> _Kept | _Lost:
        if keeper is None:
            return _Lost(needs, "cgroup")
        return _Kept(str(keeper), promise, keeper.strength)

    def output(self) -> _Kept | None:
        if self.policy.output is None:
            return None
        promise = f"ended after {self.policy.output} bytes, of what the harness reads for the caller"
        return _Kept("SIGKILL by the harness", promise, Strength.SUPERVISED)

    def disk(self) -> _Kept | _Lost | None:
        if self._own:
            size, inodes = tmpfs_size(self.policy)
            return _Kept("tmpfs size", f"the sandbox's own files: {size} bytes and {inodes} inodes, together")
        if (self.policy.disk or self.policy.inodes) is not None:
            return _Lost("a tmpfs of the sandbox's own", "userns")
        if self.policy.file_size is None:
            return None
        return _Kept("RLIMIT_FSIZE", f"no file grows beyond {self.policy.file_size} bytes")

    def time(self) -> _Kept | None:
        policy = self.policy
        bounds = {
            "timeout": "a program is ended after {:g} seconds, and {grace:g} of grace",
            "cpu_seconds": "or after {:g} of processor time",
            "wall": "the sandbox ends after {:g} seconds",
            "idle": "or after {:g} with nothing running",
        }
        said = [
            text.format(getattr(policy, name), grace=policy.grace)
            for name, text in bounds.items()
            if getattr(policy, name) is not None
        ]
        if not said:
            return None
        return _Kept("signals by jail-init", ", ".join(said), Strength.SUPERVISED)

    def teardown(self) -> _Kept | _Lost:
        if self._own:
            return _Kept("PID namespace", "every process ends with jail-init, and jail-init with the harness")
        if self.host.landlock_abi < LANDLOCK_SCOPES:
            return _Lost("a PID namespace, or Landlock ABI 6 of Linux 6.12", "userns")
        how = "every process ends with jail-init, which nothing inside can signal"
        return _Kept("subreaper, Landlock scopes", how, Strength.SUPERVISED)
