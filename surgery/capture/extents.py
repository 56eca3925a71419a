"""Shapes and strides of tensors as integers that remember the tensor and the dimension."""

from __future__ import annotations

import math
from typing import Any

import torch

from surgery.axes.formulas import Extent
from surgery.axes.sizes import Size
from surgery.capture.trace import Trace


def extent(trace: Trace, name: str, result: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """A shape whose integers remember the tensor and the dimension."""
    node = trace.node_of(tensor)
    sizes = [Size(n, Extent(node, i, n)) for i, n in enumerate(tensor.shape)]
    dim = args[0] if args else kwargs.get("dim")
    if name == "size" and dim is not None:
        return sizes[dim]
    if name in ("shape", "size"):
        return torch.Size(sizes)
    if name == "__len__":
        return sizes[0]
    if name == "stride":
        return strides(trace, result, tensor, sizes, dim)
    total = sizes[0] if sizes else 1
    for size in sizes[1:]:
        total = total * size
    return total


def strides(trace: Trace, plain: Any, tensor: torch.Tensor, sizes: list[Size], dim: Any) -> Any:
    """The strides of a tensor without gaps are products of the sizes of what lies inside each dimension."""
    order = memory_order(trace, tensor)
    if order is None:  # those of a slice of a parameter are the whole one's
        return plain
    found: list[int] = [math.prod(sizes[j] for j in order[order.index(i) + 1 :]) for i in range(len(order))]
    found = [step if n > 1 else given for n, step, given in zip(tensor.shape, found, tensor.stride(), strict=True)]
    return tuple(found) if dim is None else found[dim]


def memory_order(trace: Trace, tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The order in which the dimensions of a tensor lie in memory; None in that of a parameter or buffer."""
    kept = [other for other in trace.names.values() if other.layout is torch.strided]
    with torch._C.DisableTorchFunction():
        memory = tensor.untyped_storage().data_ptr()
        # what is made of a parameter that lies otherwise may lie otherwise where that is gathered
        own = all(other.is_contiguous() and memory != other.untyped_storage().data_ptr() for other in kept)
        return _order(tensor) if own else None


def _order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions of a tensor from the outermost in memory, those of one unit first; None if there are gaps."""
    strides, shape = tensor.stride(), tensor.shape
    order = sorted(range(tensor.dim()), key=lambda i: (shape[i] != 1, -strides[i], i))
    inside = [math.prod(shape[j] for j in order[place + 1 :]) for place in range(len(order))]
    whole = all(strides[i] == n for i, n in zip(order, inside, strict=True) if shape[i] != 1)
    return tuple(order) if whole else None
