"""
The first file system of a guest: a busybox, the modules that reach the disks, and a script. One file, cpio(5) newc.

It is written here, byte by byte, since all it needs is a header for each file.
"""

import lzma
import stat
from pathlib import Path

MODULES = ("virtio_pci", "virtio_blk", "ext4", "overlay")

_INIT = Path(__file__).parent / "inside" / "initramfs"


def make_initramfs(modules, busybox, path):
    """
    Write the initramfs for one kernel.

    Args:
        modules: the kernel's ``/lib/modules/RELEASE``, with a ``modules.dep``.
        busybox: a static one.
        path: of the file to write.
    """
    files = [("init", _INIT.read_bytes(), 0o755), ("bin/busybox", busybox.read_bytes(), 0o755)]
    order = []
    for source in in_order(modules, MODULES):
        name = source.name.removesuffix(".xz")
        content = source.read_bytes()
        files.append((f"modules/{name}", lzma.decompress(content) if name != source.name else content, 0o644))
        order.append(name)
    files.append(("modules/order", "".join(f"{name}\n" for name in order).encode(), 0o644))
    path.write_bytes(cpio(("bin", "modules", "dev", "proc", "sys", "root"), files))


def in_order(modules, names):
    """
    The files of some modules and of those that they need, each after what it needs. Those built in are no files.
    """
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, wanted = line.partition(":")
        needs[file] = wanted.split()
    found = []

    def add(file):
        for needed in reversed(needs[file]):
            if needed not in found:
                add(needed)
        if file not in found:
            found.append(file)

    built_in = {module_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    by_name = {module_name(file): file for file in needs}
    for name in names:
        if name not in built_in:
            add(by_name[name])
    return [modules / file for file in found]


def module_name(file):
    """
    A module's name, by the file that it is in.

    >>> module_name("kernel/crypto/crc32c-intel.ko.xz")
    'crc32c_intel'
    """
    return Path(file).name.split(".")[0].replace("-", "_")


def cpio(directories, files):
    """
    An archive as the kernel unpacks it. initramfs-buffer-format.rst
    """
    entries = [(name, b"", stat.S_IFDIR | 0o755) for name in directories]
    entries += [(name, content, stat.S_IFREG | mode) for name, content, mode in files]
    entries.append(("TRAILER!!!", b"", 0))
    return b"".join(
        _entry(number, name, content, mode) for number, (name, content, mode) in enumerate(entries)
    )


def _entry(number, name, content, mode):
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + path) + _padded(content)


def _padded(data):
    return data + b"\0" * (-len(data) % 4)
