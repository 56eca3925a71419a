"""Normalisations called as functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from surgery.axes.algebra import divide, extent, resolve
from surgery.axes.signature import broadcast
from surgery.rules.base import Dims, at_least_two, here, require, unify
from surgery.rules.registry import rule


@rule("layer_norm", "rms_norm")
def layer_norm(
    x: Dims,
    normalized_shape: Sequence[int],
    weight: Dims | None = None,
    bias: Dims | None = None,
    *_: object,
    **__: object,
) -> Dims:
    for tensor in (weight, bias):
        for a, b in zip(x[len(x) - len(tensor) :], tensor, strict=True) if tensor is not None else ():
            unify(a, b)
    for size, dim in zip(normalized_shape, x[len(x) - len(normalized_shape) :], strict=True):
        require(size, dim)
    return x


@rule(F.batch_norm)
def batch_norm(
    x: Dims,
    running_mean: Dims | None,
    running_var: Dims | None,
    weight: Dims | None = None,
    bias: Dims | None = None,
    training: bool = False,
    *_: object,
    **__: object,
) -> Dims:
    if training:
        at_least_two(x[0], *x[2:])  # one value has no spread
    return _per_channel(x, running_mean, running_var, weight, bias)


@rule(F.instance_norm)
def instance_norm(
    x: Dims,
    running_mean: Dims | None = None,
    running_var: Dims | None = None,
    weight: Dims | None = None,
    bias: Dims | None = None,
    use_input_stats: bool = True,
    *_: object,
    **__: object,
) -> Dims:
    if use_input_stats:
        at_least_two(*x[2:])
    return _per_channel(x, running_mean, running_var, weight, bias)


def _per_channel(x: Dims, *tensors: Dims | None) -> Dims:
    """The same dimensions, the second one tied to those of tensors with a value for each channel."""
    for tensor in tensors:
        if tensor is not None:
            unify(x[1], tensor[0])
    return x


@rule("group_norm")
def group_norm(
    x: Dims, num_groups: int, weight: Dims | None = None, bias: Dims | None = None, *_: object, **__: object
) -> Dims:
    parts = divide(x[1], extent(x[1]) // int(num_groups))
    if parts is None:
        raise NotImplementedError("channels that do not divide into groups")
    for tensor in (weight, bias):
        if tensor is not None:
            unify(x[1], tensor[0])
    if int(num_groups) > 1:
        require(num_groups, parts[0])
    at_least_two(x[0], parts[1], *x[2:])
    return Dims((x[0], resolve(x[1]), *x[2:]))


@rule("_weight_norm")
def weight_norm(v: Dims, g: Dims, dim: int = 0) -> Dims:
    return broadcast([v, g], here())
