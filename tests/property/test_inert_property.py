"""
What holds for every stream of bytes. `jail.inert`.
"""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jail.inert import MAX_GROWTH, Inert

# What any control, character or cut of one is made of, beside bytes of all kinds.
PARTS = [
    b"\r", b"\n", b"\r\n", b"\t", b"\b", b"\x1b[", b"\x07", b"\x7f", b"a", b"\x9b", b"\x80", b"\xc2", b"\xc2\x9b",
    b"\xe2", b"\xe2\x80", b"\xe2\x80\xae", b"\xae", b"\xa9", b"\xa0", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xf4",
    b"\xf5", b"\xff",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(PARTS) | st.binary(max_size=8), max_size=30).map(b"".join)

# Not made from the module's own table. A lone byte 80-9F is \udc80-\udc9f to "surrogateescape".
OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udc9f]|\r(?!\n)")


def inert(*pieces):
    """
    A stream, in pieces.
    """
    stream = Inert()
    return b"".join([*map(stream.feed, pieces), stream.finish()])


@given(stream=STREAMS)
def test_nothing_is_left_to_obey(stream):
    """
    What comes out has no control in it, as a character or as a byte of its own, that is not a line end or tab.
    """
    assert None is OBEYED.search(inert(stream).decode("utf-8", "surrogateescape"))


@given(stream=STREAMS, cuts=st.lists(st.integers(min_value=0, max_value=200)))
def test_pieces_do_not_matter(stream, cuts):
    """
    However a stream is cut, also into empty pieces and single bytes, the same comes out.
    """
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(places)]

    assert inert(stream) == inert(*pieces)
    assert inert(stream) == inert(*(bytes([byte]) for byte in stream))


@given(stream=STREAMS)
def test_twice_is_once(stream):
    """
    What is inert stays as it is.
    """
    assert inert(stream) == inert(inert(stream))


@given(stream=STREAMS)
def test_growth_is_bounded(stream):
    """
    Nothing is lost, and no flood becomes a larger one than the module says.
    """
    assert len(stream) <= len(inert(stream)) <= MAX_GROWTH * len(stream)


@given(
    stream=st.lists(st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))) | st.just("\r\n")).map(
        "".join
    )
)
def test_text_is_kept(stream):
    """
    Characters that are printed, and line ends, come out as they are.
    """
    assert stream.encode() == inert(stream.encode())
