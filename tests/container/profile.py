"""
Docker's seccomp profile of a later release than this machine's, which most containers out there have by now.

It is a file among the sources that Debian packages for the next release; nothing is installed.
"""

import subprocess
import tempfile
from pathlib import Path

from vm.archive import Archive

__all__ = ["NoProfile", "get_newer_profile"]

PACKAGE = "golang-github-docker-docker-dev"
FILE = "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"


class NoProfile(Exception):
    """
    It cannot be had here, and why.
    """


def get_newer_profile(cache):
    """
    The file, from the cache or else from Debian's archive.

    Raises:
        NoProfile: it is not there, or the archive is out of reach.
    """
    profile = cache / "seccomp-newer.json"
    if not profile.exists():
        try:
            with tempfile.TemporaryDirectory(dir=cache, prefix="profile-") as work:
                Archive(Path(work) / "archive").open().unpack(PACKAGE, work)
                (Path(work) / FILE).rename(profile)
        except (OSError, subprocess.CalledProcessError) as exc:
            raise NoProfile(f"the profile of a later Docker is not to be had: {exc}") from exc
    return profile
