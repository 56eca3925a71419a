"""BatchNorm statistics for the widths that a model has now.

Training at many widths mixes their statistics; estimating them anew is nearly free, and without it the scores of
narrow models are wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.errors import InputError
from surgery.modules.inputs import Batches, Examples, Inputs, runs
from surgery.modules.modes import evaluating
from surgery.modules.tree import named_modules


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Examples]) -> None:
    """Estimate the running statistics of every BatchNorm anew: the mean over `batches`, at the present widths.

    Everything but BatchNorm runs in eval mode, so a wrapped model draws no widths. Each batch is what one call of the
    model takes, without labels; 5 to 15 are enough.
    A model without BatchNorm stays as it is, and is not run.

    Raises:
        InputError: there is a BatchNorm but not one batch; nothing has changed.
    """
    layers = statistics_layers(model)
    if not layers:
        return
    calls = (run for batch in several(batches) for run in runs(batch))
    first = next(calls, None)
    if first is None:
        raise InputError(NONE)
    with evaluating(model), _fresh_means(layers):
        for run in chain([first], calls):
            model(*run.args, **run.kwargs)


def statistics_layers(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms of a model that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.num_batches_tracked is not None]


def several(batches: Iterable[Examples], name: str = "recalibrate") -> Iterable[Examples]:
    """The batches, one by one. Raises InputError where one batch was given instead of a list of them."""
    if isinstance(batches, Batches):
        return batches.runs
    if isinstance(batches, torch.Tensor | Mapping | Inputs | str) or not hasattr(batches, "__iter__"):
        dataset = hasattr(batches, "__getitem__") and not isinstance(batches, torch.Tensor | Mapping | str)
        advice = "give a DataLoader over it" if dataset else "put it into a list"
        raise InputError(f"{name} takes several batches, got one {type(batches).__name__}: {advice}")
    return batches


def calibration(batches: Iterable[Examples]) -> list[Examples]:
    """Batches to estimate statistics on more than once. Raises InputError where there are none."""
    found = list(several(batches))
    if not found:
        raise InputError(NONE)
    return found


NONE = "recalibrate was given no batches: pass a few batches of training inputs, without labels"


@contextlib.contextmanager
def _fresh_means(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """The layers take a plain mean over the batches inside; the first batch replaces the old statistics."""
    momenta = {layer: layer.momentum for layer in layers}
    counts = {layer: layer.num_batches_tracked for layer in layers if layer.num_batches_tracked is not None}
    before = {layer: count.clone() for layer, count in counts.items()}
    for layer in layers:
        layer.train()
        layer.momentum = None
        if layer in counts:
            counts[layer].zero_()
    try:
        yield
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
            if layer in before and not layer.num_batches_tracked:  # it is left out at these widths
                counts[layer].copy_(before[layer])


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """BatchNorm in training mode takes the statistics of the batch inside, and leaves its running ones alone."""
    layers = [m for _, m in named_modules(model) if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
