"""Steps that do not decay what no pass has touched, and are ordinary else: what decay does in `optimizers`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surgery.training.touched import Touched
from surgery.twin.setting import plan_of


class Undecayed(Touched):
    """For SGD, AdamW and Muon, stepped without a closure."""

    def __init__(self, optimizer: Optimizer, twin: nn.Module):
        cut = plan_of(twin).cut_tensors
        self.decayed: list[tuple[Tensor, Tensor]] = []
        super().__init__(optimizer, twin, {name: p for name, p in twin.named_parameters() if name in cut})

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                mask = self._mask(parameter) if id(parameter) in self._names else None
                if mask is None:
                    continue
                decay = group["weight_decay"] * parameter * ~mask
                if "dampening" in group:  # SGD adds its decay to the gradient
                    parameter.grad.sub_(decay)
                else:
                    self.decayed.append((parameter, group["lr"] * decay))

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, decay in self.decayed:
            parameter.add_(decay)
        self.decayed = []
        self._passes.clear()
