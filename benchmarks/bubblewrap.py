"""
The peer: bubblewrap, told to make the sandbox that jail makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from contender import TRUE, Contender, Setting, SkippedError, timed
from jail.ops import Op, OpKind
from jail.tier import Tier
from jail.view import is_below

__all__ = ["bubblewrap"]

OPTIONS = "--unshare-all --die-with-parent --new-session --cap-drop ALL --dev /dev".split()


def bubblewrap(always: ExitStack, setting: Setting) -> Contender:
    """
    ``bwrap``, started and captured as a Python program would: by `subprocess.run`.

    Args:
        always: what it holds until the end goes there.
        setting: the sandbox.

    Raises:
        SkippedError: it is absent, or jail's sandbox is of a kind that it cannot make.
    """
    program = shutil.which("bwrap")
    if not program:
        raise SkippedError("not installed")
    if setting.plan.tier is not Tier.NAMESPACES:
        msg = f"jail stands on {setting.plan.tier} here, which it does not do"
        raise SkippedError(msg)
    files = _contents(always, setting)
    words = [program, *OPTIONS]
    for op in setting.plan.setup:
        words += _translate(op, files)
    words += ["--remount-ro", "/", "--chdir", setting.directory, "--"]

    def start(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*words, *command],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=setting.env,
            pass_fds=tuple(files.values()),
            check=False,
        )

    def run() -> int:
        _rewind(files)
        return timed(lambda: start(TRUE).returncode)

    def ask(command: Sequence[str]) -> str:
        _rewind(files)
        done = start(command)
        if done.returncode:
            msg = done.stderr.decode(errors="replace").strip()
            raise SkippedError(msg)
        return done.stdout.decode(errors="replace")

    return Contender("bwrap", run, ask)


def _contents(always: ExitStack, setting: Setting) -> dict[str, int]:
    """
    A descriptor for each thing that bwrap reads from one, by the op's path; the filter's is empty.
    """
    files = {}
    for op in setting.plan.setup:
        if op.kind in (OpKind.FILE, OpKind.SECCOMP):
            files[op.path] = os.memfd_create("content")
            always.callback(os.close, files[op.path])
            os.write(files[op.path], op.data)
    return files


def _rewind(files: Mapping[str, int]) -> None:
    for fd in files.values():
        os.lseek(fd, 0, os.SEEK_SET)


def _translate(op: Op, files: Mapping[str, int]) -> list[str]:
    """
    An op in bwrap's words.

    Nothing for what it does unasked (devices, devpts, /dev/shm, lo, no_new_privs) and for what it has no option for
    (Landlock, a keyring). Both are to its advantage.
    """
    say = WORDS.get(op.kind)
    return [] if say is None or is_below(op.path, "/dev") else say(op, files)


def _hide(op: Op, _: Mapping[str, int]) -> list[str]:
    if Path(op.path).is_dir():
        return ["--perms", "0000", "--tmpfs", op.path]
    return ["--ro-bind", "/dev/null", op.path]


WORDS: dict[OpKind, Callable[[Op, Mapping[str, int]], list[str]]] = {
    OpKind.USERNS_MAP: lambda op, _: ["--uid", str(op.args[0]), "--gid", str(op.args[2])],
    OpKind.SYMLINK: lambda op, _: ["--symlink", os.fsdecode(op.data), op.path],
    OpKind.BIND: lambda op, _: ["--ro-bind", os.fsdecode(op.data), op.path],
    OpKind.WRITABLE: lambda op, _: ["--perms", f"{op.args[0]:o}", "--tmpfs", op.path],
    OpKind.HIDE: _hide,
    OpKind.FILE: lambda op, files: ["--ro-bind-data", str(files[op.path]), op.path],
    OpKind.PROC: lambda op, _: ["--proc", op.path],
    OpKind.HOSTNAME: lambda op, _: ["--hostname", os.fsdecode(op.data)],
    OpKind.SECCOMP: lambda op, files: ["--seccomp", str(files[op.path])],
}
