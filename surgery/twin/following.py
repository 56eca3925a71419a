"""Attributes that follow the widths: integers by formulas, and lists with an entry for each module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.axes.formulas import Origin, Picked
from surgery.modules.plain_data import at, replaced
from surgery.plan.plan import Plan


def following(
    plan: Plan, formula: Origin, widths: Mapping[str, int], value: Any, keys: Sequence[Any], renamed: bool = False
) -> Any:
    """A value of an attribute, with what its keys lead to as the formula has it at these widths.

    In a small model tensors are `renamed` where others have gone; in a twin they keep their names.
    """
    if not isinstance(formula, Picked):
        return replaced(value, keys, plan.value(formula, widths))
    group, entries = plan.groups[formula.group], at(value, keys)
    kept = range(widths[group.name]) if formula.of_first and renamed else group.kept(widths[group.name])
    chosen = [entry for unit in kept for entry in entries[unit * formula.each : (unit + 1) * formula.each]]
    return replaced(value, keys, type(entries)(chosen))
