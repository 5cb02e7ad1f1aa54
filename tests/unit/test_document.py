"""
A TOML text and the lines in it. `jail.document`.
"""

import sys

import pytest

from jail.document import MAX_DOCUMENT_BYTES, parse_document
from jail.errors import PolicyError

# A hang fails instead of holding the suite up. The slowest test takes a tenth of it. Unit: seconds.
pytestmark = pytest.mark.timeout(5)

TEXT = """\
# a comment with "quotes", [brackets] and = signs
description = \"\"\"
read = ["not a key"] \\\""\"
""\"\"\"
read = ["/a", "/b",
    # between
    "/c",

    { path = "/d", optional = true }, "/e"
]
'write' = []
"deny" = ["[", "]",
"," ]
timeout = 1.5
network.first = 1

[env]   # the rest
PATH = '/usr/bin'
"A B" = '''
x = 1
'''
LAST = ""
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("description",), 2),
        (("read",), 5),
        (("read", 0), 5),
        (("read", 1), 5),
        (("read", 2), 7),
        (("read", 3), 9),
        (("read", 4), 9),
        (("read", 5), 5),
        (("write",), 11),
        (("write", 0), 11),
        (("deny", 1), 12),
        (("deny", 2), 13),
        (("timeout",), 14),
        (("network", "first"), 15),
        (("env",), 17),
        (("env", "PATH"), 18),
        (("env", "A B"), 19),
        (("env", "LAST"), 22),
        (("env", "NONE"), 17),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_report_line(place, line, newline):
    """
    A key, item or entry is on the line where it starts, whatever strings and comments look like; one that is not known is
    where its key is.
    """
    document = parse_document(TEXT.replace("\n", newline), "a.toml")

    assert f"a.toml:{line}" == document.locate(*place)


def test_report_source_without_line():
    """
    A key that is nowhere, or was written with escapes, is in the document.
    """
    document = parse_document('"re\\u0061d" = []\n', "a.toml")

    assert {"read": []} == document.fields
    assert "a.toml" == document.locate("read")


@pytest.mark.parametrize(
    ("text", "source", "why"),
    [
        pytest.param("a = 1\na = 2\n", "t:2", "Cannot overwrite", id="duplicate_key"),
        pytest.param("[env]\n[env]\n", "t:2", "twice", id="duplicate_table"),
        pytest.param('env.A = "1"\n[env]\n', "t:2", "twice", id="dotted_and_table"),
        pytest.param("a = [\n1,\n", "t:3", "not TOML", id="end_of_document"),
        pytest.param("a = 'x\nb = 'y'\n", "t:1", "not TOML", id="open_string"),
        pytest.param('a = """\nx\n', "t:3", "not TOML", id="open_long_string"),
        pytest.param("a = '\0'\n", "t:1", "not TOML", id="nul"),
        pytest.param("\0", "t:1", "not TOML", id="nul_alone"),
        pytest.param("read\n", "t:1", "not TOML", id="no_value"),
        pytest.param("]" * 1000, "t:1", "not TOML", id="closing_brackets"),
        pytest.param('\n"a\x1b" = 1\n', "t:2", "not TOML", id="control_character"),
        pytest.param("\ufeffa = 1\n", "t:1", "byte order mark", id="bom"),
        pytest.param("\na = '\udcff'\n", "t:2", "surrogate", id="surrogate"),
        pytest.param("\na = " + "[" * 100_000, "t:2", "more brackets", id="brackets"),
        pytest.param("\na = " + "{a=" * 50_000, "t:2", "more brackets", id="braces"),
        pytest.param(
            "\n" + "[" * 100_000 + "a" + "]" * 100_000, "t:2", "more brackets", id="header_brackets"
        ),
        pytest.param("\na = " + "9" * 100_000, "t:2", "more letters or digits", id="huge_integer"),
        pytest.param("\na = " + "9" * 257, "t:2", "more letters or digits", id="long_integer"),
        pytest.param("\na" + ".a" * 100_000 + " = 1", "t:2", "more dots", id="dotted_key"),
        pytest.param("\n'a'" + " . 'a'" * 40_000 + " = 1", "t:2", "more dots", id="dotted_quoted_key"),
        pytest.param(
            "\n[a" + ".a" * 100_000 + "]\n" + "b=1\n" * 1000, "t:2", "more dots", id="dotted_header"
        ),
        pytest.param("a = {b" + ".a" * 100_000 + " = 1}", "t:1", "more dots", id="dotted_inline"),
        pytest.param("#" * (MAX_DOCUMENT_BYTES + 1), "t", "longer than 256K", id="too_long"),
        pytest.param("# \u20ac" * (MAX_DOCUMENT_BYTES // 4), "t", "longer than 256K", id="too_long_in_bytes"),
        pytest.param("x" * 10_000_000, "t", "longer than 256K", id="10MB"),
    ],
)
def test_refuse_text(text, source, why):
    """
    A text that is not TOML, or that no policy needs, is refused soon and with its line.
    """
    with pytest.raises(PolicyError, match=why) as caught:
        parse_document(text, "t")

    assert source == caught.value.source


def test_refuse_nesting_on_a_short_stack():
    """
    A stack that is nearly used up gives a PolicyError, as every other fault of a document does.
    """
    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 30)
    try:
        with pytest.raises(PolicyError, match="stack"):
            parse_document("a = " + "[" * 14 + "]" * 14, "t")
    finally:
        sys.setrecursionlimit(limit)


def test_refuse_fault_without_line(monkeypatch):
    """
    An error of the parser that names no line, as int() raises, is a PolicyError too.
    """

    def loads(_text):
        return int("9" * 5000)

    monkeypatch.setattr("tomllib.loads", loads)
    with pytest.raises(PolicyError, match="not TOML: Exceeds the limit") as caught:
        parse_document("a = 1", "t")

    assert "t" == caught.value.source


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a = " + "[" * 16 + "]" * 16, id="brackets"),
        pytest.param("a" + ".a" * 15 + " = 1", id="dots"),
        pytest.param("a = " + "0.1, 0.1".join("[]"), id="floats"),
        pytest.param("a = 0b" + "1" * 63, id="digits"),
        pytest.param("a = '" + "." * 100_000 + "'", id="dots_in_text"),
        pytest.param("# " + "[" * 100_000, id="brackets_in_comment"),
        pytest.param("#" * MAX_DOCUMENT_BYTES, id="longest"),
    ],
)
def test_allow_text_within_limits(text):
    """
    The limits are on what is written as structure, and begin where they say.
    """
    assert "t" == parse_document(text, "t").source
