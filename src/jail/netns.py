"""
The ops that make a sandbox's network: `lo`, and for an allowlist all that a program meets on its way out.

Pure. With an allowlist every address is the sandbox's own. On each port that some rule allows, and on the
resolver's, a socket listens that the harness has; on any other port the kernel says ECONNREFUSED. The web's two
ports are always among them: who is refused there is told why. So is that of the sandbox's own proxy, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from .ops import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, Op, OpKind
from .policy import Policy
from .rule import RESOLVER_PORT, listened_ports
from .view import View

__all__ = ["name_files", "network_ops"]

_LOOPBACK = "127.0.0.1"


def network_ops(policy: Policy) -> Iterator[Op]:
    """
    From a fresh network namespace to the one that programs are in. None where they are in the host's.
    """
    if policy.network == "host":
        return
    yield Op(OpKind.LOOPBACK)
    if policy.network == "none":
        return
    ports = listened_ports(policy.network, has_proxy=policy.proxy_variables)
    for family in (AF_INET, AF_INET6):  # optional: a kernel may be without IPv6
        optional = family == AF_INET6
        yield Op(OpKind.LOCAL_ROUTE, args=(family,), optional=optional)
        yield Op(OpKind.LISTEN, args=(family, SOCK_DGRAM, RESOLVER_PORT), optional=optional)
        for protocol, port in (("tcp", RESOLVER_PORT), *ports):
            kind = SOCK_STREAM if protocol == "tcp" else SOCK_DGRAM
            yield Op(OpKind.LISTEN, args=(family, kind, port), optional=optional)


def name_files(policy: Policy, view: View) -> Iterator[Op]:
    """
    What tells programs whom to ask for names: nobody but the harness, which listens on every address.
    """
    texts = {
        "/etc/hosts": f"{_LOOPBACK} localhost {policy.hostname}\n::1 localhost ip6-localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
        "networks: files\nprotocols: files\nservices: files\n",
        "/etc/resolv.conf": f"nameserver {_LOOPBACK}\noptions timeout:5 attempts:2\n",
    }
    for path in view.name_files:
        yield Op(OpKind.FILE, path, texts[path].encode(), optional=True)
