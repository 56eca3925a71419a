"""Carrying an optimizer's state over to a shrunk model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surgery.errors import InputError
from surgery.plan import cutting
from surgery.plan.plan import Plan
from surgery.shrinking.record import RECORD
from surgery.twin.elastic import is_wrapped, not_wrapped
from surgery.twin.setting import plan_of

T = TypeVar("T", bound=Optimizer)


def shrink_optimizer(optimizer: T, wrapped: nn.Module, small: nn.Module) -> T:
    """An optimizer of the same class over the parameters of `small`, its state cut like they were.

    `optimizer` stays as it is. Per-parameter tensors of the parameter's own shape (momenta) are cut, everything else
    (step counts) is copied. Parameters of modules that `small` does not have are left out; a group of parameters that
    has none any more stays, so that schedulers find as many groups as before.

    Raises InputError where the optimizer holds a parameter that `wrapped` does not have, where `small` was not shrunk
    from `wrapped`, or where a state has another shape (factored second moments) and cannot be cut.
    """
    order = "The order is shrink_optimizer(optimizer, wrapped, small)"
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"{type(optimizer).__name__} is no optimizer. {order}")
    if not is_wrapped(wrapped):
        raise InputError(f"{not_wrapped(wrapped)}. {order}")
    plan = plan_of(wrapped)
    record = vars(small).get(RECORD)
    if record is None or record["step"]["fingerprint"] != plan.fingerprint:
        raise InputError("small was not made by surgery.shrink from this wrapped model")
    step = record["step"]
    plan = plan.ordered(step.get("orders", {}))
    names = {id(parameter): plan.canonical(name) for name, parameter in wrapped.named_parameters()}
    new = _by_full_name(small, plan, step["widths"])
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise InputError(
                    f"the optimizer holds a parameter of shape {list(parameter.shape)} that is not in the model"
                )
    groups = [
        {**{k: copy.copy(v) for k, v in group.items()}, "params": _those_of(group["params"], names, new)}
        for group in optimizer.param_groups
    ]
    accepted = inspect.signature(type(optimizer)).parameters
    result = type(optimizer)(groups, **{k: v for k, v in optimizer.defaults.items() if k in accepted})
    for parameter, state in optimizer.state.items():
        name = names[id(parameter)]
        if name not in new:
            continue
        parts = cutting.kept(plan.layouts[name], step["widths"]) if name in plan.cut_tensors else None
        result.state[new[name]] = {key: _cut(name, key, value, parameter, parts) for key, value in state.items()}
    return result


def _by_full_name(small: nn.Module, plan: Plan, widths: Mapping[str, int]) -> dict[str, nn.Parameter]:
    """The parameters of a small model by the names that they have in the whole one."""
    own = dict(small.named_parameters(remove_duplicate=False))
    called = {name: plan.units.name(name, widths) for name in plan.parameters}
    return {name: own[short] for name, short in called.items() if short in own}


def _those_of(
    parameters: Sequence[Tensor], names: Mapping[int, str], new: Mapping[str, nn.Parameter]
) -> list[nn.Parameter]:
    """The small model's parameters in the place of the whole one's, where it has them."""
    return [new[names[id(parameter)]] for parameter in parameters if names[id(parameter)] in new]


def _cut(name: str, key: str, value: object, parameter: Tensor, parts: cutting.Kept | None) -> object:
    if not isinstance(value, Tensor) or value.dim() == 0:
        return copy.deepcopy(value)
    if value.shape == parameter.shape:
        with torch.no_grad():
            return cutting.read(value, parts).clone(memory_format=torch.contiguous_format)
    if parts is None:
        return value.clone()
    raise InputError(
        f"state {key!r} of {name} has shape {list(value.shape)}, the parameter {list(parameter.shape)}: "
        "it cannot be cut"
    )
