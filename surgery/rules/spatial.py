"""Operations on positions: pooling, interpolation, pixels that become channels, and the other way round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from surgery.axes.algebra import Dims, divide, extent, resolve
from surgery.rules.base import Numbers, Result, axis, operation_name, ordered, positions, result_shape, unify
from surgery.rules.registry import Operation, Rule, rule


def _along_positions(x: Dims, *_: object, **__: object) -> Result:
    kept = 2 if len(x) > 2 else 1
    for dim in x[kept:]:
        ordered(dim, "positions")
    return _alike(lambda shape: Dims((*x[:kept], *map(positions, shape[kept:]))))


def _alike(make: Callable[[Sequence[int]], Dims]) -> Result:
    """What `make` gives for the shape of the result; several results, values and indices, have the same dimensions."""
    shape = result_shape()
    return [make(shape[0])] * len(shape) if isinstance(shape, list) else make(shape)


def spatial(*operations: Operation) -> None:
    """Declare operations on `b c ~...`: batch and channels carry over, everything after is positions."""
    rule(*operations)(_along_positions)


spatial("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")


@rule("grid_sample")
def grid_sample(x: Dims, grid: Dims, *_: object, **__: object) -> Dims:
    for dim in (*x[2:], *grid[1:]):
        ordered(dim, "coordinates")
    return Dims((unify(x[0], grid[0]), x[1], *map(positions, result_shape()[2:])))


_SIZED = {  # by position: kernel, stride, padding, dilation
    "avg_pool": ("kernel_size", "stride", "padding"),
    "max_pool": ("kernel_size", "stride", "padding", "dilation"),
}


def _untouched(args: Sequence[Numbers], kwargs: Mapping[str, Numbers], spatial_dims: int) -> list[bool]:
    """For every spatial dimension, whether a pool sees each position by itself (`kernel_size=(2, 1)`)."""
    names = next((names for kind, names in _SIZED.items() if operation_name().startswith(kind)), ())
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if "kernel_size" not in given or isinstance(result_shape(), list):  # indices count all positions
        return [False] * spatial_dims
    kernel, padding = (_each(given.get(name, 0), spatial_dims) for name in ("kernel_size", "padding"))
    stride = _each(given.get("stride") or kernel, spatial_dims)
    return [size == step == 1 and not pad for size, step, pad in zip(kernel, stride, padding, strict=True)]


def _each(value: Numbers, n: int) -> list[int]:
    """A number for each dimension, from one for all or one for each."""
    values = [value] if isinstance(value, int) else list(value)
    return [int(v) for v in (values * n if len(values) == 1 else values)]


def _pool(spatial_dims: int) -> Rule:
    def pool(x: Dims, *args: Numbers, **kwargs: Numbers) -> Result:
        before, along = x[:-spatial_dims], x[-spatial_dims:]
        alone = _untouched(args, kwargs, spatial_dims)
        for dim, own in zip(along, alone, strict=True):
            if not own:
                ordered(dim, "pooled positions")

        def made(shape: Sequence[int]) -> Dims:
            pooled = zip(along, shape[-spatial_dims:], alone, strict=True)
            return Dims((*before, *(dim if own else positions(n) for dim, n, own in pooled)))

        return _alike(made)

    return pool


for _n in (1, 2, 3):
    _names = [f"{kind}_pool{_n}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg")]
    _names += [f"max_pool{_n}d_with_indices", f"adaptive_max_pool{_n}d_with_indices"]
    rule(*_names, *([f"lp_pool{_n}d"] if _n < 3 else []))(_pool(_n))


@rule("pixel_shuffle")
def pixel_shuffle(x: Dims, upscale_factor: int) -> Dims:
    r = int(upscale_factor)
    parts = divide(x[-3], r * r)
    if parts is None:
        raise NotImplementedError("channels that do not divide into pixels")
    ordered(parts[1], "pixels")
    for dim in x[-2:]:
        ordered(dim, "pixels")
    return Dims((*x[:-3], parts[0], *map(positions, result_shape()[-2:])))


@rule("pixel_unshuffle")
def pixel_unshuffle(x: Dims, downscale_factor: int) -> Dims:
    for dim in x[-2:]:
        ordered(dim, "pixels")
    channels = resolve(x[-3]) + positions(int(downscale_factor) ** 2)
    return Dims((*x[:-3], channels, *map(positions, result_shape()[-2:])))


@rule("unfold")
def unfold(x: Dims, *args: int, **named: int) -> Dims:
    """Both `Tensor.unfold(dim, size, step)` and `F.unfold`, which puts the kernel inside the channels."""
    shape = result_shape()
    if len(shape) == len(x) + 1:
        i = axis(x, args[0] if args else named["dimension"])
        ordered(x[i], "unfolded")
        return Dims((*x[:i], positions(shape[i]), *x[i + 1 :], positions(shape[-1])))
    for dim in x[-2:]:
        ordered(dim, "unfolded")
    return Dims((*x[:-3], resolve(x[-3]) + positions(shape[-2] // extent(x[-3])), positions(shape[-1])))


@rule("fold")
def fold(x: Dims, output_size: object, kernel_size: Numbers, *_: object, **__: object) -> Dims:
    """The other way round: the kernel is taken out of the channels."""
    parts = divide(x[-2], math.prod(_each(kernel_size, 2)))
    if parts is None:
        raise NotImplementedError("channels that do not divide into a kernel")
    for dim in (parts[1], x[-1]):
        ordered(dim, "unfolded")
    return Dims((*x[:-2], parts[0], *map(positions, result_shape()[-2:])))
