"""Operations that remove dimensions, or that read positions along one."""

from __future__ import annotations

from typing import Any

from surgery.rules.base import (
    Dims,
    at_least_two,
    axis,
    axis_list,
    operation_name,
    ordered,
    positions,
    result_shape,
    tensors_in,
    unify,
    used,
)
from surgery.rules.elementwise import elementwise
from surgery.rules.registry import rule


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


reduces(*"sum mean amax amin all any prod nansum nanmean logsumexp count_nonzero aminmax".split())
reduces("_is_all_true", "_is_any_true")


@rule("std", "var", "std_mean", "var_mean")
def spread(
    x: Dims,
    dim: Any = None,
    *args: Any,
    unbiased: bool = True,
    correction: Any = 1,
    keepdim: bool = False,
    **kwargs: Any,
) -> Any:
    """As `var(x, unbiased)`, `var(x, dim, unbiased, keepdim)` and `var(x, dim, correction=1, keepdim=False)`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if args:
        unbiased, keepdim = args[0], args[1] if len(args) > 1 else keepdim
    correction = 1 if correction is None else correction
    reduced = axis_list(x, dim)
    if unbiased and correction:  # the sum is divided by the number of values, less the correction
        together = tuple(factor for i in reduced for factor in x[i])
        if correction > 1:
            ordered(together, "a variance with a large correction")
        at_least_two(together)
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
    if dim is None:
        two = "2" in operation_name()
        dim = tuple(range(-2 if two else -len(s if s is not None else x), 0))
    dims = axis_list(x, dim)
    for i in dims:
        ordered(x[i], "transformed as positions")
    return Dims(positions(n) if i in dims else x[i] for i, n in enumerate(result_shape()))


@rule("fftshift", "ifftshift")
def shift(x: Dims, dim: Any = None) -> Dims:
    return roll(x, None, dim)


@rule("stft", "istft")
def short_fourier(x: Dims, *args: Any, **kwargs: Any) -> Dims:
    """Time and frequency are positions; what stands before the time of a signal is a batch."""
    batch = 1 if len(x) == (2 if operation_name() == "stft" else 3) else 0
    for dim in (dim for signal in (x[batch:], *tensors_in(args, kwargs)) for dim in signal):
        ordered(dim, "transformed as positions")
    return Dims((*x[:batch], *map(positions, result_shape()[batch:])))


@rule("diff")
def diff(x: Dims, n: int = 1, dim: int = -1, *more: Any, **named: Any) -> Dims:
    if tensors_in(more, named):
        raise NotImplementedError("what is put before and after")
    i = axis(x, dim)
    ordered(x[i], "the order along this dimension matters")
    return Dims((*x[:i], positions(result_shape()[i]), *x[i + 1 :]))


@rule("_nested_tensor_from_mask_left_aligned")
def left_aligned(x: Dims, mask: Dims) -> None:
    """Whether padding is at the end: `nn.TransformerEncoder` asks for it. Only the mask's values are read."""
    for padded, dim in zip(x, mask, strict=False):
        unify(padded, dim)
        ordered(dim, "positions are read")


@rule("kthvalue")
def kthvalue(x: Dims, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    i = axis(x, dim)
    ordered(x[i], "positions are read")
    return [_drop(x, [i], keepdim)] * 2


@rule("quantile", "nanquantile")
def quantile(x: Dims, q: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Dims:
    """A share of the values, wherever they are; several shares come first in the result."""
    kept = _drop(x, axis_list(x, dim), keepdim)
    return Dims((*q, *kept)) if isinstance(q, Dims) else kept


@rule("matrix_norm")
def matrix_norm(x: Dims, order: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, **_: Any) -> Dims:
    return _reduce(x, dim, keepdim)


@rule("dist")
def dist(x: Dims, y: Dims, p: float = 2) -> Dims:
    elementwise(x, y)
    return Dims()


@rule("fliplr", "flipud")
def flip_one(x: Dims) -> Dims:
    return flip(x, 0 if operation_name() == "flipud" else 1)


@rule("rot90")
def rotate(x: Dims, k: int = 1, dims: Any = (0, 1)) -> Dims:
    i, j = axis_list(x, dims)
    for d in (x[i], x[j]):
        ordered(d, "flipped")
    turned = list(x)
    if k % 2:
        turned[i], turned[j] = turned[j], turned[i]
    return Dims(turned)


@rule("local_response_norm")
def local_response_norm(x: Dims, *_: Any, **__: Any) -> Dims:
    ordered(x[1], "the order along this dimension matters")
    return x


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
