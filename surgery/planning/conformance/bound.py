"""One layer on one example, with the axes that its adapter gives to inputs, outputs, parameters and attributes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from surgery.adapters.base import Adapter
from surgery.axes import layout
from surgery.axes.algebra import Axis, Dim, Dims, Sum, axes_of, extent, fresh, resolve
from surgery.axes.layout import Layout, Unit
from surgery.axes.signature import Binding
from surgery.capture.record import capture
from surgery.errors import AxisError
from surgery.modules.inputs import Inputs, tensors, widened
from surgery.modules.tensors import parts_of
from surgery.planning.analysis import Analysis
from surgery.planning.conformance.layers import Alone, mapped, owner_of, relist
from surgery.planning.values import fill
from surgery.rules.base import tensors_in

AXIS = "axis"  # what the axis of a trial is called in layouts: there is only one at a time


@dataclass(frozen=True)
class Bound:
    """A layer, an example, and what the adapter says of it.

    Attributes:
        inputs, outputs: the dimensions of the tensors that go in and come out.
        tensors: those of parameters and buffers, by name.
        macs: products of dimensions, which are added up.
        binding: the axes by name.
    """

    layer: nn.Module
    adapter: Adapter
    run: Inputs
    inputs: Sequence[Dims]
    outputs: Sequence[Dims]
    tensors: Mapping[str, Dims]
    macs: Sequence[Dim]
    binding: Binding

    @property
    def who(self) -> str:
        """The adapter's class, as messages name it."""
        return type(self.adapter).__name__

    def free_axes(self) -> dict[str, Axis]:
        """The axes that can be permuted and cut, by name: whole dimensions of one axis that nothing pins."""
        found = {}
        for name, dim in self.binding.dims.items():
            axes = [axis for axis in axes_of(dim) if not axis.pin]
            if len(axes) == 1 and extent(resolve(dim)) == axes[0].size:
                found[name] = axes[0]
        return found

    def changed(self, axis: Axis, chosen: Tensor) -> tuple[nn.Module, Inputs]:
        """The layer and its inputs with the chosen units of an axis, in that order."""
        layer = copy.deepcopy(self.layer)
        if self.adapter.replacement is not None:
            layer.__class__ = self.adapter.replacement
        for name, dims in self.tensors.items():
            module, leaf = owner_of(layer, name)
            value = taken(getattr(module, leaf).detach(), dims, axis, chosen)
            if leaf in module._parameters:
                module._parameters[leaf] = nn.Parameter(value)
            else:
                module._buffers[leaf] = value
        relist(self.layer, layer)
        given = iter(self.inputs)
        return layer, mapped(self.run, lambda tensor: taken(tensor, next(given), axis, chosen))


def bind(layer: nn.Module, adapter: Adapter, run: Inputs) -> Bound:
    """The layer, captured on one example in float64. Raises AxisError where it contradicts its adapter already."""
    run = mapped(run, widened)
    parts = parts_of(Alone(layer))
    analysis, record = Analysis(parts), capture(parts, run)
    inputs = [Dims(fresh(n) for n in t.shape) for t in tensors((run.args, run.kwargs))]
    outputs = analysis.run(record, inputs)
    node = next(node for node in record.graph.nodes if node.op == "call_module")
    for dims in (*inputs, *outputs, *tensors_in(fill(node.args, analysis.values.get))):
        for axis in (axis for dim in dims for axis in axes_of(dim)):
            if axis.pin and axis.pin.startswith(("the rule for", "the adapter for")):
                raise AxisError(f"{type(adapter).__name__}: {axis.pin}")
    found = {name: analysis.tensor(f"layer.{name}") for name in adapter.tensors()}
    bound = Bound(layer, adapter, run, inputs, outputs, found, analysis.macs, analysis.layers["layer"].binding)
    _check_sizes(bound)
    return bound


def _check_sizes(bound: Bound) -> None:
    for term, attribute in bound.adapter.attributes():
        size = bound.binding.size(term)
        if size is not None and size != bound.adapter.value(attribute):
            raise AxisError(
                f"{bound.who}: sizes says that {attribute} holds a width that is {size} in the "
                f"parameters, but it is {bound.adapter.value(attribute)}"
            )


def taken(tensor: Tensor, dims: Dims, axis: Axis, chosen: Tensor) -> Tensor:
    """A tensor with the chosen units of an axis, wherever its dimensions have it."""
    for number, dim in enumerate(dims):
        parts = frozen(dim, axis)
        if AXIS in layout.groups(parts):
            tensor = tensor.index_select(number, layout.positions(parts, {AXIS: chosen}))
    return tensor


def width(dim: Dim, axis: Axis, units: int) -> int:
    """The size of a dimension where an axis has so many units."""
    return layout.width(frozen(dim, axis), {AXIS: units})


def frozen(dim: Dim, axis: Axis) -> Layout:
    """A dimension as a layout in which the axis is the only group."""
    return tuple(
        layout.Sum(tuple(frozen(term, axis) for term in factor.terms))
        if isinstance(factor, Sum)
        else Unit(factor.size, AXIS if factor is axis else None)
        for factor in resolve(dim)
    )
