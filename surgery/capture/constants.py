"""Tensors that no recorded call made, and that are constants all the same.

`torch.FloatTensor([0.5])` and `torch.from_numpy(array)` are calls that no mode sees, and a table may stand in a file
beside the model. Below torch's functions such tensors are told from what hidden code computes of others: nothing makes
them but their data, or they were there before the run.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_FROM_DATA = (torch.ops.aten.lift_fresh.default, torch.ops.aten.empty.memory_format)


class Constants(TorchDispatchMode):
    """Knows the tensors that are made of data alone while it is active, and those that were `there` before."""

    def __init__(self, there: Iterable[torch.Tensor] = ()):
        super().__init__()  # type: ignore[no-untyped-call]
        self.there = {id(tensor): tensor for tensor in there}
        self.made: dict[int, weakref.ref[torch.Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # this is below what is recorded
            result = func(*args, **(kwargs or {}))
        if func in _FROM_DATA:
            self.made[id(result)] = weakref.ref(result)
        return result

    def __contains__(self, tensor: torch.Tensor) -> bool:
        made = self.made.get(id(tensor))
        return id(tensor) in self.there or (made is not None and made() is tensor)
