"""Small models with fewer modules, as source: lists are shorter, and stand-ins are plain code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.exporting.written import packages

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, scale: float, x: Tensor) -> Tensor:
        return x + scale * self.outer(self.inner(x).tanh())


class Named(nn.Module):
    """Calls its blocks by name, with what goes through them in another place than the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Block(), Block(), Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(0.5, self.b(2.0, self.a(1.0, x)))


class ByKeyword(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(0.5, x=self.b(2.0, x=self.a(1.0, x=x)))


class Looped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.steps = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(2.0, x)
        return self.steps(x)


CASES: dict[str, tuple[type[nn.Module], dict[str, list[int]], dict[str, Any]]] = {
    "a position": (Named, {"depth": [2, 0, 1]}, {"depth": 2}),
    "a keyword": (ByKeyword, {"depth": [1, 0, 2]}, {"depth": 1}),
    "lists": (Looped, {"blocks.depth": [3, 1, 0, 2]}, {"blocks.depth": 2, "steps.depth": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_models_with_fewer_modules_are_written(name: str, tmp_path: Path) -> None:
    cls, orders, widths = CASES[name]
    torch.manual_seed(0)
    wrapped = surgery.wrap(cls().eval(), X, depth=True)
    surgery.set_depth_order(wrapped, orders)
    small = surgery.shrink(wrapped, widths)
    text = surgery.export_source(small, tmp_path, X).read_text()  # proven in a process without the library
    assert "surgery" not in packages(text) and "surgery" not in text
    made = text.partition("def _build")[2]
    assert made.count("Linear(4, 4)") == sum(isinstance(module, nn.Linear) for module in small.modules())
    assert ("class Passing(nn.Module):" in text) is (name != "lists")
