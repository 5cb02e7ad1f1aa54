"""
Describes the extension `jail._core` to cffi. Read by setup.py.

boundary.h and traffic.h are the one truth: cffi parses them, and the C compiler checks the same text against
what includes it.
"""

from pathlib import Path

import cffi

__all__ = ["FLAGS", "ffi"]

FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]

here = Path(__file__).parent

ffi = cffi.FFI()
for header in ("boundary.h", "traffic.h"):
    ffi.cdef((here / header).read_text())
ffi.set_source(
    "jail._core",
    '#include <stdint.h>\n#include "boundary.h"\n#include "traffic.h"\n',
    sources=["csrc/spawn.c", "csrc/traffic.c", "csrc/piece.c"],
    include_dirs=["csrc"],
    depends=sorted(f"csrc/{header.name}" for header in here.glob("*.h")),
    extra_compile_args=FLAGS,
    py_limited_api=True,
)
