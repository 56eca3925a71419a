"""Indexing, and operations that address positions by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import EllipsisType, NoneType
from typing import Any, cast

import torch
from torch import fx

from surgery.axes.algebra import Dim, concat, extent
from surgery.axes.formulas import Arithmetic, Constant, SizeOf
from surgery.axes.signature import broadcast
from surgery.nested import Shapes
from surgery.rules.base import (
    Dims,
    addressed,
    axis,
    current_node,
    here,
    operation_name,
    ordered,
    pointed,
    positions,
    recorded_dtype,
    require,
    result_shape,
    tensors_in,
    unify,
)
from surgery.rules.join import part, strided, unit
from surgery.rules.registry import rule


@rule(torch.Tensor.__getitem__)
def getitem(x: Dims, index: object) -> Dims:
    return _index(x, index, current_node().args[1], result_shape())


@rule(torch.Tensor.__setitem__)
def setitem(x: Dims, index: object, value: object) -> None:
    """`x[index] = value`: what is written has the dimensions of what would be read. Of two at one place one stays."""
    for dim in (dim for given in tensors_in(index) for dim in given):
        ordered(dim, "written by position")
    target = _index(x, index, current_node().args[1], None)
    if isinstance(value, Dims):
        broadcast([target, value], here())


@rule("index_put")
def index_put(x: Dims, indices: Sequence[object], values: Dims, *_: object, **__: object) -> Dims:
    nodes = current_node().args[1]
    assert isinstance(nodes, tuple | list)
    places = tuple(slice(None) if index is None else index for index in indices)
    for dim in (dim for index in tensors_in(indices) for dim in index):
        ordered(dim, "written by position")
    target = _index(x, places, tuple(nodes), None)
    broadcast([target, values], here())
    return x


def _index(x: Dims, index: object, nodes: object, shape: Shapes) -> Dims:
    items = index if type(index) is tuple else (index,)
    nodes = nodes if isinstance(nodes, tuple) and type(index) is tuple else (nodes,)
    taken = sum(_consumes(item, node) for item, node in zip(items, nodes, strict=True))
    if not any(item is Ellipsis for item in items):
        items, nodes = (*items, Ellipsis), (*nodes, Ellipsis)
    read = _Read(x, others=len(x) - taken)
    for item, node in zip(items, nodes, strict=True):
        kind = next(kind for types, kind in _KINDS if isinstance(item, types))
        kind(read, item, node)
    return read.done(shape)


@dataclass
class _Read:
    """How far an index into `x` has been read.

    Attributes:
        others: how many dimensions of `x` no item takes, so that `...` stands for them.
        place: the next dimension of `x`.
        result: the dimensions of the result so far, without those of `advanced`: indices that are lists or tensors.
        where: the places in the result at which these stood.
    """

    x: Dims
    others: int
    place: int = 0
    result: list[Dim] = field(default_factory=list)
    advanced: list[Dims] = field(default_factory=list)
    where: list[int] = field(default_factory=list)

    def take(self, count: int) -> Sequence[Dim]:
        """The next dimensions of `x`."""
        self.place += count
        return self.x[self.place - count : self.place]

    def done(self, shape: Shapes) -> Dims:
        """The dimensions of the result; those of advanced indices come first where these are apart."""
        if not self.where:
            return Dims(self.result)
        first = self.where[0] if len(set(self.where)) == 1 else 0
        result = [*self.result[:first], *broadcast(self.advanced, here()), *self.result[first:]]
        if shape is not None and len(result) == len(shape):
            result = [d if extent(d) == n else positions(n) for d, n in zip(result, shape, strict=True)]
        return Dims(result)


def _new(read: _Read, item: None, node: object) -> None:
    read.result.append(())


def _others(read: _Read, item: EllipsisType, node: object) -> None:
    read.result += read.take(read.others)


def _part(read: _Read, item: slice, node: object) -> None:
    (dim,) = read.take(1)
    read.result.append(_slice(dim, item))


def _one(read: _Read, item: int, node: object) -> None:
    (dim,) = read.take(1)
    unit(dim, item)


def _listed(read: _Read, item: object, node: object) -> None:
    for dim in read.take(_consumes(item, node)):
        _by_position(dim, item)
    read.where.append(len(read.result))
    read.advanced.append(_given(item, node))


_KINDS: tuple[tuple[type, Callable[[_Read, Any, object], None]], ...] = (  # the first that fits; an item fits its kind
    (NoneType, _new),
    (EllipsisType, _others),
    (slice, _part),
    (bool, _listed),
    (int, _one),
    (object, _listed),
)


def _by_position(dim: Dim, item: object) -> None:
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], int):
        unit(dim, item[0])
    else:
        pointed(dim, item, "indexed by position")


def _mask(node: object) -> bool:
    return isinstance(node, fx.Node) and recorded_dtype(node) in (torch.bool, torch.uint8)


def _consumes(item: object, node: object) -> int:
    """How many dimensions of the tensor an item of an index takes."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, Dims) and _mask(node):
        return len(item)
    return 1


def _given(item: object, node: object) -> Dims:
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


def _slice(dim: Dim, item: slice) -> Dim:
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
    pointed(x[i], index, "indexed by position")
    return Dims((*x[:i], *(index or Dims([()])), *x[i + 1 :]))


@rule("gather", "take_along_dim")
def gather(x: Dims, *args: object, **kwargs: object) -> Dims:
    (index,) = tensors_in(args, kwargs)
    (dim,) = (a for a in (*args, *kwargs.values()) if isinstance(a, int) and not isinstance(a, bool))
    i = axis(x, dim)
    pointed(x[i], index, "indexed by position")
    wide = operation_name() == "take_along_dim"  # it broadcasts, as `gather` does not
    return Dims(
        b if k == i else broadcast([[a], [b]], here())[0] if wide and () in (a, b) else _covered(a, b)
        for k, (a, b) in enumerate(zip(x, index, strict=True))
    )


def _covered(a: Dim, b: Dim) -> Dim:
    """An index that covers a dimension in full pairs with it, position by position."""
    if extent(a) == extent(b):
        return unify(a, b)
    ordered(a, "read in part")
    ordered(b, "read in part")
    return b


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill", "index_reduce")
def scatter(x: Dims, dim: int, index: Dims, *values: object, **kwargs: object) -> Dims:
    i = axis(x, dim)
    pointed(x[i], index, "written by position")
    for other in (index, *tensors_in(values, kwargs)):
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
def unpack(data: Dims, sizes: Dims, *_: object, **__: object) -> list[Dims]:
    for dim in (data[0], *sizes):
        ordered(dim, "packed positions")
    padded, lengths = result_shape()
    return [Dims((*map(positions, padded[:2]), *data[1:])), Dims(map(positions, lengths))]


@rule("one_hot")
def one_hot(x: Dims, num_classes: int = -1) -> Dims:
    """Classes are positions; those of places in a dimension are its units, and what there may be beyond it."""
    return Dims((*x, _classes(x, num_classes, cast(int, result_shape()[-1]))))


@rule("bincount")
def bincount(x: Dims, weights: Dims | None = None, minlength: int = 0) -> Dims:
    for dims in (x, weights or ()):
        for dim in dims:
            ordered(dim, "values are listed")
    return Dims([_classes(x, minlength, cast(int, result_shape()[0]))])


@rule("histc")
def histogram(x: Dims, bins: int = 100, min: float = 0, max: float = 0) -> Dims:
    """How many values fall between bounds does not depend on where they are. One bin for each place is one unit."""
    beyond = None if x.into is None else extent(x.into) - int(max)
    if x.into is not None and beyond in (0, 1) and (bins, min) == (extent(x.into), 0):
        require(max, Arithmetic("-", SizeOf(x.into), Constant(beyond)))
        return Dims([_classes(x, bins, bins)])
    if x.into is not None:
        addressed(x.into, "values are counted between bounds")
    return Dims(map(positions, result_shape()))


def _classes(x: Dims, asked: int, made: int) -> Dim:
    """A dimension with one unit for each value that places in a dimension may have."""
    if x.into is None or asked != made or made < extent(x.into):
        if x.into is not None:
            ordered(x.into, "classes")
        return positions(made, "classes")
    classes = concat([x.into, positions(made - extent(x.into), "classes")])
    require(asked, classes)
    return classes
