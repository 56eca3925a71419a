"""What an earlier run has left is forgotten where a model fills it again, so that the code is seen."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.modules.caches import without_caches
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import parts_of


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

    def scale(self, n: int, like: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y * self.scale(y.shape[1], y))


class Table(Base):
    def __init__(self) -> None:
        super().__init__()
        self.table: dict[int, Tensor] = OrderedDict()

    def scale(self, n: int, like: Tensor) -> Tensor:
        if n not in self.table:
            self.table[n] = torch.ones(n, 12, dtype=like.dtype)
        return self.table[n]


class Lazy(Base):
    """One tensor that grows with the longest input."""

    def __init__(self) -> None:
        super().__init__()
        self.pe: Tensor | None = None

    def scale(self, n: int, like: Tensor) -> Tensor:
        if self.pe is None or self.pe.size(0) < n or self.pe.dtype != like.dtype:
            self.pe = torch.ones(n, 12, dtype=like.dtype)
        return self.pe[:n]


class Unset(Base):
    """An attribute that is not there before the first run, and a private one beside it."""

    def scale(self, n: int, like: Tensor) -> Tensor:
        if not hasattr(self, "_mask") or self._mask.shape[0] != n:
            self._mask: Tensor = torch.ones(n, 12, dtype=like.dtype)
        return self._mask


class Sizes(Base):
    """A table of plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[int, tuple[int, int]] = {}

    def scale(self, n: int, like: Tensor) -> Tensor:
        if n not in self.shapes:
            self.shapes[n] = (n, like.shape[-1])
        return torch.ones(*self.shapes[n], dtype=like.dtype)


@pytest.mark.parametrize("cls", [Table, Lazy, Unset, Sizes])
def test_a_model_that_has_run_is_analysed_as_if_it_had_not(cls: type[Base]) -> None:
    torch.manual_seed(0)
    model, x, longer = cls().double(), torch.randn(2, 6, 5).double(), torch.randn(2, 9, 5).double()
    fresh = surgery.inspect(model, x)
    with torch.no_grad():
        before = model(x)
    kept = {name: value for name, value in vars(model).items() if not name.startswith("_m")}
    plan = surgery.inspect(model, x)
    assert plan.groups.keys() == fresh.groups.keys() and plan.elastic_share == fresh.elastic_share
    wrapped = surgery.wrap(model, x).eval()
    small = surgery.shrink(wrapped, 0.5)
    for given in (x, longer, x):
        surgery.set_widths(wrapped, 0.5)
        assert torch.allclose(small(given), wrapped(given))
        surgery.set_widths(wrapped, 1.0)
        assert torch.allclose(wrapped(given), model(given))
    assert torch.equal(model(x), before)
    assert all(vars(model)[name] is value for name, value in kept.items() if name != "pe")


class Static(Base):
    """What its constructor makes, and a forward that counts its calls: neither is a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {6: torch.ones(6, 1)}
        self.calls: list[int] = []
        self.mean = torch.ones(1)

    def scale(self, n: int, like: Tensor) -> Tensor:
        self.calls.append(n)
        self.table[6] = self.table[6] + 0
        self.mean = 0.5 * self.mean + 0.5
        return self.table[n] * self.mean


def test_what_a_model_needs_is_no_cache() -> None:
    model, x = Static(), torch.randn(2, 6, 5)
    model(x)
    parts, caches = without_caches(parts_of(model), Inputs((x,)))
    assert [name for _, name, _ in caches] == ["calls"]  # it comes to the same without
    assert parts.model is not model and model.calls == [6] and len(model.table) == 1


def test_models_without_any_are_not_run() -> None:
    parts = parts_of(nn.Linear(2, 2))
    assert without_caches(parts, Inputs(())) == (parts, ())
