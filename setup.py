"""
Builds what pyproject.toml cannot say: the extension `jail._core`, and the program `jail-init` beside it.
"""

import os
import shlex
import subprocess
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

# Freestanding: it must start in microseconds, and what it lacks (a C library) cannot be attacked in it.
# A distribution's default hardening needs a C library's support; nothing from CFLAGS comes in for the same reason.
CFLAGS = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pie "
    "-fno-asynchronous-unwind-tables -nostdlib -static -no-pie -s -Wl,--build-id=none -Wl,-z,noexecstack"
).split()

HARNESS = ("spawn.c", "traffic.c", "piece.c")


class BuildInit(Command):
    """
    Compile jail-init: every C file but those of the harness's side.
    """

    description = "build jail-init"
    user_options = []  # noqa: RUF012 - setuptools' interface

    def initialize_options(self) -> None:
        """
        As setuptools wants it.
        """
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        """
        As setuptools wants it.
        """
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """
        Put the program where `jail` looks for it: into the wheel, or for an editable install into src/.
        """
        program = Path("src" if self.editable_mode else self.build_lib) / "jail/bin/jail-init"
        program.parent.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CC") or "cc")
        command = [*compiler, *CFLAGS, "-o", str(program), *self._c_files()]
        print(shlex.join(command), flush=True)  # noqa: T201 - as the rest of a build log
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - the caller's own compiler
        program.chmod(0o755)

    @staticmethod
    def _c_files() -> list[str]:
        return sorted(str(path) for path in Path("csrc").glob("*.c") if path.name not in HARNESS)

    def get_source_files(self) -> list[str]:
        """
        What an sdist needs to build it.
        """
        return [*self._c_files(), *sorted(map(str, Path("csrc").glob("*.h")))]

    def get_outputs(self) -> list[str]:
        """
        What `run` makes.
        """
        return [str(Path(self.build_lib) / "jail/bin/jail-init")]

    def get_output_mapping(self) -> dict[str, str]:
        """
        Nothing: no output is a copy of a source.
        """
        return {}


build.sub_commands.append(("build_init", None))

setup(
    cffi_modules=["csrc/build_core.py:ffi"],
    cmdclass={"build_init": BuildInit},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
