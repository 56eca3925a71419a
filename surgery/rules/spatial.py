"""Operations on positions: pooling, interpolation, pixels that become channels, and the other way round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from surgery.axes.algebra import Dims, divide, extent, resolve
from surgery.rules.base import axis, operation_name, ordered, positions, result_shape, unify
from surgery.rules.registry import rule


def _along_positions(x: Dims, *_: Any, **__: Any) -> Any:
    shape = result_shape()
    first = shape[0] if isinstance(shape, list) else shape
    kept = 2 if len(x) > 2 else 1
    for dim in x[kept:]:
        ordered(dim, "positions")
    dims = Dims((*x[:kept], *map(positions, first[kept:])))
    return [dims for _ in shape] if isinstance(shape, list) else dims


def spatial(*operations: Any) -> None:
    """Declare operations on `b c ~...`: batch and channels carry over, everything after is positions."""
    rule(*operations)(_along_positions)


spatial("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")


@rule("grid_sample")
def grid_sample(x: Dims, grid: Dims, *_: Any, **__: Any) -> Dims:
    for dim in (*x[2:], *grid[1:]):
        ordered(dim, "coordinates")
    return Dims((unify(x[0], grid[0]), x[1], *map(positions, result_shape()[2:])))


_SIZED = {  # by position: kernel, stride, padding, dilation
    "avg_pool": ("kernel_size", "stride", "padding"),
    "max_pool": ("kernel_size", "stride", "padding", "dilation"),
}


def _untouched(args: Sequence[Any], kwargs: Mapping[str, Any], spatial_dims: int) -> list[bool]:
    """For every spatial dimension, whether a pool sees each position by itself (`kernel_size=(2, 1)`)."""
    names = next((names for kind, names in _SIZED.items() if operation_name().startswith(kind)), ())
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if "kernel_size" not in given or isinstance(result_shape(), list):  # indices count all positions
        return [False] * spatial_dims
    kernel, padding = (_each(given.get(name, 0), spatial_dims) for name in ("kernel_size", "padding"))
    stride = _each(given.get("stride") or kernel, spatial_dims)
    return [size == step == 1 and not pad for size, step, pad in zip(kernel, stride, padding, strict=True)]


def _each(value: Any, n: int) -> list[int]:
    """A number for each dimension, from one for all or one for each."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    return [int(v) for v in (values * n if len(values) == 1 else values)]


def _pool(spatial_dims: int) -> Any:
    def pool(x: Dims, *args: Any, **kwargs: Any) -> Any:
        shape = result_shape()
        first = shape[0] if isinstance(shape, list) else shape
        alone = _untouched(args, kwargs, spatial_dims)
        for dim, own in zip(x[-spatial_dims:], alone, strict=True):
            if not own:
                ordered(dim, "pooled positions")
        pooled = zip(x[-spatial_dims:], first[-spatial_dims:], alone, strict=True)
        dims = Dims((*x[:-spatial_dims], *(dim if own else positions(n) for dim, n, own in pooled)))
        return [dims for _ in shape] if isinstance(shape, list) else dims

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
def unfold(x: Dims, *args: Any, **kwargs: Any) -> Dims:
    """Both `Tensor.unfold(dim, size, step)` and `F.unfold`, which puts the kernel inside the channels."""
    shape = result_shape()
    if len(shape) == len(x) + 1:
        i = axis(x, args[0] if args else kwargs["dimension"])
        ordered(x[i], "unfolded")
        return Dims((*x[:i], positions(shape[i]), *x[i + 1 :], positions(shape[-1])))
    for dim in x[-2:]:
        ordered(dim, "unfolded")
    return Dims((*x[:-3], resolve(x[-3]) + positions(shape[-2] // extent(x[-3])), positions(shape[-1])))


@rule("fold")
def fold(x: Dims, output_size: Any, kernel_size: Any, *_: Any, **__: Any) -> Dims:
    """The other way round: the kernel is taken out of the channels."""
    size = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size, kernel_size)
    parts = divide(x[-2], math.prod(map(int, size)))
    if parts is None:
        raise NotImplementedError("channels that do not divide into a kernel")
    for dim in (parts[1], x[-1]):
        ordered(dim, "unfolded")
    return Dims((*x[:-2], parts[0], *map(positions, result_shape()[-2:])))
