"""BatchNorm statistics of a twin: which widths they are of, which forwards are made for them, what estimates them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.errors import InputError
from surgery.modules.batchnorm import calibration, several, statistics_layers
from surgery.modules.batchnorm import recalibrate as estimate
from surgery.modules.inputs import Batches, Examples, Inputs, call, tensors
from surgery.modules.labelled import Batch, as_inputs, callable_with
from surgery.twin.callers import AVERAGED, within, within_function
from surgery.twin.elastic import is_wrapped, state_of
from surgery.twin.setting import examples_of, ready
from surgery.twin.state import State, Widths

Recalibrate: TypeAlias = "Iterable[Batch] | Literal[False] | None"

STALE = (
    "{who}: {model} has BatchNorm, and its statistics are {seen}, so that scores and outputs are worse than they could "
    "be. Give a few batches of training inputs: surgery.wrap(model, x, calibration=batches) for good, or "
    "recalibrate=batches here. recalibrate=False says that the statistics shall stay as they are"
)


def learns_nothing(state: State, module: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether a training forward is made for BatchNorm's statistics alone, so that it should not draw.

    `torch.optim.swa_utils.update_bn` and its like average statistics, with a momentum of None or after a reset. A model
    that runs as an averaged one, or has nothing that is trained, does not learn from it either.
    """
    if state.averaged and within(AVERAGED):
        return True
    if not _updating(state):
        return False
    return _estimating(state) or _is_frozen(module, args, kwargs)


def _updating(state: State) -> list[_BatchNorm]:
    return [layer for layer in state.norms if layer.training and layer.track_running_stats]


def _averaging(state: State) -> bool:
    """Whether layers take the plain mean over batches now, which did not when the model was wrapped."""
    pairs = zip(state.norms, state.momenta, strict=True)
    return any(layer.momentum is None and momentum is not None for layer, momentum in pairs)


def _estimating(state: State) -> bool:
    """Whether statistics are averaged without gradients, or since they were reset after a training.

    A reentrant checkpoint runs its forward without gradients, too, inside of an autograd function: that is training.
    So is a training that takes plain means from the start.
    """
    learning, means = torch.is_grad_enabled() or within_function(), _averaging(state)
    if learning and not means:
        state.reset = False
    elif state.counted and all(not layer.num_batches_tracked for layer in state.norms):
        state.reset = True
    return state.reset or (means and not learning)


def _is_frozen(module: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether gradients would reach nothing: no parameter, and no input (those of a checkpoint may be somebody's)."""
    if any(parameter.requires_grad for parameter in module.parameters()):
        return False
    if not torch.is_grad_enabled():
        return not within_function()
    return not any(tensor.requires_grad for tensor in tensors((args, kwargs)))


def note_statistics(state: State, widths: Widths, drawn: bool) -> None:
    """After a forward of the root: which widths the statistics are of now; of none where they are mixed."""
    if not state.norms or not _updating(state):
        return
    state.counted = True
    if state.estimated != widths:
        alone = not drawn and (_averaging(state) or not torch.is_grad_enabled())
        state.estimated = dict(widths) if alone else None


def stale(wrapped: nn.Module, widths: Widths) -> bool:
    """Whether the statistics of a twin are those of other widths, or of several."""
    state = state_of(wrapped)
    return bool(state.norms) and state.estimated != widths


def warn_stale(who: str, wrapped: nn.Module, stacklevel: int = 3) -> None:
    """Tell that BatchNorm is run with statistics that are not its widths' own."""
    seen = "mixed by training at many widths" if state_of(wrapped).estimated is None else "those of other widths"
    message = STALE.format(who=who, model=type(wrapped).__name__, seen=seen)
    warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)


def batches_for(wrapped: nn.Module, given: Recalibrate) -> list[Examples]:
    """Batches that statistics are estimated on: those that are given, else those that the model was wrapped with.

    No batches where the statistics are to stay. Raises InputError for what are no batches, or none at all.
    """
    if given is False:
        return []
    if given is None:
        return list(calibrated(wrapped)) if state_of(wrapped).norms else []
    return fitting(wrapped, calibration(given))


def fitting(wrapped: nn.Module, batches: Iterable[Batch]) -> list[Examples]:
    """Batches as inputs of a twin; a list, as a DataLoader gives it, may have labels after them."""
    examples = examples_of(wrapped)
    return [as_inputs(batch, examples, wrapped, "recalibrate", sure=False) for batch in batches]


def calibrated(wrapped: nn.Module) -> list[Examples]:
    """The batches that a model was wrapped with, as inputs of the type and on the device that it has now."""
    state = ready(wrapped)
    examples = examples_of(wrapped)
    return [as_inputs(batch, examples, wrapped, "calibration") for batch in state.calibration]


def recalibrate(model: nn.Module, batches: Iterable[Batch] | None = None) -> None:
    """Estimate the running statistics of every BatchNorm anew: the mean over `batches`, at the present widths.

    `sweep`, `search`, `sensitivity`, `progress` and `shrink` do it by themselves if the model was wrapped with
    `calibration=batches`, or if they are given `recalibrate=batches`. Everything but BatchNorm runs in eval mode, so a
    wrapped model draws no widths. A model without BatchNorm stays as it is, and is not run.

    Args:
        model: a wrapped model, or any other one.
        batches: each is what one call of the model takes; 5 to 15 are enough. Labels that a DataLoader gives with them
            are left out, if the model is wrapped. Default: those that the model was wrapped with.

    Raises:
        InputError: there is a BatchNorm but not one batch; nothing has changed.
    """
    if not statistics_layers(model):
        return
    if batches is None:
        found = calibrated(model) if is_wrapped(model) else []
        if not found:
            raise InputError(
                f"recalibrate was given no batches, and {type(model).__name__} has none: pass a few batches of "
                "training inputs, or wrap with calibration=batches"
            )
        estimate(model, found)
    else:
        estimate(model, fitting(model, calibration(batches)) if is_wrapped(model) else _callable(model, batches))


def _callable(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Examples]:
    """Batches for a plain model. Raises InputError for one that it cannot be called with."""
    for batch in several(batches):
        run = batch if isinstance(batch, Batches) else call(batch)
        if isinstance(run, Inputs) and not callable_with(model, run):
            raise InputError(
                f"recalibrate: {type(model).__name__} cannot be called with a batch of {len(run.args)} parts: give "
                "inputs without labels, [(x,) for x, _ in loader]; for a wrapped model they are left out"
            )
        yield run
