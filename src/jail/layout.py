"""
The ops that build the tree a sandbox sees.

Pure. Each op has a place; they are carried out in the order of their places, parents first, so that the most
specific rule lies on top.
"""

from __future__ import annotations

from collections.abc import Iterator

from .environment import user_name
from .host import Host
from .ops import MountAttribute, Op, OpKind
from .policy import Policy
from .view import View, is_below

__all__ = ["inside_ids", "tmpfs_size", "tree_ops", "writable_places"]

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# Where programs expect to be able to write. /run is not among them: what listens there is the host's.
_SCRATCH = {"/tmp": 0o1777, "/var/tmp": 0o1777, "/dev/shm": 0o1777}  # noqa: S108 - places inside

_DEFAULT_DISK_BYTES = 1 << 30

# One inode is about 1 KiB of kernel memory that tmpfs(5) does not count as size: 16 KiB of size buy one.
_BYTES_PER_INODE = 1 << 14


def inside_ids(policy: Policy, host: Host) -> tuple[int, int]:
    """
    The uid and gid that programs see: the policy's, or the caller's own, or 1000 where the caller is root.
    """
    uid = policy.uid if policy.uid is not None else (host.uid or 1000)
    gid = policy.gid if policy.gid is not None else (host.gid or 1000)
    return uid, gid


def writable_places(view: View) -> list[str]:
    """
    The directories on the sandbox's own tmpfs that programs may write to.
    """
    own_home = [view.home] if not view.tree_of(view.home) else []
    return [path for path in (*_SCRATCH, *own_home) if not view.tree_of(path)]


def tmpfs_size(policy: Policy) -> tuple[int, int]:
    """
    What is the sandbox's own, in bytes and inodes.
    """
    size = policy.disk if policy.disk is not None else _DEFAULT_DISK_BYTES
    return size, policy.inodes if policy.inodes is not None else max(size // _BYTES_PER_INODE, 1024)


def tree_ops(policy: Policy, host: Host, view: View, *before_pivot: Op) -> list[Op]:
    """
    From an empty tmpfs to the tree that becomes ``/``; some ops want both trees in reach.
    """
    placed = [*_tree_binds(view), *_devices(), *_writable(view), *_hidden(view), *_links(view)]
    placed.sort(key=lambda op: op.path.split("/"))
    proc = [Op(OpKind.PROC, "/proc", args=(int(MountAttribute.RDONLY | _INERT),))] if host.has("proc") else []
    masks = [Op(OpKind.HIDE, path) for path in host.proc_files] if proc else []
    covers = _covers(view)
    return [
        Op(OpKind.MOUNT_PRIVATE),
        Op(OpKind.SCRATCH, args=tmpfs_size(policy)),
        *placed,
        *_accounts(policy, host, view),
        *([Op(OpKind.DEVPTS, "/dev/pts")] if host.has("devpts") else []),
        *proc,
        *masks,
        *([Op(OpKind.COVERS, "/proc/self", args=(len(covers),))] if covers else []),
        *before_pivot,
        Op(OpKind.PIVOT),
        *(Op(OpKind.COVER, path) for path in covers),
    ]


def _covers(view: View) -> list[str]:
    """
    Where a mount of ours lies on a file or directory of the host's and the sandbox may do more without it.
    """
    protected = [tree.path for tree in view.trees if not tree.writable and _in_writable(view, tree.path)]
    return sorted({*view.hidden, *protected})


def _in_writable(view: View, path: str) -> bool:
    around = view.tree_of(path.rpartition("/")[0] or "/")
    return around is not None and around.writable


_INERT = MountAttribute.NODEV | MountAttribute.NOEXEC


def _tree_binds(view: View) -> Iterator[Op]:
    for tree in view.trees:
        attributes = MountAttribute.NOSUID
        if not tree.writable:
            attributes |= MountAttribute.RDONLY
        if not is_below(tree.path, "/dev"):
            attributes |= MountAttribute.NODEV
        yield Op(OpKind.BIND, tree.path, _bytes(tree.path), (int(attributes), *(tree.inode or ())))


def _devices() -> Iterator[Op]:
    """
    Read-only: a device is written to all the same (open(2), EROFS), and its mode and times stay the host's.
    """
    attributes = int(MountAttribute.RDONLY | MountAttribute.NOSUID | MountAttribute.NOEXEC)
    for name in _DEVICES:
        path = f"/dev/{name}"
        yield Op(OpKind.BIND, path, _bytes(path), (attributes,))
    yield Op(OpKind.SYMLINK, "/dev/fd", b"/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield Op(OpKind.SYMLINK, f"/dev/{name}", b"/proc/self/fd/%d" % number)
    yield Op(OpKind.SYMLINK, "/dev/ptmx", b"pts/ptmx")


def _writable(view: View) -> Iterator[Op]:
    attributes = int(MountAttribute.NOSUID | MountAttribute.NODEV)
    for path in writable_places(view):
        yield Op(OpKind.WRITABLE, path, args=(_SCRATCH.get(path, 0o700), attributes))


def _hidden(view: View) -> Iterator[Op]:
    """
    Hidden for good, or an empty directory of our own where something is to be shown below it again.
    """
    for path in view.hidden:
        if any(is_below(tree.path, path) for tree in view.trees):
            yield Op(OpKind.WRITABLE, path, args=(0o755, int(_INERT | MountAttribute.NOSUID)))
        else:
            yield Op(OpKind.HIDE, path)


def _links(view: View) -> Iterator[Op]:
    for path, text in view.links:
        yield Op(OpKind.SYMLINK, path, _bytes(text))


def _accounts(policy: Policy, host: Host, view: View) -> Iterator[Op]:
    """
    passwd(5) and group(5) of our own where the host's do not know who we are inside.
    """
    uid, gid = inside_ids(policy, host)
    if (uid, gid) == (host.uid, host.gid) and host.user and host.account_home == view.home:
        return
    name = user_name(policy, host)
    etc = view.tree_of("/etc/passwd")
    if etc is None or etc.path != "/etc":
        return
    root = () if uid == 0 else (f"root:x:0:0:root:{view.home}:/bin/sh",)
    passwd = [
        *root,
        f"{name}:x:{uid}:{gid}::{view.home}:/bin/sh",
        "nobody:x:65534:65534::/nonexistent:/bin/false",
    ]
    group = [*(() if gid == 0 else ("root:x:0:",)), f"{name}:x:{gid}:", "nogroup:x:65534:"]
    yield Op(OpKind.FILE, "/etc/passwd", _bytes("\n".join(passwd) + "\n"), optional=True)
    yield Op(OpKind.FILE, "/etc/group", _bytes("\n".join(group) + "\n"), optional=True)


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
