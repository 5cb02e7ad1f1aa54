"""
The containers of tests/container as data: no container is started.
"""

import pytest

from container.cases import CASES, NEWER, docker_arguments
from container.expected import ASKED, EXPECTED, Kept, Refused
from jail.guarantee import GUARANTEES
from jail.host import FEATURES
from jail.policy import Policy


@pytest.mark.parametrize("name", CASES)
def test_every_guarantee_has_its_row(name):
    """
    A case says of each guarantee who keeps it, or that it is refused; and the policy asks for each.
    """
    assert set(GUARANTEES) == set(EXPECTED[name].guarantees)
    assert {Kept, Refused} >= {type(how) for how in EXPECTED[name].guarantees.values()}
    assert Policy(**ASKED).timeout == ASKED["timeout"]


def test_every_case_has_its_expectation():
    """
    No expectation is without a case, no case without its own; and features are those that a host can have.
    """
    assert list(EXPECTED) == list(CASES)
    assert set() == {feature for case in EXPECTED.values() for feature in case.features} - set(FEATURES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default-root", ""),
        ("newer-root", "--security-opt=seccomp=/newer.json"),
        ("user", "--user=1000:1000 --security-opt=no-new-privileges"),
        (
            "restricted",
            "--user=1000:1000 --security-opt=no-new-privileges --cap-drop=ALL --read-only --tmpfs=/tmp:exec,mode=1777",
        ),
        ("sysadmin", "--cap-add=SYS_ADMIN"),
        ("unconfined-root", "--security-opt=seccomp=unconfined --security-opt=apparmor=unconfined"),
        (
            "unmasked-root",
            "--security-opt=seccomp=unconfined --security-opt=apparmor=unconfined --security-opt=systempaths=unconfined",
        ),
        ("unmasked-user", f"--user=1000:1000 {' '.join(docker_arguments(CASES['unmasked-root'])[3:])}"),
    ],
)
def test_docker_arguments(name, expected):
    """
    A case becomes these words for docker run, after those for a network of its own.
    """
    words = docker_arguments(CASES[name], newer_profile="/newer.json")

    assert "--network=none" == words[0]
    assert expected.split() == words[3:]


def test_a_file_for_the_newer_profile():
    """
    Nothing but the cases that want another profile has a file in its words.
    """
    wanting = {name for name in CASES if "/f" in " ".join(docker_arguments(CASES[name], newer_profile="/f"))}

    assert {name for name, case in CASES.items() if case.seccomp == NEWER} == wanting
