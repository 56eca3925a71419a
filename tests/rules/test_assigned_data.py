"""`x.data = ...`: what a tensor is set to is the whole tensor, also where its slice is meant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import surgery

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Cast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.up = self.up.to(torch.float32)  # as routers do that compute in a precision of their own
        return self.down(torch.relu(self.up(x)))


class Replaced(Cast):
    def forward(self, x: Tensor) -> Tensor:
        self.up.bias.data = torch.zeros_like(self.up.bias)
        return self.down(torch.relu(self.up(x)))


def test_a_cast_of_a_tensor_is_that_tensor() -> None:
    wrapped = surgery.wrap(Cast(), X)
    small = surgery.shrink(wrapped, {"up.o": 3})
    with surgery.at_widths(wrapped, {"up.o": 3}):
        surgery.verify(wrapped, small, X)


def test_other_data_pins() -> None:
    plan = surgery.inspect(Replaced(), X)
    assert not plan.groups
    assert any("other data is assigned" in item.reason for item in plan.fixed)
