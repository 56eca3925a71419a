"""Places in memory, as `as_strided` names them, say which features are meant only where nothing else could be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery


class Strided(nn.Module):
    """It takes the first token of each row, by places in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        h = self.a(x)
        return self.b(h.as_strided((b, h.shape[2]), (n * 8, 1)))


@pytest.mark.parametrize(("batch", "groups"), [(1, set()), (2, {"a.o"})])
def test_a_stride_of_a_single_unit_says_nothing(batch: int, groups: set[str]) -> None:
    model = Strided().double().eval()
    plan = surgery.inspect(model, torch.randn(batch, 5, 6, dtype=torch.double))
    assert set(plan.groups) == groups
    x = torch.randn(3, 5, 6, dtype=torch.double)
    if groups:
        small = surgery.shrink(model, {"a.o": 5}, x[:2])
        by_hand = F.linear(F.linear(x[:, 0], model.a.weight[:5], model.a.bias[:5]), model.b.weight[:, :5], model.b.bias)
        assert torch.allclose(small(x), by_hand)


class StridedParameter(nn.Module):
    """A parameter that lies transposed in memory, named by places after a call."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 24), nn.Linear(24, 3)
        self.p = nn.Parameter(torch.randn(6, 24).t() if turned else torch.randn(24, 6))

    def forward(self, x: Tensor) -> Tensor:
        h, p = self.a(x), self.p * 1.0
        c = h.shape[-1]
        return self.b(h + p.as_strided((c, 6), p.stride()).sum(1))


@pytest.mark.parametrize("turned", [True, False])
def test_places_in_memory_are_trusted_where_parameters_lie_in_order(turned: bool) -> None:
    plan = surgery.inspect(StridedParameter(turned), torch.randn(2, 6))
    assert bool(plan.groups) is not turned
