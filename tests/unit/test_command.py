"""
What a call of run and popen is understood as, and what is refused. `jail.command`, subprocess
"""

import subprocess
from pathlib import PurePosixPath

import pytest

import jail
from jail import wire
from jail.command import ExecFields, parse_exec
from jail.limits import UNBOUNDED, Bounds
from jail.ops import Op, OpKind
from jail.tighten import TighterFields
from jail.wire import ExecFlag

DEFAULTS = {
    "env": {"PATH": "/bin", "LANG": "C"},
    "directory": "/home/jail",
    "timeout": 60.0,
    "grace": 2.0,
    "ops": (Op(OpKind.NO_NEW_PRIVS),),
    "guarantees": (),
    "bounds": Bounds(memory=1 << 30, cpu_seconds=9.0),
    "watched": Bounds(memory=1 << 20),
    "grouped": Bounds(processes=7),
}
SURROGATE = "\udc80"


class File:
    """
    What has a descriptor.
    """

    def fileno(self):
        """
        Its number.
        """
        return 7


def parse(cmd="true", *, text=False, background=False, last=False, **fields):
    """
    An exec with defaults of this file.
    """
    return parse_exec(cmd, fields, DEFAULTS, text=text, background=background, last=last)


def test_defaults():
    """
    Without keywords a program has what its sandbox has, an empty input, and 64 MiB of each stream kept.
    """
    seen = parse()

    assert (["true"], DEFAULTS["env"], "/home/jail") == (seen.args, seen.env, seen.directory)
    assert (60.0, 2.0, 64 << 20) == (seen.timeout, seen.grace, seen.output_limit)
    assert [None] * 6 == [seen.input, seen.stdin, seen.stdout, seen.stderr, seen.on_stdout, seen.on_stderr]
    assert (None, None, False, False, False) == (
        seen.decode, seen.size, seen.inert, seen.background, seen.last
    )  # fmt: skip
    assert [DEFAULTS[name] for name in ("ops", "bounds", "watched", "grouped")] == [
        seen.ops, seen.bounds, seen.watched, seen.grouped
    ]  # fmt: skip
    assert seen.timeline is None


def test_none_is_the_default():
    """
    None is as good as nothing said, for each keyword that may be None.
    """
    names = ("input", "stdin", "stdout", "stderr", "on_stdout", "on_stderr", "cwd", "env", "timeout", "grace")

    assert parse() == parse(**dict.fromkeys((*names, "output_limit", "timeline")))


def test_constants_of_subprocess():
    """
    The constants of subprocess are ours.
    """
    ours = jail.PIPE, jail.STDOUT, jail.DEVNULL

    assert (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL) == ours
    seen = parse(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (jail.DEVNULL, jail.PIPE, jail.STDOUT) == (seen.stdin, seen.stdout, seen.stderr)


@pytest.mark.parametrize(
    ("cmd", "shell", "expected"),
    [
        ("ls -l", False, ["ls -l"]),
        (b"ls", False, [b"ls"]),
        (PurePosixPath("/bin/ls"), False, ["/bin/ls"]),
        (["ls", b"-l", PurePosixPath("/a")], False, ["ls", b"-l", "/a"]),
        (("ls",), False, ["ls"]),
        ("ls -l", True, ["/bin/sh", "-c", "ls -l"]),
        (b"ls -l", True, ["/bin/sh", "-c", b"ls -l"]),
    ],
)
def test_command(cmd, shell, expected):
    """
    A string is a program's name, or with shell=True a line; a list is a program and its arguments.
    """
    assert expected == parse(cmd, shell=shell).args


@pytest.mark.parametrize(
    ("keyword", "name", "given", "expected"),
    [
        ("timeout", "timeout", "500ms", 0.5),
        ("timeout", "timeout", 0, 0.0),
        ("grace", "grace", "2m", 120.0),
        ("grace", "grace", 0, 0.0),
        ("output_limit", "output_limit", "1M", 1 << 20),
        ("output_limit", "output_limit", 0, 0),
        ("output_limit", "output_limit", 2**63 - 1, 2**63 - 1),
        ("cwd", "directory", PurePosixPath("/a"), "/a"),
        ("env", "env", {"LANG": "de", "A": ""}, {"PATH": "/bin", "LANG": "de", "A": ""}),
        ("stdin", "stdin", 0, 0),
        ("stdin", "stdin", File(), 7),
        ("stdout", "stdout", File(), 7),
        ("stderr", "stderr", File(), 7),
        ("on_stdout", "on_stdout", print, print),
        ("on_stderr", "on_stderr", print, print),
        ("inert_output", "inert", True, True),
        ("timeline", "timeline", 0.005, 0.005),
        ("timeline", "timeline", "50ms", 0.05),
    ],
)
def test_keyword(keyword, name, given, expected):
    """
    Each keyword is what the exec has, in its own units.
    """
    assert expected == getattr(parse(**{keyword: given}), name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pty": True}, (24, 80)),
        ({"pty": True, "size": (1, 65535)}, (1, 65535)),
        ({"pty": True, "size": [65535, 1]}, (65535, 1)),
        ({"pty": False}, None),
    ],
)
def test_size(given, expected):
    """
    A terminal is 24 by 80 unless it is said to be of another size.
    """
    assert expected == parse(**given).size


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"input": b"\xff"}, b"\xff"),
        ({"input": ""}, b""),
        ({"input": "é"}, b"\xc3\xa9"),
        ({"input": "é", "text": True}, b"\xc3\xa9"),
        ({"input": "é", "text": True, "encoding": "latin-1"}, b"\xe9"),
        ({"input": "a", "text": True, "encoding": "utf-16-be"}, b"\0a"),
        ({"input": b"\xff", "text": True}, b"\xff"),
        ({"input": SURROGATE, "text": True, "errors": "surrogateescape"}, b"\x80"),
    ],
)
def test_input(options, expected):
    """
    Text is encoded as the output is decoded, bytes are passed on as they are.
    """
    assert expected == parse(**options).input


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"encoding": "latin-1"}, None),
        ({"text": True}, ("utf-8", "replace")),
        ({"text": True, "encoding": "latin-1", "errors": "strict"}, ("latin-1", "strict")),
    ],
)
def test_decode(options, expected):
    """
    Only with text=True there is a codec: UTF-8 that replaces, unless another is named.
    """
    assert expected == parse(**options).decode


@pytest.mark.parametrize("name", ["bogus", "universal_newlines", "preexec_fn", "profile", "text", "bufsize"])
def test_unknown_keyword(name):
    """
    What is no keyword is a TypeError that names it, as in any call.
    """
    with pytest.raises(TypeError) as caught:
        parse_exec("true", {name: None}, DEFAULTS)

    assert f"run() and popen() take no keyword {name!r}" == str(caught.value)
    assert set() == {name} & (ExecFields.__annotations__.keys() | TighterFields.__annotations__.keys())


def header(**fields):
    """
    The numbers at the beginning of an exec's request, as they are sent.
    """
    names = ("files argc envc text_len ops data_len flags rows columns tasks "
             "timeout_ns grace_ns memory cpu_ns sample_ns").split()  # fmt: skip
    in_cgroup = fields.pop("in_cgroup", False)
    return dict(zip(names, wire.EXEC.unpack_from(parse(**fields).encode(in_cgroup=in_cgroup)), strict=True))


def test_request_says_what_jail_init_is_to_keep():
    """
    A program's own limits go to `jail-init` where that keeps them, and its processor time does always.
    """
    said = header(timeline="10ms")

    assert (1 << 20, 0, 9_000_000_000) == (said["memory"], said["tasks"], said["cpu_ns"])
    assert (60_000_000_000, 2_000_000_000, 10_000_000) == (
        said["timeout_ns"], said["grace_ns"], said["sample_ns"]
    )  # fmt: skip
    assert (1, 0) == (said["ops"], said["flags"])


def test_request_says_nothing_of_limits_that_are_not_there():
    """
    The control: 0 is no limit, and the bounds of the sandbox are not this program's to be watched for.
    """
    unbounded = dict.fromkeys(("bounds", "watched", "grouped"), UNBOUNDED)
    plain = parse_exec("true", {}, {**DEFAULTS, **unbounded})
    bounded = parse_exec("true", {}, {**DEFAULTS, **unbounded, "bounds": Bounds(memory=1, processes=1)})

    assert (0, 0, 0) == wire.EXEC.unpack_from(plain.encode())[12:]
    assert plain.encode() == bounded.encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0),
        ({"in_cgroup": True}, ExecFlag.CGROUP),
        ({"in_cgroup": True, "pty": True}, ExecFlag.CGROUP | ExecFlag.TERMINAL),
        ({"background": True}, ExecFlag.PIDFD),
        ({"last": True}, ExecFlag.LAST),
    ],
)
def test_request_says_how_it_is_started(given, expected):
    """
    One flag for each way of starting: among them, that the directory of a cgroup comes along.
    """
    assert expected == header(**given)["flags"]
