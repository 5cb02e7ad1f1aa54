"""
What holds for the page of every run, whatever its program is called and writes. `jail.report`.
"""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from jail.guarantee import Guarantee, Strength
from jail.outcome import Exited
from jail.report import render_report
from jail.result import Output, Result
from jail.usage import Usage

# What tags, attributes, entities, comments and templates are made of, beside characters of all kinds.
PARTS = st.sampled_from(
    [
        *"<>&'\"=/{}%;#x \n\r\t\x00",
        "<script>",
        "</",
        "<!--",
        "-->",
        "]]>",
        "&lt;",
        "&#x3c;",
        "{0}",
        "</style>",
        "\ud800",
    ]
)
TEXTS = st.lists(PARTS | st.text(st.characters(), max_size=5), max_size=12).map("".join)


class Structure(HTMLParser):
    """
    Tags and attributes of a page, without its text.
    """

    def __init__(self, source):
        super().__init__()
        self.found = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        """
        As HTMLParser has it.
        """
        self.found.append((tag, attrs))

    def handle_endtag(self, tag):
        """
        As HTMLParser has it.
        """
        self.found.append(("/", tag))

    def handle_comment(self, data):
        """
        As HTMLParser has it.
        """
        self.found.append(("comment", data))

    def unknown_decl(self, data):
        """
        As HTMLParser has it.
        """
        self.found.append(("declaration", data))


def page(args, written, words, title):
    """
    A page with these texts wherever there is a text.
    """
    usage = Usage(1.0, 1.0, 1.0, 1, sources={"wall_seconds": words}, setup={words: 1.0})
    guarantee = Guarantee(words, words, Strength.KERNEL, words)
    output = Output(written)
    return render_report(Result(args, Exited(0), output, output, usage, (guarantee,)), title=title)


PLAIN = Structure(page(("x",), b"x", "x", "x")).found


@given(
    args=st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
    written=st.binary(min_size=1),
    words=TEXTS,
    title=TEXTS,
)
def test_text_makes_no_tags(args, written, words, title):
    """
    No text adds a tag, an attribute or a comment, or takes one away; and the page can be encoded.
    """
    source = page(args, written, words, title)

    assert PLAIN == Structure(source).found
    assert source.encode()
