"""
Sizes and durations: numbers with a unit, as people write them and as they are shown.

Pure. ``parse_`` is text or number to value, ``render_`` is value to text, and each pair is exact:
what was rendered parses back to the same value. (`render_age` and `render_size` have no such pair: they are for reading.) Arithmetic is on integers, so that "0.1s" is the
float closest to a tenth.
"""

from __future__ import annotations

import math
import re

from .errors import PolicyError

__all__ = [
    "MAX_BYTES",
    "MAX_CPUS",
    "MAX_SECONDS",
    "parse_bytes",
    "parse_cpus",
    "parse_seconds",
    "render_bytes",
    "render_seconds",
    "render_size",
    "render_value",
]

# CONFIG_NR_CPUS at most, on any architecture.
MAX_CPUS = 8192
# What loff_t and rlim_t can hold, and what cgroup files take. Unit: bytes.
MAX_BYTES = 2**63 - 1
# A duration crosses to C as signed 64-bit nanoseconds: 292 years. Unit: seconds.
MAX_SECONDS = (2**63 - 1) // 10**9

# Powers of 1024 under the bare letters, as systemd.resource-control(5) and Docker's --memory read
# them. "MB" is left out on purpose: it is 1000 * 1000 to SI and 1024 * 1024 to Docker, and a limit
# should not depend on who reads it.
_BYTES = {
    "": 1, "b": 1,
    "k": 2**10, "kib": 2**10,
    "m": 2**20, "mib": 2**20,
    "g": 2**30, "gib": 2**30,
    "t": 2**40, "tib": 2**40,
}  # fmt: skip
_BYTES_WANTED = 'write bytes, or a number with K, M, G or T, powers of 1024: "512M", "1.5G", "64KiB"'

# Unit -> (numerator, denominator) of a second.
_SECONDS = {"": (1, 1), "ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1)}
_SECONDS_WANTED = 'write seconds, or a number with ms, s, m or h: "90s", "1.5", "2m", "500ms"'

_CPUS_WANTED = 'write how many processors, such as "1.5"'

# ASCII digits only: \d and int() also take other scripts' digits. Forty of them hold any float in
# range exactly enough, and stay far below the length at which int() refuses (4300).
_NUMBER = re.compile(r"(?P<whole>[0-9]{1,40})(?:\.(?P<fraction>[0-9]{1,40}))? ?(?P<unit>[A-Za-z]*)")

_LONGEST_SHOWN = 60
_WIDEST_SHOWN_BITS = 128


def parse_bytes(value: object) -> int:
    """
    A number of bytes from an int, or from text such as "512M".

    Pure. A bare letter and its ``iB`` form mean the same power of 1024, in either case. A fraction
    of a byte is dropped: a limit is never rounded up.

    Raises:
        PolicyError: another type (bool and float included), an unknown unit, negative, or more than
            `MAX_BYTES`.

    Source: systemd.resource-control(5), MemoryMax=: "K, M, G or T (with the base 1024)".

    >>> parse_bytes("1.5G"), parse_bytes(4096)
    (1610612736, 4096)
    """
    if isinstance(value, str):
        digits, scale, unit = _split(value, _BYTES_WANTED)
        if unit.lower() not in _BYTES:
            raise _refused(value, _unit_wanted(unit))
        number = digits * _BYTES[unit.lower()] // scale
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise _refused(value, f"is not a size: {_BYTES_WANTED}")
    if number < 0:
        raise _refused(value, "is negative")
    if number > MAX_BYTES:
        raise _refused(value, "is more than the kernel can count, 8 EiB - 1")
    return number


def parse_seconds(value: object) -> float:
    """
    A duration from a number of seconds, or from text such as "90s".

    Pure. Unit: seconds. Units of text are case-sensitive: "M" is no minute.

    Raises:
        PolicyError: another type (bool included), an unknown unit, negative, not finite, or more
            than `MAX_SECONDS`.

    >>> parse_seconds("500ms"), parse_seconds("2m"), parse_seconds(3)
    (0.5, 120.0, 3.0)
    """
    number: int | float
    if isinstance(value, str):
        digits, scale, unit = _split(value, _SECONDS_WANTED)
        if unit not in _SECONDS:
            raise _refused(value, f"has no unit of time that is known here: {_SECONDS_WANTED}")
        numerator, denominator = _SECONDS[unit]
        number = digits * numerator / (scale * denominator)  # int / int rounds correctly
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = value
    else:
        raise _refused(value, f"is not a duration: {_SECONDS_WANTED}")
    if not isinstance(number, int) and not math.isfinite(number):
        raise _refused(value, "is not finite; leave the key out for no limit")
    if number < 0:
        raise _refused(value, "is negative")
    if number > MAX_SECONDS:
        raise _refused(
            value, f"is more than {MAX_SECONDS} seconds, 292 years; leave the key out for no limit"
        )
    return float(number) + 0.0  # -0.0 becomes 0.0


def parse_cpus(value: object) -> float:
    """
    A number of processors, from a number or from text such as "1.5".

    Pure. Less than one is a part of one.

    Raises:
        PolicyError: another type (bool included), a unit, negative, not finite, or more than `MAX_CPUS`.

    >>> parse_cpus("1.5"), parse_cpus(2)
    (1.5, 2.0)
    """
    number: int | float
    if isinstance(value, str):
        digits, scale, unit = _split(value, _CPUS_WANTED)
        if unit:
            raise _refused(value, f"has a unit: {_CPUS_WANTED}")
        number = digits / scale
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = value
    else:
        raise _refused(value, f"is not a number of processors: {_CPUS_WANTED}")
    if not isinstance(number, int) and not math.isfinite(number):
        raise _refused(value, "is not finite; leave the key out for no limit")
    if number < 0:
        raise _refused(value, "is negative")
    if number > MAX_CPUS:
        raise _refused(value, f"is more than {MAX_CPUS} processors; leave the key out for no limit")
    return float(number) + 0.0


def render_bytes(count: int) -> str:
    """
    The shortest exact text of a number of bytes: ``parse_bytes(render_bytes(n)) == n``.

    >>> render_bytes(512 * 2**20), render_bytes(1000)
    ('512M', '1000')
    """
    for letter in "TGMK":
        scale = _BYTES[letter.lower()]
        if count and count % scale == 0:
            return f"{count // scale}{letter}"
    return str(count)


def render_seconds(seconds: float) -> str:
    """
    Exact text of a duration, in the largest unit that leaves a whole number; else decimal seconds,
    never an exponent.

    ``parse_seconds(render_seconds(s)) == s`` for every s that `parse_seconds` gives.

    >>> render_seconds(120.0), render_seconds(90.0), render_seconds(0.5), render_seconds(1.25)
    ('2m', '90s', '500ms', '1.25s')
    """
    for unit in "hm":
        size = _SECONDS[unit][0]
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    if 0 < seconds < 1 and round(seconds * 1000) / 1000 == seconds:
        return f"{round(seconds * 1000)}ms"
    texts = (f"{seconds:.{places}f}" for places in range(41))
    return next((text for text in texts if float(text) == seconds), repr(seconds)) + "s"


def render_age(seconds: float) -> str:
    """
    How long ago something was, in the largest unit that has a whole one of it; not exact.

    >>> render_age(59.9), render_age(7300), render_age(-1)
    ('59s', '2h', '0s')
    """
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def render_size(count: int) -> str:
    """
    A number of bytes as people like to read it, of three digits or four; not exact.

    >>> render_size(1000), render_size(1536), render_size(217_989_120)
    ('1000 B', '1.5 KiB', '208 MiB')
    """
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.3g} {unit}"


def render_value(value: object) -> str:
    """
    A value as an error message shows it: short, printable, and safe for values made to hurt.

    A long integer is described and not printed (int-to-text is refused beyond 4300 digits), and a
    container is named and not shown (its text may be without end, or nested deeper than the
    interpreter's stack).
    """
    if isinstance(value, str):
        text = ascii(value[:_LONGEST_SHOWN])
        return text if len(value) <= _LONGEST_SHOWN else f"{text}..."
    if isinstance(value, int) and value.bit_length() > _WIDEST_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"


def _split(text: str, wanted: str) -> tuple[int, int, str]:
    """
    The digits of "1.5G" as one integer, the power of ten that divides it, and the unit: (15, 10,
    "G").
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _refused(text, f"is not understood: {wanted}")
    fraction = match["fraction"] or ""
    return int(match["whole"] + fraction), 10 ** len(fraction), match["unit"]


def _unit_wanted(unit: str) -> str:
    """
    What to say about a unit of size that is not in the table.
    """
    binary = f"{unit[:-1]}ib".lower()
    if unit[-1:] in "bB" and binary in _BYTES:
        short = unit[0].upper()
        return f"has a unit that is 1000 to some and 1024 to others: write {short} or {short}iB"
    return f"has no unit of size that is known here: {_BYTES_WANTED}"


def _refused(value: object, why: str) -> PolicyError:
    return PolicyError(f"{render_value(value)} {why}")
