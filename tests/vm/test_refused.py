"""
Where user namespaces are refused, in each way that is known: what jail stands on, and what it says would help.

user_namespaces(7), sysctl(8), apparmor.d(5)
"""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

import jail

# What a kernel does when it is asked for a user namespace by hand: tells of unshare(2), and of the map.
BY_HAND = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
uid = os.getuid()
said = ctypes.get_errno() if libc.unshare(0x10000000) else 0
print(said)
try:
    with open("/proc/self/uid_map", "w") as file: file.write(f"{uid} {uid} 1")
except OSError as exc: print(exc.errno)
else: print(0)
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    One way.

    Args:
        unshare: errno of unshare(2) by hand, or 0.
        said: what jail found, in the kernel's words.
        cure: what it says would help.
    """

    unshare: int
    said: str
    cure: str


REFUSALS = {
    "userns-off": Refusal(errno.EPERM, "EPERM", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "userns-none": Refusal(errno.ENOSPC, "ENOSPC", "sysctl -w user.max_user_namespaces=15000"),
    "userns-denied": Refusal(errno.EACCES, "EACCES", "aa-exec -p unconfined -- COMMAND"),
    "userns-stripped": Refusal(0, "EPERM", "aa-exec -p unconfined -- COMMAND"),
}
CONFIGURATION = os.environ["JAIL_VM"]
SCOPED = jail.probe().landlock_abi >= 6
# Before ABI 6 nobody keeps these without namespaces, and truncate(2) passes ABI 2.
LOST = () if SCOPED else ("filesystem.write", "processes", "teardown")

pytestmark = [
    pytest.mark.skipif(CONFIGURATION not in REFUSALS, reason="user namespaces are not refused here"),
    pytest.mark.needs("landlock"),
]


@pytest.fixture
def refusal():
    """
    The way in which this guest refuses.
    """
    return REFUSALS[CONFIGURATION]


def doctor(*before):
    """
    What `jail doctor` says.
    """
    command = [*before, sys.executable, "-m", "jail", "doctor"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)


def test_refused_by_hand(refusal):
    """
    The control: the kernel refuses a user namespace to whoever asks, or gives one that cannot be used.
    """
    asked = subprocess.run([sys.executable, "-c", BY_HAND], stdout=subprocess.PIPE, text=True, check=True)

    assert [refusal.unshare, errno.EPERM] == [*map(int, asked.stdout.split())]


def test_doctor(refusal):
    """
    The doctor says what sandboxes stand on, what the kernel said, and the one thing that would help.
    """
    told = doctor()
    cures = [line.strip() for line in told.stdout.splitlines() if "cure:" in line]
    (userns,) = (line for line in told.stdout.splitlines() if "  userns  " in line)

    assert (0 if SCOPED else 1) == told.returncode
    assert "Sandboxes stand on: Landlock" in told.stdout
    assert refusal.said in userns
    assert [True] == [refusal.cure in cure for cure in cures]
    assert "Docker" not in told.stdout


@pytest.mark.skipif(not CONFIGURATION.endswith(("denied", "stripped")), reason="the cure asks for root")
def test_cure():
    """
    What the doctor says would help does.
    """
    assert "Sandboxes stand on: namespaces" in doctor("aa-exec", "-p", "unconfined", "--").stdout


@pytest.mark.skipif(
    not CONFIGURATION.endswith(("denied", "stripped")), reason="it is no AppArmor that refuses"
)
def test_profile_is_named(refusal):
    """
    Where AppArmor refuses, its profile is named: it is what has to be changed.
    """
    assert f"AppArmor profile {CONFIGURATION}" in jail.probe().cures["userns"]
    assert f"AppArmor enforces the profile {CONFIGURATION}" in jail.probe().missing["userns"]


def test_run():
    """
    A program runs, on Landlock; what cannot be kept on this kernel has to be waived, and the result says so.
    """
    result = jail.run(["sh", "-c", "exit 7"], waive=LOST)
    strengths = {g.name: str(g.strength) for g in result.guarantees}

    assert 7 == result.exit_code
    assert set(LOST) == {name for name, strength in strengths.items() if strength == "none"}
    assert ("kernel", "kernel") == (strengths["filesystem.read"], strengths["network"])


@pytest.mark.skipif(SCOPED, reason="with Landlock ABI 6 nothing is lost")
@pytest.mark.parametrize("feature", LOST)
def test_refuse(feature, refusal):
    """
    What this kernel cannot keep is refused, with what it needs, what was found and what would help.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        jail.run(["true"], waive=[name for name in LOST if name != feature])

    assert feature == caught.value.feature
    assert "Landlock ABI" in caught.value.needs
    assert refusal.said in caught.value.found
    assert refusal.cure in caught.value.cure


@pytest.mark.parametrize(
    ("rules", "code"), [pytest.param("read", 0, id="allow_read"), pytest.param(None, 1, id="deny_unnamed")]
)
def test_read(rules, code, tmp_path):
    """
    A file that the policy names can be read, and one that it does not cannot.
    """
    (tmp_path / "f").write_text("text")
    result = jail.run(["cat", tmp_path / "f"], waive=LOST, **({rules: [tmp_path]} if rules else {}))

    assert code == result.exit_code
    assert ("text", False) == (result.stdout.text, "Permission denied" in result.stderr.text) or code
    assert not code or "Permission denied" in result.stderr.text


def test_refuse_uid(refusal):
    """
    To be somebody else inside takes a user namespace: the refusal names this host's cure.
    """
    with pytest.raises(jail.UnsupportedError) as caught:
        jail.run(["true"], uid=0, waive=LOST)

    assert ("uid", True) == (caught.value.feature, refusal.cure in caught.value.cure)
