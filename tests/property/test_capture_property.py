"""
What holds for every stream that is kept, however it comes. `jail.capture`
"""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jail import capture
from jail.capture import Channel, Kept

STREAMS = st.binary(max_size=300) | st.text(max_size=100).map(str.encode)
LIMITS = st.integers(min_value=0, max_value=310)
CUTS = st.lists(st.integers(min_value=0, max_value=300), max_size=20)
HANDLERS = st.sampled_from(["replace", "ignore", "surrogateescape", "backslashreplace"])


def split(stream, cuts):
    """
    A stream in pieces, empty ones among them.
    """
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(places)]


def kept(limit, pieces):
    """
    What is kept of these.
    """
    stream = Kept(limit)
    for piece in pieces:
        stream.add(piece)
    return stream.output()


@given(stream=STREAMS, limit=LIMITS, cuts=CUTS, block=st.integers(min_value=1, max_value=64))
def test_head_and_tail(stream, limit, cuts, block):
    """
    Whatever the pieces and the blocks: the beginning and the end, and all that is missing is counted.
    """
    usual, capture._BLOCK_BYTES = capture._BLOCK_BYTES, block
    try:
        seen = kept(limit, split(stream, cuts))
    finally:
        capture._BLOCK_BYTES = usual
    tail = 0 if len(stream) <= limit else limit // 2
    head = stream[: limit - tail]

    assert head + stream[len(stream) - tail :] == seen
    assert len(stream) == len(seen) + seen.dropped
    assert (seen.dropped > 0, min(len(stream), limit - limit // 2)) == (seen.truncated, seen.cut)


@given(stream=STREAMS, limit=LIMITS, cuts=CUTS)
def test_pieces_do_not_matter(stream, limit, cuts):
    """
    However a stream is cut, also into single bytes, the same is kept, with the same text.
    """
    whole = kept(limit, [stream])
    for pieces in (split(stream, cuts), [bytes([byte]) for byte in stream]):
        seen = kept(limit, pieces)
        assert (whole, whole.dropped, whole.cut) == (seen, seen.dropped, seen.cut)
        assert whole.text == seen.text


@given(stream=STREAMS, cuts=CUTS, errors=HANDLERS)
def test_text_of_pieces(stream, cuts, errors):
    """
    The pieces of text that a sink is given are the text of the whole.
    """
    given = []
    channel = Channel(limit=0, sink=given.append, decode=("utf-8", errors))
    for piece in split(stream, cuts):
        channel.take(piece)
    channel.finish()

    assert stream.decode("utf-8", errors) == "".join(given)
    assert "" not in given


@given(text=st.text(min_size=1, max_size=100), limit=LIMITS)
def test_text_is_not_garbled(text, limit):
    """
    Of valid text no character becomes another one by the cut: a beginning and an end of it are left.
    """
    stream = text.encode()
    seen = kept(limit, [stream])
    shown = seen.as_text("utf-8", "strict")
    gap = f"\n[{seen.dropped} bytes dropped]\n"
    pairs = [(shown[:n], shown[n + len(gap) :]) for n in range(len(shown)) if shown.startswith(gap, n)]

    assert (
        shown == text if not seen.dropped else any(text.startswith(a) and text.endswith(b) for a, b in pairs)
    )
