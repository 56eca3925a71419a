"""Operations that make tensors: alike everywhere (free), or different at every position (pinned)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from surgery.axes.algebra import fresh
from surgery.rules.base import (
    Dims,
    Result,
    each_result,
    in_training,
    one_by_one,
    operation_name,
    ordered,
    positions,
    require,
    result_shape,
    tensors_in,
)
from surgery.rules.elementwise import elementwise
from surgery.rules.registry import rule


def _constant(*args: object, **named: Sequence[object]) -> Dims:
    """Every element is the same, so units are interchangeable; the sizes in the call must follow."""
    sizes = named.get("size") or _sizes(args[1:] if args and isinstance(args[0], Dims) else args)
    dims = Dims(fresh(n) for n in result_shape())
    for size, dim in zip(sizes, dims, strict=True):
        require(size, dim)
    return dims


def _sizes(args: Sequence[object]) -> Sequence[object]:
    """`f(2, 3)` and `f((2, 3), value)` alike."""
    if args and isinstance(args[0], tuple | list) and not isinstance(args[0], Dims):
        return args[0]
    return [size for size in args if isinstance(size, int | Dims)]


rule(*"zeros ones full empty new_zeros new_ones new_full new_empty".split())(_constant)


def _by_position(*_: object, **__: object) -> Result:
    return each_result(lambda shape: Dims(positions(n, "values differ by position") for n in shape))


rule(*"linspace logspace scalar_tensor".split())(_by_position)


@rule("arange")
def arange(*bounds: object, **named: object) -> Result:
    """Every position has a number of its own. From zero on, they are places, as a router's are."""
    if len(bounds) == 1 and isinstance(bounds[0], int) and not {"start", "end", "step"} & set(named):
        counted = fresh(int(bounds[0]))
        if one_by_one(counted):
            require(bounds[0], counted)
            return Dims((counted,)).pointing(counted)
    return _by_position()


rule(*"hann_window hamming_window blackman_window bartlett_window kaiser_window".split())(_by_position)
rule(*"tril_indices triu_indices".split())(_by_position)


@rule("eye")
def eye(n: int, m: int | None = None, **_: object) -> Result:
    """Rows and columns in one order, whichever it is."""
    if m is not None and int(m) != int(n):
        return _by_position()
    side = fresh(int(n))
    require(n, side)
    if m is not None:
        require(m, side)
    return Dims((side, side))


@rule("tensor", "as_tensor", "asarray")
def from_data(data: object, *_: object, **__: object) -> Result:
    """A tensor stays as it is. Tensors inside of lists are read, value by value."""
    if isinstance(data, Dims):
        return data
    for dim in (dim for x in tensors_in(data) for dim in x):
        ordered(dim, "positions are read")
    return _by_position()


@rule("new_tensor")
def new_from_data(_: Dims, data: object, *__: object, **___: object) -> Result:
    return from_data(data)


@rule("new")
def new(x: Dims, *given: object, **_: object) -> Result:
    """`x.new(2, 3)` and `x.new(y.shape)` have sizes, `x.new([0.5])` has data."""
    sizes = _sizes(given)
    as_sizes = [int(size) for size in sizes if isinstance(size, int)] == list(cast("tuple[int, ...]", result_shape()))
    return _constant(x, *given) if as_sizes else from_data(*given)


def _random(*args: object, **kwargs: object) -> Dims:
    """What the draws depend on has positions, and so has what gives its shape.

    In training, as in dropout, values that are drawn one by one are alike wherever they are.
    """
    if in_training() and operation_name() in _ONE_BY_ONE and "size" not in kwargs:
        return elementwise(*args, **kwargs) if tensors_in(args) else _constant(*args)
    for dim in (dim for x in tensors_in(args, kwargs) for dim in x):
        ordered(dim, "random values are drawn by position")
    return Dims(positions(n, "random values are drawn by position") for n in result_shape())


_ONE_BY_ONE = frozenset("rand randn rand_like randn_like bernoulli bernoulli_ uniform_ exponential_ normal_".split())

rule(*"rand randn randint randperm normal rand_like randn_like randint_like".split())(_random)
rule(*"bernoulli uniform exponential multinomial random cauchy log_normal geometric poisson".split())(_random)
