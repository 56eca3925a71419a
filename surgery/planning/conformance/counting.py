"""The multiply-adds of a call, as torch counts them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from surgery.modules.inputs import Inputs
from surgery.modules.modes import evaluating

# Multiply-adds that torch's counter does not see.
UNSEEN = frozenset("custom mv addmv dot vdot addr ger _trilinear _cdist_forward mkldnn_rnn_layer".split())


def counted(layer: nn.Module, run: Inputs) -> tuple[int, bool]:
    """The multiply-adds of a call as torch counts them, and whether that is all of them."""
    counter = FlopCounterMode(display=False)
    # gradients are on, since the fused inference paths are not counted
    with evaluating(layer), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Names() as seen, counter:
        layer(*run.args, **run.kwargs)
    return counter.get_total_flops() // 2, seen.names.isdisjoint(UNSEEN)


class _Names(TorchDispatchMode):
    """The names of the operations that run; those that are not torch's own are one, that the counter does not see."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__ if func.namespace == "aten" else "custom")
        return func(*args, **(kwargs or {}))
