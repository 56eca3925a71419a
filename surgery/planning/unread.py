"""What looks free and is none: parts of tensors that no call has read, and axes that only constants make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import fx

from surgery.axes import signature
from surgery.axes.algebra import Axis, Dim, axes_of, pin
from surgery.capture.recorder import call_name
from surgery.modules.code.bytecode import mentions
from surgery.nested import fold
from surgery.planning.analysis import Analysis, Layer, group_axes
from surgery.rules.base import tensors_in

# Calls that hand on what they are given, or a part of it: what they hand on is read by those that get it.
HANDING_ON = frozenset(
    "__getitem__ getitem narrow narrow_copy select split split_with_sizes chunk tensor_split unbind hsplit vsplit "
    "dsplit unsafe_split unsafe_chunk view view_as reshape reshape_as flatten ravel unflatten permute transpose "
    "swapaxes swapdims t T mT H mH adjoint movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to contiguous "
    "to type_as type float half double bfloat16 clone detach alias view_as_real view_as_complex".split()
)


def pin_unread(analysis: Analysis) -> None:
    """Pin the parts of parameters that no call has read, such as rows of a table beyond the positions of the example.

    Other inputs may read them, and nothing says what they are then.
    """
    read = set(_read(analysis))
    for axis in group_axes(analysis):
        if axis not in read:
            pin(
                (axis,),
                "no call reads this part on the example inputs, others may (give inputs that read it as well: "
                "surgery.batches([...]))",
            )


def _read(analysis: Analysis) -> Iterator[Axis]:
    for layer in analysis.layers.values():
        yield from _axes(layer.binding.dims.values())
    for capture in analysis.captures:
        for node in capture.graph.nodes:
            if node.op in ("placeholder", "get_attr") or call_name(node.target) in HANDING_ON:
                continue
            given = list(node.args[1:] if call_name(node.target) == "__setitem__" else node.args)
            nodes = [*fold((given, node.kwargs), fx.Node), node]
            yield from _axes(dim for one in nodes for dims in tensors_in(analysis.values.get(one)) for dim in dims)


def unread_integers(analysis: Analysis) -> Iterator[str]:
    """A note for each buffer of integers that no run has read and some code reads: it may hold places of units."""
    for name, tensor in analysis.parts.tensors.items():
        owner, _, attribute = name.rpartition(".")
        whole = tensor.dtype in (torch.int32, torch.int64, torch.int16, torch.uint8, torch.int8) and tensor.dim() > 0
        if not whole or name in analysis.tensors or owner not in analysis.modules or owner in analysis.layers:
            continue
        if mentions(type(analysis.modules[owner]), {attribute}):
            yield (
                f"{name}, integers that the example inputs do not read, stays as it is: if it holds places of units, "
                "they are those of the full width"
            )


def pin_constants(analysis: Analysis) -> None:
    """Pin the axes that no parameter makes: coordinates and other tables of constants are inputs, and no features."""
    made = set(_made(analysis))
    for axis in group_axes(analysis):
        if axis not in made:
            pin((axis,), "only constants make it: it is an input, and no features")


def _made(analysis: Analysis) -> Iterator[Axis]:
    declared = set()
    for layer in analysis.layers.values():
        declared |= {f"{layer.path}.{name}".lstrip(".") for name in layer.adapter.params}
        yield from _axes(layer.binding.dims[name] for name in _makes(layer) if name in layer.binding.dims)
    for name in analysis.parameters:
        if name not in declared:
            yield from _axes(analysis.tensors.get(name, ()))


def _makes(layer: Layer) -> set[str]:
    """The axes of a layer that its weights make: those that come out, unless they only pass through, as in a norm."""
    parsed = signature.parse(layer.adapter.axes)
    outputs = {name for pattern in parsed.outputs for name in signature.names(pattern)}
    patterns = [signature.parse_tensors(layer.adapter.params[name])[0] for name in layer.adapter.tensors()]
    mixed = {name for pattern in patterns if len(set(names := signature.names(pattern))) > 1 for name in names}
    passing = layer.adapter.consumed() - mixed
    inner = set(layer.binding.dims) - layer.adapter.consumed()
    return (outputs | inner) - passing


def _axes(dims: Iterable[Dim]) -> Iterator[Axis]:
    for dim in dims:
        yield from axes_of(dim)
