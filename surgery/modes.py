"""Running a model in eval mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from surgery.tree import named_modules


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside; afterwards each one is in the mode that it was in before.

    `train()` is called on the way back as well, since a module may do more there than to set a flag.
    """
    before = {module: module.training for _, module in named_modules(model)}
    model.eval()
    try:
        yield
    finally:
        model.train(before[model])
        for module, training in before.items():
            module.training = training
