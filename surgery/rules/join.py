"""Operations that lay dimensions one after another, or take them apart again."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.axes.algebra import Dim, axes_of, concat, divide, extent, fresh, pieces, pin, pinned
from surgery.axes.formulas import Constant
from surgery.rules.base import (
    Dims,
    Numbers,
    axis,
    computed,
    here,
    minus,
    one_by_one,
    operation_name,
    ordered,
    positions,
    require,
    result_shape,
    unify,
)
from surgery.rules.registry import rule


@rule("cat", "concat", "concatenate")
def cat(tensors: Sequence[Dims], dim: int = 0) -> Dims:
    tensors = [x for x in tensors if len(x) == max(map(len, tensors))]
    i = axis(tensors[0], dim)
    return _stacked([x[i] for x in tensors], [Dims((*x[:i], *x[i + 1 :])) for x in tensors], i)


@rule("stack")
def stack(tensors: Sequence[Dims], dim: int = 0) -> Dims:
    return _stacked([()] * len(tensors), list(tensors), int(dim) % (len(tensors[0]) + 1))


@rule("hstack", "vstack", "dstack", "column_stack", "row_stack")
def stack_along(tensors: Sequence[Dims]) -> Dims:
    """`cat` along a dimension that is made where it is missing."""
    name = operation_name()
    if name == "hstack":
        return cat(list(tensors), 0 if max(map(len, tensors)) < 2 else 1)
    if name == "column_stack":
        return cat([Dims((*x, *[()] * (2 - len(x)))) for x in tensors], 1)
    rank = 3 if name == "dstack" else 2
    raised = [Dims(((), *x)) if len(x) == 1 else x for x in tensors]
    return cat([Dims((*x, *[()] * (rank - len(x)))) for x in raised], rank - 1 if name == "dstack" else 0)


@rule("hsplit", "vsplit", "dsplit")
def split_along(x: Dims, sections: Numbers) -> list[Dims]:
    name = operation_name()
    return chunk(x, sections, {"vsplit": 0, "dsplit": 2}.get(name, 0 if len(x) == 1 else 1))


@rule("block_diag")
def block_diag(*blocks: Dims) -> Dims:
    """Each block has rows and columns of its own."""
    raised = [Dims((*[()] * (2 - len(x)), *x)) for x in blocks]
    return Dims((concat([x[0] for x in raised]), concat([x[1] for x in raised])))


def _stacked(parts: list[Dim], others: list[Dims], i: int) -> Dims:
    whole = fresh(len(parts))
    if not any(parts) and one_by_one(whole):
        parts = [whole]
    rest = others[0]
    for other in others[1:]:
        rest = Dims(unify(a, b) for a, b in zip(rest, other, strict=True))
    return Dims((*rest[:i], concat(parts), *rest[i:]))


def part(dim: Dim, start: int, stop: int) -> Dim:
    """Positions `start` to `stop` of a dimension; the integers must follow when what they bound changes width."""
    n = extent(dim)
    a = min(max(int(start) + (n if start < 0 else 0), 0), n)
    b = min(max(int(stop) + (n if stop < 0 else 0), a), n)
    if (a, b) == (0, n):
        if int(stop) == n and computed(stop) and not pinned(dim):
            require(stop, dim)
        return dim
    if pinned(dim):
        return _fixed_part(dim, b - a)
    if b - a == 1 and one_by_one(dim):
        return ()
    before, middle, after = pieces(dim, [a, b - a, n - b], here())
    if a:
        require(start, before) if start >= 0 else require(start, minus(0, concat([middle, after])))
    if b < n or (int(stop) == n and computed(stop)):  # a number beyond the end is beyond it at every width
        require(stop, concat([before, middle])) if stop >= 0 else require(stop, minus(0, after))
    return middle


def _fixed_part(dim: Dim, size: int) -> Dim:
    """A part of a pinned dimension, pinned for the same reason."""
    reason = next((axis.pin for axis in axes_of(dim)), None)
    return fresh(size, reason or f"part of a fixed dimension at {here()}")


def unit(dim: Dim, index: int) -> None:
    """Position `index` of a dimension is read by itself."""
    n = extent(dim)
    if pinned(dim) or one_by_one(dim):
        return
    i = int(index) % n
    before, _, after = pieces(dim, [i, 1, n - i - 1], here())
    if index >= 0 and i:
        require(index, before)
    elif index < 0 and i < n - 1:
        require(index, minus(-1, after))


def without(x: Dims, i: int) -> Dims:
    return Dims((*x[:i], *x[i + 1 :]))


def replaced(x: Dims, i: int, dim: Dim) -> Dims:
    return Dims((*x[:i], dim, *x[i + 1 :]))


@rule("unbind")
def unbind(x: Dims, dim: int = 0) -> list[Dims]:
    i = axis(x, dim)
    if not pinned(x[i]) and not one_by_one(x[i]):
        pieces(x[i], [1] * extent(x[i]), here())
    return [without(x, i) for _ in result_shape()]


@rule("__iter__")
def iterate(x: Dims) -> list[Dims]:
    return unbind(x)


@rule("select")
def select(x: Dims, dim: int, index: int) -> Dims:
    i = axis(x, dim)
    unit(x[i], index)
    return without(x, i)


@rule("narrow")
def narrow(x: Dims, dim: int, start: int, length: int) -> Dims:
    i = axis(x, dim)
    taken = part(x[i], start, int(start) % max(extent(x[i]), 1) + int(length))
    require(length, taken)
    if start < 0 and int(start) == -extent(x[i]):
        require(start, minus(0, x[i]))
    return replaced(x, i, taken)


@rule("split", "split_with_sizes")
def split(x: Dims, split_size_or_sections: Numbers | None = None, dim: int = 0, **named: Numbers) -> list[Dims]:
    sizes = split_size_or_sections if split_size_or_sections is not None else next(iter(named.values()))
    i = axis(x, dim)
    taken = [shape[i] for shape in result_shape()]
    if pinned(x[i]):
        return [replaced(x, i, _fixed_part(x[i], n)) for n in taken]
    if set(taken) == {1} and one_by_one(x[i]):
        return [replaced(x, i, ()) for _ in taken]
    if isinstance(sizes, int):
        parts = _alike(x[i], taken)
        require(sizes, parts[0])
    else:
        parts = pieces(x[i], taken, here())
        for size, dim_ in zip(sizes, parts, strict=True):
            require(size, dim_)
    return [replaced(x, i, dim_) for dim_ in parts]


@rule("chunk", "tensor_split")
def chunk(x: Dims, chunks: Numbers | None = None, dim: int = 0, **named: Numbers) -> list[Dims]:
    i = axis(x, dim)
    (chunks,) = (chunks,) if chunks is not None else named.values()
    taken = [shape[i] for shape in result_shape()]
    if not isinstance(chunks, int):
        ordered(x[i], "split at given positions")
    else:
        require(chunks, Constant(len(taken)))
    return [replaced(x, i, dim_) for dim_ in _alike(x[i], taken)]


def _alike(dim: Dim, sizes: list[int]) -> list[Dim]:
    """Parts that the call itself makes equally wide: their units stay together at every width."""
    if len(set(sizes)) > 1:
        pin(dim, f"split into unequal parts by one number at {here()}")
    if pinned(dim):
        return [_fixed_part(dim, n) for n in sizes]
    parts = pieces(dim, sizes, here())
    for other in parts[1:]:
        unify(parts[0], other)
    return parts


def strided(dim: Dim, start: int, step: int, size: int) -> Dim:
    """Every `step`-th position: one place of an inner axis of `step` places."""
    place, places = int(start), int(step)
    parts = divide(dim, places) if 0 <= place < places and extent(dim) % places == 0 and not pinned(dim) else None
    if parts is None or extent(parts[0]) != size:
        ordered(dim, "read with a stride")
        return positions(size)
    ordered(parts[1], "places within a stride")
    require(start, Constant(place))
    require(step, Constant(places))
    return parts[0]


@rule("pad")
def pad(x: Dims, pad: Sequence[int | Dims], mode: str = "constant", value: object = None) -> Dims:
    dims = list(x)
    for k, i in enumerate(range(len(x) - 1, len(x) - 1 - len(pad) // 2, -1)):
        before, after = pad[2 * k], pad[2 * k + 1]
        if isinstance(before, Dims) or isinstance(after, Dims):
            ordered(x[i], "its size is computed")
            dims[i] = positions(result_shape()[i])
            continue
        if int(before) == int(after) == 0:
            for size in (before, after):
                if computed(size) and not pinned(x[i]):
                    require(size, Constant(0))
            continue
        if mode != "constant" or before < 0 or after < 0 or pinned(x[i]):
            ordered(x[i], f"padded ({mode})")
            dims[i] = positions(result_shape()[i])
            continue
        sides = [fresh(int(before)), fresh(int(after))]
        dims[i] = concat([sides[0], x[i], sides[1]])
        for size, side in zip((before, after), sides, strict=True):
            if int(size):
                require(size, side)
            elif computed(size):  # another one may be wider where this one is none
                require(size, Constant(0))
    return Dims(dims)
