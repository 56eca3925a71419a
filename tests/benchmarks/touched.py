"""Steps that change what was drawn, and nothing else: what `optimizers` compares with the ordinary ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surgery.plan import cutting
from surgery.twin.elastic import state_of
from surgery.twin.setting import plan_of

Widths = dict[str, int]
State = dict[str, Tensor]


class Beyond:
    """What lies beyond the widths of all training passes since the last step, put back after each step.

    Attributes:
        whole: the values and the optimizer's state of these elements stay as they were. If not, momentum moves them as
            always, and only their weight decay is undone.
    """

    def __init__(self, optimizer: Optimizer, twin: nn.Module, whole: bool = True):
        self.whole, self.plan, self.state = whole, plan_of(twin), state_of(twin)
        self.names = {id(parameter): name for name, parameter in twin.named_parameters()}
        self.passes: list[Widths] = []
        self.saved: list[tuple[Tensor, float, Tensor, Tensor, State]] = []
        twin.register_forward_hook(self._passed)
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _passed(self, twin: nn.Module, args: Any, output: Any) -> None:
        reached = self.state.forward.recomputed
        if twin.training and torch.is_grad_enabled() and reached is not None:
            self.passes.append(reached.widths)

    def touched(self, parameter: Tensor) -> Tensor | None:
        """Which elements some pass had in its slice; None where all of them were."""
        layouts = self.plan.layouts[self.names[id(parameter)]]
        cuts = [cutting.kept(layouts, widths) for widths in self.passes]
        mask = torch.zeros(parameter.shape, dtype=torch.bool)
        for parts in cuts:
            if parts is None:
                return None
            cutting.write(mask, torch.ones_like(cutting.read(mask, parts)), parts)
        return mask

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            decay, decoupled = group["weight_decay"], "dampening" not in group  # SGD adds its decay to the gradient
            for parameter in group["params"]:
                mask = None if parameter.grad is None else self.touched(parameter)
                if mask is None:
                    continue
                if not self.whole and not decoupled:
                    parameter.grad.sub_(decay * parameter * ~mask)
                state = _like(parameter, optimizer) if self.whole else {}
                rate = group["lr"] * decay if decoupled else 0.0
                self.saved.append((parameter, rate, mask, parameter.clone(), {k: v.clone() for k, v in state.items()}))
        self.passes = []

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, decayed, mask, before, state in self.saved:
            if not self.whole:
                parameter.add_(decayed * before * ~mask)
                continue
            parameter.copy_(torch.where(mask, parameter, before))
            for name, value in _like(parameter, optimizer).items():
                value.copy_(torch.where(mask, value, state.get(name, torch.zeros_like(value))))
        self.saved = []


def _like(parameter: Tensor, optimizer: Optimizer) -> State:
    """The optimizer's state of a parameter that has one number for each of its elements."""
    found = optimizer.state[parameter].items() if parameter in optimizer.state else ()
    return {name: value for name, value in found if isinstance(value, Tensor) and value.shape == parameter.shape}
