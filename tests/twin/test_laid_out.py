"""Modules whose class has its attributes from below a base without any: Python changes the class of few of them."""

from __future__ import annotations

import copy
import pickle
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws import laws

T = TypeVar("T")
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.gain = nn.Linear(4, 8), nn.Linear(8, 3), nn.Parameter(torch.randn(8))
        self.width = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.down((self.up(x).relu() * self.gain).view(-1, self.width))


class Slotted:
    __slots__ = ()


class Abstract(ABC, nn.Module):
    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


class OfAbstract(Abstract, Layers):
    forward = Layers.forward


class First(ABC, Layers):
    pass


class Parametric(Generic[T], Layers):
    pass


class OfParametric(Parametric[int]):
    pass


class OfSlots(Slotted, Layers):
    pass


class Both(Slotted, Generic[T], Layers):
    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)


CLASSES = (OfAbstract, First, Parametric, OfParametric, OfSlots, Both)


@pytest.mark.parametrize("cls", CLASSES)
def test_modules_behind_bases_without_attributes(cls: type[nn.Module]) -> None:
    model = cls().double().eval()
    plan = surgery.inspect(model, X)
    assert len(plan.groups) == 1
    wrapped = surgery.wrap(model, X)
    assert isinstance(wrapped, cls) and type(wrapped).__name__ == cls.__name__
    laws.full_width_is_the_model(model, wrapped, (X,))
    small = laws.shrunk_is_wrapped(wrapped, plan.widths(0.5), X)
    assert type(small) is cls and small.width == 4
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        with surgery.at_widths(other, 0.5):
            assert torch.equal(other(X), small(X)) and other.gain.shape == (4,)
    other.gain = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    assert not other(X).sub(model.down.bias).any()
    assert type(surgery.unwrap(wrapped)) is cls
