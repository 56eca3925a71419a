"""Indexing, and operations that address positions by number."""

from __future__ import annotations

from typing import Any

import torch

from surgery.axes.algebra import extent
from surgery.axes.signature import broadcast
from surgery.rules.base import Dims, axis, current_node, here, ordered, positions, result_shape, tensors_in, unify
from surgery.rules.join import part, strided, unit
from surgery.rules.registry import rule


@rule(torch.Tensor.__getitem__)
def getitem(x: Dims, index: Any) -> Dims:
    return _index(x, index, current_node().args[1], result_shape())


@rule(torch.Tensor.__setitem__)
def setitem(x: Dims, index: Any, value: Any) -> None:
    """`x[index] = value`: what is written has the dimensions of what would be read. Of two at one place one stays."""
    for dim in (dim for given in tensors_in(index) for dim in given):
        ordered(dim, "written by position")
    target = _index(x, index, current_node().args[1], None)
    if isinstance(value, Dims):
        broadcast([target, value], here())


@rule("index_put")
def index_put(x: Dims, indices: Any, values: Dims, *_: Any, **__: Any) -> Dims:
    given, nodes = tuple(indices), tuple(current_node().args[1])  # type: ignore[arg-type]
    places = tuple(slice(None) if index is None else index for index in given)
    for dim in (dim for index in tensors_in(given) for dim in index):
        ordered(dim, "written by position")
    target = _index(x, places, nodes, None)
    broadcast([target, values], here())
    return x


def _index(x: Dims, index: Any, nodes: Any, shape: Any) -> Dims:
    items = list(index) if type(index) is tuple else [index]
    nodes = list(nodes) if isinstance(nodes, tuple) and type(index) is tuple else [nodes]
    taken = sum(_consumes(item, node) for item, node in zip(items, nodes, strict=True))
    if Ellipsis not in [item for item in items if not isinstance(item, Dims)]:
        items, nodes = [*items, Ellipsis], [*nodes, Ellipsis]
    result: list[Any] = []
    advanced: list[Dims] = []
    place, split, i = None, False, 0
    for item, node in zip(items, nodes, strict=True):
        if item is None:
            result.append(())
        elif item is Ellipsis:
            result += x[i : i + len(x) - taken]
            i += len(x) - taken
        elif isinstance(item, slice):
            result.append(_slice(x[i], item, node))
            i += 1
        elif isinstance(item, int) and not isinstance(item, bool):
            unit(x[i], item)
            i += 1
        else:
            consumed = _consumes(item, node)
            for dim in x[i : i + consumed]:
                _by_position(dim, item)
            i += consumed
            if place is not None and len(result) != place:
                split = True
            place = len(result) if place is None else place
            advanced.append(_read(item, node))
    if place is not None:
        place = 0 if split else place
        result[place:place] = broadcast(advanced, here()) if advanced else []
        if shape is not None and len(result) == len(shape):
            result = [d if extent(d) == n else positions(n) for d, n in zip(result, shape, strict=True)]
    return Dims(result)


def _by_position(dim: Any, item: Any) -> None:
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], int):
        unit(dim, item[0])
    else:
        ordered(dim, "indexed by position")


def _mask(node: Any) -> bool:
    return getattr(node, "meta", {}).get("dtype") in (torch.bool, torch.uint8)


def _consumes(item: Any, node: Any) -> int:
    """How many dimensions of the tensor an item of an index takes."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, Dims) and _mask(node):
        return len(item)
    return 1


def _read(item: Any, node: Any) -> Dims:
    """The dimensions that an advanced index contributes to the result."""
    if isinstance(item, Dims):
        if not _mask(node):
            return item
        for dim in item:
            ordered(dim, "a mask selects positions")
        return Dims([positions(0)])
    if isinstance(item, list | tuple) and all(isinstance(entry, int) for entry in item):
        return Dims([positions(len(item))])
    raise NotImplementedError("this kind of index")


def _slice(dim: Any, item: slice, node: Any) -> Any:
    if any(isinstance(bound, Dims) for bound in (item.start, item.stop, item.step)):
        raise NotImplementedError("a slice between positions that are computed by the model")
    n = extent(dim)
    start = 0 if item.start is None else item.start
    stop = n if item.stop is None else item.stop
    if item.step is None or int(item.step) == 1:
        return part(dim, start, stop)
    size = len(range(*slice(int(start), int(stop), int(item.step)).indices(n)))
    if stop < n:
        ordered(dim, "read with a stride")
    return strided(dim, start, item.step, size)


@rule("index_select")
def index_select(x: Dims, dim: int, index: Dims) -> Dims:
    i = axis(x, dim)
    ordered(x[i], "indexed by position")
    return Dims((*x[:i], *(index or Dims([()])), *x[i + 1 :]))


@rule("gather", "take_along_dim")
def gather(x: Dims, *args: Any, **kwargs: Any) -> Dims:
    (index,) = (a for a in (*args, *kwargs.values()) if isinstance(a, Dims))
    (dim,) = (a for a in (*args, *kwargs.values()) if isinstance(a, int) and not isinstance(a, bool))
    i = axis(x, dim)
    ordered(x[i], "indexed by position")
    return Dims(b if k == i else _covered(a, b) for k, (a, b) in enumerate(zip(x, index, strict=True)))


def _covered(a: Any, b: Any) -> Any:
    """An index that covers a dimension in full pairs with it, position by position."""
    if extent(a) == extent(b):
        return unify(a, b)
    ordered(a, "read in part")
    ordered(b, "read in part")
    return b


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill", "index_reduce")
def scatter(x: Dims, dim: int, index: Dims, *values: Any, **kwargs: Any) -> Dims:
    i = axis(x, dim)
    ordered(x[i], "written by position")
    for other in (index, *(v for v in (*values, *kwargs.values()) if isinstance(v, Dims))):
        if len(other) != len(x):
            for counted in other:
                ordered(counted, "written by position")
            continue
        for k, (a, b) in enumerate(zip(x, other, strict=True)):
            if k != i:
                _covered(a, b)
            else:
                ordered(b, "written by position")
    return x


@rule(torch._VF._pack_padded_sequence)
def pack(x: Dims, lengths: Dims, batch_first: bool) -> list[Dims]:
    for dim in (*x[:2], *lengths):
        ordered(dim, "packed positions")
    data, sizes = result_shape()
    return [Dims((positions(data[0]), *x[2:])), Dims(map(positions, sizes))]


@rule(torch._VF._pad_packed_sequence)
def unpack(data: Dims, sizes: Dims, *_: Any, **__: Any) -> list[Dims]:
    for dim in (data[0], *sizes):
        ordered(dim, "packed positions")
    padded, lengths = result_shape()
    return [Dims((*map(positions, padded[:2]), *data[1:])), Dims(map(positions, lengths))]


@rule("one_hot")
def one_hot(x: Dims, *_: Any, **__: Any) -> Dims:
    return Dims((*x, positions(result_shape()[-1], "classes")))
