"""
What is kept of a stream, and how it is passed on. `jail.capture`, `jail.result`
"""

import copy
import pickle
import tracemalloc

import pytest

from jail.capture import Kept
from jail.result import Output, Text

MANY = 384 << 10  # six blocks; tracemalloc makes each piece slow
LIMIT = 16 << 10


def kept(limit, *pieces):
    """
    What is kept of these pieces: the bytes, how many are missing, and where.
    """
    stream = Kept(limit)
    for piece in pieces:
        stream.add(piece)
    seen = stream.output()
    return bytes(seen), seen.dropped, seen.cut


@pytest.mark.parametrize(
    ("limit", "pieces", "expected"),
    [
        pytest.param(0, [], (b"", 0, 0), id="nothing_of_nothing"),
        pytest.param(0, [b"abc"], (b"", 3, 0), id="limit_0"),
        pytest.param(1, [b"abc"], (b"a", 2, 1), id="limit_1"),
        pytest.param(1, [b"", b"a", b""], (b"a", 0, 1), id="limit_1_exact"),
        pytest.param(2, [b"abc"], (b"ac", 1, 1), id="limit_2"),
        pytest.param(3, [b"ab", b"xy"], (b"aby", 1, 2), id="odd_limit_favours_the_head"),
        pytest.param(4, [b"abcd"], (b"abcd", 0, 2), id="exact"),
        pytest.param(4, [b"abcde"], (b"abde", 1, 2), id="one_too_many"),
        pytest.param(4, [b"a", b"b", b"c", b"d", b"e", b"f"], (b"abef", 2, 2), id="bytes"),
        pytest.param(4, [b"x" * 99, b"end"], (b"xxnd", 98, 2), id="long_then_short"),
        pytest.param(4, [b"x", b"y" * 200_000], (b"xyyy", 199_997, 2), id="longer_than_a_block"),
        pytest.param(9, [b"abc"], (b"abc", 0, 3), id="short"),
    ],
)
def test_head_and_tail(limit, pieces, expected):
    """
    The half of the limit is the beginning, the rest the end; what is in between is counted.
    """
    assert expected == kept(limit, *pieces)


def test_output_of_a_moment():
    """
    What is kept can be asked for at any time, and stays as it was.
    """
    stream = Kept(4)
    seen = [stream.output()]
    for piece in (b"abc", b"defg"):
        stream.add(piece)
        seen.append(stream.output())

    assert [b"", b"abc", b"abfg"] == seen
    assert [0, 0, 3] == [one.dropped for one in seen]


@pytest.mark.parametrize("size", [1, 100, 65535, 65536])
def test_memory(size):
    """
    However small the pieces are, memory is bounded by the limit and a block or two.
    """
    stream = Kept(LIMIT)
    pieces = [bytes([n]) * size for n in range(256)]
    tracemalloc.start()
    for n in range(MANY // size):
        stream.add(pieces[n % 256])
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (LIMIT, MANY // size * size - LIMIT) == (len(stream.output()), stream.output().dropped)
    assert used < 200 << 10
    assert peak < 300 << 10


@pytest.mark.parametrize(
    ("kept", "dropped", "cut", "expected"),
    [
        (b"", 0, 0, ""),
        ("é".encode(), 0, 0, "é"),
        (b"a\xffb\xc3", 0, 0, "a\ufffdb\ufffd"),
        (b"", 3, 0, "\n[3 bytes dropped]\n"),
        (b"ab", 7, 1, "a\n[7 bytes dropped]\nb"),
        (b"a\nb", 7, 2, "a\n\n[7 bytes dropped]\nb"),
        (b"a\xe2\x82\xacb", 7, 4, "a€\n[7 bytes dropped]\nb"),
        (b"a\xe2\x82b", 7, 3, "a\n[7 bytes dropped]\nb"),  # a character that is cut at the head's end
        (b"a\x82\xacb", 7, 1, "a\n[7 bytes dropped]\nb"),  # ... and one at the tail's beginning
        (b"\xf0\x9f\x98\x9f\x98\x80", 7, 3, "\n[7 bytes dropped]\n"),
        (b"a\x80\x80\x80\x80b", 7, 1, "a\n[7 bytes dropped]\n\ufffdb"),  # no character is so long
        (b"a\xffb\xff", 7, 2, "a\ufffd\n[7 bytes dropped]\nb\ufffd"),
    ],
)
def test_text_of_output(kept, dropped, cut, expected):
    """
    A line marks the gap, and a character that the gap has cut is left out.
    """
    output = Output(kept, dropped=dropped, cut=cut)

    assert (expected, dropped, dropped > 0) == (output.text, output.dropped, output.truncated)
    assert (dropped, dropped > 0) == (output.text.dropped, output.text.truncated)


def test_attributes():
    """
    Output is bytes and Text is a string, each with what was dropped.
    """
    output, text = Output(b"ab", dropped=7, cut=1), Text("ab", dropped=7)

    assert (b"ab", 7, 1, True) == (output, output.dropped, output.cut, output.truncated)
    assert ("ab", 7, True, "ab") == (text, text.dropped, text.truncated, text.text)
    assert (b"", "", 0, 0) == (Output(), Text(), Output().dropped, Text().dropped)
    assert (False, False) == (Output(b"ab").truncated, Text("ab").truncated)


@pytest.mark.parametrize(
    "value", [Output(b"ab", dropped=7, cut=1), Text("ab", dropped=7)], ids=["bytes", "text"]
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(value, protocol):
    """
    A pickled or copied output is the same, with all that is known of it.
    """
    for again in (pickle.loads(pickle.dumps(value, protocol)), copy.copy(value), copy.deepcopy(value)):
        assert (type(value), value, 7) == (type(again), again, again.dropped)
        assert value.text == again.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be", "shift_jis", "gb18030"])
def test_cut_of_ours(encoding):
    """
    Where we have cut a character of a valid stream no strict error handler complains.
    """
    for limit in range(40):
        stream = Kept(limit)
        stream.add(("aあい" * 50).encode(encoding))
        text = stream.output().as_text(encoding, "strict")
        assert (True, f"[{text.dropped} bytes dropped]" in text) == (text.truncated, True)
