"""Tensors that no recorded call makes: constants are told from what hidden code computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import order_is_free

TABLE = torch.tensor([0.5, 2.0])
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).double()

CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "old constructor": lambda y: y * torch.FloatTensor([0.5]).to(y),
    "data of another dtype": lambda y: y + torch.LongTensor([2]),
    "array": lambda y: y * torch.from_numpy(np.ones(1)),
    "tensor of a file": lambda y: y * TABLE[0] + TABLE.mean(),
    "new with data": lambda y: y + y.new([1.0]),
    "new with a shape": lambda y: y + y.new(y.shape).fill_(1.0),
    "new with sizes": lambda y: y + y.new(y.size(0), y.size(1)).zero_(),
    "old constructor of a mean": lambda y: y * torch.DoubleTensor([y.mean().item()]),
}


class Net(nn.Module):
    def __init__(self, how: Callable[[Tensor], Tensor]):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(5, 16), nn.Linear(16, 3), how

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.how(self.a(x)))


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_leave_features_free(name: str) -> None:
    model = Net(CONSTANTS[name]).double()
    plan = surgery.inspect(model, X)
    assert plan.groups.keys() == {"a.o"}
    order_is_free(model, plan, (X,), torch.Generator().manual_seed(0))
    surgery.shrink(model, 0.25, X)


@torch.jit.script
def flipped(x: Tensor) -> Tensor:
    return x.flip(-1)


PINNED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "as long as the features": (lambda y: y * torch.DoubleTensor([0.1] * 16), "values differ by position"),
    "hidden code": (lambda y: flipped(y), "unknown origin"),
    "hidden code, then a constant": (lambda y: flipped(y) * torch.DoubleTensor([2.0]), "unknown origin"),
    "data of the features": (lambda y: y * torch.DoubleTensor(y.tolist()), "values are read as numbers at tolist"),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_has_places_is_pinned(name: str) -> None:
    how, reason = PINNED[name]
    plan = surgery.inspect(Net(how).double(), X)
    assert not plan.groups and any(reason in item.reason for item in plan.fixed)
