"""What a small model knows of how it was made: inert data, enough for `save`, and for `load` from the full model.

Of a model that was shrunk before, widths and orders are told as those of the first, full one, where its groups are
still these. Groups of features have the names that they had. Where modules are gone, names have moved up: then a group
is known by the tensors that it cuts and the lists that it shortens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from surgery.axes import layout
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.plan.runs import in_runs

RECORD = "surgery_record"
Record: TypeAlias = dict[str, Any]  # as it stands in the JSON of a saved model
Called: TypeAlias = dict[str, Any]  # a group of the full model: where it is in the small one, and which units of it


def record_of(before: Record | None, plan: Plan, widths: Mapping[str, int]) -> Record:
    """What `save` needs to know.

    Args:
        before: the record of the model that was cut, if it was a small one.
        plan: of the model that was cut.
        widths: those that it was cut to.
    """
    orders = plan.units.orders
    record: Record = {
        "widths": dict(widths),
        "full": plan.full(),
        "fingerprint": plan.fingerprint,
        "options": dict(plan.options),
        "orders": orders,
        "cut_buffers": sorted(_names(plan, widths, plan.cut_tensors - set(plan.parameters))),
        "shapes": {name: [layout.width(dim, {}) for dim in dims] for name, dims in plan.layouts.items()},
    }
    if plan.units.groups:
        record["called"] = {name: _called(plan, group, widths) for name, group in plan.groups.items()}
    earlier = None if before is None else _of_the_first(before, record, plan, widths)
    return (earlier or record) | {
        "step": {"fingerprint": plan.fingerprint, "widths": dict(widths), "orders": orders},
    }


def _of_the_first(before: Record, record: Record, plan: Plan, widths: Mapping[str, int]) -> Record | None:
    """The record, told of the first full model; None where the groups are others by now."""
    if "called" in before:
        return _matched(before, plan, widths)
    if set(plan.groups) != {name for name, width in before["widths"].items() if width > 1}:
        return None
    return {key: before[key] for key in record if key in before} | {"widths": {**before["widths"], **widths}}


def _matched(before: Record, plan: Plan, widths: Mapping[str, int]) -> Record | None:
    """The same where modules come and go, and groups are known by where they are."""
    names = _pairs(before, plan)
    if names is None:
        return None
    called = {name: _moved(one, plan, widths) for name, one in before["called"].items()}
    orders = dict(before["orders"])
    for own, first in names.items():
        known, group = before["called"][first], plan.groups[own]
        if not group.lists:
            continue
        kept = [known["kept"][unit] for unit in group.kept(widths[own])]
        called[first]["kept"] = kept
        if group.order:
            orders[first] = _composed(known["kept"], group.order, orders.get(first, range(before["full"][first])))
            if not _is_told(orders[first], known, kept, before["full"][first]):
                return None
    buffers = {*before["cut_buffers"]} - plan.parameters.keys() | (plan.cut_tensors - plan.parameters.keys())
    return {key: before[key] for key in ("full", "fingerprint", "options", "shapes") if key in before} | {
        "widths": {**before["widths"], **{first: widths[own] for own, first in names.items()}},
        "orders": orders,
        "cut_buffers": sorted(_names(plan, widths, buffers)),
        "called": called,
    }


def _pairs(before: Record, plan: Plan) -> dict[str, str] | None:
    """For each group of a plan, the one of the first full model that it is; None where one is none of them."""
    there: dict[object, list[str]] = {}
    for name, one in before["called"].items():
        if before["widths"][name] > 1:
            there.setdefault(_places(one), []).append(name)
    found = {}
    for name, group in plan.groups.items():
        here = there.get(_places(_called(plan, group, plan.full())), [])
        if not here or before["widths"][here[0]] != group.size:
            return None
        found[name] = here.pop(0)
    return found


def _places(one: Called) -> object:
    return tuple(sorted(map(tuple, one["cuts"]))), tuple(sorted(one["lists"]))


def _called(plan: Plan, group: Group, widths: Mapping[str, int]) -> Called:
    """Where a group is in a small model, and which of its units are there."""
    one: Called = {"cuts": group.cuts, "lists": [listed.path for listed in group.lists]}
    if group.lists:
        kept = list(group.kept(widths[group.name]))
        one |= {"kept": kept, "stays": list(group.stays), "step": group.granularity}
    return _moved(one, plan, widths)


def _moved(one: Mapping[str, Any], plan: Plan, widths: Mapping[str, int]) -> Called:
    """The same in a smaller model, in which some of it may be gone and names have moved up."""
    cuts = ((plan.units.name(tensor, widths), dim) for tensor, dim in one["cuts"])
    lists = (plan.units.name(path, widths) for path in one["lists"])
    return {
        **one,
        "cuts": [[tensor, dim] for tensor, dim in cuts if tensor is not None],
        "lists": [path for path in lists if path is not None],
    }


def _composed(kept: Sequence[int], order: Sequence[int], first: Sequence[int]) -> list[int]:
    """An order of units that were kept, as one of all."""
    own = [kept[unit] for unit in order]
    return [*own, *(unit for unit in first if unit not in own)]


def _is_told(order: Sequence[int], known: Called, kept: Sequence[int], size: int) -> bool:
    """Whether the first full model has these units at this width, by an order."""
    width, (ranked, _) = len(kept), in_runs(order, known["stays"], known["step"])
    return set(ranked[:width]) == set(kept) and (width % known["step"] == 0 or width == size)


def _names(plan: Plan, widths: Mapping[str, int], names: set[str] | frozenset[str]) -> list[str]:
    """Tensors as they are called in a small model, without those that are gone."""
    return [short for name in names if (short := plan.units.name(name, widths)) is not None]
