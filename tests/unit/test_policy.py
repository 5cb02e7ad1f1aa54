"""
What a policy may say. `jail.policy`, `jail.fields`.
"""

import copy
import dataclasses
import math
import pathlib
import pickle

import pytest

from jail.errors import PolicyError
from jail.fields import ITEMS, SCALARS
from jail.guarantee import GUARANTEES
from jail.policy import Policy, PolicyFields, PolicyPath, parse_fields


class Spelled:
    """
    Something with a path: it has ``__fspath__`` and nothing else of a path.
    """

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("description", "line\nline", "line\nline"),
        ("read", ["/a"], (PolicyPath("/a"),)),
        ("read", ("~/a", "b", "~", "./~x"), tuple(map(PolicyPath, ("~/a", "b", "~", "./~x")))),
        ("read", [pathlib.Path("/a/b")], (PolicyPath("/a/b"),)),
        ("read", [Spelled("/a")], (PolicyPath("/a"),)),
        ("read", [{"path": Spelled("/a"), "optional": True}], (PolicyPath("/a", optional=True),)),
        ("read", [{"path": "a", "base": "/b"}], (PolicyPath("a", base="/b"),)),
        ("read", [PolicyPath("/a", optional=True)], (PolicyPath("/a", optional=True),)),
        ("read", ["/with\nnewline", "/\udcff"], (PolicyPath("/with\nnewline"), PolicyPath("/\udcff"))),
        ("read", ["/a", "/a//", "//a/."], (PolicyPath("//a/."),)),
        ("read", ["/a", "/b", {"path": "/a", "optional": True}], (PolicyPath("/a", optional=True), PolicyPath("/b"))),
        ("read", [], ()),
        ("interpreter", False, False),
        ("workspace", pathlib.Path("src"), "src"),
        ("workspace", None, None),
        ("workspace_access", "write", "write"),
        ("network", "host", "host"),
        ("network", "none", "none"),
        ("network", [], ()),
        ("network", (), ()),
        ("env", {"B": "2", "A": "1"}, (("A", "1"), ("B", "2"))),
        ("env", {"A": pathlib.Path("/a")}, (("A", "/a"),)),
        ("env", {"A": ""}, (("A", ""),)),
        ("env", (("A", "1"),), (("A", "1"),)),
        ("env", {}, ()),
        ("pass_env", ["LANG", "LANG", "lower case"], ("LANG", "lower case")),
        ("hostname", "a", "a"),
        ("hostname", "a-b.C.9", "a-b.C.9"),
        ("hostname", "a" * 63, "a" * 63),
        ("hostname", "a" * 32 + "." + "b" * 31, "a" * 32 + "." + "b" * 31),
        ("uid", 0, 0),
        ("gid", 2**32 - 2, 2**32 - 2),
        ("uid", None, None),
        ("memory", "512M", 2**29),
        ("memory", 1, 1),
        ("file_size", 0, 0),
        ("disk", "1G", 2**30),
        ("disk", 1, 1),
        ("inodes", 64, 64),
        ("inodes", 2**31 - 1, 2**31 - 1),
        ("output", 0, 0),
        ("output", "1M", 2**20),
        ("core", 0, 0),
        ("core", "1G", 2**30),
        ("io", "10M", 10 << 20),
        ("cpus", 1, 1.0),
        ("cpus", "0.01", 0.01),
        ("cpus", 8192, 8192.0),
        ("cpus", None, None),
        ("cpu_seconds", "2m", 120.0),
        ("cpu_seconds", 0.01, 0.01),
        ("processes", 1, 1),
        ("open_files", 4096, 4096),
        ("network_connections", 8192, 8192),
        ("network_idle", "5m", 300.0),
        ("network_bytes", "1G", 1 << 30),
        ("timeout", "2m", 120.0),
        ("timeout", 1, 1.0),
        ("timeout", None, None),
        ("grace", 0, 0.0),
        ("wall", "1h", 3600.0),
        ("wall", 1e-9, 1e-9),
        ("idle", "500ms", 0.5),
        ("idle", None, None),
        ("strict", True, True),
        ("cgroup", "none", "none"),
        ("cgroup", "systemd", "systemd"),
        ("cgroup", pathlib.Path("/sys/fs/cgroup/jobs"), "/sys/fs/cgroup/jobs"),
        ("allow_syscalls", ["ptrace", "_sysctl", "pread64"], ("ptrace", "_sysctl", "pread64")),
        ("deny_syscalls", [], ()),
        ("waive", ["memory", "filesystem.read"], ("memory", "filesystem.read")),
    ],
)  # fmt: skip
def test_allow_field(key, value, expected):
    """
    A field takes every type that says its meaning, and keeps one.
    """
    policy = Policy(**{key: value})

    assert expected == getattr(policy, key)
    assert type(expected) is type(getattr(policy, key))
    assert policy == Policy(**{key: getattr(policy, key)})  # what it keeps, it takes


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("description", None, "must be text, not None"),
        ("description", b"x", "must be text, not a bytes"),
        ("description", "a\0b", "NUL"),
        ("read", "/a", "must be a list, not '/a'"),
        ("read", pathlib.Path("/a"), "must be a list"),
        ("read", {"/a"}, "must be a list, not a set"),
        ("read", {"/a": 1}, "must be a list, not a table"),
        ("read", None, "must be a list, not None"),
        ("read", iter(["/a"]), "must be a list"),
        ("read", [""], "empty path"),
        ("read", ["/a\0"], "NUL"),
        ("read", [b"/a"], "must be a path, as text"),
        ("read", [Spelled(b"/a")], "must be a path, as text, not a bytes"),
        ("read", [Spelled("")], "empty path"),
        ("read", [Spelled(Spelled("/a"))], "must be a path, as text, not a Spelled"),
        ("read", [None], "must be a path, as text, not None"),
        ("read", [3], "must be a path, as text, not 3"),
        ("read", [["/a"]], "must be a path, as text, not a list"),
        ("read", [["[" * 9]], "must be a path, as text, not a list"),
        ("read", ["~root/a"], "no other user's home"),
        ("read", [{}], "needs a path"),
        ("read", [{"optional": True}], "needs a path"),
        ("read", [{"path": "/a", "optional": 1}], "must be true or false, not 1"),
        ("read", [{"path": "/a", "optional": "yes"}], "must be true or false, not 'yes'"),
        ("read", [{"path": "/a", "optinal": True}], 'unknown key \'optinal\' beside path. Did you mean "optional"'),
        ("read", [{"path": "/a", 3: True}], "unknown key 3"),
        ("read", [{"path": None}], "must be a path"),
        ("read", [{"path": "a", "base": "b"}], "not an absolute path"),
        ("read", [{"path": "a", "base": ""}], "empty path"),
        ("write", ["/a", 3], "must be a path"),
        ("deny", ["/a", {"path": ""}], "empty path"),
        ("interpreter", 1, "must be true or false, not 1"),
        ("interpreter", "true", "must be true or false"),
        ("interpreter", None, "must be true or false"),
        ("workspace", "", "empty path"),
        ("workspace", "~you", "no other user's home"),
        ("workspace", ["."], "must be a path"),
        ("workspace", True, "must be a path"),
        ("workspace_access", "writ", 'Did you mean "write"'),
        ("workspace_access", None, "not one of read, write"),
        ("network", "pypi.org", "not one of none, host"),
        ("network", None, "not one of none, host"),
        ("network", False, "not one of none, host"),
        ("network", {}, "not one of none, host"),
        ("env", ["A=1"], "must be a table"),
        ("env", "A=1", "must be a table"),
        ("env", None, "must be a table"),
        ("env", (("A",),), "must be a table"),
        ("env", ("AB",), "must be a table"),
        ("env", ((["A"], "1"),), "must be a table"),
        ("env", {"": "1"}, "the name of a variable"),
        ("env", {"A=B": "1"}, "the name of a variable"),
        ("env", {"A\0": "1"}, "the name of a variable"),
        ("env", {1: "1"}, "the name of a variable"),
        ("env", {"A": "1\0"}, "NUL"),
        ("env", {"A": 1}, "must be text, not 1"),
        ("env", {"A": True}, "must be text, not True"),
        ("env", {"A": None}, "must be text, not None"),
        ("env", {"A": {"B": "1"}}, "must be text, not a table"),
        ("pass_env", "LANG", "must be a list"),
        ("pass_env", ["LANG=C"], "the name of a variable"),
        ("pass_env", [""], "the name of a variable"),
        ("hostname", "", "host name"),
        ("hostname", "-a", "host name"),
        ("hostname", "a-", "host name"),
        ("hostname", "a..b", "host name"),
        ("hostname", "a.-b", "host name"),
        ("hostname", "a_b", "host name"),
        ("hostname", "a\n", "host name"),
        ("hostname", "\u00e9", "host name"),
        ("hostname", "a" * 64, "host name"),
        ("hostname", "a" * 32 + "." + "b" * 32, "host name"),
        ("hostname", None, "host name"),
        ("uid", -1, "from 0 to 4294967294, not -1"),
        ("uid", 2**32 - 1, "from 0 to"),
        ("gid", True, "from 0 to"),
        ("gid", "0", "from 0 to"),
        ("gid", 1.0, "from 0 to"),
        ("memory", 0, "too small"),
        ("memory", "0.5", "too small"),
        ("memory", True, "not a size"),
        ("memory", 2.0, "not a size"),
        ("memory", -1, "negative"),
        ("memory", math.nan, "not a size"),
        ("memory", 2**63, "8 EiB"),
        ("memory", "1GB", "write G or GiB"),
        ("file_size", -1, "negative"),
        ("disk", 0, "too small"),
        ("disk", "0.5", "too small"),
        ("inodes", 63, "from 64 to 2147483647, not 63"),
        ("inodes", 2**31, "from 64 to"),
        ("inodes", "1K", "from 64 to"),
        ("output", -1, "negative"),
        ("output", 1.5, "not a size"),
        ("core", None, "not a size"),
        ("core", -1, "negative"),
        ("io", 0, "too small"),
        ("io", "1MB/s", "not understood"),
        ("cpus", 0, "too small"),
        ("cpus", 0.009, "too small"),
        ("cpus", True, "not a number of processors"),
        ("cpus", "2 cores", "has a unit"),
        ("cpus", 8193, "more than 8192"),
        ("cpus", math.inf, "not finite"),
        ("cpus", math.nan, "not finite"),
        ("cpu_seconds", 0, "too small"),
        ("cpu_seconds", "9ms", "too small"),
        ("cpu_seconds", True, "not a duration"),
        ("grace", None, "not a duration"),
        ("grace", -1, "negative"),
        ("wall", 0, "too small"),
        ("wall", math.inf, "not finite"),
        ("idle", 0, "too small"),
        ("idle", "often", "not understood"),
        ("strict", 1, "must be true or false, not 1"),
        ("strict", None, "must be true or false"),
        ("cgroup", "", "empty path"),
        ("cgroup", None, "must be a path"),
        ("cgroup", "system", 'not one of auto, none, own, systemd. Did you mean "systemd"'),
        ("cgroup", "jobs", "not one of auto, none, own, systemd"),
        ("cgroup", "/sys/fs/cgroup/\0", "NUL"),
        ("processes", 0, "from 1 to 4194304, not 0"),
        ("processes", 2**22 + 1, "from 1 to"),
        ("processes", "8", "from 1 to"),
        ("open_files", 0, "from 1 to"),
        ("network_connections", 0, "from 1 to"),
        ("network_connections", 8193, "from 1 to"),
        ("network_idle", 0, "too small"),
        ("network_bytes", 0, "too small"),
        ("open_files", 2**31, "from 1 to"),
        ("timeout", 0, "too small"),
        ("timeout", 1e-10, "too small"),
        ("timeout", -1, "negative"),
        ("timeout", True, "not a duration"),
        ("timeout", math.inf, "not finite"),
        ("timeout", math.nan, "not finite"),
        ("timeout", "forever", "not understood"),
        ("allow_syscalls", ["OPEN"], "kernel's name"),
        ("allow_syscalls", ["9"], "kernel's name"),
        ("deny_syscalls", [2], "kernel's name"),
        ("deny_syscalls", ["open "], "kernel's name"),
        ("waive", ["network.all"], 'Did you mean "network"'),
        ("waive", ["all"], "not one of"),
        ("waive", "network", "must be a list"),
        ("waive", [None], "not one of"),
    ],
)  # fmt: skip
def test_refuse_field(key, value, why):
    """
    A value of another type or meaning is refused; the error names the key and what would be right.
    """
    with pytest.raises(PolicyError, match=why) as caught:
        Policy(**{key: value})

    named = caught.value.key.split(".")[0]
    assert (key, None) == (named, caught.value.source)
    assert str(caught.value).startswith(key)


@pytest.mark.parametrize("key", [*SCALARS, *ITEMS, "env"])
@pytest.mark.parametrize(
    "value",
    [object(), b"\0", 10**5000, -(10**5000), 1e999, {"a": {}}, [[[]]], [{}], {None: None}, "\0", "\udcff" * 1000, ..., type],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_refuse_whatever_it_is(key, value):
    """
    No value makes anything but a policy or a PolicyError.
    """
    try:
        policy = Policy(**{key: value})
    except PolicyError as exc:
        assert str(exc).isprintable()
    else:
        assert isinstance(hash(policy), int)


def test_refuse_deep_value():
    """
    A list nested deeper than the stack is refused without being shown.
    """
    value = []
    for _ in range(100_000):
        value = [value]

    with pytest.raises(PolicyError, match="must be a path, as text, not a list"):
        Policy(read=value)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("memry", 'Did you mean "memory"?'),
        ("workspace-access", 'Did you mean "workspace_access"?'),
        ("net", 'Did you mean "network"?'),
        ("cwd", "Known: allow_syscalls, cgroup, core, "),
        ("scratch", "Known: "),  # what `disk` was
        ("extends", "Known: "),
        ("x" * 100_000, "Known: "),
    ],
    ids=lambda text: text[:20],
)
def test_refuse_unknown_key(key, why):
    """
    An unknown key is named with the known one it resembles, or with all of them.
    """
    with pytest.raises(PolicyError, match="unknown key") as caught:
        Policy(**{key: 1})

    assert why in str(caught.value)
    assert key[:60] in caught.value.key
    assert 70 > len(caught.value.key)


def test_refuse_key_that_is_no_line():
    """
    An unknown key with control characters is shown escaped.
    """
    with pytest.raises(PolicyError) as caught:
        Policy(**{"a\n\x1b[31m": 1})

    assert r"'a\n\x1b[31m'" == caught.value.key


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"read": ["/a"], "write": ["/a"]}, "read"),
        ({"read": ["/a"], "deny": ["/a"]}, "read"),
        ({"write": ["/a"], "deny": ["/a"]}, "write"),
        ({"read": ["/b", "/a/"], "deny": ["//a/./"]}, "read"),
        ({"read": ["a"], "deny": ["./a"]}, "read"),
        ({"read": [PolicyPath("a", base="/b")], "deny": ["/b/a"]}, "read"),
        ({"read": [{"path": "/a", "optional": True}], "write": ["/a"]}, "read"),
        ({"allow_syscalls": ["ptrace"], "deny_syscalls": ["ptrace"]}, "allow_syscalls"),
    ],
)
def test_refuse_two_verdicts(fields, key):
    """
    One path, however it is spelled, or one system call cannot be in two lists that say different things.
    """
    with pytest.raises(PolicyError, match="keep it in one of them") as caught:
        Policy(**fields)

    assert key == caught.value.key


@pytest.mark.parametrize(
    "fields",
    [
        {"read": ["/a"], "write": ["/a/b"], "deny": ["/a/b/c"]},
        {"read": ["/a"], "deny": ["/a/../a"]},  # what .. means depends on links
        {"read": ["~/a"], "deny": ["./~/a"]},
        {"read": ["a"], "deny": ["/a"]},
        {"read": [PolicyPath("a", base="/b")], "deny": ["a"]},
        {"env": {"A": "1"}, "pass_env": ["A"]},
    ],
)
def test_allow_nested_and_different(fields):
    """
    Rules about different paths stand side by side: the more specific one wins.
    """
    assert Policy(**fields) == Policy(**fields)


def test_allow_policy_as_value():
    """
    A policy is frozen, slotted and hashable, equal by value, and copies and pickles to an equal one.
    """
    policy = Policy(read=["/a"], env={"A": "1"}, memory="1G")

    assert policy == Policy(memory=2**30, env=(("A", "1"),), read=(PolicyPath("/a"),))
    assert 1 == len(
        {policy, copy.deepcopy(policy), pickle.loads(pickle.dumps(policy)), dataclasses.replace(policy)}
    )
    assert not hasattr(policy, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.memory = 1


def test_report_default():
    """
    A policy of nothing shows nothing but the interpreter, reaches nothing and waives nothing.
    """
    assert "" == Policy().to_toml()
    assert ((), (), True, None, "none", (), ()) == tuple(
        getattr(Policy(), key)
        for key in ("read", "write", "interpreter", "workspace", "network", "pass_env", "waive")
    )


def test_report_every_field_in_every_table():
    """
    The fields, the keywords and the parsers are the same words; every guarantee is one that can be waived.
    """
    names = {field.name for field in dataclasses.fields(Policy)}

    assert names == {*SCALARS, *ITEMS, "env"}
    assert names == set(PolicyFields.__annotations__)
    assert tuple(GUARANTEES) == Policy(waive=tuple(GUARANTEES)).waive


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"memory": "1G"}, {"memory": 2**30}),
        ({"read": ["/b"]}, {"read": (PolicyPath("/b"),)}),
        ({"env": {"B": "2"}}, {"env": (("B", "2"),)}),
        ({"timeout": None}, {"timeout": None}),
        ({}, {}),
    ],
)
def test_allow_replace(changes, expected):
    """
    `replace` puts the new fields in the place of the old ones, lists whole, and leaves the policy it was called on.
    """
    policy = Policy(read=["/a"], env={"A": "1"}, timeout=1, memory=1)
    before = dataclasses.asdict(policy)
    replaced = policy.replace(**changes)

    assert policy.replace() == policy
    assert expected == {key: getattr(replaced, key) for key in expected}
    assert before == dataclasses.asdict(policy)


@pytest.mark.parametrize(
    "changes",
    [{"memory": 0}, {"deny": ["/a/"]}, {"mem": 1}, {"read": "/a"}],
    ids=lambda changes: next(iter(changes)),
)
def test_refuse_replace(changes):
    """
    `replace` validates again, what it changes and what that contradicts.
    """
    with pytest.raises(PolicyError):
        Policy(read=["/a"]).replace(**changes)


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ({"read": ["/b", "/a"]}, {"read": ("/r", "/a", "/b"), "write": ("/w",), "deny": ("/d",)}),
        ({"write": ["/r"]}, {"read": ("/a",), "write": ("/w", "/r"), "deny": ("/d",)}),
        ({"deny": ["/r/", "/w"]}, {"read": ("/a",), "write": (), "deny": ("/d", "/r/", "/w")}),
        ({"read": ["/d"]}, {"read": ("/r", "/a", "/d"), "write": ("/w",), "deny": ()}),
        ({"read": ["/r/."]}, {"read": ("/r/.", "/a"), "write": ("/w",), "deny": ("/d",)}),
    ],
)
def test_allow_extend_paths(child, expected):
    """
    `extend` appends to lists; a path named again moves to where it was named last.
    """
    extended = Policy(read=["/r", "/a"], write=["/w"], deny=["/d"]).extend(**child)

    assert expected == {key: tuple(path.path for path in getattr(extended, key)) for key in expected}


def test_allow_extend_rest():
    """
    `extend` merges variables, replaces scalars and moves system calls.
    """
    parent = Policy(
        env={"B": "1", "C": "1"}, memory=1, timeout=1, allow_syscalls=["ptrace", "bpf"], pass_env=["TZ"]
    )
    extended = parent.extend(
        env={"A": "2", "C": "2"},
        timeout="1m",
        deny_syscalls=["bpf"],
        pass_env=["LANG", "TZ"],
        waive=["memory"],
    )

    assert extended == Policy(
        env={"A": "2", "B": "1", "C": "2"},
        memory=1,
        timeout=60,
        allow_syscalls=["ptrace"],
        deny_syscalls=["bpf"],
        pass_env=["TZ", "LANG"],
        waive=["memory"],
    )


def test_refuse_extend_that_contradicts_itself():
    """
    What moves a parent's path cannot be said twice in one child.
    """
    with pytest.raises(PolicyError, match="keep it in one of them"):
        Policy(read=["/a"]).extend(write=["/a"], deny=["/a"])


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("/b", "a", PolicyPath("a", base="/b")),
        ("/b", "/a", PolicyPath("/a")),
        ("/b", "~/a", PolicyPath("~/a")),
        ("/b", {"path": "a", "base": "/c"}, PolicyPath("a", base="/c")),
        (None, "a", PolicyPath("a")),
    ],
)
def test_allow_base(base, path, expected):
    """
    A document's directory is the start of the relative paths in it, and of no others.
    """
    assert {"read": (expected,)} == parse_fields({"read": [path]}, base=base)


@pytest.mark.parametrize(
    ("base", "workspace", "expected"),
    [
        ("/b", ".", "/b/."),
        ("/", "a", "/a"),
        ("/b", "/a", "/a"),
        ("/b", "~/a", "~/a"),
        (None, "a", "a"),
        ("/b", None, None),
    ],
)
def test_allow_workspace_base(base, workspace, expected):
    """
    A relative workspace is joined to its document's directory.
    """
    assert {"workspace": expected} == parse_fields({"workspace": workspace}, base=base)


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        (PolicyPath("/"), "/"),
        (PolicyPath("//a/./b//"), "/a/b"),
        (PolicyPath("a/../b"), "./a/../b"),
        (PolicyPath("."), "./"),
        (PolicyPath("./~"), "./~"),
        (PolicyPath("~/"), "~"),
        (PolicyPath("./a", base="/b/"), "/b/a"),
    ],
)
def test_report_spelling(path, spelling):
    """
    Slashes and dots that say nothing are left out of a spelling; ".." is not one of them.
    """
    assert spelling == path.spelling


def test_report_toml():
    """
    A policy is shown as a document a person could have written.
    """
    policy = Policy(
        description='say "no"\t\x7f\\',
        read=["/a", PolicyPath("b", base="/c", optional=True)],
        interpreter=False,
        memory="512M",
        timeout="90s",
        uid=0,
        env={"A B": "1", "C": "\n"},
    )

    assert policy.to_toml() == (
        'description = "say \\"no\\"\\u0009\\u007f\\\\"\n'
        "read = [\n"
        '    "/a",\n'
        '    {path = "b", optional = true, base = "/c"},\n'
        "]\n"
        "interpreter = false\n"
        "uid = 0\n"
        'memory = "512M"\n'
        'timeout = "90s"\n'
        "\n"
        "[env]\n"
        '"A B" = "1"\n'
        '"C" = "\\u000a"\n'
    )


@pytest.mark.parametrize("fields", [{"read": ["/\udcff"]}, {"env": {"A": "\udcff"}}, {"env": {"\udcff": ""}}])
def test_refuse_toml_of_bytes(fields):
    """
    A path or variable that is not UTF-8 has no TOML, and is not shown as another one.
    """
    with pytest.raises(PolicyError, match="not valid UTF-8"):
        Policy(**fields).to_toml()
