"""
The grammar of `publish`, and what makes no sense in it. No kernel: each case is a text.
"""

import pytest

from jail.errors import PolicyError, UnsupportedError
from jail.policy import Policy
from jail.publish import parse_published
from unit import hosts
from unit.test_plan import compiled


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8080, "127.0.0.1:8080:8080"),
        ("8080", "127.0.0.1:8080:8080"),
        ("0:8080", "127.0.0.1:0:8080"),
        ("9000:8080", "127.0.0.1:9000:8080"),
        ("127.0.0.2:9000:8080", "127.0.0.2:9000:8080"),
        ("0.0.0.0:9000:8080", "0.0.0.0:9000:8080"),
        ("[0::1]:9000:8080", "[::1]:9000:8080"),
        (65535, "127.0.0.1:65535:65535"),
    ],
)
def test_allow(value, expected):
    """
    Each in its one spelling, which means the same.
    """
    found = parse_published(value)

    assert expected == str(found)
    assert found == parse_published(expected) == parse_published(found)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0, "'0' is no port from 1"),
        (-1, "'-1' is no port"),
        (True, "must be a port"),
        (80.0, "must be a port"),
        (None, "must be a port"),
        ("", "no published port"),
        ("65536", "no port from 1 to 65535"),
        ("0", "no port from 1"),
        ("08080", "no port from 1"),
        ("8080/tcp", "no port from 1"),
        ("9000:", "no published port"),
        (":8080", "no port from 0 to 65535; 0 on the host is one that is free"),
        ("127.0.0.1::8080", "no port from 0"),
        ("65536:8080", "no port from 0"),
        ("٨٠:8080", "no port from 0"),
        ("localhost:9000:8080", "is no address; a name could be any"),
        ("127.1:9000:8080", "is no address"),
        ("::1:9000:8080", "no published port"),
        ("[127.0.0.1]:9000:8080", "brackets are for IPv6"),
        ("[::ffff:127.0.0.1]:9000:8080", "write 127.0.0.1, which this means"),
        ("[fe80::1%lo]:9000:8080", "is no address"),
        ("8080\n", "no published port"),
        ("1:2:3:4", "no published port"),
    ],
)
def test_refuse(value, why):
    """
    What is no such text is an error that says why.
    """
    with pytest.raises(PolicyError) as caught:
        Policy(publish=[value])

    assert why in str(caught.value).replace('"', "'")
    assert "publish" == caught.value.key


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"publish": [8080, "9000:8080"]}, "a port has one place on the host"),
        ({"publish": ["9000:8080", "9000:8081"]}, "and that has one port"),
        ({"publish": [8080], "network": "host"}, "listens on the host already"),
        ({"publish": [443], "network": ["a.org"]}, "port 443 inside is the way out"),
        ({"publish": [53], "network": ["a.org"]}, "port 53 inside is the way out"),
        ({"publish": list(range(1000, 1129))}, "more than 128"),
    ],
)
def test_refuse_together(fields, why):
    """
    What contradicts itself, or the rest of the policy, is refused.
    """
    with pytest.raises(PolicyError, match=f"^publish: .*{why}"):
        Policy(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"publish": ["0:8080", "0:8081"]},
        {"publish": ["9000:8080", "127.0.0.2:9000:8081"]},
        {"publish": [53, 443]},
        {"publish": [8080], "network": ["a.org"]},
        {"publish": list(range(1000, 1128))},
    ],
)
def test_allow_together(fields):
    """
    The same, where nothing contradicts; and TOML says it.
    """
    policy = Policy(**fields)

    assert policy == Policy.from_toml(policy.to_toml())


def test_extend_appends():
    """
    A document that extends another publishes more.
    """
    assert Policy(publish=[1, 2]) == Policy(publish=[1]).extend(publish=[2, 1])


def test_guarantee_says_who_comes_in():
    """
    What is kept by the namespace says what it is open for; without one it is refused.
    """
    network = next(g for g in compiled(publish=["0:8080"]).guarantees if g.name == "network")

    assert network.promise.endswith("nobody else on it, but for who comes by 127.0.0.1:0:8080")
    with pytest.raises(UnsupportedError, match="for what is published"):
        compiled(hosts.DOCKER_USER, publish=["0:8080"])
