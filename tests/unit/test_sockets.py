"""
Whose socket a path is. `jail.sockets`
"""

import os

import pytest

from jail.sockets import POWERS, power_of, powers_shown
from jail.view import Tree


@pytest.mark.parametrize(
    ("path", "server"),
    [
        ("/run/docker.sock", "Docker"),
        ("/host/run/docker.sock", "Docker"),
        ("/run/user/1000/docker.sock", "Docker"),
        ("/run/containerd/containerd.sock.ttrpc", "containerd"),
        ("/run/user/1000/podman/podman.sock", "Podman"),
        ("/run/crio/crio.sock", "CRI-O"),
        ("/run/buildkit/buildkitd.sock", "BuildKit"),
        ("/run/libvirt/libvirt-sock", "libvirt"),
        ("/var/snap/lxd/common/lxd/unix.socket", "LXD"),
        ("/run/snapd.socket", "snapd"),
        ("/nix/var/nix/daemon-socket/socket", "the Nix daemon"),
        ("/run/systemd/private", "systemd"),
        ("/run/systemd/io.systemd.Manager", "systemd"),
        ("/run/user/1000/systemd/private", "systemd of a user"),
        ("/run/dbus/system_bus_socket", "D-Bus, of the system"),
        ("/run/user/1000/bus", "D-Bus, of a session"),
        ("/tmp/dbus-AbC", "D-Bus, of a session"),
        ("/tmp/tmux-1000/default", "tmux"),
        ("/run/user/1000/jail/name.sock", "jail"),
        ("/tmp/.X11-unix/X0", "X11"),
        ("/run/user/1000/wayland-0", "Wayland"),
        ("/run/user/1000/gnupg/S.gpg-agent", "gpg-agent"),
        ("/run/user/1000/gnupg/S.gpg-agent.ssh", None),
        ("/run/postgresql/.s.PGSQL.5432", None),
        ("/tmp/ssh-AbC/agent.7", None),
        ("/run/user/1000/mine.sock", None),
    ],
)
def test_power_of(path, server):
    """
    A server is recognised by the end of its socket's path, and those that are made to be passed on are not.
    """
    power = power_of(path, os.stat("/"))

    assert server == (power and power.server)


def test_powers_have_reasons():
    """
    Each server has a reason, and places that its own names match.
    """
    for power in POWERS:
        assert power.reason.startswith("who may talk to it ")
        assert power.names
        assert power.places


def test_nothing_is_shown_by_a_file():
    """
    A tree that is a file, or none at all, shows no server's socket.
    """
    assert [] == list(powers_shown([]))
    assert [] == list(powers_shown([Tree("/run/docker.sock", is_directory=False)]))
