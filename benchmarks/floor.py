"""
The floors: the sandbox that jail makes, made by a harness in C. Builds floor.c and asks it for runs.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from contender import TRUE, Contender, Setting, SkippedError
from jail.command import Exec
from jail.spawn import INIT_PATH
from jail.tier import Tier
from jail.wire import encode_plan

__all__ = ["floors"]

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
CFLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}", f"-I{HERE}"]

JOB = struct.Struct("=QQII")  # struct job of floor.c
ANSWER = struct.Struct("=qiI")  # struct answer of floor.c


def floors(always: ExitStack, setting: Setting) -> Iterator[Contender]:
    """
    The C harness, through jail-init and without it.

    Args:
        always: what they hold until the end goes there.
        setting: the sandbox.

    Raises:
        SkippedError: it cannot be built here, or jail's sandbox needs a directory that only Python makes.
    """
    if setting.plan.tier is Tier.LANDLOCK:
        msg = f"jail stands on {setting.plan.tier} here"
        raise SkippedError(msg)
    program = _build(Path(always.enter_context(tempfile.TemporaryDirectory(prefix="floor-"))))
    floor = always.enter_context(closing(_Floor(program, setting, TRUE)))

    def contender(name: str, kind: bytes) -> Contender:
        def ask(command: Sequence[str]) -> str:
            with closing(_Floor(program, setting, command)) as asked:
                asked.run(kind)
                return asked.output.decode(errors="replace")

        return Contender(name, lambda: floor.run(kind), ask)

    yield contender("floor: C and jail-init", b"i")
    yield contender("bare: the system calls alone", b"b")


def _build(directory: Path) -> Path:
    """
    Compile floor.c, and bare.c with the rooms of jail-init, which need to be compiled as they are for it.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if not compiler:
        raise SkippedError("no C compiler")
    if not CSRC.is_dir():
        msg = f"no {CSRC}: it is built with jail's own sources"
        raise SkippedError(msg)
    rooms = [str(path) for path in sorted(CSRC.glob("*.c")) if path.name not in {"init.c", "spawn.c"}]
    freestanding = ["-ffreestanding", "-fno-stack-protector", "-c", str(HERE / "bare.c"), *rooms]
    hosted = ["-o", "floor", str(HERE / "floor.c"), str(CSRC / "spawn.c")]
    try:
        subprocess.run([compiler, *CFLAGS, *freestanding], cwd=directory, check=True)
        objects = sorted(path.name for path in directory.glob("*.o"))
        subprocess.run([compiler, *CFLAGS, *hosted, *objects], cwd=directory, check=True)
    except subprocess.CalledProcessError as exc:
        msg = f"{compiler} failed, and says above why"
        raise SkippedError(msg) from exc
    return directory / "floor"


class _Floor:
    """
    One floor program, waiting to be asked. Its protocol is told at the top of floor.c.
    """

    def __init__(self, program: Path, setting: Setting, command: Sequence[str]) -> None:
        plan = encode_plan(setting.plan.setup, (*setting.plan.each_exec, *setting.plan.each_last))
        request = Exec(args=command, env=setting.env, directory=setting.directory, last=True).encode()
        job = os.memfd_create("job", 0)
        with os.fdopen(job, "wb") as file:
            file.write(JOB.pack(setting.plan.clone_flags, setting.plan.ambient, len(plan), len(request)))
            file.write(plan + request)
            file.flush()
            self._process = subprocess.Popen(
                [program, INIT_PATH, f"/proc/self/fd/{job}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[job],
            )
        self.output = b""

    def run(self, kind: bytes) -> int:
        """
        One run: its nanoseconds. What the program wrote is in `output` then.
        """
        assert self._process.stdin
        self._process.stdin.write(kind)
        nanoseconds, status, length = ANSWER.unpack(self._read(ANSWER.size))
        self.output = self._read(length)
        if status:
            msg = f"floor: the program ended with wait status {status:#x}"
            raise RuntimeError(msg)
        return int(nanoseconds)

    def _read(self, length: int) -> bytes:
        assert self._process.stdout
        taken = b""
        while len(taken) < length:
            piece = self._process.stdout.read(length - len(taken))
            if not piece:
                msg = f"floor ended with {self._process.wait()}; what it said is above"
                raise RuntimeError(msg)
            taken += piece
        return taken

    def close(self) -> None:
        """
        End it.
        """
        self._process.communicate()
