"""What a training step is asked for, checked before anything has changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.modules.arguments import binds
from surgery.modules.inputs import Batches, Inputs
from surgery.modules.labelled import callable_with
from surgery.training.distil import Distil, kl
from surgery.training.teaching import Cached, Teacher

Learn: TypeAlias = "Callable[[Any], Tensor]"
ALONE = "loss takes the output alone: lambda output: F.cross_entropy(output, labels)"


def check_asked(
    loss: Learn | None,
    teacher: Teacher | None,
    distil: Distil | None,
    full: bool,
    twin: nn.Module,
    backward: Callable[[Tensor], Any],
) -> None:
    """Raises InputError where nothing says what is learnt, or not as it can be called."""
    if loss is not None and not callable(loss):
        raise InputError(
            "loss is a function of the output, and called for each width: lambda output: F.cross_entropy(output, y). "
            f"Got {type(loss).__name__}"
        )
    if loss is not None and not binds(loss.forward if isinstance(loss, nn.Module) else loss, None):
        name = getattr(loss, "__name__", type(loss).__name__)
        raise InputError(f"{ALONE}. {name} cannot be called with one argument")
    if not full and teacher is None:
        raise InputError("full=False leaves the full width as it is: give the model that takes its place as teacher=")
    for name, given in (("teacher", teacher), ("distil", distil)):
        if given is not None and not callable(given):
            raise InputError(f"{name} is a model or a function, got {type(given).__name__}")
    if distil is not None and distil == kl:  # type: ignore[comparison-overlap]
        raise InputError("distil is what surgery.kl(dim) gives: call it, as in distil=surgery.kl()")
    if not callable(backward):
        raise InputError(f"backward is a function of a loss, such as self.manual_backward, got {backward!r}")
    if loss is None and (teacher is None or distil is None):
        raise InputError(
            "without a loss, all widths learn to say what a teacher says: give the trained model as teacher=, and as "
            "distil= what it means to say the same, such as surgery.kl() or F.mse_loss"
        )
    if not full or loss is None:
        _check_frozen(teacher, twin)


def _check_frozen(teacher: Teacher | None, twin: nn.Module) -> None:
    """Raises InputError for a teacher that would change as it is learnt from."""
    teacher = teacher.teacher if isinstance(teacher, Cached) else teacher
    if isinstance(teacher, nn.Module):
        own = {id(parameter) for parameter in twin.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise InputError(
                "the teacher shares its parameters with the wrapped model, so it would change with it: wrap a copy, "
                "copy.deepcopy(model), or what surgery.sort or surgery.nest gives"
            )


def check_inputs(twin: nn.Module, run: Inputs, examples: Batches | None) -> None:
    """Raises InputError for inputs that have labels with them, where the examples had none."""
    known = examples.runs[0] if examples is not None and examples.runs else None
    if known is None:
        return
    listed = len(run.args) == 1 and isinstance(run.args[0], list) and all(isinstance(x, Tensor) for x in run.args[0])
    as_list = listed and not any(isinstance(one, list) for one in known.args)
    count = len(known.args) + len(known.kwargs)
    if as_list or (len(run.args) > count and not callable_with(twin, run)):
        raise InputError(
            f"inputs are the arguments of one call of the model, {count} where it was wrapped, got "
            f"{'a list' if as_list else len(run.args)}: labels go into the loss, "
            "lambda output: F.cross_entropy(output, labels)"
        )


def check_learns(value: Tensor, twin: nn.Module) -> None:
    """Raises InputError for a loss that nothing can be learnt from."""
    if value.requires_grad:
        return
    if not torch.is_grad_enabled():
        cause = "gradients are off: call train_step outside of torch.no_grad() and torch.inference_mode()"
    elif not any(parameter.requires_grad for parameter in twin.parameters()):
        cause = "all parameters of the model are frozen (requires_grad is False)"
    else:
        cause = "the loss has no gradients: it was detached, or does not depend on the output"
    raise InputError(f"nothing can be learnt: {cause}")


def weight_of(weight: float) -> float:
    """The weight of the narrow widths. Raises InputError for what is none."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise InputError(f"weight is a number of at least 0, got {weight!r}")
    return weight


def share_of(labels: float) -> float:
    """The share of the loss in what narrow widths learn. Raises InputError for what is none."""
    if isinstance(labels, Tensor):
        raise InputError(f"labels is a share in [0, 1], not the labels themselves: {ALONE}")
    if isinstance(labels, bool) or not isinstance(labels, int | float) or not 0 <= labels <= 1:
        raise InputError(f"labels is a share in [0, 1], got {labels!r}")
    return labels


def scalar(value: Any, name: str) -> Tensor:
    """What a loss or a divergence returned. Raises InputError for what is no tensor of one element."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    if isinstance(value, Tensor):
        advice = f"{list(value.shape)}: take the mean"
    elif isinstance(value, int | float):
        advice = f"a {type(value).__name__}: return the tensor itself, without .item()"
    else:
        advice = f"{type(value).__name__}: return its value, a tensor with gradients"
    raise InputError(f"{name} must return a tensor of one element, got {advice}")
