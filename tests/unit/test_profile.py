"""
Policies from documents, files and the profiles that come with the library. `jail.profile`.
"""

import os
import pathlib
import re
import socket

import pytest

import jail
from jail.document import MAX_DOCUMENT_BYTES
from jail.errors import PolicyError
from jail.policy import Policy, PolicyPath
from jail.profile import list_profiles, load_policy, parse_policy

ROOT = pathlib.Path(__file__).parents[2]
PROFILES = sorted(path for path in (ROOT / "profiles").glob("*.toml") if path.stem != "syscalls")

# A hang fails instead of holding the suite up. The slowest test takes a tenth of it. Unit: seconds.
pytestmark = pytest.mark.timeout(5)


@pytest.fixture(autouse=True)
def built_in(monkeypatch):
    """
    Make ``jail.profiles`` of a checkout importable, as it is when the library is installed.
    """
    monkeypatch.setattr(jail, "__path__", [*jail.__path__, str(ROOT)])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """
    A function that writes ``name=text`` files; the working directory is where they are.
    """
    monkeypatch.chdir(tmp_path)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return write


def open_fds():
    return set(os.listdir("/proc/self/fd"))


def refuse(action, why, source=None):
    """
    Run an action that must end in a PolicyError, and leave no fd open.
    """
    before = open_fds()
    with pytest.raises(PolicyError, match=why) as caught:
        action()
    assert before == open_fds()
    if source is not None:
        assert source == caught.value.source
    return caught.value


# The profiles that come with the library.


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_allow_built_in(path):
    """
    Every built-in profile loads, says what it is for, and is the same policy through its text and through TOML.
    """
    policy = load_policy(path.stem)

    assert path.stem in list_profiles()
    assert policy.description == list_profiles()[path.stem]
    assert 40 < len(policy.description)
    assert policy == load_policy(path) == parse_policy(path.read_text()) == parse_policy(policy.to_toml())
    assert policy is Policy.load(path.stem)


def test_report_built_in_names():
    """
    The names are those of the files in profiles/, sorted.
    """
    assert ["agent", "build", "compute", "default"] == list(list_profiles())
    assert [path.stem for path in PROFILES] == list(list_profiles())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", ("none", "read", True, None, None, None, None)),
        ("compute", ("none", "read", True, None, None, None, None)),
        ("build", ("none", "write", True, None, None, None, None)),
        ("agent", ("none", "write", True, None, 2**33, 4096, None)),
    ],
)
def test_report_built_in_promises(name, expected):
    """
    What a profile promises is written down twice, here and in the profile, so that it cannot change by the way.
    """
    policy = load_policy(name)
    keys = ("network", "workspace_access", "interpreter", "disk", "memory", "processes", "timeout")

    assert expected == tuple(getattr(policy, key) for key in keys)
    assert ((), (), ()) == (policy.write, policy.allow_syscalls, policy.waive)


@pytest.mark.parametrize("name", ["default", "compute", "build", "agent"])
def test_deny_secrets_in_built_in(name):
    """
    No profile shows the homes, sockets or secrets of the host, and every path is absolute, so none depends on the caller.
    """
    policy = load_policy(name)
    shown = {path.spelling for path in policy.read}
    hidden = {path.spelling for path in policy.deny}

    assert all(path.path.startswith("/") and path.optional for path in policy.read)
    assert all(path.startswith("/etc/") for path in hidden)
    assert set() == shown & {"/", "/home", "/root", "/run", "/var", "/opt", "/proc", "/sys", "/dev", "/tmp"}
    assert hidden >= {
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/sudoers.d",
        "/etc/ssh/ssh_host_ed25519_key",
    }
    assert () == policy.env
    assert set() == set(policy.pass_env) & {
        "PATH",
        "HOME",
        "USER",
        "TMPDIR",
        "SSH_AUTH_SOCK",
        "LD_PRELOAD",
        "PYTHONPATH",
    }


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_report_reasons_in_built_in(path):
    """
    Each list of a built-in profile has its reasons beside it: a comment before its first line, or in it.
    """
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+ = \[|\[env\]", line):
            assert any(beside.lstrip().startswith("#") for beside in lines[max(0, number - 1) : number + 2])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("agnt", "no profile 'agnt'. Did you mean \"agent\"\\? There are: agent, build, compute, default"),
        ("", "no profile ''"),
        ("..", "no profile"),
        ("default\0", "no profile"),
        ("x" * 100_000, "no profile"),
        ("\udcff", "no profile"),
        (None, "must be a path, as text"),
        (3, "must be a path, as text"),
        (b"default", "must be a path, as text"),
        (Policy(), "must be a path, as text"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_refuse_name(name, why):
    """
    A name that is not there is refused with those that are; and a number is not an open file.
    """
    refuse(lambda: load_policy(name), why)


# Files.


def test_allow_file(write):
    """
    A file is found by text with a slash or an ending, or by any path; its directory is the start of its paths.
    """
    directory = write(
        {"sub/a.toml": 'read = ["x", "/y", "~/z"]\nworkspace = "."\n', "sub/agent": "memory = 1\n"}
    )
    expected = Policy(
        read=[PolicyPath("x", base=f"{directory}/sub"), "/y", "~/z"], workspace=f"{directory}/sub/."
    )

    assert expected == load_policy("sub/a.toml")
    assert expected == load_policy(f"{directory}/sub/a.toml")
    assert expected == Policy.load(pathlib.Path("sub/a.toml"))
    assert expected == parse_policy(expected.to_toml())
    os.chdir("sub")
    assert expected == load_policy("a.toml")
    assert Policy(memory=1) == load_policy("./agent") == load_policy(pathlib.Path("agent"))


def test_allow_home(write, monkeypatch):
    """
    "~" in the name of a file is the caller's home.
    """
    monkeypatch.setenv("HOME", str(write({"a.toml": "memory = 1"})))

    assert Policy(memory=1) == load_policy("~/a.toml")


def test_allow_name_that_is_not_utf8(tmp_path, monkeypatch):
    """
    A file whose name is not UTF-8 loads, and its name can be printed in an error.
    """
    monkeypatch.chdir(tmp_path)
    pathlib.Path("\udcff.toml").write_text("memory = 1")
    pathlib.Path("\udcfe.toml").write_text("memory = 0")

    assert Policy(memory=1) == load_policy("\udcff.toml")
    refuse(lambda: load_policy("\udcfe.toml"), "too small", r"\xfe.toml:1")


@pytest.mark.parametrize(
    ("text", "source", "why"),
    [
        (b"memory = 1\nread = '\xff'\n", "a.toml:2", "byte 0xff is not UTF-8"),
        (b"\xff\xfem\0", "a.toml:1", "byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfmemory = 1\n", "a.toml:1", "byte order mark"),
        (b"\0" * 100, "a.toml:1", "not TOML"),
        (b"memory = 1\nmemory = 2\n", "a.toml:2", "Cannot overwrite"),
        (b"a = " + b"[" * 100_000, "a.toml:1", "more brackets"),
        (b"#" * 10_000_000, "a.toml", "longer than 256K"),
        ("\u20ac".encode() * 100_000, "a.toml", "longer than 256K"),  # cut in the middle of a character
        (b"\nmemry = 1\n", "a.toml:2", 'memry: unknown key. Did you mean "memory"'),
        (b"\nmemory = true\n", "a.toml:2", "memory: True is not a size"),
        (b"\nmemory = 9223372036854775808\n", "a.toml:2", "memory: 9223372036854775808 is more"),
        (b"\nmemory = " + b"9" * 5000, "a.toml:2", "more letters or digits"),
        (b"\nmemory.max = 1\n", "a.toml:2", "memory: a table is not a size"),
        (b"\n[memory]\nmax = 1\n", "a.toml:2", "memory: a table is not a size"),
        (b"\nmemory = 1979-05-27\n", "a.toml:2", "memory: a date is not a size"),
        (b"\ntimeout = inf\n", "a.toml:2", "timeout: inf is not finite"),
        (b"\ntimeout = nan\n", "a.toml:2", "timeout: nan is not finite"),
        (b"\ntimeout = 1e400\n", "a.toml:2", "timeout: inf is not finite"),
        (b'\ntimeout = ""\n', "a.toml:2", "timeout: '' is not understood"),
        (b'\nread = "/a"\n', "a.toml:2", "read: must be a list"),
        (b'read = [\n"/a",\n"",\n]\n', "a.toml:3", "read: is an empty path"),
        (b'read = [\n"/a",\n"/b\\u0000",\n]\n', "a.toml:3", "read: '/b.x00' holds a NUL byte"),
        (b'read = [\n["/a"],\n]\n', "a.toml:2", "read: must be a path, as text, not a list"),
        (b'[[read]]\npath = "/a"\n\n[[read]]\npath = 1\n', "a.toml:1", "read: must be a path, as text, not 1"),
        (b'read = ["/a"]\n\ndeny = [\n"/a"]\n', "a.toml:1", r"read: '/a' is in deny too \(a.toml:4\)"),
        (b'deny = ["/a"]\nread = [\n"/b",\n"/a"]\n', "a.toml:4", r"read: '/a' is in deny too \(a.toml:1\)"),
        (b'env = "A=1"\n', "a.toml:1", "env: must be a table"),
        (b'[env]\nA = "1"\nB = 2\n', "a.toml:3", "env.B: must be text, not 2"),
        (b'[env]\nA = "1"\n"B=" = "2"\n', "a.toml:3", "env.B=: must be the name of a variable"),
        (b'env.A.B = "1"\n', "a.toml:1", "env.A: must be text, not a table"),
        (b'network = [\n"pypi.org:0"]\n', "a.toml:2", "network: 'pypi.org:0': '0' is no port"),
        (b'waive = [\n"memry"]\n', "a.toml:2", 'waive: .*Did you mean "memory"'),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_refuse_content(write, text, source, why):
    """
    Whatever is wrong in a file is refused with its line, that of the list item or variable where it is in one.
    """
    write({"a.toml": text})

    refuse(lambda: load_policy("a.toml"), why, source)


def test_allow_longest(write):
    """
    A file of just the largest size is read whole.
    """
    write({"a.toml": "memory = 1\n".ljust(MAX_DOCUMENT_BYTES, "#")})

    assert Policy(memory=1) == load_policy("a.toml")


def test_refuse_large_file_unread(write, monkeypatch):
    """
    Of a file that is too large, not more is read than tells that it is.
    """
    write({"a.toml": b"#" * 20 * MAX_DOCUMENT_BYTES})
    real, sizes = os.read, []

    def read(fd, size):
        data = real(fd, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "read", read)
    refuse(lambda: load_policy("a.toml"), "longer than 256K", "a.toml")

    assert [MAX_DOCUMENT_BYTES + 1] == sizes


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none.toml", "cannot read 'none.toml': No such file"),
        ("a.toml/b.toml", "Not a directory"),
        ("directory/", "not a regular file"),
        ("./directory", "not a regular file"),
        ("./fifo", "not a regular file"),
        ("./socket", "No such device or address"),
        ("./loop", "Too many levels of symbolic links"),
        ("./dangling", "No such file"),
        ("./to_fifo", "not a regular file"),
        ("/dev/null", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/dev/tty", "not a regular file|No such device or address"),
        ("/proc/self/mem", "Input/output error"),
        ("/proc/self/status", "not TOML"),
        ("./" + "x" * 10_000, "File name too long"),
        ("./\0.toml", "NUL"),
        ("./\ud800.toml", "cannot be the name of a file"),
        ("~nobody/a.toml", "no other user's home"),
        (pathlib.Path("a\0"), "NUL"),
        (pathlib.Path("directory"), "not a regular file"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refuse_file(write, path, why):
    """
    What is missing, or is anything but a regular file, is refused without waiting for it.
    """
    directory = write({"a.toml": "", "directory/x": ""})
    os.mkfifo("fifo")
    os.symlink("fifo", "to_fifo")
    os.symlink("loop", "loop")
    os.symlink("none", "dangling")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        refuse(lambda: load_policy(path), why)


def test_refuse_unreadable(write, monkeypatch):
    """
    What the kernel says when a file cannot be opened is in the message.
    """
    write({"a.toml": ""})

    def denied(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    refuse(lambda: load_policy("a.toml"), "cannot read 'a.toml': Permission denied")


def test_refuse_without_working_directory(tmp_path, monkeypatch):
    """
    A relative path in a directory that is gone is refused as any file that cannot be read.
    """
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    refuse(lambda: load_policy("a.toml"), "No such file or directory")


@pytest.mark.parametrize("text", [None, b"memory = 1", 1, ["memory = 1"]])
def test_refuse_text(text):
    """
    A document that is not text is refused.
    """
    refuse(lambda: parse_policy(text, source="x"), "must be text", "x")


# One document on top of another.


def test_allow_extends(write):
    """
    Lists append, variables merge, scalars are replaced; relative paths are of the file they are written in.
    """
    directory = write(
        {
            "a.toml": 'extends = "sub/b.toml"\nread = ["x", "/r"]\nmemory = "2M"\n[env]\nB = "a"\nC = "a"\n',
            "sub/b.toml": 'extends = "../c.toml"\nread = ["x"]\nmemory = 1\ntimeout = 1\n[env]\nA = "b"\nB = "b"\n',
            "c.toml": 'read = ["/r", "/s"]\ntimeout = 2\nuid = 3\n',
        }
    )

    assert load_policy("a.toml") == Policy(
        read=["/r", "/s", PolicyPath("x", base=f"{directory}/sub"), PolicyPath("x", base=f"{directory}")],
        memory=2**21,
        timeout=1,
        uid=3,
        env={"A": "b", "B": "a", "C": "a"},
    )


def test_allow_extends_built_in(write):
    """
    A document extends a built-in profile by its name, also where a file of that name lies beside it.
    """
    write({"agent": "memory = 1", "a.toml": 'extends = "agent"\nmemory = "1G"\n'})
    expected = load_policy("agent").replace(memory="1G")

    assert expected == load_policy("a.toml") == parse_policy('extends = "agent"\nmemory = "1G"\n')


def test_allow_extends_to_move_paths(write):
    """
    A child hides what its parent shows, and shows what its parent hides: what is said later stands.
    """
    write(
        {
            "a.toml": 'extends = "./b"\nwrite = ["/r"]\nread = ["/d"]\n',
            "b": 'read = ["/r"]\ndeny = ["/d", "/e"]\n',
        }
    )

    assert Policy(read=["/d"], write=["/r"], deny=["/e"]) == load_policy("a.toml")


def test_allow_extends_home(write, monkeypatch):
    """
    "~" in ``extends`` is the caller's home.
    """
    monkeypatch.setenv("HOME", str(write({"a.toml": 'extends = "~/b.toml"', "b.toml": "memory = 1"})))

    assert Policy(memory=1) == load_policy("a.toml")


def test_refuse_home_that_is_not_known(monkeypatch):
    """
    A user without a home has no "~".
    """
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**32 - 2)

    refuse(lambda: load_policy("~/a.toml"), "no home is known")


@pytest.mark.parametrize(
    ("files", "source", "why"),
    [
        ({"a.toml": '\nextends = "a.toml"'}, "a.toml:2", "in a circle: a.toml -> /.*/a.toml$"),
        ({"a.toml": 'extends = "./x/../a.toml"', "x/y": ""}, "a.toml:1", "in a circle"),
        ({"a.toml": 'extends = "b.toml"', "b.toml": '\nextends = "a.toml"'}, "/b.toml:2", "a.toml -> /.*/b.toml -> /.*/a.toml$"),
        ({"a.toml": 'extends = "link.toml"'}, "a.toml:1", "in a circle: a.toml -> /.*/link.toml$"),
        ({"a.toml": 'extends = "none.toml"'}, "a.toml:1", "extends: cannot read 'none.toml': No such file"),
        ({"a.toml": 'extends = "agnt"'}, "a.toml:1", 'extends: no profile .*Did you mean "agent"'),
        ({"a.toml": 'extends = ""'}, "a.toml:1", "extends: no profile ''"),
        ({"a.toml": "extends = 1"}, "a.toml:1", "extends: must be the name of a profile or the path of a file, not 1"),
        ({"a.toml": 'extends = ["agent"]'}, "a.toml:1", "extends: must be the name .*, not a list"),
        ({"a.toml": 'extends.a = "agent"'}, "a.toml:1", "extends: must be the name .*, not a table"),
        ({"a.toml": 'extends = "./\\u0000"'}, "a.toml:1", "extends: .*NUL"),
        ({"a.toml": 'extends = "./x"', "x/y": ""}, "a.toml:1", "extends: .*not a regular file"),
        ({"a.toml": 'extends = "./b"', "b": b"\xff"}, "a.toml:1", "extends: /.*/b:1: byte 0xff"),
        ({"a.toml": 'extends = "./b"', "b": "\nmemry = 1"}, "/b:2", "memry: unknown key"),
        ({"a.toml": 'extends = "./b"\nread = 1', "b": "\nread = 2"}, "/b:2", "read: must be a list"),
        ({"a.toml": 'extends = "agent"\n[env]\nextends = 1'}, "a.toml:3", "env.extends: must be text"),
    ],
    ids=lambda value: repr(value)[:50],
)  # fmt: skip
def test_refuse_extends(write, files, source, why):
    """
    A parent that is missing, wrong, or a child of its own child is refused where it is named; its own faults, where they are.
    """
    directory = write(files)
    os.link(directory / "a.toml", directory / "link.toml")

    error = refuse(lambda: load_policy("a.toml"), why)
    assert error.source == (f"{directory}{source}" if source.startswith("/") else source)


@pytest.mark.parametrize(("length", "verdict"), [(16, "allow"), (17, "refuse"), (1000, "refuse")])
def test_refuse_long_chain(write, length, verdict):
    """
    Sixteen documents may extend one another, and no more.
    """
    write(
        {f"{n}.toml": f'extends = "{n + 1}.toml"' for n in range(length - 1)}
        | {f"{length - 1}.toml": "memory = 1"}
    )
    if verdict == "allow":
        assert Policy(memory=1) == load_policy("0.toml")
    else:
        refuse(lambda: load_policy("0.toml"), "more than 16 documents in a row: 0.toml -> ")
