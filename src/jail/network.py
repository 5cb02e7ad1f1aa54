"""
Who may be reached: the judge of a network allowlist.

Pure. What denies wins. An address that is not public (loopback, private, link-local, of a metadata service) is reached
only by a rule that names addresses, however its name is spelled and whatever that resolves to.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .address import meant, why_special
from .denial import Denial
from .rule import EVERY_PORT, Protocol, Rule, is_name, rule_for

if TYPE_CHECKING:
    from .address import Address

__all__ = [
    "Rules",
    "Verdict",
    "denial_of",
    "granted",
    "judge",
    "judge_name",
    "judge_this_host",
    "prevented",
    "refused",
]


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """
    An allowlist, and what is taken from it. Equal to itself alone, so that a verdict is found by it at once.
    """

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What was decided, and by which rule.

    Args:
        allowed: whether it may be reached.
        rule: the rule that says so; None where nothing is said about it, which denies.
        why: a few words, for a denial.
        any_name: whether a rule has to say that, to allow it.
        cure: what would allow it, where that is no rule.
    """

    allowed: bool
    rule: Rule | None
    why: str = ""
    any_name: bool = False
    cure: str = ""


def granted(rule: Rule | None) -> Verdict:
    """
    It may be reached, by this rule.
    """
    return Verdict(allowed=True, rule=rule)


def refused(why: str, rule: Rule | None = None, *, any_name: bool = False) -> Verdict:
    """
    It may not; against this rule, or because there is none for it.
    """
    return Verdict(allowed=False, rule=rule, why=why, any_name=any_name)


def prevented(why: str, cure: str) -> Verdict:
    """
    It may not, and no rule would help: there is too much already, or it is of a kind that does not go this way.

    Args:
        why: a few words.
        cure: what would help, as a noun: a limit and its value, another way.
    """
    return Verdict(allowed=False, rule=None, why=why, cure=cure)


def denial_of(subject: str, port: int | None, verdict: Verdict, protocol: Protocol = "tcp") -> Denial:
    """
    What is noted of a refusal: why, and the line of policy that would allow it.

    Args:
        subject: the name or the address that was asked for.
        port: there; None where only a name was asked for.
        verdict: that refuses.
        protocol: of the port.
    """
    if verdict.rule is not None:
        rule = str(verdict.rule)
        cure = f'take "{rule}" from deny_network'
        return Denial("network", subject, port, verdict.why, rule, cure)
    if verdict.cure:
        return Denial("network", subject, port, verdict.why, "", verdict.cure)
    allowing = subject if port is None else rule_for(subject, port, protocol, any_name=verdict.any_name)
    return Denial("network", subject, port, verdict.why, "", f'network = ["{allowing}"]')


@functools.lru_cache(maxsize=4096)
def judge(rules: Rules, name: str | None, address: Address | None, port: int, protocol: Protocol) -> Verdict:
    """
    Whether this may be reached, and by or against which rule.

    Args:
        rules: the policy's.
        name: in lower case and without a last dot, when one was resolved; None for an address by itself.
        address: what it has resolved to; None before that is known.
        port: of the other side.
        protocol: "tcp" or "udp".
    """
    address = None if address is None else meant(address)
    for rule in rules.deny:
        if rule.covers(port, protocol) and _is_about(rule, name, address):
            return refused("denied by deny_network", rule)
    allowing = [rule for rule in rules.allow if rule.covers(port, protocol)]
    by_address = next((rule for rule in allowing if address is not None and rule.holds(address)), None)
    by_name = next((rule for rule in allowing if name is not None and _is_named(rule, name)), None)
    if name is not None and by_name is None:
        return refused("no rule allows this name and port")
    if address is None:
        return granted(by_name)
    if by_address is not None:
        return granted(by_name or by_address)
    if special := why_special(address):
        return refused(f"{address} is {special}, and no rule names it")
    by_any = by_name or next((rule for rule in allowing if rule.host == "*"), None)
    return granted(by_any) if by_any is not None else refused("no rule allows this address and port")


def judge_name(rules: Rules, name: str) -> Verdict:
    """
    Whether a name is to be answered at all: whether there is a port that it may be reached at.
    """
    for rule in rules.deny:
        if rule.ports == EVERY_PORT and _is_about(rule, name, None):
            return refused("denied by deny_network", rule)
    allowing = next((rule for rule in rules.allow if _is_named(rule, name)), None)
    return granted(allowing) if allowing is not None else refused("no rule allows this name")


def judge_this_host(
    rules: Rules, verdict: Verdict, address: Address, port: int, protocol: Protocol
) -> Verdict:
    """
    The verdict on what was reached and turns out to be this host: a public address of its own is no better than
    loopback, and has to be named.

    Args:
        rules: the policy's.
        verdict: by its address alone.
        address: that was reached.
        port: there.
        protocol: "tcp" or "udp".
    """
    is_named = any(rule.covers(port, protocol) and rule.holds(meant(address)) for rule in rules.allow)
    if not verdict.allowed or is_named:
        return verdict
    return refused(f"{address} is this host, by a public address, and no rule names it")


def _is_named(rule: Rule, name: str) -> bool:
    return rule.names(name) and not (rule.host == "*" and not is_name(name))


def _is_about(rule: Rule, name: str | None, address: Address | None) -> bool:
    """
    Whether a rule that denies means this, by its name or by its address.
    """
    if rule.host == "*":
        return True
    return (name is not None and rule.names(name)) or (address is not None and rule.holds(address))
