"""
What can go wrong, sorted by whose fault it is.

::

    JailError                        base; never raised itself
    ├── PolicyError (ValueError)     the request makes no sense; raised before anything starts
    ├── UnsupportedError             this host cannot keep a guarantee that was asked for
    ├── SetupError (OSError)         a system call failed while the sandbox was being built
    ├── MeasurementError             the program ran; a number about it could not be read
    └── ProgramError                 raised by Result.check(), and by nothing else: the program failed

What the *program* did is never an exception of ``run``: it is `Result.outcome`.
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Result

__all__ = [
    "JailError",
    "MeasurementError",
    "PolicyError",
    "ProgramError",
    "SetupError",
    "UnsupportedError",
]


class JailError(Exception):
    """
    Base of every error that this library raises on its own account.
    """


class PolicyError(JailError, ValueError):
    """
    The policy is wrong: an unknown key, a bad type, unit or path, a rule that contradicts another.

    Args:
        message: what is wrong and what would be right.
        key: the policy key at fault, or None when it is the document as a whole.
        source: ``file:line`` where the value was written, or None for a keyword argument.
    """

    def __init__(self, message: str, *, key: str | None = None, source: str | None = None) -> None:
        self.key = key
        self.source = source
        place = ": ".join(part for part in (source, key) if part)
        super().__init__(f"{place}: {message}" if place else message)


class UnsupportedError(JailError):
    """
    This host cannot keep a guarantee, and the caller did not waive it.

    Args:
        feature: the guarantee's name, as `waive` takes it, or the feature that is absent.
        needs: what would keep it ("Landlock ABI 2, Linux 5.19").
        found: what this host has instead.
        cure: a command or setting that would help, or None.
    """

    def __init__(self, feature: str, *, needs: str, found: str, cure: str | None = None) -> None:
        self.feature = feature
        self.needs = needs
        self.found = found
        self.cure = cure
        text = f"{feature}: needs {needs}; found {found}."
        super().__init__(f"{text} {cure}" if cure else text)


class SetupError(JailError, OSError):
    """
    A system call failed while the sandbox was being built, or while a program in it was being started.

    Being our own class it is not turned into ``PermissionError`` and its kin: look at `errno`.

    Args:
        op: what was being done, in the plan's words ("bind /usr", "exec").
        syscall: the call that failed ("move_mount(2)").
        errno: the kernel's answer, a positive number.
        path: the file it was about, or None.
        hint: what to do about it, or None.
    """

    def __init__(
        self, op: str, *, syscall: str, errno: int, path: str | None = None, hint: str | None = None
    ) -> None:
        name = _errno.errorcode.get(errno, str(errno))
        text = f"{op}: {syscall}: {name}"
        super().__init__(errno, f"{text}. {hint}" if hint else text)
        self.op = op
        self.syscall = syscall
        self.path = path
        self.hint = hint

    def __str__(self) -> str:
        return str(self.strerror)


class MeasurementError(JailError):
    """
    The program ran, but a number about it could not be read. The message shows the text that was found.
    """


class ProgramError(JailError):
    """
    The program did not exit with 0; raised by `Result.check` only.

    Args:
        result: what it did.
    """

    def __init__(self, result: Result[Any]) -> None:
        self.result = result
        tail = result.stderr.text.strip()[-400:]
        text = f"{result.args[0]}: {result.outcome}"
        super().__init__(f"{text}: {tail}" if tail else text)
