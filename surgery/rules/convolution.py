"""Convolutions called as functions."""

from __future__ import annotations

from surgery.axes.algebra import Dims, divide, extent
from surgery.rules.base import Numbers, Result, contraction, kind, multiply, positions, require, tensors_in
from surgery.rules.registry import rule


def _pointwise_kernel(weight: Dims, stride: Numbers, padding: Numbers | str) -> bool:
    """Whether a convolution treats every position by itself."""
    steps = stride if isinstance(stride, tuple | list) else (stride,)
    pads = padding if isinstance(padding, tuple | list) else (padding,)
    same = padding == "same" or padding == "valid" or all(not isinstance(p, str) and int(p) == 0 for p in pads)
    return all(extent(dim) == 1 for dim in weight[2:]) and all(int(s) == 1 for s in steps) and same


def _convolution(
    x: Dims, weight: Dims, bias: Dims | None = None, stride: Numbers = 1, padding: Numbers | str = 0,
    dilation: object = 1, groups: int = 1,
) -> Result:  # fmt: skip
    batch = "" if len(x) == len(weight) - 1 else "b "
    g = int(groups)
    sites = "..." if _pointwise_kernel(weight, stride, padding) else "~..."
    dims = contraction(
        f"{batch}(g i) {sites}, (g o) i ~..., (g o) -> {batch}(g o) {sites}", x, weight, bias, g=g, i=extent(weight[1])
    )
    kernel = [positions(extent(dim), "a kernel") for dim in weight[2:]]
    multiply(*tensors_in(dims)[0], weight[1], *kernel)
    if not extent(weight[0]) == g == extent(x[-len(weight) + 1]):  # a depthwise one does not tell what features are
        kind("channels", *weight[:2])
    if g > 1:
        parts = divide(weight[0], extent(weight[0]) // g)
        require(groups, parts[0] if parts else weight[0])
    return dims


rule("conv1d", "conv2d", "conv3d")(_convolution)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    x: Dims, weight: Dims, bias: Dims | None = None, stride: object = 1, padding: object = 0,
    output_padding: object = 0, groups: int = 1, dilation: object = 1,
) -> Result:  # fmt: skip
    batch = "" if len(x) == len(weight) - 1 else "b "
    g = int(groups)
    dims = contraction(
        f"{batch}(g i) ~..., (g i) o ~..., (g o) -> {batch}(g o) ~...", x, weight, bias, g=g, o=extent(weight[1])
    )
    multiply(*x, weight[1], *(positions(extent(dim), "a kernel") for dim in weight[2:]))
    kind("channels", *weight[:2])
    if g > 1:
        parts = divide(weight[0], extent(weight[0]) // g)
        require(groups, parts[0] if parts else weight[0])
    return dims
