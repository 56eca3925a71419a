"""Tensors that are spread over ranks (`DTensor`): gathered, and spread again.

What they need of torch is not imported unless it is in use.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(value: object) -> bool:
    """Whether a tensor is spread over ranks: a `DTensor`."""
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(value, tensors.DTensor)


def gathered(tensor: Tensor) -> Tensor:
    """A tensor of which each rank has the whole. For a sharded one, every rank must come here; gradients flow back."""
    sharded: Any = tensor
    result: Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return result


def whole(tensor: Tensor) -> Tensor:
    """A tensor itself, or what stands for a sharded one in a plain model: all of it, and a parameter if it is one."""
    if not is_sharded(tensor):
        return tensor
    value = gathered(tensor.detach())
    return nn.Parameter(value, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def spread_as(tensor: Any, value: Tensor) -> Tensor:
    """A value that each rank has whole, spread as a sharded tensor of as many dimensions is. Gradients flow back."""
    replicated = torch.distributed.tensor.Replicate()
    mesh = tensor.device_mesh
    given = type(tensor).from_local(value, mesh, [replicated] * mesh.ndim, run_check=False)
    spread: Tensor = given.redistribute(placements=tensor.placements)
    return spread


def uneven(tensor: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The first dimension in which a tensor of this shape, spread like `tensor`, gives ranks unequal parts.

    It comes with the number of ranks; None where all have as much.
    """
    for ranks, placement in zip(tensor.device_mesh.shape, tensor.placements, strict=True):
        if placement.is_shard() and shape[placement.dim] % ranks:
            return placement.dim, ranks
    return None
