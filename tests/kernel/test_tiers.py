"""
Which tier a host gets, by what it refuses. user_namespaces(7), namespaces(7)
"""

import pytest

pytestmark = pytest.mark.needs("userns", "landlock")

NO_MORE_NAMESPACES = """
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
import errno, jail, json, os, sys
"""


@pytest.mark.needs("proc")  # and with it a /proc/sys that can be written
def test_no_namespaces_left(ask_harness, own_mounts):
    """
    Where user.max_user_namespaces is 0 and privilege is held, the caller's own privilege serves.
    """
    code = """
plan = jail.planning.make_plan(jail.load_policy("default"))[0]
missing = jail.probe().missing["userns"]
result = jail.run([sys.executable, "-I", "-S", "-c", "import os; print(os.getpid() < 10)"])
print(json.dumps([plan.tier, "ENOSPC" in missing, result.stdout.text, result.stderr.text]))
"""
    assert ["privileged namespaces", True, "True\n", ""] == ask_harness(
        own_mounts + NO_MORE_NAMESPACES + code
    )


@pytest.mark.needs("landlock_abi_6", "proc")
def test_no_namespaces_and_no_privilege(ask_harness, own_mounts):
    """
    Where it is 0 and no privilege is held either, Landlock serves, and the cure is the sysctl.
    """
    code = """
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
try: jail.run(["true"], disk="1M")
except jail.UnsupportedError as exc: cure = exc.cure
result = jail.run([sys.executable, "-I", "-S", "-c", "open('/proc/self/status')"])
print(json.dumps(["max_user_namespaces=15000" in cure, "PermissionError: [Errno 13]" in result.stderr.text]))
"""
    assert [True, True] == ask_harness(own_mounts + NO_MORE_NAMESPACES + code)


def test_not_the_container(ask_harness):
    """
    The control: without that filter the same harness stands on namespaces.
    """
    code = (
        "import jail, json; print(json.dumps(jail.planning.make_plan(jail.load_policy('default'))[0].tier))"
    )

    assert "namespaces" == ask_harness(code)
