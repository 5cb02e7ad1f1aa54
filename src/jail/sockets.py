"""
Unix sockets that a policy names: what they are, and whose. unix(7)

connect(2) asks for write permission on the socket's inode and nothing else: no read-only mount stops it, nor
does Landlock before ABI 9, LANDLOCK_ACCESS_FS_RESOLVE_UNIX (confine.py). Some servers do for whoever connects what the sandbox is
there to prevent, so those are known here, and have to be named as what they are.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .errors import PolicyError
from .view import Tree, is_below

__all__ = ["POWERS", "Power", "find_socket", "power_of", "powers_shown"]


@dataclass(frozen=True, slots=True)
class Power:
    """
    A server that acts outside of the sandbox for whoever may connect.

    Args:
        server: its name.
        reason: what a client has from it.
        names: patterns for the end of a resolved path, wherever it begins: a container's host is often shown below
            another directory. ``*`` matches ``/`` too.
        places: where it listens as a rule, as glob(7) has it: the same inode is recognised under any other name.
    """

    server: str
    reason: str
    names: tuple[str, ...]
    places: tuple[str, ...]


_ROOT = "who may talk to it is root on this host"
_USER = "who may talk to it can run programs as this user, outside"
_CONTROL = "who may talk to it controls other programs of this user"

POWERS = (
    Power(
        "Docker",
        _ROOT,
        ("*/docker.sock", "*/docker-cli-api.sock"),
        ("/run/docker.sock", "/run/user/*/docker.sock"),
    ),
    Power("containerd", _ROOT, ("*/containerd.sock*", "*/containerd/*"), ("/run/containerd/*.sock*",)),
    Power("Podman", _ROOT, ("*/podman.sock",), ("/run/podman/podman.sock", "/run/user/*/podman/podman.sock")),
    Power("CRI-O", _ROOT, ("*/crio.sock",), ("/run/crio/crio.sock",)),
    Power("BuildKit", _ROOT, ("*/buildkitd.sock",), ("/run/buildkit/buildkitd.sock",)),
    Power("libvirt", _ROOT, ("*/libvirt/*sock*",), ("/run/libvirt/*sock*",)),
    Power("LXD", _ROOT, ("*/lxd/unix.socket*", "*/incus/unix.socket*"), ("/var/lib/*/unix.socket*",)),
    Power("snapd", _ROOT, ("*/snapd*.socket",), ("/run/snapd*.socket",)),
    Power("the Nix daemon", _ROOT, ("*/nix/daemon-socket/socket",), ("/nix/var/nix/daemon-socket/socket",)),
    Power("udev", _ROOT, ("*/udev/control",), ("/run/udev/control",)),
    Power("systemd", _ROOT, ("*/run/systemd/*",), ("/run/systemd/private", "/run/systemd/notify")),
    Power("systemd of a user", _USER, ("*/run/user/*/systemd/*",), ("/run/user/*/systemd/*",)),
    Power("D-Bus, of the system", _ROOT, ("*/system_bus_socket",), ("/run/dbus/system_bus_socket",)),
    Power("D-Bus, of a session", _USER, ("*/run/user/*/bus", "*/dbus-*", "*/at-spi/*"), ("/run/user/*/bus",)),
    Power("tmux", _USER, ("*/tmux-*/*",), ("/tmp/tmux-*/*",)),  # noqa: S108 - where it listens
    Power("PulseAudio", _USER, ("*/pulse/native",), ("/run/user/*/pulse/native",)),
    Power("jail", _USER, ("*/jail/*.sock",), ("/run/user/*/jail/*.sock",)),
    Power("X11", _CONTROL, ("*/.X11-unix/X*",), ("/tmp/.X11-unix/X*",)),  # noqa: S108 - where it listens
    Power("Wayland", _CONTROL, ("*/wayland-[0-9]*",), ("/run/user/*/wayland-[0-9]*",)),
    # It gives out and deletes keys; S.gpg-agent.extra and .ssh, which are made to be passed on, do not.
    Power("gpg-agent", _CONTROL, ("*/S.gpg-agent",), ("/run/user/*/gnupg/S.gpg-agent",)),
)


def find_socket(path: str, key: str) -> Tree | None:
    """
    The socket that an absolute path leads to, by its resolved path and its inode; None where nothing is.

    Raises:
        PolicyError: something else is there, or a server of `POWERS` that `key`, "sockets", does not say.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        msg = f"{path}: {exc.strerror}"
        raise PolicyError(msg, key=key) from exc
    try:
        real, status = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISSOCK(status.st_mode):
        msg = f"{path} is no socket. Name files and directories in read or write"
        raise PolicyError(msg, key=key)
    power = power_of(real, status) if key == "sockets" else None
    if power:
        msg = f"{path} is a socket of {power.server}: {power.reason}. If that is meant, name it in privileged_sockets"
        raise PolicyError(msg, key=key)
    device = status.st_dev
    return Tree(real, is_directory=False, inode=(status.st_ino, os.major(device), os.minor(device)))


def power_of(path: str, status: os.stat_result) -> Power | None:
    """
    Whose socket this is, if one of `POWERS`: by the end of its resolved path, or by its inode.
    """
    for power in POWERS:
        if any(fnmatchcase(path, name) for name in power.names):
            return power
    inode = (status.st_dev, status.st_ino)
    return next((power for power, _, known in _listening(POWERS) if known == inode), None)


def powers_shown(trees: Collection[Tree]) -> Iterator[tuple[Power, str]]:
    """
    The servers of `POWERS`, each with its socket, that listen where a tree would show them.

    Only what is there now is found. Places that no tree can hold are not looked at, so most policies ask nothing.
    """
    directories = [tree.path for tree in trees if tree.is_directory]
    near = [
        power for power in POWERS if any(_may_hold(d, place) for d in directories for place in power.places)
    ]
    for power, path, _ in _listening(near):
        if any(is_below(path, directory) for directory in directories):
            yield power, path


def _may_hold(directory: str, place: str) -> bool:
    fixed = place.partition("*")[0].rpartition("/")[0]
    return is_below(fixed, directory) or is_below(directory, fixed)


def _listening(powers: Collection[Power]) -> Iterator[tuple[Power, str, tuple[int, int]]]:
    for power in powers:
        for path in (path for place in power.places for path in glob.iglob(place)):
            try:
                status = os.stat(path)
            except OSError:  # gone again, or a link to nothing: nobody listens there
                continue
            if stat.S_ISSOCK(status.st_mode):
                yield power, os.path.realpath(path), (status.st_dev, status.st_ino)
