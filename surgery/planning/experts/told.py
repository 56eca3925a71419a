"""Numbers of experts that only a configuration ties to them: a loss over all routers divides by one, at the root."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import nn

from surgery.axes.algebra import Axis, Dims, extent, resolve
from surgery.axes.formulas import Agreed, Origin, SizeOf
from surgery.configs.fields import Config, fields
from surgery.configs.fitting import Fit
from surgery.configs.kept import config_of
from surgery.modules.plain_data import at, replaced
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
    formulas: dict[Key, Origin] = {}
    for size in {axis.size for axis in analysis.experts}:
        axes = [axis for axis in analysis.experts if axis.size == size]
        for path, value in fields(config):
            built = _built(model, config, path, size - 1) if value == size else None
            if built is not None and _has_fewer(analysis, axes, dict(built.named_parameters())):
                options = tuple(SizeOf((axis,)) for axis in axes)
                origin = options[0] if len(options) == 1 else Agreed(options, size)
                formulas.update(dict.fromkeys(_follow(analysis.modules, dict(built.named_modules()), size), origin))
    return formulas


def _built(model: nn.Module, config: Config, path: tuple[Hashable, ...], value: int) -> nn.Module | None:
    try:
        with torch.device("meta"):
            return Fit(model, (), config).make(replaced(config, path, value))
    except Exception:  # classes of configurations check themselves wherever they are touched
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


def _follow(whole: Mapping[str, nn.Module], built: Mapping[str, nn.Module], size: int) -> list[Key]:
    """The integers of modules that are the number of experts in both."""
    found: list[Key] = []
    for path, module in whole.items():
        other = built.get(path)
        for name, value in vars(module).items() if other is not None else ():
            for steps, number in fields(value) if not name.startswith("_") and name in vars(other) else ():
                if number == size and _at(vars(other)[name], steps) == size - 1:
                    found.append((path, (name, *steps)))
    return found


def _at(value: object, steps: tuple[Hashable, ...]) -> object:
    try:
        return at(value, steps)
    except (LookupError, TypeError):
        return None
