"""
What a call of run and popen cannot mean: contradictions and nonsense, each with its key. `jail.command`
"""

import math

import pytest

from jail import DEVNULL, PIPE, STDOUT, PolicyError
from jail.command import parse_exec
from jail.limits import UNBOUNDED

DEFAULTS = {
    "env": {"PATH": "/bin"},
    "directory": "/",
    "timeout": None,
    "grace": 1.0,
    "ops": (),
    "guarantees": (),
    "bounds": UNBOUNDED,
    "watched": UNBOUNDED,
    "grouped": UNBOUNDED,
}


def refused(cmd="true", *, text=False, background=True, **fields):
    """
    The key and the message of the PolicyError.
    """
    with pytest.raises(PolicyError) as caught:
        parse_exec(cmd, fields, DEFAULTS, text=text, background=background)
    return caught.value.key, str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        *(("input", "stdin", {"input": b"", "stdin": given}) for given in (PIPE, DEVNULL, 0)),
        *(("on_stdout", "stdout", {"on_stdout": print, "stdout": given}) for given in (PIPE, DEVNULL, 1)),
        *(("on_stderr", "stderr", {"on_stderr": print, "stderr": given}) for given in (PIPE, STDOUT, 2)),
        *(("pty", "stderr", {"pty": True, "stderr": given}) for given in (PIPE, STDOUT, DEVNULL, 0)),
        *(("pty", "stdin", {"pty": True, "stdin": given}) for given in (0, 5)),
        ("pty", "on_stderr", {"pty": True, "on_stderr": print}),
        ("pty", "input", {"pty": True, "input": b"", "stdout": PIPE}),
        ("input", "stdin", {"pty": True, "input": b"", "stdin": PIPE}),
    ],
)
def test_contradiction(one, other, fields):
    """
    Two keywords that exclude each other are named, and either by itself is fine.
    """
    assert (one, f"{one}: {one} and {other} exclude each other") == refused(**fields)
    for name in (one, other):
        parse_exec("true", {name: fields[name]}, DEFAULTS, background=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"pty": True, "stdin": PIPE, "stdout": PIPE},
        {"pty": True, "stdin": DEVNULL},
        {"pty": True, "input": b""},
        {"pty": True, "on_stdout": print},
        {"pty": False, "stderr": PIPE},
        {"stderr": STDOUT, "on_stdout": print},
    ],
)
def test_no_contradiction(fields):
    """
    What is close to a contradiction and none.
    """
    parse_exec("true", fields, DEFAULTS, background=True)


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_stdout_is_for_stderr(name):
    """
    STDOUT elsewhere than for standard error is refused by the keyword that has it.
    """
    assert (name, f"{name}: STDOUT is a place for standard error alone") == refused(**{name: STDOUT})


@pytest.mark.parametrize("name", ["timeout", "grace", "timeline"])
@pytest.mark.parametrize(
    "given", [-1, -0.001, math.nan, math.inf, True, "", "x", "1M", "1 min", [], b"1", 1 << 70]
)
def test_seconds(name, given):
    """
    What is no time is refused by the keyword that has it.
    """
    assert name == refused(**{name: given})[0]


@pytest.mark.parametrize("given", [0, 0.0049, "4ms"])
def test_timeline_that_is_too_fine(given):
    """
    `jail-init` looks every 5 ms at most, so no sample comes sooner.
    """
    key, why = refused(timeline=given)

    assert ("timeline", True) == (key, why.endswith(" seconds is less than 0.005"))
    parse_exec("true", {"timeline": 0.005}, DEFAULTS)


@pytest.mark.parametrize("given", [-1, 1.5, math.nan, True, "", "x", "1MB", "90s", [], b"1", 2**63])
def test_output_limit(given):
    """
    What is no number of bytes is refused.
    """
    assert "output_limit" == refused(output_limit=given)[0]


@pytest.mark.parametrize(
    "size", [(0, 80), (24, 0), (-1, 80), (65536, 80), (24.5, 80), ("24", "80"), (24,), (1, 2, 3), 24, "ab"]
)
def test_size(size):
    """
    What is no size of a terminal is refused, whatever it is.
    """
    assert "size" == refused(pty=True, size=size)[0]


@pytest.mark.parametrize("given", [{}, {"pty": False}, {"pty": None}])
def test_size_without_a_terminal(given):
    """
    A size without a terminal is refused.
    """
    expected = "size: is a terminal's; give the program one with pty=True"

    assert ("size", expected) == refused(size=(24, 80), **given)


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("given", [-4, -100])
def test_descriptor(name, given):
    """
    A number that is no descriptor's is refused by the keyword that has it.
    """
    assert (name, f"{name}: {given} is no descriptor") == refused(**{name: given})


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"encoding": "no-such-codec"}, "encoding"),
        ({"encoding": ""}, "encoding"),
        ({"encoding": "hex"}, "encoding"),  # bytes to bytes: no text encoding
        ({"encoding": "rot13"}, "encoding"),
        ({"errors": "no-such-handler"}, "errors"),
        ({"errors": "xmlcharrefreplace"}, "errors"),  # for encoding only
        ({"errors": "namereplace"}, "errors"),
    ],
)
def test_codec(options, key):
    """
    What cannot decode is refused before anything starts; and is not looked at where there is no text.
    """
    assert key == refused(text=True, **options)[0]
    parse_exec("true", options, DEFAULTS)


@pytest.mark.parametrize(
    "env", [{"A=": "x"}, {"": "x"}, {"A": "\0"}, {"A\0": "x"}, {"A": 5}, {5: "x"}], ids=repr
)
def test_env(env):
    """
    What cannot be a variable is refused by the keyword.
    """
    assert "env" == refused(env=env)[0]


@pytest.mark.parametrize("given", ["\udc80", "é"])
def test_input_that_cannot_be_encoded(given):
    """
    Text that the codec does not have is refused by its key.
    """
    assert "input" == refused(input=given, text=True, encoding="ascii", errors="strict")[0]


@pytest.mark.parametrize("cmd", [["ls", "-l"], ("ls",), None])
def test_shell(cmd):
    """
    A shell gets one line.
    """
    assert ("cmd", "cmd: with shell=True it is one string, a line for /bin/sh") == refused(cmd, shell=True)
