"""
What a guest is given: the checkout, the package that was built from it, and what to do with them. One tar.
"""

import io
import shlex
import shutil
import tarfile
from pathlib import Path

import jail

# Not of the tree: what was built, and what another machine's Python has compiled.
_LEFT_OUT = {
    ".git",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
}


def pack(path, top, profile=None):
    """
    Write a tar of the checkout and the package as they are now: all guests are to have the same.

    Args:
        path: of the tar.
        top: of the checkout.
        profile: Docker's seccomp profile, where one of them has containers.
    """
    with tarfile.open(path, "w") as archive:
        archive.add(top, "tree", filter=_of_the_tree)
        for installed in package():
            archive.add(installed, f"site/{installed.name}", filter=_owned_by_root)
        if profile is not None:
            archive.add(profile, "seccomp.json", filter=_owned_by_root)


def write_job(path, packed, *, settings, arguments):
    """
    Write the tar that a guest has as its second disk.

    Args:
        path: of the tar.
        packed: what `pack` has written.
        settings: variables for the scripts in ``inside``.
        arguments: for pytest.
    """
    shutil.copyfile(packed, path)
    with tarfile.open(path, "a") as archive:
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        _add_text(archive, "settings", text)
        _add_text(archive, "arguments", "".join(f"{argument}\n" for argument in arguments))


def package():
    """
    The installed package and what pip knows about it. Its extension keeps to Python's stable ABI.
    """
    directory = Path(jail.__file__).parent
    return [directory, *directory.parent.glob("jail-*.dist-info")]


def _of_the_tree(member):
    parts = member.name.split("/")
    if _LEFT_OUT & set(parts) or parts[1:4] == ["src", "jail", "bin"] or member.name.endswith(".so"):
        return None
    return _owned_by_root(member)


def _owned_by_root(member):
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o555 if member.mode & 0o100 else 0o444
    return member


def _add_text(archive, name, text):
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
