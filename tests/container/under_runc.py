"""
Runs tests in the same containers under runc, with nothing but runc: in a guest, which has cgroup v2.

The container's root is this machine's own, under an overlay that is thrown away. So a guest that can run the tests
can run them in a container, and nothing has to be copied.

    python3 -m container.under_runc --profile FILE --python FILE --cases "user delegated-root" -- PYTEST'S ARGUMENTS

Needs root and a Linux with overlay. The exit status is 0 if every test of every case passed.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from container.cases import CASES
from container.inside import NO_TESTS, TREE, follow, pytest_command, variables_of
from container.oci import render_config
from container.selection import PROMISES

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The harness leaves the cgroup that it is to divide: one with processes gives no controllers on.
LEAVE = """
mkdir /sys/fs/cgroup/harness
echo $$ >/sys/fs/cgroup/harness/cgroup.procs
sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
exec "$@"
"""

# A first process that takes in orphans, as a shell does while it waits: for tests that kill harnesses.
INIT = """
"$@"
exit $?
"""


def main():
    """
    Run each case that was asked for.
    """
    parser = argparse.ArgumentParser(prog="container.under_runc", description=__doc__)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--cases", default="")
    parser.add_argument("arguments", nargs="*", help="for pytest")
    asked = parser.parse_args()
    profile = json.loads(asked.profile.read_text())
    said = {}
    for name in asked.cases.split() or CASES:
        said[name] = [
            run(CASES[name], profile, asked.python, init, part) for init, part in parts(asked.arguments)
        ]
    print()
    for name, ended in said.items():
        print(f"{name:16} {'; '.join(closing for _, closing in ended)}")
    statuses = {status for ended in said.values() for status, _ in ended}
    return 0 if 0 in statuses and statuses <= {0, NO_TESTS} else 1


def parts(arguments):
    """
    The promises with the harness as first process, and the rest below an init. What is no path is for both.
    """
    options = [word for word in arguments if not word.startswith("tests/")]
    for init, is_its in (([], is_promise), (["sh", "-c", INIT, "sh"], lambda path: not is_promise(path))):
        paths = [word for word in arguments if word not in options and is_its(word)]
        if paths:
            yield init, [*options, *paths]


def is_promise(path):
    """
    Whether a path is of the promises.
    """
    return path.startswith(PROMISES)


@contextmanager
def overlaid_root():
    """
    A directory that shows this machine's root, and keeps what is written to it to itself.
    """
    with tempfile.TemporaryDirectory(prefix="jail-root-", dir="/var/tmp") as work:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)
        try:
            for name in ("above", "work", "root"):
                (Path(work) / name).mkdir()
            options = f"lowerdir=/,upperdir={work}/above,workdir={work}/work"
            subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", f"{work}/root"], check=True)
            try:
                yield Path(work) / "root"
            finally:
                subprocess.run(["umount", f"{work}/root"], check=True)
        finally:
            subprocess.run(["umount", work], check=True)


def run(case, profile, python, init, arguments):
    """
    Run tests in one container: pytest's status, and its closing line.
    """
    print(f"\n=== {case.name}: runc run", flush=True)
    variables = {
        **variables_of(case.name),
        "PATH": PATH,
        "HOME": "/" if case.user else "/root",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"JAIL_CGROUP": "/sys/fs/cgroup"} if case.divides_cgroup else {}),
    }
    leave = ["sh", "-euc", LEAVE, "sh"] if case.divides_cgroup else []
    with overlaid_root() as root, tempfile.TemporaryDirectory(prefix="jail-bundle-") as bundle:
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        file = Path(bundle) / "config.json"
        config = render_config(
            case,
            json.loads(file.read_text()),
            profile,
            root=str(root),
            process={
                "args": [*leave, *init, *pytest_command(python, arguments)],
                "cwd": TREE,
                "env": [f"{variable}={value}" for variable, value in variables.items()],
            },
            mounts={TREE: Path(__file__).resolve().parents[2]},
            machine=platform.machine(),
            kernel=platform.release(),
        )
        file.write_text(json.dumps(config))
        return follow(["runc", "run", f"jail-test-{case.name}"], cwd=bundle)


if __name__ == "__main__":
    sys.exit(main())
