"""
What type checkers know of the extension: csrc/boundary.h says what is in it, and the C compiler checks that.
"""

from typing import Any

ffi: Any

class _Lib:
    def jail_spawn(self, spawn: Any, /) -> int: ...
    def jail_landlock_abi(self) -> int: ...
    def jail_seccomp_action(self, action: int, /) -> int: ...
    def jail_clone3(self) -> int: ...

lib: _Lib
