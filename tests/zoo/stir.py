"""Random weights under which nothing cancels.

Libraries start norms at 1, biases at 0, the last norm of a residual branch at 0 and layer scales at 1e-6. With such
weights a wrong plan may change no output: a proof on them would show nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SPREAD = 0.1


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model`, with noise on every parameter that is constant, and running statistics drawn anew. In place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.is_floating_point()
                and parameter.numel() > 1
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                parameter.add_(SPREAD * _randn(parameter, generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(SPREAD * _randn(buffer, generator))
            elif name.endswith("running_var"):
                buffer.mul_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64).to(buffer) + 0.5)
    return model


def _randn(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
