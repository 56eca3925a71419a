"""Attributes that follow the widths: integers by formulas, and lists with an entry for each module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.axes.formulas import Origin, Picked
from surgery.modules.plain_data import at, replaced
from surgery.plan.plan import Plan


def following(plan: Plan, formula: Origin, widths: Mapping[str, int], value: Any, keys: Sequence[Any]) -> Any:
    """A value of an attribute, with what its keys lead to as the formula has it at these widths."""
    if not isinstance(formula, Picked):
        return replaced(value, keys, plan.value(formula, widths))
    entries = at(value, keys)
    kept = plan.groups[formula.group].kept(widths[formula.group])
    return replaced(value, keys, type(entries)([entries[unit] for unit in kept]))
