"""
The name of the machine, as a program sees it. uts_namespaces(7)
"""

import errno
import os

import pytest

import jail

pytestmark = pytest.mark.needs("userns")


@pytest.mark.needs("proc")
@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param({}, "jail", id="default"),
        pytest.param({"hostname": "grader-7.example"}, "grader-7.example", id="named"),
        pytest.param({"hostname": "x" * 63}, "x" * 63, id="long"),
    ],
)
def test_name(rules, expected, inside):
    """
    It is the policy's, by every way to ask, and never the host's.
    """
    code = """
import json, os, socket
print(json.dumps([os.uname().nodename, socket.gethostname(), open("/proc/sys/kernel/hostname").read().strip()]))
"""
    before = os.uname().nodename

    assert [expected] * 3 == inside(code, **rules)
    assert before == os.uname().nodename


@pytest.mark.parametrize("call", ["sethostname", "setdomainname"])
def test_deny_change(call, attempt):
    """
    A program cannot change it, where it may ask for it.
    """
    assert 0 == attempt("os.uname()")
    assert errno.EPERM == attempt(f"call('{call}', b'other', 5)")


@pytest.mark.parametrize("name", ["", "-a", "a_b", "x" * 65, "a b", "ü", "a\nb", "a\0b"])
def test_refuse(name):
    """
    What is no host name by RFC 1123 is a PolicyError.
    """
    with pytest.raises(jail.PolicyError) as caught:
        jail.run(["true"], hostname=name)

    assert "hostname" == caught.value.key
