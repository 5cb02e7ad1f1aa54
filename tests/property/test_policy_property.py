"""
What holds for every policy and every text. `jail.policy`, `jail.document`, `jail.units`.
"""

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jail.document import MAX_DOCUMENT_BYTES, parse_document
from jail.errors import PolicyError
from jail.fields import PATHS
from jail.guarantee import GUARANTEES
from jail.policy import Policy, PolicyFields, PolicyPath
from jail.profile import parse_policy
from jail.units import (
    MAX_BYTES,
    MAX_CPUS,
    MAX_SECONDS,
    parse_bytes,
    parse_cpus,
    parse_seconds,
    render_bytes,
    render_seconds,
)

# Letters that something treats specially. What TOML can hold and the kernel takes: no surrogates, no NUL.
text = st.text("aB0/.~=_-'\"\\#[]{}, \t\n\r\x01\x1b\x7f\x85\xe9\u2028\u20ac\ufeff\U0001f512", max_size=12)
paths = st.one_of(
    st.sampled_from(["/a", "/a/", "//a", "/a/b", "a", "./a", "~/a", "/a/../b"]),
    text.filter(bool).filter(lambda path: not path.startswith("~")),
)
rules = st.builds(PolicyPath, paths, st.booleans(), st.none() | st.sampled_from(["/", "/b", "/b/c "]))
names = text.filter(lambda name: name and "=" not in name)
syscalls = st.sampled_from(["read", "bpf", "ptrace", "_sysctl"])
labels = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
counts = st.integers(1, 2**22)
sizes = st.one_of(st.integers(1, MAX_BYTES), st.integers(1, 2**20).map(lambda n: n << 20))
seconds = st.floats(1e-9, MAX_SECONDS)
cpus = st.floats(0.01, MAX_CPUS) | st.integers(1, MAX_CPUS)

FIELDS = {
    "description": text,
    "read": st.lists(rules, max_size=4),
    "write": st.lists(rules, max_size=4),
    "deny": st.lists(rules, max_size=4),
    "sockets": st.lists(rules, max_size=2),
    "privileged_sockets": st.lists(rules, max_size=2),
    "interpreter": st.booleans(),
    "workspace": st.none() | paths,
    "workspace_access": st.sampled_from(["read", "write"]),
    "network": st.just("none")
    | st.lists(st.sampled_from(["a.org", "*.b.org:443", "[::1]:80 any-name", "*"]), max_size=3),
    "deny_network": st.lists(st.sampled_from(["a.org", "10.0.0.0/8", "[::]:80"]), max_size=2),
    "network_connections": st.none() | st.integers(1, 8192),
    "network_idle": st.none() | st.floats(1, MAX_SECONDS),
    "network_bytes": st.none() | sizes,
    "publish": st.lists(st.sampled_from([1, "8080", "0:9000", "[::1]:9002:9001"]), max_size=3, unique=True),
    "network_proxy": st.sampled_from([None, "environment", "http://proxy.test:3128", "socks5://[::1]:1080"]),
    "proxy_variables": st.just(False),  # or there has to be a list in network
    "env": st.dictionaries(names, text, max_size=4),
    "pass_env": st.lists(names, max_size=4),
    "hostname": st.lists(labels, min_size=1, max_size=3).map(".".join),
    "uid": st.none() | st.integers(0, 2**32 - 2),
    "gid": st.none() | st.integers(0, 2**32 - 2),
    "memory": st.none() | sizes,
    "file_size": st.none() | sizes | st.just(0),
    "disk": st.none() | sizes,
    "inodes": st.none() | st.integers(64, 2**31 - 1),
    "output": st.none() | sizes | st.just(0),
    "core": sizes | st.just(0),
    "io": st.none() | sizes,
    "cpus": st.none() | cpus,
    "cpu_seconds": st.none() | st.floats(0.01, MAX_SECONDS),
    "processes": st.none() | counts,
    "open_files": st.none() | counts,
    "timeout": st.none() | seconds,
    "grace": seconds | st.just(0.0),
    "wall": st.none() | seconds,
    "idle": st.none() | seconds,
    "strict": st.booleans(),
    "cgroup": st.sampled_from(["auto", "none", "own", "systemd"]) | text.map(lambda name: f"/{name}"),
    "allow_syscalls": st.lists(syscalls, max_size=2),
    "deny_syscalls": st.lists(syscalls, max_size=2),
    "waive": st.lists(st.sampled_from(sorted(GUARANTEES)), max_size=3),
}
documents = st.fixed_dictionaries({}, optional=FIELDS)


def layered(fields):
    """
    A policy of any fields: later lists take what earlier ones of opposite verdict hold.
    """
    policy = Policy()
    for key, value in fields.items():
        policy = policy.extend(**{key: value})
    return policy


policies = documents.map(layered)


def test_every_field_is_tried():
    """
    What is added to a policy is added here.
    """
    assert FIELDS.keys() == PolicyFields.__annotations__.keys()


@given(policies)
def test_allow_what_a_policy_holds(policy):
    """
    Every policy that `extend` makes is one that validation takes, and takes unchanged.
    """
    assert policy == policy.replace()
    assert hash(policy) == hash(policy.replace())


@given(policies)
def test_report_toml_that_reads_back(policy):
    """
    A policy's TOML is the policy.
    """
    assert policy == parse_policy(policy.to_toml())


@given(policies, documents)
def test_allow_extend_as_documented(parent, fields):
    """
    After `extend`, what the child says holds, what it does not name is the parent's, and no list says two things.
    """
    try:
        child = Policy(**fields)
    except PolicyError:
        return  # it contradicts itself; test_policy.py
    extended = parent.extend(**fields)

    for key in PATHS:
        spellings = {path.spelling for path in getattr(extended, key)}
        added = {path.spelling for path in getattr(child, key)}
        elsewhere = {path.spelling for other in PATHS if other != key for path in getattr(child, other)}
        assert spellings == ({path.spelling for path in getattr(parent, key)} - elsewhere) | added
    lists = {*PATHS, "env", "pass_env", "allow_syscalls", "deny_syscalls", "waive"}
    for key in FIELDS.keys() - lists - {"network", "deny_network", "publish"}:
        assert getattr(extended, key) == getattr(child if key in fields else parent, key)
    assert dict(extended.env) == {**dict(parent.env), **dict(child.env)}
    for key in ("deny_network", "publish"):
        together = getattr(parent, key) + getattr(child, key)
        assert getattr(extended, key) == tuple(dict.fromkeys(together))
    if isinstance(parent.network, tuple) and isinstance(child.network, tuple) and child.network:
        assert extended.network == tuple(dict.fromkeys(parent.network + child.network))
    else:
        assert extended.network == (child if "network" in fields else parent).network


@given(policies, policies, policies)
def test_allow_extend_in_any_grouping(first, second, third):
    """
    A document on top of two is the same as a document on top of one, on top of another. The one exception: a list of
    hosts after "none", "host" or an empty one begins anew, and what both are put on top of cannot know that it did.
    """

    def fields(policy):
        return {key: getattr(policy, key) for key in FIELDS}

    def unordered(fields):  # an item that moves away and back comes last, and order means nothing
        begins_anew = (isinstance(second.network, str) or not second.network) and isinstance(
            third.network, tuple
        )
        return {
            key: set(value) if isinstance(value, tuple) else value
            for key, value in fields.items()
            if key != "network" or not begins_anew
        }

    onto_two = first.extend(**fields(second)).extend(**fields(third))
    onto_one = first.extend(**fields(second.extend(**fields(third))))

    assert unordered(fields(onto_two)) == unordered(fields(onto_one))


@given(st.integers(0, MAX_BYTES))
def test_report_bytes_that_read_back(count):
    """
    A size's text is the size.
    """
    assert count == parse_bytes(render_bytes(count)) == parse_bytes(count)


@given(
    st.floats(1e-9, MAX_SECONDS)
    | st.integers(0, MAX_SECONDS).map(float)
    | st.integers(1, 10**6).map(lambda n: n / 1000)
)
@example(0.1)
@example(1e-9)
@example(1 / 3)
def test_report_seconds_that_read_back(duration):
    """
    A duration's text is the duration.
    """
    assert duration == parse_seconds(render_seconds(duration)) == parse_seconds(duration)
    assert "e" not in render_seconds(duration)


@given(cpus)
@example(0.1)
@example(1 / 3)
@example(8192)
def test_report_cpus_that_read_back(number):
    """
    A number of processors is the same number again, in TOML too, and as text with as many digits as it takes.
    """
    assert number == parse_cpus(number) == parse_cpus(parse_cpus(number))
    assert number == parse_policy(Policy(cpus=number).to_toml()).cpus
    assert number == parse_cpus(f"{number:.39f}")


# Any shape at any place.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | text | paths,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text | st.none(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "memry"]), anything, max_size=3))
def test_refuse_whatever_it_is(fields):
    """
    Any values of any fields make a policy or a PolicyError, whose text can be printed.
    """
    try:
        policy = Policy(**fields)
    except PolicyError as exc:
        assert str(exc).isprintable()
    else:
        assert policy == policy.replace()


pieces = st.sampled_from(
    [*"\"'\\[]{}=,.#\n\r\t -_a1\0\x7f\u20ac", '"""', "'''", "a=1\n", "[a]\n", "[[a]]\n", "'a'.", '\\"', "a={b=1}\n", "env.A='1'\n",
     "read=['/a'", "\r\n", "1.5", "0x", "1979-05-27", "inf", "true"]
)  # fmt: skip
texts = st.lists(pieces, max_size=30).map("".join)


@given(texts)
def test_refuse_whatever_it_says(text):
    """
    Any text is a policy or a PolicyError that names the document.
    """
    try:
        policy = parse_policy(text, source="t")
    except PolicyError as exc:
        assert exc.source.partition(":")[0] == "t"
    else:
        assert policy == parse_policy(policy.to_toml())


@settings(max_examples=40, deadline=5000)
@given(texts, texts.filter(bool))
@example("a=[", "a=1,")
@example('a="""', '\\"')
@example("a", ".a")
@example("[a", ".'a'")
@example("", '"""a')
@example('a="""', '\\"""\n')
def test_report_long_text_soon(start, unit):
    """
    No repetition makes the scanner or the parser slower than in proportion: 256 KiB take half a second at most, and the
    deadline is ten times that.
    """
    try:
        parse_document((start + unit * MAX_DOCUMENT_BYTES)[:MAX_DOCUMENT_BYTES], "t")
    except PolicyError as exc:
        assert exc.source.startswith("t")


gaps = st.sampled_from(["", " ", "\n", "# [x\n", "\r\n\t", "'''\n]''',", '"""\n\\""""",', "[\n],", "{a=1},"])


@given(st.lists(st.tuples(gaps, text), max_size=6))
def test_report_line_of_each_item(parts):
    """
    Each item of a list is on the line that counting the newlines before it gives, whatever lies between.
    """
    document, expected = "\nread = [", []
    for gap, value in parts:
        items = [gap] if gap.endswith(",") else []
        document += "" if items else gap
        for item in (
            *items,
            Policy(description=f"-{value}").to_toml().removeprefix("description = ").rstrip("\n") + ",",
        ):
            expected.append(f"t:{document.count(chr(10)) + 1}")
            document += item
    parsed = parse_document(document + "]\n", "t")

    assert len(expected) == len(parsed.fields["read"])
    assert expected == [parsed.locate("read", index) for index in range(len(expected))]
