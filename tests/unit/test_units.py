"""
Sizes and durations as text. `jail.units`.
"""

import math

import pytest

from jail.errors import PolicyError
from jail.units import (
    MAX_BYTES,
    MAX_CPUS,
    MAX_SECONDS,
    parse_bytes,
    parse_cpus,
    parse_seconds,
    render_age,
    render_bytes,
    render_seconds,
    render_size,
    render_value,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (4096, 4096),
        (MAX_BYTES, MAX_BYTES),
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("512M", 536870912),
        ("512m", 536870912),
        ("512MiB", 536870912),
        ("1.5G", 1610612736),
        ("2T", 2199023255552),
        ("0.1K", 102),
        ("0.3", 0),
    ],
)
def test_allow_bytes(value, expected):
    """
    A size is a number of bytes or text with a power of 1024, and a fraction of a byte is dropped.
    """
    assert expected == parse_bytes(value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "not a size"),
        (None, "not a size"),
        (1.5, "not a size"),
        (math.nan, "not a size"),
        (b"512M", "not a size"),
        ([512], "not a size"),
        (-1, "negative"),
        (MAX_BYTES + 1, "more than the kernel can count"),
        pytest.param(10**5000, "more than the kernel can count", id="5001_digits"),
        ("8388608T", "more than the kernel can count"),
        ("9" * 40, "more than the kernel can count"),
        ("9" * 41, "not understood"),
        ("", "not understood"),
        ("M", "not understood"),
        ("-1M", "not understood"),
        ("+1M", "not understood"),
        ("1e3", "not understood"),
        ("1_000", "not understood"),
        ("0x10", "not understood"),
        (" 1M", "not understood"),
        ("1M\n", "not understood"),
        ("1  M", "not understood"),
        (".5M", "not understood"),
        ("1.M", "not understood"),
        ("nan", "not understood"),
        ("\u0665M", "not understood"),  # ARABIC-INDIC DIGIT FIVE, which int() takes
        ("1Q", "no unit of size"),
        ("1P", "no unit of size"),
        ("1\u212a", "not understood"),  # KELVIN SIGN, whose lower case is k
        ("1MB", "write M or MiB"),
        ("1kb", "write K or KiB"),
    ],
)
def test_refuse_bytes(value, why):
    """
    What is not clearly a size is refused, and the message says what would be one.
    """
    with pytest.raises(PolicyError, match=why):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (3, 3.0),
        (1.5, 1.5),
        (MAX_SECONDS, float(MAX_SECONDS)),
        ("90s", 90.0),
        ("90 s", 90.0),
        ("1.5", 1.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("500ms", 0.5),
        ("0.1", 0.1),
        ("0.7m", 42.0),
        ("1.1h", 3960.0),
    ],
)
def test_allow_seconds(value, expected):
    """
    A duration is a number of seconds or text with a unit, and is the float closest to what was written.
    """
    parsed = parse_seconds(value)

    assert (expected, float) == (parsed, type(parsed))


def test_allow_negative_zero_as_zero():
    """
    -0.0 equals 0.0, so it becomes 0.0 and is shown without a sign.
    """
    assert "0s" == render_seconds(parse_seconds(-0.0))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "not a duration"),
        (None, "not a duration"),
        (b"1s", "not a duration"),
        ({}, "not a duration"),
        (-1, "negative"),
        (-0.5, "negative"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        (1e300, "more than 9223372036 seconds"),
        (10**400, "more than 9223372036 seconds"),  # float() would raise OverflowError
        ("9" * 40, "more than 9223372036 seconds"),
        ("nan", "not understood"),
        ("inf", "not understood"),
        ("-1s", "not understood"),
        ("1e3", "not understood"),
        ("1M", "no unit of time"),
        ("1 hour", "no unit of time"),
        ("1h30m", "not understood"),
        ("", "not understood"),
    ],
)
def test_refuse_seconds(value, why):
    """
    What is not clearly a duration is refused, and the message says what would be one.
    """
    with pytest.raises(PolicyError, match=why):
        parse_seconds(value)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0"), (1, "1"), (1000, "1000"), (1024, "1K"), (1536, "1536"), (3 * 2**30, "3G"), (2**50, "1024T")],
)
def test_report_bytes(count, expected):
    """
    A size is shown in the largest unit that leaves nothing over.
    """
    assert expected == render_bytes(count)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0s"),
        (90.0, "90s"),
        (120.0, "2m"),
        (7200.0, "2h"),
        (0.5, "500ms"),
        (1.25, "1.25s"),
        (0.0001, "0.0001s"),
        (1e-9, "0.000000001s"),
    ],
)
def test_report_seconds(seconds, expected):
    """
    A duration is shown exactly, and without an exponent.
    """
    assert expected == render_seconds(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7300, "2h"), (86400 * 400, "400d")],
)
def test_report_age(seconds, expected):
    """
    An age has one unit, and is none where a clock was set back.
    """
    assert expected == render_age(seconds)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10_240, "10 KiB"),
        (1_048_575, "1024 KiB"),
        (217_989_120, "208 MiB"),
        (3 << 30, "3 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_report_size(count, expected):
    """
    A size for people has three digits or four, and a unit.
    """
    assert expected == render_size(count)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("512Q", "'512Q'"),
        ("a\nb\x1b[31m\0", r"'a\nb\x1b[31m\x00'"),
        ("\udcff", r"'\udcff'"),
        ("x" * 61, f"'{'x' * 60}'..."),
        (True, "True"),
        (None, "None"),
        (2**128 - 1, str(2**128 - 1)),
        pytest.param(10**5000, "an integer of 16610 bits", id="5001_digits"),
        (["secret"], "a list"),
        (("secret",), "a list"),
        ({"a": 1}, "a table"),
        ({"a"}, "a set"),
    ],
)
def test_report_value(value, expected):
    """
    An error shows a value short and printable, and never a container's content or 5000 digits.
    """
    assert expected == render_value(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (1, 1.0),
        (1.5, 1.5),
        (MAX_CPUS, 8192.0),
        ("0", 0.0),
        ("2", 2.0),
        ("1.5", 1.5),
        ("0.1", 0.1),
        ("00.50", 0.5),
        ("1 ", 1.0),
        (1e-300, 1e-300),
    ],
)
def test_allow_cpus(value, expected):
    """
    A number of processors is a number, or text of one without a unit; a part of one is the nearest float.
    """
    assert expected == parse_cpus(value)
    assert float is type(parse_cpus(value))


def test_allow_no_cpus_without_a_sign():
    """
    -0.0 is 0.0, so that equal policies are of the same text.
    """
    assert 1.0 == math.copysign(1.0, parse_cpus(-0.0))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "not a number of processors"),
        (None, "not a number of processors"),
        (b"1", "not a number of processors"),
        ([1], "not a number of processors"),
        (1j, "not a number of processors"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        (-1, "negative"),
        (-1e-9, "negative"),
        (MAX_CPUS + 1, "more than 8192 processors"),
        (8192.5, "more than 8192 processors"),
        pytest.param(10**5000, "more than 8192 processors", id="5001_digits"),
        ("8193", "more than 8192 processors"),
        ("9" * 40, "more than 8192 processors"),
        ("9" * 41, "not understood"),
        ("1.5 cores", "has a unit: write how many processors"),
        ("2m", "has a unit"),
        ("50%", "not understood"),
        ("", "not understood"),
        ("half", "not understood"),
        ("-1", "not understood"),
        ("1e1", "not understood"),
        ("1/2", "not understood"),
        (" 1", "not understood"),
        ("1\n", "not understood"),
        (".5", "not understood"),
        ("1.", "not understood"),
        ("inf", "not understood"),
        ("\u0665", "not understood"),
    ],
)
def test_refuse_cpus(value, why):
    """
    What is not clearly a number of processors is refused, in a line that can be printed.
    """
    with pytest.raises(PolicyError, match=why) as caught:
        parse_cpus(value)

    assert str(caught.value).isprintable()
