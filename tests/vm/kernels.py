"""
The kernels to boot: which the archive has of a series, and each with its initramfs as two files.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .archive import Archive, NotFetched, with_sbin
from .initramfs import make_initramfs

NEWEST = "newest"

# The flavour without drivers of real hardware: a fourth of the size.
_PACKAGE = re.compile(r"linux-image-(?P<release>(?P<series>\d+\.\d+)\.\S+-cloud-amd64)")

# An archive may be between two states, its lists naming files that it has no longer.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Kernel:
    """
    One kernel.

    Args:
        name: as it was asked for: a series such as "6.12", or "newest".
        release: as uname(2) gives it.
        image: of the kernel.
        initramfs: for it.
    """

    name: str
    release: str
    image: Path
    initramfs: Path

    @property
    def version(self):
        """
        Its series, to be compared: (6, 12).
        """
        return tuple(map(int, self.release.split(".")[:2]))


def get_kernel(name, cache):
    """
    A kernel, from the cache or else from Debian's archive.

    Args:
        name: a series, or "newest" for the newest that there is.
        cache: a directory. What is in it is used again, whatever the archive has by now.

    Raises:
        SystemExit: the archive has no such series.
    """
    place = cache / "kernels" / name
    if not place.exists():
        _fetch(name, Archive(cache / "apt").open(), place)
    kernel = Kernel(name, (place / "release").read_text(), place / "vmlinuz", place / "initramfs")
    if not is_fresh(kernel.initramfs):
        partial = place / "initramfs.partial"
        make_initramfs(place / "modules", get_busybox(cache), partial)
        partial.rename(kernel.initramfs)
    return kernel


def get_busybox(cache):
    """
    A busybox that needs no library. Of the archive, because this machine's own may be one that does.
    """
    place = cache / "busybox"
    if not place.exists():
        partial = place.with_name(f".busybox.{os.getpid()}")
        Archive(cache / "apt").open().unpack("busybox-static", partial)
        partial.rename(place)
    (program,) = (found for name in ("bin", "usr/bin") if (found := place / name / "busybox").exists())
    return program


def is_fresh(initramfs):
    """
    Whether it was made after what it is made by was last changed.
    """
    here = Path(__file__).parent
    made_by = (here / "initramfs.py", here / "inside" / "initramfs")
    return initramfs.exists() and initramfs.stat().st_mtime > max(file.stat().st_mtime for file in made_by)


def choose(name, packages):
    """
    The releases of a series that some packages have, the newest first.

    >>> choose("6.1", ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64"])
    ['6.1.0-10-cloud-amd64', '6.1.0-9-cloud-amd64']
    >>> choose("newest", ["linux-image-6.9.1-cloud-amd64", "linux-image-6.10.1+deb13-cloud-amd64"])[0]
    '6.10.1+deb13-cloud-amd64'
    """
    found = [match for package in packages if (match := _PACKAGE.fullmatch(package))]
    wanted = [match["release"] for match in found if name in (NEWEST, match["series"])]
    if not wanted:
        series = sorted({match["series"] for match in found}, key=_numbers)
        raise SystemExit(f"no kernel {name} in the archive; it has {' '.join(series)}, and {NEWEST}")
    return sorted(wanted, key=_numbers, reverse=True)


def _numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def _fetch(name, archive, place):
    releases = choose(name, archive.names("^linux-image-[0-9].*-cloud-amd64$"))[:_TRIES]
    for release in releases:
        print(f"fetching linux-image-{release}", flush=True)
        partial = place.with_name(f".{name}.{os.getpid()}")
        try:
            _unpack(release, archive, partial / "files")
        except NotFetched as exc:
            shutil.rmtree(partial)
            print(exc, flush=True)
            continue
        _arrange(release, partial / "files", partial)
        shutil.rmtree(partial / "files")
        partial.rename(place)
        return
    raise SystemExit(f"no kernel {name}: none of {', '.join(releases)} could be fetched")


def _unpack(release, archive, files):
    files.mkdir(parents=True)
    package = f"linux-image-{release}"
    archive.unpack(package, files)
    # Newer packages ask for others of the same release, which have the kernel and its modules. Some ask for one that
    # would only install them, and that the archive has not.
    parts = [part for part in archive.depends(package) if part.endswith(f"-{release}")]
    for part in set(archive.names(f"^linux-.*-{re.escape(release)}$")) & set(parts):
        archive.unpack(part, files)


def _arrange(release, files, place):
    """
    Keep of a package's files what a guest needs, under names that do not change.
    """
    if not (files / "lib").exists():
        (files / "lib").symlink_to("usr/lib")
    modules = files / "lib" / "modules" / release
    subprocess.run(["depmod", "--basedir", files, release], check=True, env=with_sbin())
    image = files / "boot" / f"vmlinuz-{release}"
    shutil.copy(image if image.exists() else modules / "vmlinuz", place / "vmlinuz")
    modules.rename(place / "modules")
    (place / "release").write_text(release)
