"""Steps of an optimizer that leave what no pass has touched as it was, and its state.

Beyond the drawn widths a gradient is exactly zero. Momentum and weight decay move such elements all the same, and an
optimizer that orthogonalises moves them by much.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surgery.errors import InputError
from surgery.modules.sharded import is_sharded
from surgery.plan import cutting
from surgery.plan.plan import Plan
from surgery.training.step import twin_in
from surgery.twin.setting import plan_of, ready
from surgery.twin.state import Widths

Pass: TypeAlias = tuple[Plan, Widths]
# Elements of one parameter, and before a step: the value, and what the state has of the parameter's own shape.
Before = tuple[Tensor, Tensor, dict[str, Tensor]]


class Touched:
    """What `step_touched` gives: its hooks on an optimizer, until `remove()`."""

    def __init__(self, optimizer: Optimizer, twin: nn.Module, cut: Mapping[str, Tensor]):
        self._state = ready(twin)
        self._names = {id(parameter): name for name, parameter in cut.items()}
        self._held = list(cut.values())  # so that no other tensor gets the id of one
        self._passes: list[Pass] = []
        self._saved: list[Before] = []
        self._listener = self._passed  # one object, to be found again
        self._state.listeners.append(self._listener)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        weakref.finalize(optimizer, self.remove).atexit = False

    def _passed(self, widths: Widths) -> None:
        """There is a pass at these widths."""
        plan = self._state.plan  # of this moment: `set_depth_order` puts another one there
        if plan is not None and not any(plan is known and widths == at for known, at in self._passes):
            self._passes.append((plan, widths))

    def remove(self) -> None:
        """Let the optimizer step as it always does."""
        for hook in self._hooks:
            hook.remove()
        self._state.listeners = [one for one in self._state.listeners if one is not self._listener]

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep what is not touched. With a closure, which makes the passes within the step, all that may not be."""
        self._saved = []
        closed = len(args) > 1 or kwargs.get("closure") is not None
        for parameter in self._of(optimizer):
            if closed or (parameter.grad is not None and self._mask(parameter) is not None):
                state = {name: value.clone() for name, value in shaped(optimizer, parameter)}
                self._saved.append((parameter, parameter.clone(), state))

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put it back."""
        for parameter, before, state in self._saved:
            mask = None if parameter.grad is None else self._mask(parameter)
            if mask is None:
                continue
            parameter.copy_(torch.where(mask, parameter, before))
            for name, value in shaped(optimizer, parameter):
                if name in state:
                    value.copy_(torch.where(mask, value, state[name]))
        self._saved = []
        self._passes.clear()

    def _of(self, optimizer: Optimizer) -> list[Tensor]:
        """The parameters of an optimizer that widths cut or leave out."""
        return [p for group in optimizer.param_groups for p in group["params"] if id(p) in self._names]

    def _mask(self, parameter: Tensor) -> Tensor | None:
        """The elements that are touched; None where all are. What has a gradient is, whichever way that came."""
        mask = union(self._names[id(parameter)], parameter, self._passes)
        if mask is None or parameter.grad is None:
            return None
        gradient = parameter.grad
        return mask | ((gradient.to_dense() if gradient.is_sparse else gradient) != 0)


def step_touched(optimizer: Optimizer, wrapped: nn.Module) -> Touched:
    """From now on, each step of the optimizer changes only what passes since the last one have touched.

    Elements of parameters that lie beyond the widths of all these passes keep their value, and so does the optimizer's
    state of them: no momentum, no weight decay, no decay of second moments. So do modules that none of them ran. Where
    one of the passes had the full width, as in each `surgery.train_step` that trains it, steps are what they were, to
    the bit.

    A pass is a forward of the model, or of a part of it, with gradients. Elements that have got a gradient in another
    way are touched, too. A step before which there was no pass is an ordinary one. State of another shape than the
    parameter's (step counts, factored moments) goes on as always, and what a first step makes stays as it made it.

    Args:
        optimizer: any of torch's, another `torch.optim.Optimizer`, or accelerate's around one. It may have groups of
            parameters, parameters of other models, closures, and a scaler of gradients that leaves out steps.
        wrapped: a wrapped model, or a module around one, such as DistributedDataParallel.

    Returns what has a `remove()`, which ends it. Copies and pickles of the model or the optimizer do not have it.

    Raises InputError for an optimizer that has no parameter of the model, or sharded ones, and for LBFGS, whose step
    mixes all elements.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"{type(optimizer).__name__} is no optimizer. The order is step_touched(optimizer, wrapped)")
    twin, optimizer = twin_in(wrapped), _stepping(optimizer)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError("LBFGS takes one direction from all elements of several passes: it cannot step a part of them")
    state, plan = ready(twin), plan_of(twin)
    with state.whole():
        own = {plan.canonical(name): parameter for name, parameter in twin.named_parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if {id(parameter) for parameter in own.values()}.isdisjoint(map(id, held)):
        raise InputError("the optimizer has no parameter of this model: make it from wrapped.parameters()")
    if any(map(is_sharded, held)):
        raise InputError("the parameters are sharded, so a rank cannot tell which elements it holds: step as always")
    follows = {name for name in own if name in plan.cut_tensors or plan.units.homes(name)}
    return Touched(optimizer, twin, {name: own[name] for name in follows})


def _stepping(optimizer: Optimizer) -> Optimizer:
    """The optimizer that has hooks: accelerate's hands its steps on to the one that it was made of."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, Optimizer) and "_optimizer_step_pre_hooks" not in vars(optimizer) else optimizer


def union(name: str, parameter: Tensor, passes: Iterable[Pass]) -> Tensor | None:
    """The elements of a parameter that some of the passes have; None where all are, or where there are no passes."""
    mask = None
    for plan, widths in passes:
        there = plan.units.there(name, widths)
        parts = cutting.kept(plan.layouts.get(name, ()), widths) if there else None
        if there and parts is None:
            return None
        mask = torch.zeros_like(parameter, dtype=torch.bool) if mask is None else mask
        if parts is None:
            continue
        cutting.write(mask, torch.ones_like(cutting.read(mask, parts)), parts)
    return mask


def shaped(optimizer: Optimizer, parameter: Tensor) -> list[tuple[str, Tensor]]:
    """The optimizer's state of a parameter that has a number for each of its elements."""
    found = optimizer.state[parameter].items() if parameter in optimizer.state else ()
    return [(name, value) for name, value in found if isinstance(value, Tensor) and value.shape == parameter.shape]
