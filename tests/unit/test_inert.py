"""
What a terminal would obey becomes text. `jail.inert`.
"""

import pytest

from jail.inert import MAX_GROWTH, Inert, render_inert, render_inert_line


def inert(data):
    """
    A whole stream at once.
    """
    stream = Inert()
    return stream.feed(data) + stream.finish()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"plain text, with spaces\n",
        b"tab\tand newline\n",
        b"line\r\nline\r\n",
        bytes(range(0x20, 0x7F)),
        "naïve café, 漢字, \N{GRINNING FACE}".encode(),
        "\u00a0\u00ad".encode(),  # next to C1, and printable
        "\u0080".encode()[:1] + "À".encode(),  # a lone lead byte, then one whose second byte is 80
        "\N{RIGHT-TO-LEFT MARK}\N{ARABIC LETTER ALEF}\N{ZERO WIDTH JOINER}".encode(),
        b"latin-1: \xe9t\xe9 \xff\xfe",
        b"cut short: \xe6\xbc",
    ],
)
def test_allow_text(text):
    """
    Printable characters of any script, line ends and tabs come out as they went in, and so do bytes that are
    no UTF-8 and no control either.
    """
    assert text == inert(text)


@pytest.mark.parametrize(
    ("act", "shown"),
    [
        pytest.param(b"\x1b]0;root\x07", b"^[]0;root^G", id="title"),
        pytest.param(b"\x1b]52;c;cm0=\x1b\\", b"^[]52;c;cm0=^[\\", id="clipboard"),
        pytest.param(b"\x1bP$qm\x1b\\", b"^[P$qm^[\\", id="decrqss"),
        pytest.param(b"\x05\x1b[c\x1bZ", b"^E^[[c^[Z", id="answerback"),
        pytest.param(b"\x1b[?2004h", b"^[[?2004h", id="bracketed_paste"),
        pytest.param(b"\x07" * 1000, b"^G" * 1000, id="bells"),
        pytest.param(b"\x9b2J\x9d0;x\x9c", b"M-^[2JM-^]0;xM-^\\", id="c1_bytes"),
        pytest.param(b"\xc2\x9b2J\xc2\x85", b"M-^[2JM-^E", id="c1_characters"),
        pytest.param(b"\xe2\x9b2J", b"\xe2M-^[2J", id="c1_byte_after_a_lead"),
        pytest.param(b"\xf0\x9f\x98\xe9", b"\xf0M-^_M-^X\xe9", id="c1_bytes_of_a_cut_character"),
        pytest.param(b"\xc0\x9b\xe0\x82\x9b", b"\xc0M-^[\xe0M-^BM-^[", id="overlong"),
        pytest.param(b"\xed\xa0\x9b", b"\xed\xa0M-^[", id="surrogate"),
        pytest.param(b"a\x00b\x0bc\x0cd\x0e\x7f", b"a^@b^Kc^Ld^N^?", id="other_c0"),
        pytest.param(b"rm x\r# no", b"rm x^M# no", id="return"),
        pytest.param(b"a\r\r\n", b"a^M\r\n", id="return_before_the_end"),
        pytest.param(b"end\r", b"end^M", id="return_at_the_end"),
        pytest.param(b"\n\r", b"\n^M", id="return_after_newline"),
        pytest.param(b"rm x\b\b\b\bls  ", b"rm x^H^H^H^Hls  ", id="backspace"),
        pytest.param("a\u202eb\u2066c\u2069".encode(), b"a<U+202E>b<U+2066>c<U+2069>", id="trojan_source"),
        pytest.param(
            "\u202a\u202b\u202c\u202d".encode(), b"<U+202A><U+202B><U+202C><U+202D>", id="embeddings"
        ),
        pytest.param("\u2067\u2068".encode(), b"<U+2067><U+2068>", id="isolates"),
        pytest.param("a\u2028b\u2029".encode(), b"a<U+2028>b<U+2029>", id="separators"),
    ],
)
def test_deny_control(act, shown):
    """
    What moves the cursor, draws over the line, reorders it, or asks the terminal for anything is shown instead.
    """
    assert shown == inert(act)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0)])
def test_deny_every_control_as_cat_does(code):
    """
    Every control is shown as `LC_ALL=C cat -v` shows its byte; newline and tab are kept.
    """
    base = code & 0x7F
    shown = (b"M-" if code & 0x80 else b"") + b"^" + bytes([base ^ 0x40])

    assert (bytes([code]) if code in b"\t\n" else shown) == inert(bytes([code]))
    assert (bytes([code]) if code in b"\t\n" else shown) == inert(chr(code).encode())


def test_report_at_once_what_is_whole():
    """
    A prompt is not held back, nor is more of a piece than a character or line end that it cuts.
    """
    stream = Inert()

    assert b"$ " == stream.feed(b"$ ")
    assert b"Andr" == stream.feed(b"Andr\xc3")
    assert b"\xc3\xa9" == stream.feed(b"\xa9\r")
    assert b"\r\n" == stream.feed(b"\n")
    assert b"" == stream.finish()


@pytest.mark.parametrize("held", [b"\r", b"\xc2", b"\xe2\x80", b"\xf0\x9f\x98"])
def test_report_what_was_held_at_the_end(held):
    """
    The end gives what was held back, of which nothing is left for another stream.
    """
    stream = Inert()

    assert b"" == stream.feed(held)
    assert inert(held) == stream.finish()
    assert b"" == stream.finish()
    assert b"\n" == stream.feed(b"\n")


def test_report_growth():
    """
    The bound is met by C1 bytes, and by nothing exceeded.
    """
    assert MAX_GROWTH * 1000 == len(inert(b"\x9b" * 1000))


@pytest.mark.parametrize(
    ("text", "lines", "line"),
    [
        ("plain \u00e9", "plain \u00e9", "plain \u00e9"),
        ("\x1b[2J\x07", "^[[2J^G", "^[[2J^G"),
        ("a\tb\r\nc\rd", "a\tb\r\nc^Md", "a^Ib^M^Jc^Md"),
        ("\u202e\x9b", "<U+202E>M-^[", "<U+202E>M-^["),
        ("\udcff\ud800", "\\udcff\\ud800", "\\udcff\\ud800"),
    ],
)
def test_deny_control_in_text(text, lines, line):
    """
    Text as a whole is made inert, whatever Python has in a string; and what is to be one line stays one.
    """
    assert (lines, line) == (render_inert(text), render_inert_line(text))
