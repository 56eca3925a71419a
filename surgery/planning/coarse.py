"""Widths in larger steps, where those are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from surgery.errors import some
from surgery.plan.plan import Plan, per_group

SHOWN = 4  # groups named in a note
COARSE = (
    "granularity: {} have fewer units than one step of it, and keep their full width. Give them a smaller one, "
    "granularity={{'*': 16, 'a.group': 1}}, or name them in fixed= if that is meant"
)


def with_granularity(plan: Plan, granularity: int | Mapping[str, int]) -> Plan:
    groups = dict(plan.groups)
    for name, value in per_group(plan, "granularity", granularity).items():
        groups[name] = groups[name].stepped(value)
    kept = [f"{group.name} ({group.size})" for group in groups.values() if group.granularity > group.size]
    if granularity == 1 or not kept:
        return replace(plan, groups=groups)
    return replace(plan, groups=groups, notes=(*plan.notes, COARSE.format(some(kept, SHOWN))))
