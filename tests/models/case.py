"""One row of the table of models: a name, how to build it and what to feed it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .init import randomise

Input = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Case:
    """A model to test on. `build` and `inputs` give the same answer every time they are called."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple]

    def __str__(self) -> str:
        return self.name


def case(
    name: str, make: Callable[..., nn.Module], *inputs: Input, damped: tuple[str, ...] = (), **options: Any
) -> Case:
    """A case of `make(**options)` with random weights, a tenth as large in `damped`, fed with `inputs` in order."""

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = randomise(make(**options), seed=sum(map(ord, name)))
        for path in damped:
            model.get_submodule(path).weight.data.mul_(0.1)
        return model

    def feed(seed: int) -> tuple:
        generator = torch.Generator().manual_seed(seed)
        return tuple(draw(generator) for draw in inputs)

    return Case(name, build, feed)


def normal(*shape: int) -> Input:
    """Normal floats in the default dtype; the values do not depend on that dtype, but for rounding."""
    return lambda g: torch.randn(shape, generator=g, dtype=torch.float64).to(torch.get_default_dtype())


def tokens(vocabulary: int, *shape: int) -> Input:
    """Integers from 0 to `vocabulary - 1`."""
    return lambda g: torch.randint(vocabulary, shape, generator=g)
