"""Buffers, and containers that modules share: what a forward of the twin writes is there afterwards, and only once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.small_models import Net, X


def test_running_statistics_follow_the_slice(model: Net) -> None:
    wrapped = surgery.wrap(model, X, draw=lambda plan, generator: {"fc1.o": 5})
    before, x = model.norm.running_mean.clone(), X * 2 + 1
    with torch.no_grad():
        wrapped.train()(x)
        expected = 0.9 * before[:5] + 0.1 * F.linear(x, model.fc1.weight, model.fc1.bias)[:, :5].mean(0)
    assert torch.allclose(model.norm.running_mean[:5], expected)
    assert torch.equal(model.norm.running_mean[5:], before[5:]) and not torch.equal(
        model.norm.running_mean[:5], before[:5]
    )
    assert model.norm.num_batches_tracked == 1


class Flattened(nn.Module):
    """The norm sees channel-major positions: the features of 3 of 4 channels are no prefix in `(p c)`."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv1d(2, 4, 1), nn.BatchNorm1d(20), nn.Linear(20, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).transpose(1, 2).flatten(1)))


@pytest.mark.parametrize("steps", [1, 3])
def test_gathered_running_statistics_are_written_back(steps: int) -> None:
    model, x = Flattened(), torch.randn(6, 2, 5)
    wrapped = surgery.wrap(model, x, draw=lambda plan, generator: {"conv.o": 3})
    assert surgery.widths(wrapped) == {"conv.o": 4}
    small = surgery.shrink(wrapped, {"conv.o": 3}).train()
    wrapped.train()
    for i in range(steps):
        wrapped(x + i), small(x + i)
    for name in ("running_mean", "running_var"):
        full, kept = getattr(model.norm, name).view(5, 4), getattr(small.norm, name).view(5, 3)
        assert torch.allclose(full[:, :3], kept) and not kept.eq(full[0, 3]).any()
        assert torch.equal(full[:, 3], torch.full((5,), float(name == "running_var")))
    assert model.norm.num_batches_tracked == steps


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.last = nn.Linear(6, 16), nn.Linear(16, 3), None

    def forward(self, x):
        y = self.fc1(x)
        if self.last is not None:
            y = y + self.last
        self.last = torch.zeros_like(y)
        return self.fc2(y)


def test_stored_tensors_do_not_survive_a_change_of_width() -> None:
    model = Caching()
    wrapped = surgery.wrap(model, X).eval()
    for width in (16, 5, 9):
        surgery.set_widths(wrapped, {"fc1.o": width})
        assert wrapped(X).shape == (5, 3)
        assert surgery.shrink(wrapped, {"fc1.o": width}).last is None
    assert model.last is None


class Shared(nn.Module):
    """Its parts pass something on in a container that both hold."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__()
        self.first, self.second = Writes(table), Reads(table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Writes(nn.Module):
    def __init__(self, table: dict[str, torch.Tensor]):
        super().__init__()
        self.layer, self.table = nn.Linear(8, 6), table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.table["skip"] = y = self.layer(x)
        return y.relu()


class Reads(nn.Module):
    def __init__(self, table: dict[str, torch.Tensor]):
        super().__init__()
        self.layer, self.table = nn.Linear(6, 3), table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.table["skip"])


@pytest.mark.parametrize("table", [{}, {"size": 3}], ids=["empty", "with an integer"])
def test_a_container_that_modules_share_stays_shared(table: dict[str, Any]) -> None:
    model, x = Shared(table), torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    assert small.first.layer.out_features == 3 and small.first.table is small.second.table
    with surgery.at_widths(wrapped, 0.5):
        torch.testing.assert_close(small(x), wrapped(x))


class Scale(nn.Module):
    """Writes a buffer, by its name or in the table of buffers, or reads it."""

    def __init__(self, direct: bool):
        super().__init__()
        self.register_buffer("scale", torch.zeros(1))
        self.direct, self.table = direct, self._buffers

    def forward(self, x: torch.Tensor, write: bool) -> torch.Tensor:
        if not write:
            return x * self.scale
        scale = x.mean().detach().reshape(1)
        if self.direct:
            self.scale = scale
        else:
            self.table["scale"] = scale
        return x


class Tables(nn.Module):
    """Two modules of which one is a shallow copy of the other: they share their tables."""

    def __init__(self, direct: bool):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.one = Scale(direct)
        self.two = copy.copy(self.one)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.two(self.one(self.a(x), True), False))


@pytest.mark.parametrize("direct", [True, False])
def test_a_table_that_is_held_twice_is_one_table(direct: bool) -> None:
    model, x = Tables(direct), torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    assert small.a.out_features == 3 and small.one.table is small.one._buffers is small.two._buffers
    torch.testing.assert_close(wrapped.eval()(x), expected)


class Averages(nn.Module):
    """Keeps a running mean in two ways: it puts a new value into `data`, and it assigns."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("mean", torch.zeros(6))

    def start(self) -> None:
        self.mean = torch.zeros(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.data = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return self.out(self.fc(x - self.mean).relu())


@pytest.mark.parametrize("widths", [1.0, 0.5])
def test_what_is_put_into_the_data_of_a_buffer_is_kept(widths: float) -> None:
    model, alone = Averages().train(), Averages()
    wrapped = surgery.wrap(model, X).train()
    with surgery.at_widths(wrapped, widths):
        for i in range(3):
            wrapped(X + i), alone(X + i)
    assert torch.equal(model.mean, alone.mean) and torch.equal(wrapped.mean, alone.mean) and alone.mean.any()
