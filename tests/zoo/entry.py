"""One model of the zoo: where it comes from, how to build it, what to feed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from surgery.modules.inputs import Inputs

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Built:
    """A model with random weights, and its inputs for a seed, in the default float type."""

    model: nn.Module
    inputs: Callable[[int], Inputs]


@dataclass(frozen=True)
class Entry:
    """A model that can be built. Listing entries builds nothing.

    Attributes:
        suite: the library that the model comes from.
        name: the library's name of it, with the variant behind a colon where there are several.
        build: makes the model and its inputs.
        data_decides: how much work there is depends on data, so that multiply-adds cannot be predicted.
    """

    suite: str
    name: str
    build: Callable[[], Built]
    data_decides: bool = False

    @property
    def key(self) -> str:
        return f"{self.suite}/{self.name}"


def listed(file: str) -> list[str]:
    """The names in one of the lists beside this file; lines that start with # are comments."""
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`model` with its floats of this type, and its complex numbers made of such. In place."""
    types = {False: dtype, True: dtype.to_complex()}
    kinds = (Tensor.is_floating_point, Tensor.is_complex)
    return model._apply(lambda t: t.to(types[t.is_complex()]) if any(kind(t) for kind in kinds) else t)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    """Normal floats in the default float type; the values do not depend on it, but for rounding."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(torch.get_default_dtype())


def image(seed: int, *shape: int) -> Tensor:
    """Floats between 0 and 1."""
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64).to(torch.get_default_dtype())


def integers(seed: int, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=generator(seed))
