"""
A program's output as text, and made inert, wherever it goes. `jail.capture`, `jail.inert`
"""

import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
ESCAPES = r"\033]0;x\007é"
INERT = "^[]0;x^Gé".encode()


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        pytest.param(r"\303\251\n", {}, "é\n", id="utf_8"),
        pytest.param(r"no newline", {}, "no newline", id="no_newline"),
        pytest.param(r"a\r\nb\rc", {}, "a\r\nb\rc", id="line_ends_stay"),
        pytest.param(r"a\377b\303", {}, "a\ufffdb\ufffd", id="invalid_and_cut"),
        pytest.param(r"a\377", {"errors": "surrogateescape"}, "a\udcff", id="errors"),
        pytest.param(r"a\377", {"errors": "backslashreplace"}, r"a\xff", id="escaped"),
        pytest.param(r"\351", {"encoding": "latin-1"}, "é", id="encoding"),
    ],
)
def test_text(written, options, expected, box):
    """
    With text=True output is text by the codec and error handler that were asked for; bytes stay bytes.
    """
    raw = box.run(["printf", written])
    pieces = []
    box.run(["printf", written], text=True, on_stdout=pieces.append, **options)

    assert expected == box.run(["printf", written], text=True, **options).stdout
    assert expected == box.popen(["printf", written], text=True, **options).communicate()[0]
    assert expected == "".join(pieces)
    assert options or expected == raw.stdout.text


def test_text_that_cannot_be_read(box):
    """
    The strict error handler raises, as with subprocess; the program has run.
    """
    with pytest.raises(UnicodeDecodeError):
        box.run(["printf", r"\377"], text=True, errors="strict")


def test_text_pieces(box):
    """
    No piece of text ends within a character, wherever the bytes were cut.
    """
    written = "x" + "€😀" * 30_000
    code = "import os; data = ('x' + '€😀' * 30_000).encode()\nwhile data: data = data[os.write(1, data) :]"
    pieces = []
    result = box.run([*PYTHON, code], text=True, on_stdout=pieces.append)

    assert (0, "", True) == (result.exit_code, result.stdout, written == "".join(pieces))
    assert len(pieces) > 1


def arrived(box, kind, **fields):
    """
    What comes of control characters on their way to somewhere.
    """
    cmd = ["printf", ESCAPES]
    if kind == "kept":
        return box.run(cmd, **fields).stdout
    if kind == "popen":
        return box.popen(cmd, **fields).communicate()[0]
    pieces = []
    box.run(cmd, on_stdout=pieces.append, **fields)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", ["kept", "popen", "function"])
def test_inert(kind, box):
    """
    With inert_output control characters are made visible wherever the output comes by us; otherwise they are kept.
    """
    assert INERT.replace(b"^[", b"\x1b").replace(b"^G", b"\a") == arrived(box, kind)
    assert INERT == arrived(box, kind, inert_output=True)


def test_refuse_inert(box):
    """
    What does not come by us cannot be made inert: the caller's own pipes are refused.
    """
    for given in (jail.PIPE, 1):
        with pytest.raises(jail.PolicyError, match="inert_output and stdout exclude each other") as caught:
            box.popen(["true"], stdout=given, inert_output=True)
        assert "inert_output" == caught.value.key
