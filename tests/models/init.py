"""Random weights under which every path of a model matters."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

Draw = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
INPUT_FIRST = {"Conv1D", "StackedExperts"}  # hand-written layers whose weight is (..., in, out)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model`, with every parameter and running statistic drawn anew in place. Other buffers are left alone."""
    generator, seen = torch.Generator().manual_seed(seed), set()
    with torch.no_grad():
        for module in model.modules():
            for name, tensor in _own_tensors(module):
                draw = _draw_for(module, name, tensor)
                if id(tensor) not in seen:  # tied parameters are drawn once
                    tensor.copy_(draw(module, tensor, generator))
                    seen.add(id(tensor))
    return model


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    buffers = [(n, b) for n, b in module.named_buffers(recurse=False) if n in ("running_mean", "running_var")]
    return [*module.named_parameters(recurse=False), *buffers]


def _randn(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)


def _uniform(low: float, high: float) -> Draw:
    return lambda m, t, g: low + (high - low) * torch.rand(t.shape, generator=g, dtype=torch.float64)


def _normal(std: float) -> Draw:
    return lambda m, t, g: std * _randn(t, g)


def _fan_in(module: nn.Module, weight: Tensor, generator: torch.Generator) -> Tensor:
    """He et al. 2015, with the strides of transposed convolutions counted."""
    if isinstance(module, _ConvTransposeNd):
        fan = weight[:, 0].numel() / module.groups / math.prod(module.stride)
    elif type(module).__name__ in INPUT_FIRST:
        fan = weight.shape[-2]
    else:
        fan = weight[0].numel()
    return _randn(weight, generator) * math.sqrt(2 / max(fan, 1))


def _embedding(module: nn.Embedding, weight: Tensor, generator: torch.Generator) -> Tensor:
    drawn = 0.5 * _randn(weight, generator)
    if module.padding_idx is not None:
        drawn[module.padding_idx] = 0
    return drawn


# The first row that applies: (module, name, tensor) -> bool, and how to draw.
_RULES: tuple[tuple[Callable[[nn.Module, str, Tensor], bool], Draw], ...] = (
    (lambda m, n, t: n == "running_var", _uniform(0.5, 1.5)),
    (lambda m, n, t: n == "running_mean", _normal(0.2)),
    (lambda m, n, t: isinstance(m, nn.Embedding), _embedding),
    (lambda m, n, t: isinstance(m, nn.PReLU), _uniform(0.1, 0.5)),
    (lambda m, n, t: "Norm" in type(m).__name__ and n == "weight", _uniform(0.5, 1.5)),
    (lambda m, n, t: "bias" in n and t.dim() == 1, _normal(0.2)),
    (lambda m, n, t: "weight" in n and t.dim() > 1, _fan_in),
    (lambda m, n, t: t.dim() == 1, _normal(1.0)),
    (lambda m, n, t: True, _normal(0.5)),
)


def _draw_for(module: nn.Module, name: str, tensor: Tensor) -> Draw:
    return next(draw for applies, draw in _RULES if applies(module, name, tensor))
