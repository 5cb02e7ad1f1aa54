"""What is said of a host that lacks something: what was found, and what would help."""

import importlib
import platform

import pytest

from jail.host import Host

probe = importlib.import_module("jail.probe")  # the package has a function of that name

PROFILE = "/proc/self/attr/apparmor/current"
NONE_LEFT = "/proc/sys/user/max_user_namespaces"
NOT_FOR_ALL = "/proc/sys/kernel/unprivileged_userns_clone"
IN_A_CONTAINER = "seccomp=unconfined"


@pytest.mark.parametrize(
    ("files", "kernel", "container", "cure"),
    [
        pytest.param({}, "6.12.1-amd64", "docker", IN_A_CONTAINER, id="container"),
        pytest.param({}, "6.12.1-amd64", None, IN_A_CONTAINER, id="unknown"),
        pytest.param(
            {NONE_LEFT: "0"}, "6.1.0", None, "sysctl -w user.max_user_namespaces=15000", id="none-left"
        ),
        pytest.param(
            {NOT_FOR_ALL: "0"}, "6.1.0", None, "kernel.unprivileged_userns_clone=1", id="not-for-all"
        ),
        pytest.param({PROFILE: "x (enforce)"}, "6.12", None, "AppArmor profile x", id="apparmor"),
        pytest.param({PROFILE: "x (complain)"}, "6.12", None, IN_A_CONTAINER, id="apparmor-complains"),
        pytest.param({PROFILE: "unconfined"}, "6.12", None, IN_A_CONTAINER, id="apparmor-unconfined"),
        pytest.param(
            {PROFILE: "docker-default (enforce)"}, "6.12", "docker", IN_A_CONTAINER, id="apparmor-of-docker"
        ),
        pytest.param({NOT_FOR_ALL: "0"}, "5.10.0-46-amd64", None, "Linux 5.12 or later", id="too-old"),
        pytest.param({}, "5.12.0", None, IN_A_CONTAINER, id="just-new-enough"),
        pytest.param({}, "strange", None, IN_A_CONTAINER, id="no-version"),
    ],
)
def test_cure_for_user_namespaces(files, kernel, container, cure, monkeypatch):
    """
    The cure is for what refuses them here, as far as the host's files tell.
    """
    monkeypatch.setattr(probe, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(probe, "_container", lambda: container)
    monkeypatch.setattr(platform, "release", lambda: kernel)

    assert cure in probe._cures({"userns": "EPERM"}, tried=False)["userns"]


def test_proc_that_was_not_tried():
    """
    Without namespaces nobody could try to mount /proc, so nothing is known that would help.
    """
    assert {"proc"} == probe._cures({"proc": "EPERM"}, tried=True).keys()
    assert {"userns"} == probe._cures({"userns": "EPERM", "proc": "EPERM"}, tried=False).keys()


@pytest.mark.parametrize(("abi", "found"), [(2, "Landlock ABI 2"), (0, "Function not implemented")])
def test_old_landlock_is_found(abi, found):
    """
    A Landlock that is there and too old is found by its number, one that is absent by what the kernel said.
    """
    assert found == Host(landlock_abi=abi, missing={"landlock": "Function not implemented"}).found("landlock")
