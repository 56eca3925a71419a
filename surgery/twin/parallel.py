"""What a twin reads of parameters that engines have spread over ranks (`fully_shard`, `parallelize_module`).

Under FSDP2 a forward meets whole parameters, and slices them as ever. Under tensor parallelism it meets sharded ones; a
slice of one is gathered, and spread in the same way again, so that every rank has as much of it as the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.errors import InputError, WidthError
from surgery.modules.sharded import is_sharded, uneven
from surgery.twin.state import State, in_backward


def out_of_reach(state: State, tensor: Tensor) -> bool:
    """Whether a tensor is sharded, and nobody runs: all ranks would have to come here for a part of it."""
    return is_sharded(tensor) and not state.inside and not in_backward()


def check_there(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises InputError for a tensor without numbers, or without memory, which should have this shape."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    freed = plain and tensor.numel() and not tensor.untyped_storage().nbytes()
    if freed or (not tensor.numel() and 0 not in shape):
        raise InputError(
            f"{name} is empty, and should be {list(shape)}: an engine keeps its numbers elsewhere, as ZeRO stage 3 of "
            "DeepSpeed does, where a wrapped model cannot read them. Take stage 1 or 2, or shard it with FSDP2 "
            "(fully_shard); under that, keep no parameter in another attribute than its own"
        )


def check_even(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises WidthError where a part of this shape, spread like the whole tensor, would be more on some ranks."""
    found = uneven(tensor, shape)
    if found is not None:
        dim, ranks = found
        raise WidthError(
            f"{name} {list(tensor.shape)} is spread over {ranks} ranks by its dimension {dim}, and cannot be cut to "
            f"{list(shape)}, of which they would have unequal parts: wrap with granularity={ranks}, the size of the "
            "mesh (for all groups, or a mapping of globs)"
        )
