"""
`make demo`: a project's tests in a sandbox, then the same tests with something hostile among them.

The project is this one: its tests/unit, copied. The hostile variant is run outside as well, so that each refusal
stands beside what would have happened. Nothing it does reaches beyond files made for it.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import jail

ROOT = Path(__file__).parents[1]
TESTS = ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/unit/test_units.py")

# What somebody put into conftest.py: expressions, and what each wants.
ACTS = {
    "read a secret file": "open({secret!r}).read()",
    "list its directory": "os.listdir(os.path.dirname({secret!r}))",
    "read the environment": "os.environ['DEMO_TOKEN']",
    "change the tests": "open(__file__, 'a').write('#') and 'changed'",
    "connect to a server": "socket.create_connection(('127.0.0.1', {port})) and 'connected'",
    "look at processes": "f'{{sum(name.isdigit() for name in os.listdir(\"/proc\"))}} processes'",
    "signal the harness": "os.kill({pid}, 0) or 'can be signalled'",
}
HOSTILE = """

import os, socket
for name, act in {acts!r}.items():
    try:
        came_of_it = eval(act)
    except Exception as error:
        came_of_it = f"{{type(error).__name__}}: {{error}}"
    print(f"act:{{name}}:{{came_of_it}}")
"""


def main() -> int:
    """
    Show it. 1 where this host cannot make a sandbox, with the reason and the cure.
    """
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        project = Path(folder, "project")
        shutil.copytree(ROOT / "tests", project / "tests")
        shutil.copy(ROOT / "pyproject.toml", project)
        try:
            show_tests(project)
            show_hostile_tests(project, Path(folder, "secret"))
        except jail.JailError as exc:
            print(f"\nThis host cannot: {exc}", file=sys.stderr)
            return 1
    return 0


def show_tests(project: Path) -> None:
    """
    The suite passes inside, and is told from outside by what is reported with it.
    """
    print("A project's tests, in a sandbox:\n")
    result = jail.run([sys.executable, *TESTS], workspace=project, memory="1G", timeout=120)
    print(textwrap.indent(result.stdout.text[-400:] + result.stderr.text, "    "))
    usage = result.usage
    print(
        f"    {result.outcome}; {usage.wall_seconds:.2f} s, {usage.cpu_seconds:.2f} s of processor time, "
        f"{usage.memory_peak_bytes >> 20} MiB\n"
    )
    print("Meanwhile enforced:\n")
    for guarantee in result.guarantees:
        print(f"    {guarantee.name:21}{guarantee.strength:12}{guarantee.mechanism}")


def show_hostile_tests(project: Path, secret: Path) -> None:
    """
    One line for each act: what comes of it outside, and inside.
    """
    secret.write_text("a secret")
    os.environ["DEMO_TOKEN"] = "a token"
    command = [sys.executable, *TESTS]
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {"secret": str(secret), "port": server.getsockname()[1], "pid": os.getpid()}
        acts = {name: act.format(**places) for name, act in ACTS.items()}
        with (project / "tests/conftest.py").open("a") as conftest:
            conftest.write(HOSTILE.format(acts=acts))
        inside = came_of(jail.run(command, workspace=project, timeout=120).stdout.text)
        outside = came_of(
            subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout
        )
    print(f"\nThe same with a hostile conftest.py:\n\n    {'':22}{'outside':30}in a sandbox")
    for name in ACTS:
        print(f"    {name:22}{outside[name][:28]:30}{inside[name]}")


def came_of(text: str) -> dict[str, str]:
    """
    What each act brought, as conftest.py printed it.
    """
    lines = (line.split(":", 2) for line in text.splitlines() if line.startswith("act:"))
    return {name: result for _, name, result in lines}


if __name__ == "__main__":
    sys.exit(main())
