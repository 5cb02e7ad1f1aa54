"""
Debian's archive, of suites that this machine does not run: which packages it has, and their files.

With directories of its own for apt's lists, cache and state, so what this machine installs is untouched. No
privilege is needed: packages are downloaded and unpacked, and never installed.
"""

import os
import re
import subprocess
import time
from pathlib import Path

SUITES = ("bullseye", "bookworm", "trixie")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PUBLIC = {
    "Debian": "http://deb.debian.org/debian",
    "Debian-Security": "http://deb.debian.org/debian-security",
}

_FRESH_SECONDS = 600

_SETTINGS = """
Dir::State "{place}/state";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "{place}/empty";
Dir::Etc::preferencesparts "{place}/empty";
Dir::Etc::preferences "{place}/empty/preferences";
APT::Sandbox::User "";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
"""


class NotFetched(Exception):
    """
    A package that the lists name could not be had.
    """


class Archive:
    """
    The packages of `SUITES`, their security updates and the backports to the newest.

    Args:
        place: a directory of its own.
    """

    def __init__(self, place):
        self.place = Path(place).resolve()

    def open(self):
        """
        Fetch the lists, unless that was done just now.
        """
        complete = self.place / "complete"
        if complete.exists() and time.time() - complete.stat().st_mtime < _FRESH_SECONDS:
            return self
        for name in ("state/lists/partial", "cache/archives/partial", "empty"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "status").touch()
        (self.place / "apt.conf").write_text(_SETTINGS.format(place=self.place))
        (self.place / "sources.list").write_text("\n".join(sources(mirrors())) + "\n")
        self._run("apt-get", "update", "-qq", "--error-on=any")
        complete.touch()
        return self

    def names(self, pattern):
        """
        The packages whose names match an extended regular expression.
        """
        found = self._run("apt-cache", "search", "--names-only", pattern)
        return [line.split(" - ")[0] for line in found.splitlines()]

    def depends(self, name):
        """
        The packages that the newest version of one asks for, without versions and alternatives.
        """
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        wanted = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        return re.findall(r"[^\s,|(][^\s,|]*(?=[\s,|]|$)", wanted[1]) if wanted else []

    def unpack(self, name, destination):
        """
        Download the newest version of a package and unpack its files.

        Raises:
            NotFetched: it could not be downloaded.
        """
        downloads = self.place / "downloads"
        downloads.mkdir(exist_ok=True)
        try:
            self._run("apt-get", "download", "-qq", name, cwd=downloads)
        except subprocess.CalledProcessError as exc:
            raise NotFetched(f"{name}: {exc}") from exc
        (package,) = downloads.glob(f"{name}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, destination], check=True)
        package.unlink()

    def _run(self, program, *args, cwd=None):
        command = [program, "-c", self.place / "apt.conf", *args]
        return subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.PIPE, text=True).stdout


def mirrors():
    """
    Where this machine has Debian's packages from, or the public address where it is no Debian.
    """
    form = "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", form], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    rows = (line.split("\t") for line in shown.splitlines())
    return PUBLIC | {label: uri for origin, label, uri in rows if origin == "Debian" and label in PUBLIC}


def sources(mirrors):
    """
    The lines of a sources.list(5) for `SUITES`.
    """
    for suite in SUITES:
        yield _source(mirrors["Debian"], suite)
        yield _source(mirrors["Debian-Security"], f"{suite}-security")
    for suite in SUITES[1:]:
        yield _source(mirrors["Debian"], f"{suite}-backports")


def _source(uri, suite):
    return f"deb [arch=amd64 signed-by={KEYRING}] {uri} {suite} main"


def with_sbin():
    """
    The environment for programs that Debian keeps out of an ordinary user's PATH.
    """
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
