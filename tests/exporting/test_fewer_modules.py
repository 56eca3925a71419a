"""Small models with fewer modules, as source: lists are shorter, and stand-ins are plain code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.plan.groups import DEPTH, Listed
from surgery.planning.listed import lists
from surgery.planning.listed.found import Found
from surgery.twin.orders import set_depth_order
from tests.exporting.written import packages

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, scale: float, x: Tensor) -> Tensor:
        return x + scale * self.inner(x).tanh()


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
        for i, block in enumerate(self.blocks):
            x = block(1.0 + i, x)
        return self.steps(x)


def named(place: int | str) -> list[Found]:
    units = (("a",), ("b",), ("c",))
    return [Found("depth", DEPTH, 3, (Listed("", units, renumbered=False, passing=place),))]


def looped() -> list[Found]:
    sizes = {"blocks": 4, "steps": 3}
    return [
        Found(f"{path}.depth", DEPTH, size, (Listed(path, tuple((str(i),) for i in range(size))),))
        for path, size in sizes.items()
    ]


CASES: dict[str, tuple[type[nn.Module], list[Found], dict[str, list[int]], dict[str, Any]]] = {
    "a position": (Named, named(1), {"depth": [2, 0, 1]}, {"depth": 2}),
    "a keyword": (ByKeyword, named("x"), {"depth": [1, 0, 2]}, {"depth": 1}),
    "lists": (Looped, looped(), {"blocks.depth": [3, 1, 0, 2]}, {"blocks.depth": 2, "steps.depth": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_models_with_fewer_modules_are_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, known, orders, widths = CASES[name]
    monkeypatch.setattr(lists, "find", lambda *_: (known, []))
    torch.manual_seed(0)
    wrapped = surgery.wrap(cls().eval(), X, depth=True)
    set_depth_order(wrapped, orders)
    small = surgery.shrink(wrapped, widths)
    text = surgery.export_source(small, tmp_path, X).read_text()  # proven in a process without the library
    assert "surgery" not in packages(text) and "surgery" not in text
    made = text.partition("def _build")[2]
    assert made.count("Linear(4, 4)") == sum(isinstance(module, nn.Linear) for module in small.modules())
    assert ("class Passing(nn.Module):" in text) is (name != "lists")
