"""
What of the host a sandbox will show, resolved at one moment.

Pure data, made by `resolve` and by tests. Every path is absolute and without symbolic links; the plan uses
these and never resolves again, so a link that appears afterwards is found out and not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Tree", "View", "is_below", "upwards"]


@dataclass(frozen=True, slots=True, order=True)
class Tree:
    """
    One file, directory or socket of the host, shown at its own path.

    Args:
        path: resolved.
        writable: what is in it may be changed.
        is_directory: it is one.
        inode: number, and device as major and minor, that it has to have still when it is shown; None for a file or directory.
    """

    path: str
    writable: bool = False
    is_directory: bool = True
    inode: tuple[int, int, int] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class View:
    """
    The whole of what is shown.

    Args:
        trees: what is shown, parents before children.
        links: symbolic links on the way to them, as (path, text).
        hidden: files and directories that exist below a tree and are covered, parents before children.
        home: the home directory inside.
        directory: the working directory inside.
        scratch: a directory of the host's made for this sandbox, where there are no mounts to make one; or
            None.
        name_files: files about names and resolvers that are there to have ours shown over them.
        siblings: for a hidden path, what else lay in the directories between it and its tree. Landlock can
            allow only, so where it stands alone these are allowed in their parents' stead.
    """

    trees: tuple[Tree, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    home: str = "/home/jail"
    directory: str = "/"
    scratch: str | None = None
    name_files: tuple[str, ...] = ()
    siblings: tuple[tuple[str, tuple[Tree, ...]], ...] = ()

    def tree_of(self, path: str) -> Tree | None:
        """
        The innermost tree that contains `path`, itself included.
        """
        by_path = {tree.path: tree for tree in self.trees}
        return next((by_path[place] for place in upwards(path) if place in by_path), None)


def upwards(path: str) -> Iterator[str]:
    """
    An absolute path, its parent, and so on to the root.

    >>> list(upwards("/usr/lib"))
    ['/usr/lib', '/usr', '/']
    """
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield "/"


def is_below(path: str, ancestor: str) -> bool:
    """
    Whether `path` is `ancestor` or lies below it. Both absolute and normal.

    >>> is_below("/usr/lib", "/usr"), is_below("/usrlocal", "/usr"), is_below("/usr", "/")
    (True, False, True)
    """
    return path == ancestor or path.startswith(ancestor if ancestor == "/" else ancestor + "/")
