"""`shrink`: a plain, smaller model, proven equal to the wrapped one at the same widths."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.modules.arguments import counted
from surgery.modules.batchnorm import recalibrate as estimate
from surgery.modules.engines import is_spread
from surgery.modules.inputs import Examples
from surgery.modules.labelled import Batch
from surgery.modules.tensors import parts_of
from surgery.plan import cutting
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec, check_multiple
from surgery.planning.make import make_plan
from surgery.planning.supported import check_model
from surgery.refitting.refit import Member
from surgery.refitting.refit import refit as fit
from surgery.refitting.statistics import batches_of
from surgery.shrinking.config import settle_config
from surgery.shrinking.proof import prove, tolerance_of
from surgery.shrinking.record import RECORD, record_of
from surgery.twin.elastic import elastic_of, is_wrapped
from surgery.twin.install import twin_of
from surgery.twin.plain import plain_at
from surgery.twin.setting import plan_of, ready, runnable
from surgery.twin.statistics import Recalibrate, batches_for, stale, warn_stale

M = TypeVar("M", bound=nn.Module)


def prepared(model: M, examples: Examples | None) -> tuple[M, Plan, Examples]:
    """A wrapped model (made here if `model` is plain), its plan, and inputs to prove results on."""
    check_model(model)
    if is_wrapped(model):
        state, elastic = ready(model), elastic_of(model)
        if elastic is not None and elastic.path:
            raise InputError(f"this {type(model).__name__} is {elastic.path} of a wrapped model: give the whole model")
        known = runnable(model) if examples is None else examples
        assert state.plan is not None and known is not None
        return model, state.plan, known
    if examples is None:
        raise InputError(f"{type(model).__name__} is not wrapped: give example inputs to analyse it on")
    plan = make_plan(model, examples)
    return wrapped_as(model, plan, examples), plan, examples


def wrapped_as(model: M, plan: Plan, examples: Examples) -> M:
    """A twin by a plan that was made. Its class is one of its own, below the model's."""
    return cast(M, twin_of(parts_of(model), plan, examples))


def unsharded(wrapped: M, plan: Plan, examples: Examples) -> M:
    """A twin itself; where its parameters are spread over ranks, another one over copies of them, whole on each."""
    if not is_spread(wrapped):
        return wrapped
    return wrapped_as(plain_copy(wrapped, plan, lambda _, tensor: tensor, plan.full()), plan, examples)


@counted()
def shrink(
    model: M,
    widths: WidthSpec,
    example_inputs: Examples | None = None,
    *,
    multiple: int = 1,
    recalibrate: Recalibrate = None,
    refit: Iterable[Batch] | None = None,
) -> M:
    """An independent plain model at the given widths, proven equal to the wrapped one before it is returned.

    Args:
        model: a wrapped model, or any model together with example inputs.
        widths: a fraction; a mapping of group names, globs, module paths or kinds (`{"heads": 0.5}`) to ints or
            fractions; or a point of a curve.
        example_inputs: what the proof runs on. Default: the inputs that the model was wrapped with.
        multiple: round widths to multiples of this, as hardware likes (8, 16, ...): fractions, ints and points alike.
        recalibrate: batches of training inputs to estimate BatchNorm statistics on, after the proof: see
            `surgery.recalibrate`. The wrapped model keeps its own. Default: those that it was wrapped with; a warning
            tells where there are none and they are needed. False: the statistics stay as they are.
        refit: batches of inputs, without labels, on which what reads cut features (linear maps and convolutions) is
            fitted to what the full model says there, by least squares, after the proof. It makes a slice of a model
            that was not trained for it far better, in seconds; after nested training it does harm. BatchNorm statistics
            are estimated on these batches too, unless there are others for that.

    Returns a model of the same class, in eval mode, in whichever mode `model` is (call `.train()` to train on), with
    smaller tensors, the attributes that hold their sizes, and one inert record (`surgery_record`) for `surgery.save`.
    Forwards that were rewritten and layers whose class was replaced by a plain subclass are listed in that record.

    Raises WidthError for impossible widths, InputError for unusable inputs, ProofError where the small model's outputs
    differ from those of the wrapped one; nothing is changed then.
    """
    check_multiple(multiple)
    if isinstance(widths, Tensor) or isinstance(example_inputs, float):
        raise InputError("shrink takes a model, widths, then example inputs: shrink(model, 0.5, x)")
    wrapped, plan, examples = prepared(model, example_inputs)
    if any(parameter.is_meta for parameter in wrapped.parameters()):
        raise InputError("the model is on the meta device, where there are no numbers to prove a small one with")
    fitted_on = [] if refit is None else batches_of(wrapped, refit)
    if fitted_on:
        check_unscaled(wrapped)
    batches, chosen = batches_for(wrapped, recalibrate), plan.widths(widths, multiple)
    _check_rounding(plan, widths, chosen, multiple)
    old = recalibrate is not False and stale(wrapped, chosen)
    if old:
        batches = batches or [*fitted_on]
    small = cut_copy(wrapped, plan, chosen)
    prove(wrapped, small, plan, chosen, examples)
    tell(wrapped, small, plan, chosen, examples)
    if fitted_on:  # on the statistics of the full model, which what is fitted comes near to
        full = plain_copy(wrapped, plan, lambda _, tensor: tensor, plan.full())
        fit(full, [Member(small, chosen)], plan, fitted_on)
    if batches:
        estimate(small, batches)
    elif old:
        warn_stale("shrink", wrapped)
    return small.eval()


def _check_rounding(plan: Plan, widths: WidthSpec, chosen: Mapping[str, int], multiple: int) -> None:
    """Warn where a multiple leaves all of a model full that was to be narrower."""
    if multiple > 1 and chosen == plan.full() != plan.widths(widths):
        warnings.warn(
            f"shrink: multiple={multiple} leaves every group that was to be narrower at its full width, since none has "
            "so many units: give a smaller one",
            stacklevel=4,
        )


def check_unscaled(wrapped: nn.Module) -> None:
    """Raises InputError for a twin whose narrow weights are multiples of the full ones: a fit would undo that."""
    if getattr(ready(wrapped).draw, "rescale", False):
        raise InputError("a refit does not go with paper(rescale=True): wrap the model with another draw")


def tell(wrapped: nn.Module, small: nn.Module, plan: Plan, widths: dict[str, int], examples: Examples) -> None:
    """Make the configuration of a small model tell its sizes, or note in its record why none can."""

    def whole() -> nn.Module:
        return plain_copy(wrapped, plan, lambda _, tensor: like(tensor, tensor.to("meta")), plan.full())

    unfit = settle_config(small, plan, widths, examples, tolerance_of(plan, small), whole)
    if unfit is not None:
        vars(small)[RECORD]["config"] = unfit


def cut_copy(wrapped: M, plan: Plan, widths: dict[str, int]) -> M:
    """A plain copy of a wrapped model with every tensor cut and every attribute set; not proven."""
    state = ready(wrapped)
    scales = plan.scales if getattr(state.draw, "rescale", False) else {}

    def take(name: str, tensor: Tensor) -> Tensor:
        value = tensor.detach()
        if name in plan.cut_tensors:
            value = cutting.cut(value, plan.layouts[name], widths, scales.get(name))
        return like(tensor, value)

    return plain_copy(wrapped, plan, take, widths)


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """A tensor of its own with these values: a parameter where `tensor` is one."""
    value = value.detach()
    if value.layout is not torch.strided:
        value = value.clone()
    else:
        changed = value.shape != tensor.shape
        value = value.clone(memory_format=_format(tensor) if changed else torch.preserve_format)
    return nn.Parameter(value, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def _format(tensor: Tensor) -> torch.memory_format:
    """The memory format that a tensor has."""
    kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
    kind = kinds.get(tensor.dim())
    if kind is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=kind):
        return torch.contiguous_format
    return kind


def plain_copy(wrapped: M, plan: Plan, take: Callable[[str, Tensor], Tensor], widths: dict[str, int]) -> M:
    """A plain model with the tensors that `take` gives, the attributes of `widths`, and its record."""
    plain = plain_at(wrapped, plan, take, widths)
    record = record_of(vars(plain.model).get(RECORD), plan, widths)
    vars(plain.model)[RECORD] = record | {"rewritten": plain.rewritten, "replaced": plain.replaced}
    return plain.model


def unlearned_copy(wrapped: M) -> M:
    """A plain model at full width over the same parameters, with tensors of its own in place of all others."""

    def take(_: str, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, nn.Parameter) else like(tensor, tensor)

    plan = plan_of(wrapped)
    return plain_copy(wrapped, plan, take, plan.full()).eval()
