"""Operations whose result is made by what values are: which ones are there, how many, between which bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import fx

from surgery.axes.algebra import extent
from surgery.axes.signature import broadcast
from surgery.rules.base import (
    Dims,
    Result,
    addressed,
    current_node,
    each_result,
    here,
    one_by_one,
    ordered,
    places_in,
    positions,
    recorded_shape,
    result_shape,
    tensors_in,
    unify,
)
from surgery.rules.registry import Rule, rule

_PYTHON = (getattr(torch.Tensor, f"__{name}__") for name in "int index bool float format contains".split())


def _listed(reason: str) -> Rule:
    """A rule for a list of what is found, in the order of its positions or values."""

    def listed(*args: object, **kwargs: object) -> Result:
        for dim in (dim for x in tensors_in(args, kwargs) for dim in x):
            ordered(dim, reason)
        return each_result(lambda shape: Dims(map(positions, shape)))

    return listed


@rule("nonzero", "argwhere")
def nonzero(x: Dims, *, as_tuple: bool = False) -> Result:
    """Places along the dimensions of a tensor, side by side where they do not come apart."""
    if as_tuple:
        return places_of(x)
    if len(x) == 1:
        return Dims(map(positions, cast("Sequence[int]", result_shape()))).pointing(places_in(x[0]))
    for dim in x:
        ordered(dim, "positions are read")
    return Dims(map(positions, cast("Sequence[int]", result_shape())))


def places_of(x: Dims) -> Result:
    """Places along each dimension of a tensor apart, as `where(x)` gives them."""
    shapes = cast("Sequence[Sequence[int]]", result_shape())
    return [Dims(map(positions, shape)).pointing(places_in(dim)) for shape, dim in zip(shapes, x or ((),), strict=True)]


rule("masked_select")(_listed("a mask selects positions"))
rule("unique", "unique_consecutive", "cartesian_prod", "combinations")(_listed("values are listed"))
rule("take", "put")(_listed("indexed by position"))


@rule(torch.Tensor.tolist, torch.Tensor.item, *_PYTHON)
def numbers(x: Dims, *_: object, **__: object) -> None:
    """Python's own code gets the values, one by one."""
    for dim in x:
        if not one_by_one(dim):
            ordered(dim, "values are read as numbers")
    if x.into is not None and not one_by_one(x.into):
        addressed(x.into, "places are read as numbers")


@rule("isin")
def isin(elements: Dims, *_: object, **__: object) -> Dims:
    return elements


@rule("bucketize")
def bucketize(x: Dims, boundaries: Dims, *_: object, **__: object) -> Dims:
    ordered(boundaries[0], "the order along this dimension matters")
    return x


@rule("searchsorted")
def searchsorted(sorted_sequence: Dims, x: Dims, *_: object, **__: object) -> Dims:
    ordered(sorted_sequence[-1], "the order along this dimension matters")
    if len(sorted_sequence) > 1:
        for a, b in zip(sorted_sequence[:-1], x[:-1], strict=True):
            unify(a, b)
    return x


@rule("masked_scatter")
def masked_scatter(x: Dims, mask: Dims, source: Dims) -> Dims:
    """Where a mask says so, values are taken in turn. Trailing dimensions that it is constant along stay."""
    dims = broadcast([x, mask], here())
    alike = min(_constant(current_node().args[1]), len(source) - 1)
    while alike and [extent(d) for d in source[-alike:]] != [extent(d) for d in dims[-alike:]]:
        alike -= 1
    whole, taken = len(dims) - alike, len(source) - alike
    for a, b in zip(dims[whole:], source[taken:], strict=True):
        unify(a, b)
    for dim in (*dims[:whole], *source[:taken]):
        ordered(dim, "a mask selects positions")
    return dims


_PLAIN = frozenset("to bool contiguous clone detach".split())


def _constant(mask: object) -> int:
    """Along how many trailing dimensions a mask was made by expanding a single value."""
    while isinstance(mask, fx.Node) and getattr(mask.target, "__name__", "") in _PLAIN:
        mask = mask.args[0]
    if not isinstance(mask, fx.Node) or getattr(mask.target, "__name__", "") not in ("expand", "expand_as"):
        return 0
    before = mask.args[0]
    assert isinstance(before, fx.Node)
    shape = recorded_shape(before)
    return next((i for i, n in enumerate(reversed(shape)) if n != 1), len(shape))
