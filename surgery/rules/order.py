"""Operations that depend on the order along a dimension: scans, sorting, shifts, flips, Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.rules.base import (
    Dims,
    Numbers,
    Result,
    addressed,
    axis,
    axis_list,
    each_result,
    listed,
    operation_name,
    ordered,
    places_in,
    positions,
    result_shape,
    tensors_in,
    unify,
)
from surgery.rules.registry import Operation, rule


def _scan(x: Dims, dim: Numbers | None = -1, *_: object, **__: object) -> Result:
    for i in axis_list(x, dim):
        ordered(x[i], "the order along this dimension matters")
    return each_result(lambda _: x)


def scans(*operations: Operation) -> None:
    """Declare operations whose result keeps its shape but depends on the order along `dim`."""
    rule(*operations)(_scan)


scans(*"cumprod cummax cummin logcumsumexp sort argsort".split())


@rule("cumsum")
def cumsum(x: Dims, dim: int = -1, *_: object, **__: object) -> Dims:
    """Sums of what comes before: where runs of rows begin, for instance, which each expert reads."""
    for i in axis_list(x, dim):
        addressed(x[i], "the order along this dimension matters")
    return x


@rule("msort")
def sort_first(x: Dims) -> Result:
    return _scan(x, 0)


@rule("roll")
def roll(x: Dims, shifts: object, dims: Numbers | None = None) -> Dims:
    for i in axis_list(x, dims):
        ordered(x[i], "rolled")
    return x


@rule("flip")
def flip(x: Dims, *dims: Numbers, **named: Sequence[int]) -> Dims:
    for i in axis_list(x, tuple(named["dims"] if "dims" in named else listed(dims))):
        ordered(x[i], "flipped")
    return x


@rule("fliplr", "flipud")
def flip_one(x: Dims) -> Dims:
    return flip(x, 0 if operation_name() == "flipud" else 1)


@rule("rot90")
def rotate(x: Dims, k: int = 1, dims: Sequence[int] = (0, 1)) -> Dims:
    i, j = axis_list(x, dims)
    for d in (x[i], x[j]):
        ordered(d, "flipped")
    turned = list(x)
    if k % 2:
        turned[i], turned[j] = turned[j], turned[i]
    return Dims(turned)


@rule("tril", "triu")
def triangle(x: Dims, *_: object, **__: object) -> Dims:
    for dim in x[-2:]:
        ordered(dim, "the order along this dimension matters")
    return x


@rule("topk")
def topk(x: Dims, k: int, dim: int = -1, *_: object, **__: object) -> Result:
    i = axis(x, dim)
    into = places_in(x[i], least=k)
    result = Dims((*x[:i], positions(int(k)), *x[i + 1 :]))
    return [result, result.pointing(into)]


@rule("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
def fourier(x: Dims, n: object = None, dim: int = -1, *_: object, **__: object) -> Dims:
    i = axis(x, dim)
    ordered(x[i], "transformed as positions")
    return Dims((*x[:i], positions(result_shape()[i]), *x[i + 1 :]))


@rule("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn")
def fourier_many(x: Dims, s: Sequence[int] | None = None, dim: Numbers | None = None, *_: object, **__: object) -> Dims:
    if dim is None:
        two = "2" in operation_name()
        dim = tuple(range(-2 if two else -len(s if s is not None else x), 0))
    dims = axis_list(x, dim)
    for i in dims:
        ordered(x[i], "transformed as positions")
    return Dims(positions(n) if i in dims else x[i] for i, n in enumerate(result_shape()))


@rule("fftshift", "ifftshift")
def shift(x: Dims, dim: Numbers | None = None) -> Dims:
    return roll(x, None, dim)


@rule("stft", "istft")
def short_fourier(x: Dims, *args: object, **kwargs: object) -> Dims:
    """Time and frequency are positions; what stands before the time of a signal is a batch."""
    batch = 1 if len(x) == (2 if operation_name() == "stft" else 3) else 0
    for dim in (dim for signal in (x[batch:], *tensors_in(args, kwargs)) for dim in signal):
        ordered(dim, "transformed as positions")
    return Dims((*x[:batch], *map(positions, result_shape()[batch:])))


@rule("diff")
def diff(x: Dims, n: int = 1, dim: int = -1, *more: object, **named: object) -> Dims:
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


@rule("local_response_norm")
def local_response_norm(x: Dims, *_: object, **__: object) -> Dims:
    ordered(x[1], "the order along this dimension matters")
    return x
