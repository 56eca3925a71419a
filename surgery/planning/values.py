"""What recorded values become in an analysis: dimensions in the place of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from surgery.axes.algebra import Dims, extent, fresh, pin, resolve
from surgery.axes.sizes import Size, origin_of
from surgery.errors import AxisError
from surgery.nested import mapped
from surgery.rules.base import tensors_in


def fill(value: Any, get: Callable[[fx.Node], Any], node: fx.Node | None = None, site: tuple[Any, ...] = ()) -> Any:
    """Recorded arguments with values in place of nodes. With `node`, integers learn their site."""

    def known(leaf: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(leaf, fx.Node):
            return get(leaf)
        if node is not None and isinstance(leaf, int) and not isinstance(leaf, bool):
            return Size(leaf, origin_of(leaf), (node, path))
        return leaf

    return mapped(value, known, path=site)


def pin_all(values: Any, reason: str) -> None:
    """Pin the dimensions of tensors, and those in which their values are places."""
    for dims in tensors_in(values):
        for dim in (*dims, dims.into or ()):
            pin(dim, reason)


def fixed(shape: Any, reason: str) -> Any:
    """A result about which nothing is known, with every dimension pinned."""

    def made(leaf: Any, _: tuple[Any, ...]) -> Any:
        return None if leaf is None else Dims(fresh(size, reason) for size in leaf)

    return mapped(shape, made, whole=torch.Size)


def check(value: Any, shape: Any) -> None:
    """A rule's answer must have the recorded shape; a wrong rule is found here rather than believed."""
    if isinstance(shape, torch.Size):
        got = [extent(resolve(dim)) for dim in value]
        if got != list(shape):
            raise AxisError(f"the rule says {got}, the operation made {list(shape)}")
    elif isinstance(shape, list | dict):
        for key in range(len(shape)) if isinstance(shape, list) else shape:
            if shape[key] is not None:
                check(value[key], shape[key])
