"""
Under systemd: which cgroup a harness finds, which it gets when it asks, and that it is moved for that alone.

systemd.resource-control(5), cgroup-v2.rst, "No Internal Process Constraint"
"""

import json
import os
import subprocess
import sys

import pytest

CONFIGURATION = os.environ["JAIL_VM"]
SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes")

ASK = """
import json, sys, jail
own = lambda: open("/proc/self/cgroup").read().strip().removeprefix("0::")
before = own()
try:
    result = jail.run(["cat", "/proc/self/cgroup"], memory="64M", cgroup=sys.argv[1])
except jail.UnsupportedError as exc:
    print(json.dumps({"found": exc.found, "before": before, "after": own()}))
else:
    kept = {g.name: [g.mechanism, g.strength] for g in result.guarantees}["memory"]
    inside = result.stdout.text.strip().removeprefix("0::")
    print(json.dumps({"kept": kept, "inside": inside, "before": before, "after": own()}))
"""

pytestmark = pytest.mark.skipif(
    CONFIGURATION != "systemd", reason="the user has no systemd of their own here"
)


def ask(wish, *launcher):
    """
    What comes of a wish, in a harness of its own.
    """
    env = {name: value for name, value in os.environ.items() if name != "JAIL_CGROUP"}
    command = [*launcher, sys.executable, "-c", ASK, wish]
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


def test_a_harness_is_not_moved_unasked():
    """
    Alone in its scope it finds no place, stays where it is, and a watcher keeps the limit.
    """
    said = ask("auto", *SCOPE)

    assert ["jail-init, who looks at /proc", "supervised"] == said["kept"]
    assert said["before"] == said["after"]
    assert said["after"].endswith(".scope")


def test_a_harness_leaves_its_cgroup_when_asked():
    """
    With "own" it moves to a leaf of its scope, and the rest of that is for its sandboxes.
    """
    said = ask("own", *SCOPE)

    assert ["cgroup v2", "kernel"] == said["kept"]
    assert f"{said['before']}/harness" == said["after"]
    assert said["inside"].startswith(f"{said['before']}/jail-")


def test_what_a_leaf_is_for_is_found_by_itself():
    """
    A harness that somebody has put into a leaf of a delegated cgroup asks for nothing.
    """
    said = ask("auto")  # these tests are in one

    assert ["cgroup v2", "kernel"] == said["kept"]
    assert said["before"] == said["after"]


def test_systemd_gives_a_scope():
    """
    With "systemd" it is given a scope, out of whatever it was in.
    """
    said = ask("systemd")

    assert ["cgroup v2", "kernel"] == said["kept"]
    assert said["after"].endswith(".scope/harness")
    assert said["before"] != said["after"]


def test_refuse_a_place_that_is_not_ours():
    """
    A directory of root's is refused, and says which file cannot be written.
    """
    assert "cgroup.subtree_control cannot be written" in ask("/sys/fs/cgroup")["found"]
