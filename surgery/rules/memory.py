"""Operations that name places in memory, by strides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surgery.axes.algebra import Dim, extent
from surgery.axes.formulas import Arithmetic, Constant, SizeOf
from surgery.rules.base import (
    Dims,
    made_from,
    memory_order,
    ordered,
    positions,
    require,
    result_shape,
    tensors_in,
)
from surgery.rules.registry import rule


@rule("as_strided_scatter")
def placed(x: Dims, *args: object, **kwargs: object) -> Dims:
    """It sees the memory behind a view, too."""
    for dim in (dim for tensor in (*made_from(), *tensors_in(args, kwargs)) for dim in tensor):
        ordered(dim, "places in memory are named")
    return Dims(map(positions, result_shape()))


@rule("as_strided")
def as_strided(x: Dims, size: Sequence[int], stride: Sequence[int], storage_offset: object = None) -> Dims:
    """What lies without gaps in memory of its own: a dimension carries over that is named whole, apart from others.

    Of a dimension of one unit the stride says nothing, and may be any.
    """
    order = memory_order()
    steps, kept = list(map(int, stride)), dict[int, Dim]()
    if storage_offset is not None or order is None or 1 in result_shape() or not _inside(x, steps):
        return placed(x, size, stride)
    for dim, block in zip(x, _blocks(x, order), strict=True):
        place = _whole(extent(dim), block, result_shape(), steps)
        if place is None:
            ordered(dim, "places in memory are named")
        else:
            kept[place] = dim
    result = Dims(kept.get(i) or positions(n) for i, n in enumerate(result_shape()))
    for i, (width, step) in enumerate(zip(size, stride, strict=True)):
        require(width, result[i])
        inner = tuple(factor for j, dim in kept.items() if steps[j] < steps[i] for factor in dim)
        if extent(result[i]) > 1:
            require(step, Arithmetic("*", Constant(steps[i] // extent(inner)), SizeOf(inner)))
    return result


def _blocks(x: Dims, order: tuple[int, ...]) -> list[int]:
    """How many elements lie between neighbours along each dimension."""
    return [math.prod(extent(x[j]) for j in order[order.index(i) + 1 :]) for i in range(len(x))]


def _inside(x: Dims, steps: list[int]) -> bool:
    """Whether a view with these strides stays in the memory of `x`."""
    last = sum((n - 1) * step for n, step in zip(result_shape(), steps, strict=True))
    return bool(last < math.prod(map(extent, x)))


def _whole(n: int, block: int, shape: Sequence[int], steps: list[int]) -> int | None:
    """The dimension of a view that runs along all of a dimension of `n` units of `block` elements, if no other moves

    within it: each other one either moves over all of it, or stays inside of a unit.
    """
    places = [i for i, step in enumerate(steps) if step == block and shape[i] == n > 1]
    others = [(shape[i], step) for i, step in enumerate(steps) if i not in places[:1] and shape[i] > 1]
    inside = sum((size - 1) * step for size, step in others if step % (n * block))
    return places[0] if places and inside < block else None
