"""Numbers of experts that only a configuration ties to them: a loss over all routers divides by one, at the root."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from surgery.axes.algebra import Axis, Dims, extent, resolve
from surgery.axes.formulas import Agreed, Origin, SizeOf, Steps
from surgery.configs.fields import fields
from surgery.configs.fitting import Fit, Unfit
from surgery.configs.followed import Pair
from surgery.configs.kept import config_of
from surgery.modules.plain_data import replaced
from surgery.planning.analysis import Analysis
from surgery.planning.solving.expressions import Key


def told(analysis: Analysis) -> dict[Key, Origin]:
    """What integers of modules follow experts, as the model's class has it: it is built with one expert less.

    One that stands for several axes follows while these are alike.
    """
    model = analysis.model
    config = config_of(model, ()) if analysis.experts else None
    if config is None:
        return {}
    fit, formulas = Fit(model, (), config), dict[Key, Origin]()
    for size in {axis.size for axis in analysis.experts}:
        axes = [axis for axis in analysis.experts if axis.size == size]
        for path, value in fields(config):
            built = _built(fit, path, size - 1) if value == size else None
            if built is not None and _has_fewer(analysis, axes, dict(built.named_parameters())):
                options = tuple(SizeOf((axis,)) for axis in axes)
                origin = options[0] if len(options) == 1 else Agreed(options, size)
                pair = Pair(analysis.modules, dict(built.named_modules()))
                formulas.update(dict.fromkeys(pair.numbers(size), origin))
    return formulas


def _built(fit: Fit, path: Steps, value: int) -> nn.Module | None:
    try:
        return fit.hollow(replaced(fit.config, path, value))
    except Unfit:
        return None


def _has_fewer(analysis: Analysis, axes: list[Axis], built: Mapping[str, torch.Tensor]) -> bool:
    """Whether a model has one unit less along these axes, and is the same in all else."""
    for name in analysis.parameters:
        dims = analysis.tensors.get(name)
        if name not in built or (dims is not None and not _fewer(dims, axes, built[name].shape)):
            return False
        if dims is None and tuple(built[name].shape) != analysis.shapes[name]:
            return False
    return True


def _fewer(dims: Dims, axes: list[Axis], shape: torch.Size) -> bool:
    sizes = [extent(dim) - (len(known := resolve(dim)) == 1 and known[0] in axes) for dim in dims]
    return sizes == list(shape)
