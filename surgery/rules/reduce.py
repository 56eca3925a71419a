"""Operations that remove dimensions, or that read positions along one."""

from __future__ import annotations

from typing import Any

from surgery.rules.base import (
    Dims,
    axis,
    axis_list,
    ordered,
    positions,
    result_shape,
    rule,
    used,
)
from surgery.rules.elementwise import elementwise


def _drop(x: Dims, dims: list[int], keepdim: bool) -> Dims:
    return Dims(() if i in dims else d for i, d in enumerate(x) if keepdim or i not in dims)


def _reduce(x: Dims, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    if isinstance(dim, Dims):  # max(a, b), min(a, b)
        return elementwise(x, dim)
    dims = axis_list(x, None if isinstance(dim, bool) else dim)
    shape = result_shape()
    kept = _drop(x, dims, bool(keepdim))
    return [kept for _ in shape] if isinstance(shape, list) else kept


def reduces(*operations: Any) -> None:
    """Declare reductions, f(x, dim=None, keepdim=False), that do not depend on the order along what they reduce."""
    rule(*operations)(_reduce)


reduces(*"sum mean amax amin all any prod nansum nanmean logsumexp count_nonzero var_mean std_mean aminmax".split())


@rule("std", "var")
def spread(x: Dims, dim: Any = None, *args: Any, keepdim: bool = False, **kwargs: Any) -> Dims:
    if isinstance(dim, bool):
        dim = None
    keepdim = args[-1] if args and isinstance(args[-1], bool) and len(args) > 1 else keepdim
    return _reduce(x, dim, keepdim)


@rule("norm", "vector_norm")
def norm(x: Dims, p: Any = None, dim: Any = None, keepdim: bool = False, **_: Any) -> Dims:
    return _reduce(x, dim, keepdim)


@rule("max", "min", "median", "nanmedian", "mode")
def extreme(x: Dims, *args: Any, **kwargs: Any) -> Any:
    """With indices among the results: they are positions, and pin the dimension if anything reads them."""
    shape = result_shape()
    if isinstance(shape, list):
        dim = kwargs.get("dim", args[-1] if len(args) == 1 else args[0] if args else -1)
        if isinstance(dim, int) and used(1):
            ordered(x[axis(x, dim)], "positions are read")
    return _reduce(x, *args, **kwargs)


@rule("argmax", "argmin")
def arg(x: Dims, dim: Any = None, keepdim: bool = False) -> Dims:
    for i in axis_list(x, dim):
        ordered(x[i], "positions are read")
    return _reduce(x, dim, keepdim)


def _scan(x: Dims, dim: Any = -1, *_: Any, **__: Any) -> Any:
    for i in axis_list(x, dim):
        ordered(x[i], "the order along this dimension matters")
    shape = result_shape()
    return [x for _ in shape] if isinstance(shape, list) else x


def scans(*operations: Any) -> None:
    """Declare operations whose result keeps its shape but depends on the order along `dim`."""
    rule(*operations)(_scan)


scans(*"cumsum cumprod cummax cummin logcumsumexp sort argsort".split())


@rule("msort")
def sort_first(x: Dims) -> Any:
    return _scan(x, 0)


@rule("roll")
def roll(x: Dims, shifts: Any, dims: Any = None) -> Dims:
    for i in axis_list(x, dims):
        ordered(x[i], "rolled")
    return x


@rule("flip")
def flip(x: Dims, *dims: Any, **kwargs: Any) -> Dims:
    listed = kwargs.get("dims", dims[0] if dims and isinstance(dims[0], tuple | list) else dims)
    for i in axis_list(x, tuple(listed)):
        ordered(x[i], "flipped")
    return x


@rule("tril", "triu")
def triangle(x: Dims, *_: Any, **__: Any) -> Dims:
    for dim in x[-2:]:
        ordered(dim, "the order along this dimension matters")
    return x


@rule("topk")
def topk(x: Dims, k: int, dim: int = -1, *_: Any, **__: Any) -> Any:
    i = axis(x, dim)
    ordered(x[i], "positions are read")
    result = Dims((*x[:i], positions(int(k)), *x[i + 1 :]))
    return [result, result]


@rule("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
def fourier(x: Dims, n: Any = None, dim: int = -1, *_: Any, **__: Any) -> Dims:
    i = axis(x, dim)
    ordered(x[i], "transformed as positions")
    return Dims((*x[:i], positions(result_shape()[i]), *x[i + 1 :]))


@rule("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn")
def fourier_many(x: Dims, s: Any = None, dim: Any = None, *_: Any, **__: Any) -> Dims:
    for d in x:
        ordered(d, "transformed as positions")
    return Dims(positions(n) for n in result_shape())


@rule("diff")
def diff(x: Dims, n: int = 1, dim: int = -1, *_: Any, **__: Any) -> Dims:
    i = axis(x, dim)
    ordered(x[i], "the order along this dimension matters")
    return Dims((*x[:i], positions(result_shape()[i]), *x[i + 1 :]))
