"""
How the pieces of a stream are passed on. `jail.capture`
"""

import pytest

from jail.capture import Channel


def passed(*pieces, **options):
    """
    What a sink is given, piece by piece, and what is kept beside.
    """
    given = []
    channel = Channel(limit=99, sink=given.append, **options)
    for piece in pieces:
        channel.take(piece)
    channel.finish()
    return given, channel.output()


@pytest.mark.parametrize(
    ("pieces", "options", "expected"),
    [
        ([b"a", b"\xc3", b"\xa9"], {}, [b"a", b"\xc3", b"\xa9"]),
        ([b"a", b"", b"b"], {}, [b"a", b"b"]),
        ([b"a\xc3", b"\xa9"], {"decode": ("utf-8", "strict")}, ["a", "é"]),
        ([b"\xf0", b"\x9f", b"\x98", b"\x80"], {"decode": ("utf-8", "strict")}, ["😀"]),
        ([b"a", b"\xc3"], {"decode": ("utf-8", "replace")}, ["a", "\ufffd"]),
        ([b"a\xff", b"\xc3"], {"decode": ("utf-8", "ignore")}, ["a"]),
        ([b"\xff"], {"decode": ("utf-8", "surrogateescape")}, ["\udcff"]),
        ([b"\0", b"a\0", b"b"], {"decode": ("utf-16-be", "strict")}, ["a", "b"]),
        ([b"\x1b", b"[m\r", b"\n\r"], {"inert": True}, [b"^[", b"[m", b"\r\n", b"^M"]),
        ([b"\x1b\xc3", b"\xa9"], {"inert": True, "decode": ("utf-8", "strict")}, ["^[", "é"]),
    ],
)
def test_sink(pieces, options, expected):
    """
    A sink is given each piece, text in whole characters, with nothing kept and nothing empty.
    """
    assert (expected, b"") == passed(*pieces, **options)


def test_strict_sink():
    """
    The strict error handler raises where it is met: in a piece, or for a character that never ends.
    """
    decode = ("utf-8", "strict")
    with pytest.raises(UnicodeDecodeError):
        passed(b"\xff", decode=decode)
    with pytest.raises(UnicodeDecodeError):
        passed(b"\xc3", decode=decode)


@pytest.mark.parametrize("sink", [None, [].append])
def test_divert(sink):
    """
    What is diverted goes there as bytes, whatever was asked for before; what was kept stays.
    """
    given = []
    channel = Channel(limit=9, sink=sink, decode=("utf-8", "strict"), inert=True)
    channel.take(b"kept")
    channel.divert(given.append)
    for piece in (b"\xc3", b"\xa9", b"\a"):
        channel.take(piece)
    channel.finish()

    assert ("é^G".encode(), b"" if sink else b"kept") == (b"".join(given), channel.output())


def test_inert_is_kept_within_the_limit():
    """
    The limit is for what is kept, after control characters were made visible.
    """
    channel = Channel(limit=4, inert=True)
    channel.take(b"\a\a\a")

    assert (b"^G^G", 2) == (channel.output(), channel.output().dropped)
