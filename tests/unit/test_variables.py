"""
The key `proxy_variables`: what it goes with, and where the proxy is. No kernel is asked.
"""

import pytest

from jail.errors import PolicyError
from jail.netns import network_ops
from jail.ops import AF_INET, OpKind
from jail.policy import Policy
from jail.publish import ways_out
from jail.rule import PROXY
from unit import hosts
from unit.test_plan import compiled


def listened(policy):
    """
    The ports that jail-init is to listen on.
    """
    ops = list(network_ops(policy))
    return [op.args[2] for op in ops if op.kind is OpKind.LISTEN and op.args[0] == AF_INET]


@pytest.mark.parametrize("network", ["none", "host"])
def test_refuse_without_a_list(network):
    """
    There is nothing that a proxy could lead to; with a list, though an empty one, there is.
    """
    with pytest.raises(PolicyError, match=r"^proxy_variables: .*network = \["):
        Policy(network=network, proxy_variables=True)
    assert Policy(network=[], proxy_variables=True).proxy_variables


def test_toml():
    """
    The same word in TOML, there and back.
    """
    policy = Policy.from_toml('network = ["a.org"]\nproxy_variables = true\n')

    assert Policy(network=["a.org"], proxy_variables=True) == policy
    assert policy == Policy.from_toml(policy.to_toml())


def test_one_more_is_listened_on():
    """
    The proxy's port, once, also where a rule has it for another host.
    """
    port = PROXY[1]

    assert port not in listened(Policy(network=["a.org"]))
    assert 1 == listened(Policy(network=["a.org"], proxy_variables=True)).count(port)
    assert 1 == listened(Policy(network=[f"a.org:{port}"], proxy_variables=True)).count(port)


@pytest.mark.parametrize("rule", ["localhost:1003", "127.0.0.0/8:1000-1010", "127.0.0.1:1003"])
def test_refuse_rule_of_its_place(rule):
    """
    A rule cannot mean the very place that the proxy is at; without the proxy it can, and of another port, too.
    """
    with pytest.raises(PolicyError, match=r"^network: .*proxy_variables"):
        Policy(network=[rule], proxy_variables=True)
    assert Policy(network=[rule])
    assert Policy(network=[rule.partition(":")[0] + ":1004"], proxy_variables=True)


def test_refuse_way_in():
    """
    What leads out is nobody's way in.
    """
    port = PROXY[1]
    with pytest.raises(PolicyError, match=r"^publish: .*way out"):
        Policy(network=["a.org"], proxy_variables=True, publish=[f"0:{port}"])
    assert Policy(network=["a.org"], publish=[f"0:{port}"])
    assert port in ways_out(Policy(network=[]).network, has_proxy=True)
    assert port not in ways_out(Policy(network=[]).network, has_proxy=False)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        pytest.param(hosts.FULL, "a proxy inside", id="namespaces"),
        pytest.param(hosts.DOCKER, "by name through a proxy", id="landlock"),
    ],
)
def test_promise(host, words):
    """
    The guarantee says that there is one, and nothing of it where there is none.
    """
    for has_proxy in (True, False):
        plan = compiled(host, network=["127.0.0.1:1"], proxy_variables=has_proxy)
        promise = next(guarantee.promise for guarantee in plan.guarantees if guarantee.name == "network")

        assert has_proxy is (words in promise)
