"""
What a program is allowed beyond any other: nothing. capabilities(7), prctl(2)
"""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

STATUS = """
import json
fields = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status"))
print(json.dumps({name: fields[name] for name in NAMES}))
"""
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

# Starts a set-user-ID program whose output has nowhere to go, and looks at it while it waits for room.
SETUID = """
import fcntl, json, os, subprocess, sys
r, w = os.pipe()
fcntl.fcntl(w, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    while True: os.write(w, bytes(4096))
except BlockingIOError: pass
fcntl.fcntl(w, fcntl.F_SETFL, 0)
child = subprocess.Popen(sys.argv[1:], stdout=w, stderr=w)
state = ""
while state != "S":  # it waits in write(2)
    fields = dict(line.rstrip("\\n").split(":\\t", 1) for line in open(f"/proc/{child.pid}/status"))
    state = fields["State"][0]
child.kill()
print(json.dumps([fields["Uid"].split()[1], fields["CapEff"]]))
"""


@pytest.mark.needs("proc")
@pytest.mark.parametrize("rules", [{}, {"uid": 0, "gid": 0}], ids=["default", "root"])
def test_capabilities(rules, inside):
    """
    No capability is in any set, not even as root inside.
    """
    assert dict.fromkeys(SETS, "0" * 16) == inside(f"NAMES = {SETS}" + STATUS, **rules)


@pytest.mark.needs("proc")
def test_flags(inside):
    """
    no_new_privs is on and a seccomp filter is in force; outside, neither is.
    """
    source = "NAMES = ['NoNewPrivs', 'Seccomp']" + STATUS
    outside = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, check=True).stdout

    assert {"NoNewPrivs": "0", "Seccomp": "0"} == json.loads(outside)
    assert {"NoNewPrivs": "1", "Seccomp": "2"} == inside(source)


def test_securebits(inside):
    """
    Root is nobody special, and that is locked: NOROOT, NO_SETUID_FIXUP, no KEEP_CAPS, NO_CAP_AMBIENT_RAISE.
    """
    code = (
        "import ctypes, json; print(json.dumps(ctypes.CDLL(None).prctl(27, 0, 0, 0, 0)))"  # PR_GET_SECUREBITS
    )

    assert 0b11101111 == inside(code)


@pytest.mark.needs("proc")
@pytest.mark.program("su")
def test_setuid_program(inside):
    """
    A set-user-ID program gains nothing inside, where outside it becomes root.
    """
    program = shutil.which("su")
    assert os.stat(program).st_mode & 0o4000
    outside = subprocess.run(
        [sys.executable, "-c", SETUID, program, "--help"], stdout=subprocess.PIPE, check=True
    ).stdout
    uid, capabilities = json.loads(outside)

    assert "0" == uid
    assert int(capabilities, 16) > 0
    assert [str(os.getuid() or 1000), "0" * 16] == inside(SETUID, program, "--help")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("call('prctl', 39, 0, 0, 0, 0)", 0, id="allow_get_no_new_privs"),  # the control
        pytest.param("call('prctl', 38, 0, 0, 0, 0)", errno.EINVAL, id="deny_clear_no_new_privs"),
        pytest.param("call('prctl', 28, 0, 0, 0, 0)", errno.EPERM, id="deny_set_securebits"),
        pytest.param("call('prctl', 47, 2, 0, 0, 0)", errno.EPERM, id="deny_raise_ambient"),
        pytest.param("call('prctl', 8, 1, 0, 0, 0)", errno.EPERM, id="deny_keepcaps"),
        pytest.param("os.chroot('/tmp')", errno.EPERM, id="deny_chroot"),
        pytest.param("os.nice(-1)", errno.EPERM, id="deny_nice"),
        pytest.param("os.nice(1)", 0, id="allow_nice"),
        pytest.param(
            "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", errno.EPERM, id="deny_realtime"
        ),
        pytest.param("call('iopl', 3)", errno.EPERM, id="deny_iopl"),
    ],
)
def test_verdict(code, expected, attempt):
    """
    What asks for a capability is refused.
    """
    if "iopl" in code and os.uname().machine != "x86_64":
        pytest.skip("iopl(2) is of x86")
    assert expected == attempt(code)


@pytest.mark.needs("proc")
@pytest.mark.parametrize("uid", [None, 0], ids=["default", "root"])
def test_nothing_comes_back_by_exec(uid, inside):
    """
    Executing again, as root inside too, brings no capability.
    """
    code = "import os, sys; os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', sys.argv[1]])"

    assert {"CapEff": "0" * 16, "CapPrm": "0" * 16} == inside(
        code, "NAMES = ['CapEff', 'CapPrm']" + STATUS, uid=uid
    )


def test_jail_init_has_none():
    """
    jail-init itself holds no capability once the sandbox is built, and has no more than a program has.
    """
    with jail.Sandbox() as box, open(f"/proc/{box._session.init.pid}/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)

    assert dict.fromkeys(SETS, "0" * 16) == {name: fields[name] for name in SETS}
    assert ("1", "2") == (fields["NoNewPrivs"], fields["Seccomp"])
