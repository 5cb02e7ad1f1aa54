"""
The image that every container is made from: a small Debian, what the tests need, and then jail and its tests.

Three layers; the first two are made anew only when their recipe changes. Debian is of the release that this
machine has, so that what was compiled here runs there.
"""

import hashlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from container.inside import TREE

__all__ = ["make_image"]

# Each name in the program(...) of a test that runs inside is from one of these, or from what every Debian has.
PACKAGES = ("curl", "libseccomp2", "login", "mount", "procps", "python3", "sqlite3", "time")
CHECKOUT = ("pyproject.toml", "profiles", "tests")

_VERSION = "import sys; print(*sys.version_info[:2], sep='.')"


def make_image(docker, top, wheel):
    """
    The name of the image with this wheel of jail, and this checkout's tests.

    Args:
        docker: a `Docker`.
        top: of the checkout.
        wheel: what was built from it.
    """
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    base = _name("base", suite, PACKAGES)
    if not docker.has_image(base):
        print(f"making a root file system of {suite}", flush=True)
        _bootstrap(docker, suite, base)
    version = docker.ask("run", "--rm", "--network=none", base, "python3", "-c", _VERSION)
    project = tomllib.loads((top / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    packages = _name("packages", base, needed)
    if not docker.has_image(packages):
        print("installing what the tests need", flush=True)
        _add(docker, base, packages, version, needed)
    tests = _name("tests", packages)
    _add(docker, packages, tests, version, ["--no-deps", wheel], top=top)
    _forget_all_but(docker, {base, packages, tests})
    return tests


def _name(kind, *recipe):
    return f"jail-{kind}:{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}"


def _bootstrap(docker, suite, name):
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, "-"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as making:
        docker.run("import", "-", name, stdin=making.stdout, stdout=subprocess.DEVNULL)
    if making.returncode:
        docker.run("rmi", name)
        raise SystemExit(f"mmdebstrap ended with {making.returncode}, see above")


def _add(docker, parent, name, version, wanted, *, top=None):
    """
    Commit a layer: what pip installs for the image's Python, which need not be this one, and parts of a checkout.
    """
    site = f"/usr/local/lib/python{version}/dist-packages"
    compiled = [site, f"{TREE}/tests"] if top else [site]
    container = docker.ask("create", "--network=none", parent, "python3", "-m", "compileall", "-q", *compiled)
    try:
        with tempfile.TemporaryDirectory(prefix="jail-site-") as work:
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
                 "--no-compile", "--only-binary=:all:", f"--python-version={version}", f"--target={work}", *wanted],
                check=True,
            )  # fmt: skip
            parts = {site: Path(work)}
            parts |= {f"{TREE}/{part}": top / part for part in CHECKOUT if top}
            _copy(docker, container, parts)
        docker.run("start", "--attach", container)
        docker.run("commit", container, name, stdout=subprocess.DEVNULL)
    finally:
        docker.run("rm", "--force", container, stdout=subprocess.DEVNULL)


def _copy(docker, container, parts):
    """
    Put files and directories, by their path inside, into a container that does not run.
    """
    command = docker.command("cp", "-", f"{container}:/")
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=docker.environment) as copying:
        with tarfile.open(fileobj=copying.stdin, mode="w|") as archive:
            for inside, outside in parts.items():
                archive.add(outside, inside.removeprefix("/"), filter=_for_everybody)
        copying.stdin.close()
    if copying.returncode:
        raise SystemExit(f"docker cp ended with {copying.returncode}, see above")


def _for_everybody(member):
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o555 if member.mode & 0o100 else 0o444
    return member


def _forget_all_but(docker, names):
    for name in docker.ask("image", "ls", "--format={{.Repository}}:{{.Tag}}").splitlines():
        if name not in names and "<none>" not in name:
            docker.run("rmi", name, stdout=subprocess.DEVNULL)
    docker.run("image", "prune", "--force", stdout=subprocess.DEVNULL)
