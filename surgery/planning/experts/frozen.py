"""Experts that are modules, in a finished plan: what comes and goes with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from surgery.axes import layout
from surgery.axes.algebra import Axis
from surgery.axes.layout import Present
from surgery.plan.plan import Plan
from surgery.planning.analysis import Analysis
from surgery.planning.experts.work import owned


def with_experts(plan: Plan, analysis: Analysis, names: Mapping[Axis, str]) -> Plan:
    """A plan whose groups of experts count the parameters of modules and the work that fewer of them do not do."""
    mine = {axis: names[axis] for axis in analysis.experts if names.get(axis) in plan.groups}
    if not mine:
        return plan
    owners = owned(analysis)
    gates = [
        tuple(sorted((mine[axis], unit) for axis, unit in owners.get(node, ()) if axis in mine))
        for node, _ in analysis.workers
    ]
    macs = tuple(
        (*(Present(name, unit) for name, unit in each), *dim) for each, dim in zip(gates, plan.macs, strict=True)
    )
    inside = {tensor: {name for name, _ in plan.units.homes(tensor)} for tensor in plan.parameters}
    groups = {
        name: dataclasses.replace(
            group,
            parameters=group.parameters + sum(n for tensor, n in plan.parameters.items() if name in inside[tensor]),
            macs=group.macs
            + sum(layout.width(dim, {}) for each, dim in zip(gates, plan.macs, strict=True) if name in dict(each)),
        )
        for name, group in plan.groups.items()
        if name in mine.values()
    }
    fixed = tuple(item for item in plan.fixed if not inside[item.tensor] & groups.keys())
    return dataclasses.replace(plan, groups={**plan.groups, **groups}, macs=macs, fixed=fixed)
