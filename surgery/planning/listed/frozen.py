"""Groups of modules in a finished plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from torch import fx

from surgery.axes import layout
from surgery.axes.formulas import Arithmetic, Attribute, AttributePath, Constant, LayoutSize, Origin, Picked, Rank
from surgery.axes.layout import Layout, Present, Unit
from surgery.plan.groups import DEPTH, Group
from surgery.plan.plan import Plan
from surgery.planning.listed.found import Found

Worker: TypeAlias = tuple[fx.Node, "int | None"]  # a recorded call, and of which of its layers


def with_modules(plan: Plan, found: Sequence[Found], workers: Sequence[Worker], steps: Mapping[str, int]) -> Plan:
    """A plan with a group more for each list of modules.

    Args:
        plan: of the axes.
        found: the lists.
        workers: the recorded calls that the plan's multiply-adds are of, in their order.
        steps: for groups by name, the granularity.
    """
    if not found:
        return plan
    macs = tuple(
        (*(present for one in found for present in _units(one, worker)), *dim)
        for dim, worker in zip(plan.macs, workers, strict=True)
    )
    formulas = tuple(formula for one in found for formula in formulas_of(one))
    groups = {**plan.groups, **{one.name: group_of(one, steps.get(one.name, 1)) for one in found}}
    plan = dataclasses.replace(plan, groups=groups, macs=macs, formulas=(*plan.formulas, *formulas))
    counted = {one.name: _counted(plan, one, macs) for one in found}
    free = {one.name: set(range(one.size)) - one.required.keys() for one in found}
    fixed = [
        item
        for item in plan.fixed
        if not any(unit in free.get(name, ()) for name, unit in plan.units.homes(item.tensor))
    ]
    return dataclasses.replace(plan, groups={**groups, **counted}, fixed=tuple(fixed))


def group_of(one: Found, step: int) -> Group:
    """The group that a list becomes."""
    free = [unit for unit in range(one.size) if unit not in one.required]
    ordered = one.kind == DEPTH or one.required
    group = Group(
        one.name,
        one.size,
        sets=tuple(dict.fromkeys(str(Attribute(module, path, 0)) for module, path, _ in formulas_of(one))),
        kind=one.kind,
        least=max(1, len(one.required)),
        lists=one.lists,
        order=(*sorted(one.required), *free) if ordered else (),
        stays=tuple(sorted(one.required)),
    )
    return group.stepped(step)


def _counted(plan: Plan, one: Found, macs: Sequence[Layout]) -> Group:
    """The group, with the parameters and the work that come and go with its units."""
    group, mine = plan.groups[one.name], frozenset([one.name])

    def goes(name: str, unit: int) -> bool:
        return name == one.name and unit not in one.required

    return dataclasses.replace(
        group,
        parameters=sum(n for tensor, n in plan.parameters.items() if any(goes(*h) for h in plan.units.homes(tensor))),
        macs=sum(
            layout.width(dim, {}) - layout.outside(dim, mine)
            for dim in macs
            if any(isinstance(factor, Present) and goes(factor.group, factor.unit) for factor in dim)
        ),
    )


def formulas_of(one: Found) -> Iterator[tuple[str, AttributePath, Origin]]:
    """What follows which modules are there: how many they are, the place of each, and lists with an entry for each."""
    for (module, path), more in one.counts:
        count: Origin = LayoutSize((Unit(one.size, one.name),))
        yield module, path, Arithmetic("+", count, Constant(more)) if more else count
    for (module, path), unit, more in one.indices:
        yield module, path, Rank(one.name, unit, more)
    for module, path in one.picks:
        yield module, path, Picked(one.name)
    for (module, path), each, of_first in one.entries:
        yield module, path, Picked(one.name, each, of_first)


def _units(one: Found, worker: Worker) -> Iterator[Present]:
    """The unit of a list without which some work is not done."""
    node, layer = worker
    if node in one.work:
        yield Present(one.name, one.work[node])
    elif node in one.stacked and layer is not None:
        yield Present(one.name, layer)
