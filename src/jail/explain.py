"""
A plan in words, and as JSON: what would be done, and what that guarantees. Starts nothing.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from .guarantee import Guarantee, Strength
from .ops import Op, render_op
from .plan import Plan

__all__ = ["render_guarantees", "render_plan", "render_plan_json"]


def render_guarantees(guarantees: Iterable[Guarantee]) -> str:
    """
    One line per guarantee: its name, who keeps it and by what, and the promise.
    """
    rows = [(g.name, _strength(g), g.promise) for g in guarantees]
    name_width = max((len(name) for name, _, _ in rows), default=0)
    how_width = max((len(how) for _, how, _ in rows), default=0)
    return "".join(f"  {name:{name_width}}  {how:{how_width}}  {promise}\n" for name, how, promise in rows)


def _strength(guarantee: Guarantee) -> str:
    if guarantee.strength is Strength.NONE:
        return "not kept"
    return f"{guarantee.strength}: {guarantee.mechanism}"


def render_plan(plan: Plan) -> str:
    """
    The whole plan for people: tier, guarantees, and each op in the order in which it is carried out.
    """
    return (
        f"Stands on: {plan.tier}\n\n"
        f"Guarantees\n{render_guarantees(plan.guarantees)}\n"
        f"jail-init, once\n{_numbered(plan.setup)}\n"
        f"each program, before it is executed\n{_numbered((*plan.each_exec, *plan.each_last))}"
    )


def _numbered(ops: Iterable[Op]) -> str:
    return "".join(f"  {index:3}  {render_op(op)}\n" for index, op in enumerate(ops))


def render_plan_json(plan: Plan) -> str:
    """
    The same as one JSON document, for tools.
    """
    document = {
        "tier": plan.tier,
        "clone_flags": plan.clone_flags,
        "guarantees": [asdict(guarantee) for guarantee in plan.guarantees],
        "setup": [_op(op) for op in plan.setup],
        "each_exec": [_op(op) for op in (*plan.each_exec, *plan.each_last)],
    }
    return json.dumps(document, indent=2)


def _op(op: Op) -> dict[str, object]:
    return {
        "kind": op.kind.name.lower(),
        "path": op.path,
        "args": list(op.args),
        "optional": op.optional,
        "text": render_op(op),
    }
