"""The trials of a declaration: order, width, multiply-adds and scale. Each raises AxisError that says what is wrong."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from surgery.axes.algebra import Axis, extent
from surgery.errors import AxisError, ProofError
from surgery.modules.inputs import Inputs
from surgery.modules.verify import verify
from surgery.planning.conformance.bound import Bound, taken, width
from surgery.planning.conformance.counting import counted
from surgery.planning.conformance.layers import Constant, assign, outputs, owner_of, relist

TOLERANCE = 1e-9
FACTOR = 3.0


def check_order(bound: Bound, name: str, axis: Axis) -> None:
    """Permuting an axis everywhere permutes the output alike."""
    order = torch.randperm(axis.size, generator=torch.Generator().manual_seed(0))
    after, before = outputs(*bound.changed(axis, order)), outputs(bound.layer, bound.run)
    try:
        _same([taken(t, dims, axis, order) for t, dims in zip(before, bound.outputs, strict=True)], after)
    except ProofError as error:
        raise AxisError(
            f"{bound.who}: permuting {name!r} ({axis.size} units) everywhere that axes "
            f"{bound.adapter.axes!r} and params {dict(bound.adapter.params)} say does not permute the output alike: "
            f"{error}. A pattern has {name!r} at the wrong place, or in the wrong order within a product"
        ) from error


def check_cut(bound: Bound, name: str, axis: Axis) -> None:
    """Cut to half of an axis, with the attributes that say so, the layer runs and gives the declared shapes."""
    units = (axis.size + 1) // 2
    layer, run = bound.changed(axis, torch.arange(units))
    for term, attribute in bound.adapter.attributes():
        assign(layer, attribute, width(bound.binding.dim(term), axis, units))
    where = f"cut to {units} of {axis.size} units of {name!r}"
    expected = [[width(dim, axis, units) for dim in dims] for dims in bound.outputs]
    try:
        shapes = [list(t.shape) for t in outputs(layer, run)]
    except Exception as error:
        raise AxisError(
            f"{bound.who}: {where}, the layer does not "
            f"run ({type(error).__name__}: {error}). An attribute that holds this width is missing in sizes "
            f"{dict(bound.adapter.sizes)}, or a parameter in params"
        ) from error
    if shapes != expected:
        raise AxisError(
            f"{bound.who}: {where}, the layer gives shapes {shapes}, where axes {bound.adapter.axes!r} says {expected}"
        )
    _compare_macs(bound, layer, run, sum(width(dim, axis, units) for dim in bound.macs), where)


def check_macs(bound: Bound) -> None:
    """The multiply-adds that are declared at full width are those that torch counts."""
    full = sum(extent(dim) for dim in bound.macs)
    _compare_macs(bound, bound.layer, bound.run, full, "at full width")


def _compare_macs(bound: Bound, layer: nn.Module, run: Inputs, declared: int, where: str) -> None:
    """Compare the multiply-adds that are declared, if any are, with those that torch counts, if it sees them."""
    found, all_seen = counted(layer, run)
    wrong = declared != found if all_seen else declared < found
    if bound.macs and found and wrong:
        shown = f"macs {bound.adapter.macs!r} says" if bound.adapter.macs else "call.multiply says"
        raise AxisError(
            f"{bound.who}: {where}, {shown} {declared} multiply-adds, torch counts {found}. "
            'macs is ("output" or "input", a parameter): the elements of that tensor, times the axes of the '
            "parameter that the tensor does not have"
        )


def check_scale(bound: Bound) -> None:
    """What `scale` names is what the output is linear in."""
    names = [name for name in bound.adapter.scale if name in bound.tensors]
    if not names:
        return
    scaled = copy.deepcopy(bound.layer)
    for name in names:
        owner, leaf = owner_of(scaled, name)
        getattr(owner, leaf).data.mul_(FACTOR)
    relist(bound.layer, scaled)
    expected = [t * FACTOR if t.is_floating_point() or t.is_complex() else t for t in outputs(bound.layer, bound.run)]
    try:
        _same(expected, outputs(scaled, bound.run))
    except ProofError as error:
        raise AxisError(
            f"{bound.who}: scale says that the output is linear in {', '.join(names)}, but "
            f"multiplying them by {FACTOR} does not multiply it: {error}. Name every parameter that adds to the "
            "output (a bias too), and none that does not, or leave scale out"
        ) from error


def _same(expected: list[Tensor], found: list[Tensor]) -> None:
    verify(Constant(expected), Constant(found), (), tolerance=TOLERANCE)
