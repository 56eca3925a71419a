"""Operations that remove dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from surgery.rules.base import (
    Dims,
    Numbers,
    Result,
    at_least_two,
    axis,
    axis_list,
    each_result,
    ordered,
    places_in,
    result_shape,
    unify,
    used,
)
from surgery.rules.elementwise import elementwise
from surgery.rules.registry import Operation, rule


def _drop(x: Dims, dims: list[int], keepdim: bool) -> Dims:
    return Dims(() if i in dims else d for i, d in enumerate(x) if keepdim or i not in dims)


def _reduce(x: Dims, dim: Dims | Numbers | None = None, keepdim: bool = False, **_: object) -> Result:
    if isinstance(dim, Dims):  # max(a, b), min(a, b)
        return elementwise(x, dim)
    kept = _drop(x, axis_list(x, None if isinstance(dim, bool) else dim), bool(keepdim))
    return each_result(lambda _: kept)


def reduces(*operations: Operation) -> None:
    """Declare reductions, f(x, dim=None, keepdim=False), that do not depend on the order along what they reduce."""
    rule(*operations)(_reduce)


reduces(*"sum mean amax amin all any prod nansum nanmean logsumexp count_nonzero aminmax".split())
reduces("_is_all_true", "_is_any_true")


@rule("std", "var", "std_mean", "var_mean")
def spread(
    x: Dims, dim: Numbers | None = None, *args: bool, unbiased: bool = True, correction: float | None = 1,
    keepdim: bool = False, **_: object,
) -> Result:  # fmt: skip
    """As `var(x, unbiased)`, `var(x, dim, unbiased, keepdim)` and `var(x, dim, correction=1, keepdim=False)`."""
    if isinstance(dim, bool):
        unbiased, dim = dim, None
    if args:
        unbiased, keepdim = args[0], args[1] if len(args) > 1 else keepdim
    correction = 1 if correction is None else correction
    if unbiased and correction:  # the sum is divided by the number of values, less the correction
        together = tuple(factor for i in axis_list(x, dim) for factor in x[i])
        if correction > 1:
            ordered(together, "a variance with a large correction")
        at_least_two(together)
    return _reduce(x, dim, keepdim)


@rule("norm", "vector_norm")
def norm(x: Dims, p: object = None, dim: Numbers | None = None, keepdim: bool = False, **_: object) -> Result:
    return _reduce(x, dim, keepdim)


@rule("max", "min", "median", "nanmedian", "mode")
def extreme(x: Dims, dim: Dims | Numbers | None = None, keepdim: bool = False, **_: object) -> Result:
    """With indices among the results: they are positions, and pin the dimension if anything reads them."""
    along = -1 if dim is None else dim
    if isinstance(result_shape(), list) and isinstance(along, int) and used(1):
        into = places_in(x[axis(x, along)])
        values, places = cast("list[Dims]", _reduce(x, dim, keepdim))
        return [values, places.pointing(into)]
    return _reduce(x, dim, keepdim)


@rule("argmax", "argmin")
def arg(x: Dims, dim: Numbers | None = None, keepdim: bool = False) -> Result:
    kept = _drop(x, axis_list(x, dim), keepdim)
    if dim is not None and x:
        return kept.pointing(places_in(x[axis(x, cast(int, dim))]))
    for i in axis_list(x, dim):
        ordered(x[i], "positions are read")
    return kept


@rule("kthvalue")
def kthvalue(x: Dims, k: int, dim: int = -1, keepdim: bool = False) -> Result:
    i = axis(x, dim)
    ordered(x[i], "positions are read")
    return [_drop(x, [i], keepdim)] * 2


@rule("quantile", "nanquantile")
def quantile(x: Dims, q: object, dim: Numbers | None = None, keepdim: bool = False, **_: object) -> Dims:
    """A share of the values, wherever they are; several shares come first in the result."""
    kept = _drop(x, axis_list(x, dim), keepdim)
    return Dims((*q, *kept)) if isinstance(q, Dims) else kept


@rule("matrix_norm")
def matrix_norm(
    x: Dims, order: object = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, **_: object
) -> Result:
    return _reduce(x, dim, keepdim)


@rule("dist")
def dist(x: Dims, y: Dims, p: float = 2) -> Dims:
    elementwise(x, y)
    return Dims()


@rule("cov")
def covariance(x: Dims, *, correction: int = 1, fweights: Dims | None = None, aweights: Dims | None = None) -> Dims:
    """Of variables and their observations, which weights may go with; of one variable, whose result is a scalar."""
    observed = x[-1] if x else ()
    for weights in (fweights, aweights):
        if weights is not None:
            unify(observed, weights[0])
    if correction > 1:
        ordered(observed, "a variance with a large correction")
    if correction:
        at_least_two(observed)
    if len(x) < 2:
        return Dims()
    at_least_two(x[0])
    return Dims((x[0], x[0]))
