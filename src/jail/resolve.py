"""
Finds what a policy's paths mean now: a `View`.

The one place that reads the host's file system on behalf of a policy. It opens nothing for the sandbox and
creates nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from .errors import PolicyError, UnsupportedError
from .host import Host
from .policy import Policy, PolicyPath
from .sockets import find_socket, powers_shown
from .view import Tree, View, is_below, upwards

__all__ = ["disks_of", "resolve"]

# Made fresh for each sandbox; showing the host's would undo that.
_OUR_OWN = ("/proc", "/dev/pts", "/dev/shm", "/tmp", "/")  # noqa: S108 - a path inside, no temporary file

# What tells programs whom to ask for names: hosts(5), nsswitch.conf(5), resolv.conf(5).
_NAME_FILES = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf")

_LINKS_MAX = 40  # path_resolution(7)


def resolve(policy: Policy, host: Host, *, siblings: bool = False) -> View:
    """
    Resolve every path of a policy, once.

    Args:
        policy: whose paths.
        host: for the interpreter's places and the home.
        siblings: list what lies beside each hidden path; see `View.siblings`.

    Returns:
        The view, parents before children, the most specific rule for a path on top.

    Raises:
        PolicyError: a path is missing and not marked optional, or cannot be shown at all.
        UnsupportedError: a denied path does not exist, and its parent is writable: nothing could keep the
            program from creating it.
    """
    links: dict[str, str] = {}
    trees = {tree.path: tree for tree in _visible(policy, host, links)}
    trees |= {tree.path: tree for tree in _sockets(policy, links)}
    hidden = sorted(set(_hidden(policy, trees, links)))
    _refuse_swappable(links, trees)
    for path in hidden:
        trees.pop(path, None)
    hidden = [path for path in hidden if _is_exposed(path, trees, hidden)]
    _refuse_powers(trees, hidden)
    trees = {path: tree for path, tree in trees.items() if not _is_shown(tree, trees, hidden)}
    trees |= _pins(trees, hidden)
    ordered = tuple(sorted(trees.values()))
    home = _home(host, trees)
    workspace = (
        _canonical(_absolute(PolicyPath(policy.workspace)), {}) if policy.workspace is not None else None
    )
    return View(
        trees=ordered,
        links=tuple(sorted((p, text) for p, text in links.items() if not _shown_by_itself(p, trees))),
        hidden=tuple(hidden),
        home=home,
        directory=workspace[0] if workspace else home,
        name_files=tuple(_name_files(trees)) if isinstance(policy.network, tuple) else (),
        siblings=tuple((path, tuple(_siblings(path, trees))) for path in hidden) if siblings else (),
    )


def _name_files(trees: Mapping[str, Tree]) -> Iterator[str]:
    """
    Those of `_NAME_FILES` that are shown, or would be made on our own tmpfs. A link, or a file that is missing
    from a directory of the host's, is left: without it resolvers ask 127.0.0.1 (resolv.conf(5)), which is ours.
    """
    for path in _NAME_FILES:
        shown = any(place in trees for place in upwards(path))
        if not shown or stat.S_ISREG(_mode(path)):
            yield path


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _visible(policy: Policy, host: Host, links: dict[str, str]) -> Iterator[Tree]:
    rules = [("read", rule, False) for rule in policy.read]
    if policy.interpreter:
        rules += [("interpreter", PolicyPath(path, optional=True), False) for path in host.interpreter]
    if policy.workspace is not None:
        rules.append(("workspace", PolicyPath(policy.workspace), policy.workspace_access == "write"))
    rules += [("write", rule, True) for rule in policy.write]
    for key, rule, writable in rules:
        found = _canonical(_absolute(rule), links)
        if found is None:
            if rule.optional:
                continue
            msg = f"{_absolute(rule)} does not exist. Mark it optional if it may be absent"
            raise PolicyError(msg, key=key)
        path, is_directory = found
        _refuse_our_own(path, key)
        if stat.S_ISSOCK(_mode(path)):
            msg = f"{path} is a socket. Name it in sockets"
            raise PolicyError(msg, key=key)
        yield Tree(path, writable, is_directory)


def _sockets(policy: Policy, links: dict[str, str]) -> Iterator[Tree]:
    rules = [("sockets", rule) for rule in policy.sockets]
    rules += [("privileged_sockets", rule) for rule in policy.privileged_sockets]
    for key, rule in rules:
        named = _absolute(rule)
        found = find_socket(named, key)
        if found is not None:
            _refuse_our_own(found.path, key)
            if found.path != named:
                links.update(_links(named))
            yield found
        elif not rule.optional:
            msg = f"{named} does not exist. Mark it optional if it may be absent"
            raise PolicyError(msg, key=key)


def _refuse_powers(trees: Mapping[str, Tree], hidden: Iterable[str]) -> None:
    """
    A directory that shows such a socket gives what is behind it, although no rule names it.

    To deny the socket alone is not enough: its cover goes when the server makes it anew.
    """
    for power, path in powers_shown(trees.values()):
        if path not in trees and _is_exposed(path, trees, hidden):
            msg = f"{path}, of {power.server}, is in what is shown: {power.reason}. Show less, deny its directory, "
            msg += "or name it in privileged_sockets"
            raise PolicyError(msg, key="read")


def _refuse_our_own(path: str, key: str) -> None:
    if path in _OUR_OWN or is_below(path, "/proc") or (key == "deny" and is_below(path, "/dev")):
        msg = f"{path}: the sandbox has its own, and nothing of the host's is there. Name what is below it"
        raise PolicyError(msg, key=key)


def _absolute(rule: PolicyPath) -> str:
    path = os.path.expanduser(rule.path) if rule.path.startswith("~") else rule.path
    return path if path.startswith("/") else os.path.join(rule.base or os.getcwd(), path)


def _canonical(path: str, links: dict[str, str]) -> tuple[str, bool] | None:
    """
    The path without symbolic links, and whether it is a directory; None when it is missing.

    Opened once, for nothing (O_PATH), and the kernel asked for its name: proc_pid_fd(5). The links on the
    way are noted.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        msg = f"{path}: {exc.strerror}"
        raise PolicyError(msg) from exc
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
    if real != path:
        links.update(_links(path))
    return real, is_directory


def _links(path: str) -> Iterator[tuple[str, str]]:
    """
    The symbolic links that the kernel follows on the way to `path`, each with what it says.
    """
    here, parts, followed = "/", path.split("/")[::-1], 0
    while parts and followed < _LINKS_MAX:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, part)
        if not os.path.islink(step):
            here = step
            continue
        text = os.readlink(step)
        followed += 1
        yield step, text
        if text.startswith("/"):
            here = "/"
        parts += text.split("/")[::-1]


def _shown_by_itself(path: str, trees: Mapping[str, Tree]) -> bool:
    return _around(path, trees) is not None


def _around(path: str, trees: Mapping[str, Tree]) -> Tree | None:
    """
    The innermost tree that contains `path`, other than one at `path` itself.
    """
    return next((trees[place] for place in upwards(path) if place != path and place in trees), None)


def _hidden(policy: Policy, trees: Mapping[str, Tree], links: dict[str, str]) -> Iterator[str]:
    """
    The denied paths that exist in something visible.

    Most denied paths are absent, and many lie in one directory: reading that once costs less than asking
    for each.
    """
    listings: dict[str, frozenset[str]] = {}
    any_writable = any(tree.writable for tree in trees.values())
    for rule in policy.deny:
        named = _absolute(rule).rstrip("/") or "/"
        parent, name = os.path.split(named)
        if parent not in listings:
            listings[parent] = _listing(parent)
        is_missing = name and name not in listings[parent]
        found = None if is_missing else _canonical(named, links)
        if found and (found[0] in trees or _around(found[0], trees)):
            yield found[0]
        elif found:
            _refuse_our_own(found[0], "deny")
        elif any_writable:
            _refuse_creatable(os.path.join(os.path.realpath(parent), name), trees)


def _is_exposed(path: str, trees: Mapping[str, Tree], hidden: Iterable[str]) -> bool:
    """
    Whether a hidden path would be seen if it were not covered: a tree contains it, and nothing hidden in that.
    """
    denied = set(hidden) - {path}
    first = next(place for place in upwards(path) if place in trees or place in denied or place == "/")
    return first in trees


def _listing(directory: str) -> frozenset[str]:
    try:
        return frozenset((*os.listdir(directory), ".", ".."))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as exc:
        # Not readable: whoever may only search it may still open what is in it.
        msg = f"cannot tell what is in {directory}: {exc.strerror}. Deny the directory itself"
        raise PolicyError(msg, key="deny") from exc


def _refuse_swappable(links: Iterable[str], trees: Mapping[str, Tree]) -> None:
    """
    A link in a writable tree is the program's to change: it would be shown what it likes, or have the
    caller meet something else where the policy protects.
    """
    for link in links:
        around = _around(link, trees)
        if around and around.writable:
            msg = f"{link} is a symbolic link in a directory that may be written. Name what it points to"
            raise PolicyError(msg)


def _refuse_creatable(path: str, trees: Mapping[str, Tree]) -> None:
    around = _around(path, trees)
    if around and around.writable:
        raise UnsupportedError(
            "filesystem.read",
            needs="a denied path in a writable directory to exist, so that it can be covered",
            found=f"{path} is missing, and the program could create it",
            cure=f"Create it first, or make its directory read-only: {os.path.dirname(path)}",
        )


def _is_shown(tree: Tree, trees: Mapping[str, Tree], hidden: Iterable[str]) -> bool:
    """
    Whether the tree is shown in the same way by another, as ``/bin`` is where it is a link to ``/usr/bin``.
    """
    around = _around(tree.path, trees)
    if around is None or tree.inode is not None or around.writable != tree.writable:
        return False
    return not any(is_below(tree.path, h) and is_below(h, around.path) for h in hidden)


def _pins(trees: Mapping[str, Tree], hidden: Iterable[str]) -> dict[str, Tree]:
    """
    The directories between a writable tree and what is protected in it, as trees of their own.

    A mount point cannot be renamed (rename(2), EBUSY). Without this a program would move a directory above
    the protected one out of the way and make another in its place.
    """
    pins: dict[str, Tree] = {}
    for path in (*hidden, *(tree.path for tree in trees.values() if not tree.writable)):
        around = _around(path, trees)
        if around and around.writable:
            between = (place for place in upwards(path) if is_below(place, around.path))
            pins |= {p: Tree(p, writable=True) for p in between if p not in (path, around.path)}
    return pins


def _siblings(path: str, trees: Mapping[str, Tree]) -> Iterator[Tree]:
    around = _around(path, trees)
    hidden = os.lstat(path).st_ino
    while around and path != around.path:
        parent = os.path.dirname(path)
        with os.scandir(parent) as entries:
            for entry in entries:
                # A rule of Landlock's is about an inode: another name of the hidden one would show that, too.
                if entry.path != path and not entry.is_symlink() and entry.inode() != hidden:
                    yield Tree(entry.path, around.writable, entry.is_dir(follow_symlinks=False))
        path = parent


def _home(host: Host, trees: Mapping[str, Tree]) -> str:
    """
    The caller's own path, so that what computes it from passwd(5) agrees, if a fresh directory can be there.
    """
    if host.home in trees and host.home != "/":
        return host.home
    candidates = (host.home, "/home/jail", "/jail")
    free = (home for home in candidates if home != "/" and _around(home, trees) is None)
    return next(free, "/tmp")  # noqa: S108 - the sandbox's own


def disks_of(view: View) -> tuple[str, ...]:
    """
    The disks that can be written to, as ``MAJOR:MINOR``, each once.

    Raises:
        UnsupportedError: a writable tree lies on none: on a network, in memory, or on a file system with numbers of
            its own.
    """
    devices = {_disk(tree.path) for tree in view.trees if tree.writable}
    return tuple(sorted(devices))


def _disk(path: str) -> str:
    """
    A partition's limits are its disk's: io.max takes no other. Source: cgroup-v2.rst, "IO Interface Files".
    """
    device = os.stat(path).st_dev
    place = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if os.path.exists(f"{place}/partition"):
        place = os.path.dirname(place)
    try:
        with open(f"{place}/dev", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        raise UnsupportedError(
            "io", needs=f"a disk behind {path}", found="none that the kernel names"
        ) from None
