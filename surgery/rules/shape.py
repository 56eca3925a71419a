"""Operations that rearrange dimensions: views, permutations, expansions, repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surgery.axes.algebra import Dim, Sum, axes_of, divide, extent, fresh, resolve
from surgery.axes.signature import broadcast
from surgery.rules.base import (
    Dims,
    Numbers,
    Result,
    at_least_two,
    axis,
    axis_list,
    computed,
    here,
    listed,
    made_from,
    operation_name,
    ordered,
    positions,
    require,
    result_shape,
    tensors_in,
    unify,
)
from surgery.rules.registry import rule


def regroup(dims: Sequence[Dim], shape: Sequence[int]) -> Dims:
    """The same elements in the same order under another shape.

    The two shapes are first matched in blocks of equal size; where no layout fits a block, that block alone is pinned.
    """
    result: list[Dim] = []
    old, new = list(dims), list(shape)
    while old or new:
        block, sizes = [old.pop(0)] if old else [], [new.pop(0)] if new else []
        while math.prod(map(extent, block)) != math.prod(sizes):
            if math.prod(map(extent, block)) < math.prod(sizes):
                block.append(old.pop(0))
            else:
                sizes.append(new.pop(0))
        result += _regroup_block(block, sizes)
    return Dims(resolve(dim) for dim in result)


def _regroup_block(block: Sequence[Dim], sizes: Sequence[int]) -> list[Dim]:
    if len(block) == len(sizes) == 1:
        return list(block)
    rest: Dim = tuple(factor for dim in block for factor in resolve(dim))
    result = []
    for size in reversed(sizes):
        parts = divide(rest, int(size))
        if parts is None:
            for dim in block:
                ordered(dim, "regrouped across units")
            return [positions(int(size), "regrouped across units") for size in sizes]
        rest, minor = parts
        result.append(minor)
    return result[::-1]


@rule("view", "reshape")
def view(x: Dims, *shape: object, **named: Sequence[object]) -> Dims:
    sizes = listed(shape) or named.get("shape") or named.get("size") or ()
    if any(not isinstance(size, int | Dims) for size in sizes):
        raise NotImplementedError("a view as another dtype")
    result = regroup(x, result_shape())
    for size, dim in zip(sizes, result, strict=True):
        if isinstance(size, Dims) or int(size) != -1:
            require(size, dim)
    return result


@rule("view_as", "reshape_as")
def view_as(x: Dims, other: Dims) -> Dims:
    result = regroup(x, result_shape())
    return Dims(unify(a, b) for a, b in zip(result, other, strict=True))


@rule("flatten", "ravel")
def flatten(x: Dims, start_dim: int = 0, end_dim: int = -1) -> Dims:
    if not x:
        return Dims([()])
    start, end = axis(x, start_dim), axis(x, end_dim)
    return Dims((*x[:start], tuple(f for dim in x[start : end + 1] for f in resolve(dim)), *x[end + 1 :]))


@rule("unflatten")
def unflatten(x: Dims, dim: int, sizes: Sequence[int]) -> Dims:
    i = axis(x, dim)
    shape = result_shape()
    inner = regroup([x[i]], shape[i : i + len(sizes)])
    for size, part in zip(sizes, inner, strict=True):
        if int(size) != -1:
            require(size, part)
    return Dims((*x[:i], *inner, *x[i + 1 :]))


@rule("permute")
def permute(x: Dims, *order: Numbers, **named: Sequence[int]) -> Dims:
    return Dims(x[axis(x, d)] for d in named.get("dims") or listed(order))


@rule("transpose", "swapaxes", "swapdims")
def transpose(x: Dims, dim0: int, dim1: int) -> Dims:
    order = list(range(len(x)))
    i, j = axis(x, dim0), axis(x, dim1)
    order[i], order[j] = order[j], order[i]
    return Dims(x[d] for d in order)


@rule("t", "mT", "adjoint", "H", "mH")
def matrix_transpose(x: Dims, *_: object) -> Dims:
    return Dims((*x[:-2], *x[-2:][::-1]))


@rule("T")
def reverse(x: Dims, *_: object) -> Dims:
    return Dims(x[::-1])


@rule("movedim", "moveaxis")
def movedim(x: Dims, source: Numbers, destination: Numbers) -> Dims:
    moved = dict(zip(axis_list(x, destination), axis_list(x, source), strict=True))
    others = iter(i for i in range(len(x)) if i not in moved.values())
    return Dims(x[moved[i] if i in moved else next(others)] for i in range(len(x)))


@rule("squeeze")
def squeeze(x: Dims, dim: Numbers | None = None) -> Dims:
    """A feature axis of width 1 would be dropped, so those that could be keep at least two units."""
    dims = axis_list(x, dim)
    for i in dims:
        if x[i]:
            at_least_two(x[i])
    return Dims(d for i, d in enumerate(x) if i not in dims or extent(d) != 1)


@rule("unsqueeze")
def unsqueeze(x: Dims, dim: int) -> Dims:
    i = int(dim) % (len(x) + 1)
    return Dims((*x[:i], (), *x[i:]))


@rule("expand", "broadcast_to")
def expand(x: Dims, *sizes: Numbers, **named: Sequence[int]) -> Dims:
    shape = result_shape()
    padded = [()] * (len(shape) - len(x)) + list(x)
    result = []
    for size, dim, n in zip(named.get("size") or listed(sizes), padded, shape, strict=True):
        grown = fresh(n) if extent(dim) == 1 else dim
        if int(size) != -1 and n != 1:
            require(size, grown)
        result.append(grown)
    return Dims(result)


@rule("expand_as")
def expand_as(x: Dims, other: Dims) -> Dims:
    padded = [()] * (len(other) - len(x)) + list(x)
    return Dims(b if a == () else unify(a, b) for a, b in zip(padded, other, strict=True))


@rule("repeat", "tile")
def repeat(x: Dims, *reps: Numbers, **named: Sequence[int]) -> Dims:
    counts = list(named.get("repeats") or named.get("dims") or listed(reps))
    padded = [()] * (len(counts) - len(x)) + list(x)
    counts = [1] * (len(padded) - len(counts)) + counts
    return Dims(_copies(n) + dim for n, dim in zip(counts, padded, strict=True))


def _copies(n: int) -> Dim:
    copies = fresh(int(n))
    if int(n) != 1 or computed(n):
        require(n, copies)
    return copies


@rule("repeat_interleave")
def repeat_interleave(x: Dims, repeats: int | Dims, dim: int | None = None, *, output_size: int | None = None) -> Dims:
    if dim is None:
        x, dim = flatten(x), 0
    i = axis(x, dim)
    if isinstance(repeats, Dims):
        for counted in (x[i], *repeats):
            ordered(counted, "copied another number of times at each position")
        return Dims((*x[:i], positions(result_shape()[i]), *x[i + 1 :]))
    copied = resolve(x[i]) + _copies(repeats)
    if output_size is not None:
        require(output_size, copied)
    return Dims((*x[:i], copied, *x[i + 1 :]))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(x: Dims, groups: int) -> Dims:
    parts = divide(x[1], extent(x[1]) // int(groups))
    if parts is None:
        raise NotImplementedError("channels that do not divide into groups")
    require(groups, parts[0])
    return Dims((x[0], parts[1] + parts[0], *x[2:]))


@rule("view_as_complex")
def view_as_complex(x: Dims) -> Dims:
    """Torch takes even strides alone, so that what lies beside the pairs in memory keeps to pairs as well."""
    ordered(x[-1], "real and imaginary parts")
    pair = set(axes_of(x[-1]))
    for dim in (dim for tensor in made_from() for dim in tensor):
        if any(isinstance(factor, Sum) for factor in resolve(dim)) and not pair.isdisjoint(axes_of(dim)):
            parts = divide(dim, 2)
            ordered(parts[1] if parts else dim, "view_as_complex takes even strides")
    return Dims(x[:-1])


@rule("view_as_real")
def view_as_real(x: Dims) -> Dims:
    return Dims((*x, positions(2, "real and imaginary parts")))


@rule("atleast_1d", "atleast_2d", "atleast_3d")
def atleast(*tensors: Dims | Sequence[Dims]) -> Result:
    raised = [_raised(x, int(operation_name()[-2])) for x in tensors_in(tensors)]
    return raised if isinstance(result_shape(), list) else raised[0]


def _raised(x: Dims, rank: int) -> Dims:
    if len(x) >= rank:
        return x
    if rank < 3 or not x:
        return Dims((*[()] * (rank - len(x)), *x))
    return Dims(((), x[0], ())) if len(x) == 1 else Dims((*x, ()))


@rule("broadcast_tensors")
def broadcast_tensors(*tensors: Dims | Sequence[Dims]) -> list[Dims]:
    return [broadcast(tensors_in(tensors), here())] * len(result_shape())


@rule("meshgrid")
def meshgrid(*tensors: Dims | Sequence[Dims], **_: object) -> Result:
    for x in tensors_in(tensors):
        for dim in x:
            ordered(dim, "coordinates")
    return [Dims(map(positions, shape)) for shape in result_shape()]


@rule("glu")
def glu(x: Dims, dim: int = -1) -> Dims:
    i = axis(x, dim)
    parts = divide(x[i], extent(x[i]) // 2)
    if parts is None:
        raise NotImplementedError("features that do not divide into two halves")
    ordered(parts[0], "the two halves of a gate")
    return Dims((*x[:i], parts[1], *x[i + 1 :]))
