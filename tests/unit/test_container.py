"""
The containers of tests/container as data: no container is started.
"""

from pathlib import Path

import pytest

from container.cases import CASES, NEWER, UNCONFINED, docker_arguments
from container.daemon import complaints
from container.expected import ASKED, EXPECTED, Kept, Refused
from container.oci import render_config
from container.selection import LEFT_OUT, PROMISES, choose
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


# What `runc spec` prints, as far as it matters here; and a profile in Docker's form.
SPEC = {
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"]},
    ],
    "linux": {
        "resources": {},
        "namespaces": [{"type": "pid"}, {"type": "mount"}],
        "maskedPaths": ["/proc/keys"],
        "readonlyPaths": ["/proc/sys"],
    },
}
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": ""},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
    ],
}


def rendered(name, **here):
    """
    The config.json of a case.
    """
    here = {"machine": "x86_64", "kernel": "6.12.9-amd64"} | here
    process = {"args": ["true"], "cwd": "/", "env": []}
    return render_config(CASES[name], SPEC, PROFILE, root="/r", process=process, mounts={"/t": "/o"}, **here)


def destinations(config):
    return {mount["destination"]: mount.get("options") for mount in config["mounts"]}


@pytest.mark.parametrize("name", CASES)
def test_config(name):
    """
    A case has the same user, capabilities and cover under runc as it has under Docker.
    """
    case, config = CASES[name], rendered(name)
    capabilities = config["process"]["capabilities"]

    assert (case.user or "0:0") == "{uid}:{gid}".format(**config["process"]["user"])
    assert case.no_new_privs == config["process"]["noNewPrivileges"]
    assert ({"path": "/r", "readonly": case.read_only}, ["true"]) == (
        config["root"],
        config["process"]["args"],
    )
    assert case.masked == (["/proc/keys"] == config["linux"]["maskedPaths"])
    assert (case.seccomp != UNCONFINED) == ("seccomp" in config["linux"])
    assert case.read_only == ("/tmp" in destinations(config))
    assert case.divides_cgroup == ("ro" not in destinations(config)["/sys/fs/cgroup"])
    assert ["rbind", "ro"] == destinations(config)["/t"][:2]
    assert (len(case.add) + 14 * ("ALL" not in case.drop)) == len(capabilities["bounding"])
    assert ([] if case.user else capabilities["bounding"]) == capabilities["effective"]
    assert {"type": "cgroup"} in config["linux"]["namespaces"]


def names(config):
    return [name for rule in config["linux"]["seccomp"]["syscalls"] for name in rule["names"]]


@pytest.mark.parametrize(
    ("name", "here", "expected"),
    [
        pytest.param("default-root", {}, "read ptrace arch_prctl clone3", id="default"),
        pytest.param("default-root", {"kernel": "4.7.1"}, "read arch_prctl clone3", id="old_kernel"),
        pytest.param("default-root", {"machine": "aarch64"}, "read ptrace clone3", id="other_machine"),
        pytest.param("sysadmin", {}, "read ptrace arch_prctl mount", id="capability"),
    ],
)
def test_profile(name, here, expected):
    """
    Of Docker's profile those rules are taken that are for this capability, kernel and machine.
    """
    assert expected.split() == names(rendered(name, **here))


def test_profile_in_the_runtimes_form():
    """
    What is Docker's own in a rule is left out, and the machine's other architectures come along.
    """
    seccomp = rendered("default-root")["linux"]["seccomp"]

    assert ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] == seccomp["architectures"]
    assert {"names": ["read"], "action": "SCMP_ACT_ALLOW"} == seccomp["syscalls"][0]
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} == seccomp["syscalls"][-1]
    assert 1 == seccomp["defaultErrnoRet"]


def test_choose():
    """
    All tests are chosen without a word; "ci" is the promises everywhere, and more in two cases; else what is named.
    """
    top = Path(__file__).parents[2]

    assert choose("", "user", top)[:2] == [PROMISES, "tests/escape"]
    assert set(LEFT_OUT) & set(choose("", "user", top)) == set()
    assert [PROMISES] == choose("ci", "user", top)
    assert {PROMISES, "tests/escape"} < set(choose("ci", "restricted", top))
    assert ["tests/escape/test_files.py"] == choose("tests/escape/test_files.py", "user", top)
    with pytest.raises(SystemExit, match="no such test"):
        choose("tests/escape/test_flies.py", "user", top)


def test_complaints():
    """
    Of what a daemon has said, that is told which is no information; all of it, if it is nothing else.
    """
    said = [
        'time="..." level=info msg="Starting up"\n',
        'level=warning msg="x"\n',
        "failed to start daemon: no\n",
    ]

    assert "failed to start daemon: no\n" == complaints(said)
    assert "".join(said[:2]) == complaints(said[:2])
    assert "nothing\n" == complaints([])
