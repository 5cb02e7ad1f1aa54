"""
The rules of a network allowlist, and the judge. No kernel: each case is a text.
"""

import pytest

from jail.address import meant, parse_address, why_special
from jail.errors import PolicyError
from jail.network import Rules, denial_of, judge, judge_name, prevented, refused
from jail.policy import Policy
from jail.rule import is_name, parse_denial, parse_rule, ports_of, rule_for

PUBLIC = "93.184.215.14"


def rules(allow=(), deny=()):
    return Rules(tuple(map(parse_rule, allow)), tuple(map(parse_denial, deny)))


def verdict(given, name, address, port=443):
    """
    "+" and the rule that allows; "-" and the one that denies, or nothing.
    """
    found = judge(given, name, None if address is None else parse_address(address), port, "tcp")
    return ("+" if found.allowed else "-") + (str(found.rule) if found.rule else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pypi.org", "pypi.org:80,443"),
        ("PyPI.Org.", "pypi.org:80,443"),
        ("*.GitHub.com:443", "*.github.com:443"),
        ("db.example:5432,6000-6010,5432", "db.example:5432,6000-6010"),
        ("bücher.example:443", "xn--bcher-kva.example:443"),
        ("faß.example:443", "xn--fa-hia.example:443"),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example:443"),
        ("_dmarc.example:443", "_dmarc.example:443"),
        ("localhost:5432", "localhost:5432"),
        ("10.1.2.0/24:5432", "10.1.2.0/24:5432"),
        ("10.1.2.3:1", "10.1.2.3:1"),
        ("10.1.2.3/32:1", "10.1.2.3:1"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("0.0.0.0/0:443", "0.0.0.0/0:443"),
        ("*", "*:80,443"),
        ("*:8443", "*:8443"),
        ("pypi.org:443/tcp", "pypi.org:443"),
        ("cdn.example any-name", "cdn.example:80,443 any-name"),
        ("cdn.example:443 any-name", "cdn.example:443 any-name"),
    ],
)
def test_allow_rule(text, expected):
    """
    A rule has one spelling, which is a rule again.
    """
    assert expected == str(parse_rule(text))
    assert parse_rule(text) == parse_rule(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no rule"),
        (" ", "is no rule"),
        ("pypi.org ", "is no rule"),
        (" pypi.org", "is no rule"),
        ("pypi.org\n", "is no rule"),
        ("evil.com\0.pypi.org", "is no host name"),
        ("evil.com\r\n.pypi.org", "is no rule"),
        ("evil.com%00.pypi.org", "is no host name"),
        ("a" * 64 + ".org", "is no host name"),
        (".".join(["a" * 60] * 5), "is no host name"),
        ("-a.org", "is no host name"),
        ("a-.org", "is no host name"),
        ("a..org", "is no host name"),
        (".org", "is no host name"),
        ("a.*.org", "is no host name"),
        ("*.", "is no host name"),
        ("**.org", "is no host name"),
        ("*pypi.org", "is no host name"),
        ("*.localhost", "nothing below localhost"),
        ("*.10.0.0.1:443", "is no host name"),
        ("https://pypi.org/", "without scheme and path"),
        ("pypi.org/simple", "is no address, and no network"),
        ("user@pypi.org", "is no host name"),
        ("pypi.org:443@evil.com", "is no port"),
        ("pypi.org:", "is no port"),
        ("pypi.org:0", "is no port"),
        ("pypi.org:65536", "is no port"),
        ("pypi.org:080", "is no port"),
        ("pypi.org:+80", "is no port"),
        ("pypi.org:٤", "is no port"),
        ("pypi.org:443,", "is no port"),
        ("pypi.org:20-10", "is no port"),
        ("pypi.org:https", "is no port"),
        ("pypi.org:443/sctp", "the protocol is tcp or udp"),
        ("pypi.org:443/", "the protocol is tcp or udp"),
        ("pypi.org:443/udp", "write any-name behind it"),
        ("pypi.org:53", "the sandbox's own resolver"),
        ("pypi.org:50-60", "the sandbox's own resolver"),
        ("pypi.org:1000-2000", "more than 128 ports"),
        ("pypi.org:443 no-name", 'is not "any-name"'),
        ("10.1.2.3", "needs a port"),
        ("10.0.0.0/8", "needs a port"),
        ("10.1.2.3/24:80", "without bits behind its prefix"),
        ("010.1.2.3:80", "is no address"),
        ("10.1.2:80", "is no address"),
        ("0x7f.1:80", "is no address"),
        ("0x7f000001:80", "is no address"),
        ("2130706433:80", "is no address"),
        ("127.1:80", "is no address"),
        ("1.2.3.4.5:80", "is no address"),
        ("10.0.0.0/255.0.0.0:80", "is no address"),
        ("2001:db8::1", "stands in brackets"),
        ("[2001:db8::1]", "needs a port"),
        ("[fe80::1%eth0]:80", "is no address"),
        ("[10.0.0.1]:80", "brackets are for IPv6"),
        ("[::ffff:10.0.0.1]:80", "write 10.0.0.1"),
        ("[64:ff9b::a00:1]:80", "write 10.0.0.1"),
        ("198.18.0.1:80", "stands for names inside"),
        ("[fd00::1]:80", "stands for names inside"),
        ("none", "a machine of that name"),
        ("host", "a machine of that name"),
        (443, "must be a rule, as text"),
        (None, "must be a rule, as text"),
        (b"pypi.org", "must be a rule, as text"),
    ],
)
def test_refuse_rule(text, words):
    """
    What could be read in two ways, or in none, is no rule; the message says which part.
    """
    with pytest.raises(PolicyError) as caught:
        parse_rule(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("evil.com", "evil.com"), ("evil.com:80", "evil.com:80"), ("10.0.0.0/8", "10.0.0.0/8"), ("*", "*")],
)
def test_allow_denial(text, expected):
    """
    What denies is for every port unless it names some.
    """
    assert expected == str(parse_denial(text))
    assert parse_denial(text) == parse_denial(expected)


@pytest.mark.parametrize("text", ["evil.com any-name", "evil.com:80/udp"])
def test_refuse_denial(text):
    """
    What denies has no words but host and ports.
    """
    with pytest.raises(PolicyError):
        parse_denial(text)


@pytest.mark.parametrize(
    ("allow", "deny", "name", "address", "port", "expected"),
    [
        pytest.param(["a.org"], [], "a.org", PUBLIC, 443, "+a.org:80,443", id="allow_name"),
        pytest.param(["a.org"], [], "a.org", PUBLIC, 22, "-", id="deny_port"),
        pytest.param(["a.org"], [], "b.a.org", PUBLIC, 443, "-", id="deny_name_below"),
        pytest.param(["a.org"], [], "xa.org", PUBLIC, 443, "-", id="deny_longer_label"),
        pytest.param(["*.a.org"], [], "b.a.org", PUBLIC, 443, "+*.a.org:80,443", id="allow_below"),
        pytest.param(["*.a.org"], [], "c.b.a.org", PUBLIC, 443, "+*.a.org:80,443", id="allow_far_below"),
        pytest.param(["*.a.org"], [], "a.org", PUBLIC, 443, "-", id="deny_bare_name"),
        pytest.param(["*.a.org"], [], ".a.org", PUBLIC, 443, "-", id="deny_no_label"),
        pytest.param(["*.a.org"], [], "xa.org", PUBLIC, 443, "-", id="deny_not_below"),
        pytest.param(["*"], [], "a.org", PUBLIC, 443, "+*:80,443", id="allow_any_name"),
        pytest.param(["*"], [], None, PUBLIC, 443, "+*:80,443", id="allow_any_address"),
        pytest.param(["*"], [], None, PUBLIC, 22, "-", id="deny_any_on_other_port"),
        pytest.param(["a.org"], [], None, PUBLIC, 443, "-", id="deny_address_without_rule"),
        pytest.param(["10.0.0.0/8:443"], [], None, "10.1.1.1", 443, "+10.0.0.0/8:443", id="allow_network"),
        pytest.param(["10.0.0.0/8:443"], [], None, "11.1.1.1", 443, "-", id="deny_beside_network"),
        pytest.param(
            ["localhost:5432"], [], None, "127.0.0.1", 5432, "+localhost:5432", id="allow_localhost"
        ),
        pytest.param(["localhost:5432"], [], None, "::1", 5432, "+localhost:5432", id="allow_localhost_v6"),
        pytest.param(["localhost:5432"], [], None, "127.0.0.2", 5432, "-", id="deny_beside_localhost"),
        pytest.param(["a.org"], ["a.org"], "a.org", PUBLIC, 443, "-a.org", id="deny_wins"),
        pytest.param(["*"], ["*.evil.com"], "x.evil.com", PUBLIC, 443, "-*.evil.com", id="deny_below"),
        pytest.param(["*"], ["a.org:80"], "a.org", PUBLIC, 443, "+*:80,443", id="allow_beside_denied_port"),
        pytest.param(
            ["*"], [f"{PUBLIC}/32"], "a.org", PUBLIC, 443, f"-{PUBLIC}", id="deny_what_it_resolves_to"
        ),
        pytest.param(["*"], [PUBLIC], "a.org", f"::ffff:{PUBLIC}", 443, f"-{PUBLIC}", id="deny_mapped"),
        pytest.param(["*"], [PUBLIC], "a.org", "64:ff9b::5db8:d70e", 443, f"-{PUBLIC}", id="deny_translated"),
        pytest.param(["a.org", "*"], ["*"], "a.org", PUBLIC, 443, "-*", id="deny_everything"),
        pytest.param([], [], "a.org", PUBLIC, 443, "-", id="deny_by_an_empty_list"),
    ],
)
def test_judge(allow, deny, name, address, port, expected):
    """
    What denies wins; then a name needs a rule of its own, and an address one too.
    """
    assert expected == verdict(rules(allow, deny), name, address, port)


SPECIAL = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "198.18.0.1", "224.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "fd00:ec2::254", "fe80::1", "ff02::1", "2002:7f00:1::", "2001::1",
    "2001:db8::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_deny_special(address):
    """
    Neither a name nor "*" reaches what is not on the public internet; a rule that names it does.
    """
    target = meant(parse_address(address))
    named = f"[{target}/128]" if target.version == 6 else f"{target}/32"
    given = rules(["a.org", "*"])

    assert "-" == verdict(given, "a.org", address)
    assert "-" == verdict(given, None, address)
    if not why_special(target).startswith("for benchmarks"):  # those stand for names
        assert verdict(rules(["a.org", f"{named}:443"]), "a.org", address).startswith("+a.org")


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_allow_public(address):
    """
    The control: a public address is reached by name, and by "*".
    """
    assert "" == why_special(parse_address(address))
    assert "+a.org:80,443" == verdict(rules(["a.org"]), "a.org", address)
    assert "+*:80,443" == verdict(rules(["*"]), None, address)


@pytest.mark.parametrize(
    ("name", "allow", "deny", "expected"),
    [
        ("a.org", ["a.org:8443"], [], True),
        ("b.org", ["a.org:8443"], [], False),
        ("a.org", ["*"], [], True),
        ("a.org", ["a.org"], ["a.org:443"], True),
        ("a.org", ["a.org"], ["a.org"], False),
        ("2130706433", ["*"], [], False),
        ("0x7f.1", ["*"], [], False),
        ("10.0.0.1", ["10.0.0.0/8:443"], [], False),
    ],
)
def test_judge_name(name, allow, deny, expected):
    """
    A name is answered where some port of it may be reached, and never where it spells an address.
    """
    assert expected == judge_name(rules(allow, deny), name).allowed


@pytest.mark.parametrize("name", ["a", "a.b", "xn--bcher-kva.example", "_a.b", "1.a", "a1"])
def test_is_name(name):
    """
    The control: names that are in use.
    """
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "A", "a\0b", "a b", "ä", "1", "a.1", "a.0x1", "a" * 64]
)
def test_is_no_name(name):
    """
    Nothing but lower case and one spelling.
    """
    assert not is_name(name)


def test_ports_are_of_all_rules():
    """
    Each port once, in order.
    """
    assert (80, 443, 5000, 5001) == ports_of(map(parse_rule, ["a.org", "b.org:443", "c.org:5000-5001"]))


def test_refuse_too_many_ports_together():
    """
    Each is listened on, so a policy has a limit.
    """
    with pytest.raises(PolicyError, match=r"^network: more than 128 ports together"):
        Policy(network=["a.org:1000-1099", "b.org:2000-2099"])


def test_policy_holds_rules():
    """
    A policy has rules, says them in TOML, and is the same when that is read.
    """
    policy = Policy(network=["PyPI.org", "pypi.org:80,443", "[::1]:80"], deny_network=["x.pypi.org"])

    assert ("pypi.org:80,443", "[::1]:80") == tuple(map(str, policy.network))
    assert policy == Policy.from_toml(policy.to_toml())
    assert policy == policy.replace()


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        ("none", ["a.org"], ["a.org"]),
        ("host", ["a.org"], ["a.org"]),
        (["a.org"], ["b.org"], ["a.org", "b.org"]),
        (["a.org"], "none", "none"),
        (["a.org"], [], []),
        ("none", [], []),
        (["a.org"], "host", "host"),
    ],
)
def test_extend(parent, child, expected):
    """
    Lists append; a word replaces; and an empty list denies everything.
    """
    assert Policy(network=expected) == Policy(network=parent).extend(network=child)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deny_network", ["evil.com"]),
        ("network_connections", 9),
        ("network_idle", 9),
        ("network_bytes", 9),
        ("network_proxy", "http://a:1"),
        ("proxy_variables", True),
    ],
)
def test_refuse_less_of_the_hosts_network(key, value):
    """
    Nothing can be taken from the host's own network; from a list it can.
    """
    assert Policy(network=["a.org"], **{key: value})
    with pytest.raises(PolicyError, match=rf"^{key}: "):
        Policy(network="host", **{key: value})


def test_refuse_names_key_and_place():
    """
    A rule that is none is found where it was written.
    """
    with pytest.raises(PolicyError) as caught:
        Policy.from_toml('network = [\n  "a.org",\n  "b.org:",\n]\n', source="p.toml")

    assert ("network", "p.toml:3") == (caught.value.key, caught.value.source)


@pytest.mark.parametrize(
    ("verdict", "cure"),
    [
        (refused("no rule allows this"), 'network = ["a.test:80"]'),
        (refused("TLS says b.test", any_name=True), 'network = ["a.test:80 any-name"]'),
        (refused("denied by deny_network", rule_for("a.test", 80)), 'take "a.test:80" from deny_network'),
        (prevented("too much", "more than network_bytes = 5"), "more than network_bytes = 5"),
    ],
)
def test_cure(verdict, cure):
    """
    A denial names the rule, or the limit, that would have to be another.
    """
    denial = denial_of("a.test", 80, verdict)

    assert (verdict.why, cure) == (denial.why, denial.cure)
