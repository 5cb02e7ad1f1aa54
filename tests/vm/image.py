"""
The root file system of the guests: a small Debian, with what the tests need of Python in a virtual environment.

jail itself and the tests are not in it. They come with each job, so the image is made anew only when its recipe
changes: the file's name is the recipe's digest.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from .archive import KEYRING, SUITES, mirrors, sources, with_sbin

PACKAGES = (
    "apparmor",  # aa-exec
    "dbus-user-session",  # systemd-run --user
    "libpam-systemd",
    "libseccomp2",
    "passwd",
    "procps",
    "python3",
    "runc",
    "systemd-sysv",
)
ENVIRONMENT = "var/lib/jail-tests/venv"  # no place that a sandbox is not to see
USER = "tester"
SIZE = "1G"

# Each is a shell script to mmdebstrap, with the root file system as $1.
_CUSTOMIZE = (
    f'chroot "$1" useradd --create-home --shell /bin/bash {USER}',
    f'mkdir -p "$1/var/lib/systemd/linger" && touch "$1/var/lib/systemd/linger/{USER}"',
    'echo jail-vm >"$1/etc/hostname"',
)

# A virtual environment is this much: links and a file. venv cannot make one for another Python than its own.
_ASSEMBLE = r"""
tar --extract --file "$tar" --directory "$tree" --exclude './dev/*'
mkdir -p "$tree/$environment/bin" "$tree/$environment/lib/python$version"
ln -s /usr/bin/python3 "$tree/$environment/bin/python"
ln -s python "$tree/$environment/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$version" >"$tree/$environment/pyvenv.cfg"
cp -r "$site" "$tree/$environment/lib/python$version/site-packages"
chmod -R go+rX "$tree/${environment%/*}"
mke2fs -q -t ext4 -O ^has_journal -d "$tree" "$image" "$size" >/dev/null
rm -rf "$tree"
"""


def get_image(top, cache):
    """
    The image, from the cache or else made from Debian's archive and the package index.

    Args:
        top: of the repository: its pyproject.toml says what the tests need.
        cache: a directory.
    """
    project = tomllib.loads((top / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    recipe = repr((Path(__file__).read_text(), needed))
    image = cache / f"image-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.ext4"
    if not image.exists():
        print("making the root file system", flush=True)
        for old in cache.glob("image-*.ext4"):
            old.unlink()
        with tempfile.TemporaryDirectory(dir=cache, prefix="image-") as work:
            _make(Path(work), needed, image)
    return image


def _make(work, needed, image):
    tar = work / "root.tar"
    newest = SUITES[-1]
    lines = [line for line in sources(mirrors()) if f" {newest} " in line or f" {newest}-security " in line]
    options = ["--quiet", "--variant=apt", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}"]
    options += [f"--customize-hook={script}" for script in _CUSTOMIZE]
    subprocess.run(["mmdebstrap", *options, newest, tar, *lines], check=True)
    version = python_version(tar)
    site = work / "site"
    _install(needed, version, site)
    (work / "tree").mkdir(mode=0o755)
    partial = work / "image"
    names = {"tar": tar, "tree": work / "tree", "site": site, "image": partial}
    names |= {"environment": ENVIRONMENT, "version": version, "size": SIZE}
    # The files' owners are those in the archive: for anybody but root, in a user namespace.
    become = () if os.geteuid() == 0 else ("unshare", "--map-root-user", "--map-auto")
    subprocess.run(
        [*become, "bash", "-euc", _ASSEMBLE],
        check=True,
        env=with_sbin() | {name: str(value) for name, value in names.items()},
    )
    partial.rename(image)


def python_version(tar):
    """
    Of the Python in the image: "3.13".
    """
    with tarfile.open(tar) as archive:
        for member in archive:
            parts = member.name.removeprefix("./").split("/")
            if parts[:2] == ["usr", "lib"] and parts[3:] == ["os.py"]:
                return parts[2].removeprefix("python")
    raise SystemExit("no Python in the image")


def _install(needed, version, site):
    """
    Have pip install wheels for the image's Python, which need not be this one.
    """
    install = "pip install --quiet --no-input --disable-pip-version-check --implementation=cp".split()
    options = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (39, 34, 28, 17)]
    options += ["--only-binary=:all:", f"--python-version={version}", f"--target={site}"]
    subprocess.run([sys.executable, "-m", *install, *options, *needed], check=True)
