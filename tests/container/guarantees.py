"""
What is promised in the container that this runs in, and that it is the container that its case says.

The harness is the container's first process here, as it is wherever nobody asks for another one.
"""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import jail
from container.cases import CASES
from container.expected import ASKED, EXPECTED, Kept, Refused

CASE = CASES[os.environ["JAIL_CONTAINER_CASE"]]
EXPECTATION = EXPECTED[CASE.name]
REFUSED = {name: how for name, how in EXPECTATION.guarantees.items() if isinstance(how, Refused)}

DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execv("/bin/sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
"""


def status(key):
    """
    A line of /proc/self/status.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":\t", 1)[1] for line in lines if line.startswith(f"{key}:"))


def mounts():
    """
    What is mounted here, and whether it is read-only.
    """
    fields = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {row[4]: "ro" in row[5].split(",") for row in fields}


def expected_guarantees():
    """
    The expectation, with this kernel's number in it.
    """
    abi = jail.probe().landlock_abi
    return {
        name: how._replace(mechanism=how.mechanism.format(abi=abi)) if isinstance(how, Kept) else how
        for name, how in EXPECTATION.guarantees.items()
    }


def told(guarantees):
    """
    What a sandbox or a result tells, in the words of the expectation.
    """
    return {
        g.name: REFUSED.get(g.name, "waived") if g.strength == "none" else Kept(g.mechanism, g.strength)
        for g in guarantees
    }


def test_the_case():
    """
    The container is what its case says: whose it is, and what it takes away.
    """
    capabilities = int(status("CapEff"), 16)
    capable = not CASE.user and "ALL" not in CASE.drop

    assert int((CASE.user or "0").partition(":")[0]) == os.getuid()
    assert ("0" if CASE.seccomp == "unconfined" else "2") == status("Seccomp")
    assert str(int(CASE.no_new_privs)) == status("NoNewPrivs")
    assert CASE.read_only == mounts()["/"]
    assert CASE.masked == ("/proc/keys" in mounts())
    assert capable == bool(capabilities)
    assert ("SYS_ADMIN" in CASE.add) == bool(capabilities >> 21 & 1)  # CAP_SYS_ADMIN of linux/capability.h


def test_features():
    """
    What this host can do is what is expected of it: nothing less, and nothing that nobody counted on.
    """
    assert EXPECTATION.features == jail.probe().features


def test_guarantees_of_a_sandbox():
    """
    A live sandbox stands on what is expected here, and says for each guarantee who keeps it.
    """
    with jail.Sandbox(**ASKED, waive=list(REFUSED)) as box:
        assert EXPECTATION.tier == box.plan.tier
        assert expected_guarantees() == told(box.guarantees)


def test_guarantees_of_a_run():
    """
    So does the result of a program; and it ran.
    """
    result = jail.run(["echo", "up"], **ASKED, waive=list(REFUSED))

    assert (jail.Exited(0), b"up\n") == (result.outcome, result.stdout)
    assert expected_guarantees() == told(result.guarantees)


def test_refused():
    """
    What cannot be kept is an UnsupportedError that names it and what it needs, unless it is waived.
    """
    for name, how in REFUSED.items():
        with pytest.raises(jail.UnsupportedError) as refused:
            jail.run(["true"], **ASKED, waive=[other for other in REFUSED if other != name])

        assert (name, how.needs) == (refused.value.feature, refused.value.needs)
        assert f'waive=["{name}"]' in refused.value.cure


def doctor(*words):
    """
    The report of `jail doctor`, and its exit status.
    """
    command = [sys.executable, "-m", "jail", "doctor", *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return ended.stdout, ended.returncode


def test_doctor():
    """
    `jail doctor` says what a sandbox stands on, which features there are, and that the default can be kept.
    """
    report, code = doctor()
    rows = [line.split() for line in report.splitlines()]

    assert 0 == code
    assert f"Sandboxes stand on: {EXPECTATION.tier}" in report.splitlines()
    assert EXPECTATION.features == {row[1] for row in rows if row[:1] == ["yes"]}
    assert "Every guarantee of this profile can be kept here." in report


def test_doctor_on_all_that_can_be_asked():
    """
    It fails where a guarantee is asked for that cannot be kept, and says what each of them needs.
    """
    words = [word for name, value in ASKED.items() for word in (f"--{name}", str(value))]
    report, code = doctor(*words)
    lost = [line for line in report.splitlines() if line.startswith("  ") and ": needs " in line]

    assert int(bool(REFUSED)) == code
    assert sorted(REFUSED) == sorted(line.split(":")[0].strip() for line in lost)


def test_first_process():
    """
    The first process of a container inherits all orphans: a sandbox leaves it none, dead or alive.
    """
    command = [sys.executable, "-c", DAEMON]
    with jail.Sandbox() as box:
        outcomes = {box.run(command).outcome for _ in range(3)}
    outcomes |= {jail.run(command).outcome for _ in range(3)}

    assert ({jail.Exited(0)}, []) == (outcomes, psutil.Process().children(recursive=True))


def test_first_process_without_a_sandbox():
    """
    The control: the same daemon is the first process's child when nobody else has ended it.
    """
    subprocess.run([sys.executable, "-c", DAEMON], check=True)
    (orphan,) = psutil.Process().children(recursive=True)
    orphan.kill()

    assert 1 == orphan.ppid()
    orphan.wait()
