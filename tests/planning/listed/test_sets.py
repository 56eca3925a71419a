"""Modules side by side: they may be left out where no order among them matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from surgery.plan.groups import EXPERTS
from tests.planning.listed.search import searched

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
D, N = 6, 4
Join = Callable[["Branches", list[Tensor]], Tensor]


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(D, 5), nn.Linear(5, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


class Branches(nn.Module):
    def __init__(self, join: Join):
        super().__init__()
        self.branches, self.join, self.count = nn.ModuleList(Branch() for _ in range(N)), join, N
        self.head, self.weights = nn.Linear(D, 2), nn.Parameter(torch.randn(N))
        self.wide = nn.Linear(D * N, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = [branch(x) for branch in self.branches]
        return self.average(made) if self.join is average else self.join(self, made)

    def average(self, made: list[Tensor]) -> Tensor:
        return self.head(sum(made) / self.count)


def folded(net: Branches, made: list[Tensor]) -> Tensor:
    total = made[0]
    for one in made[1:]:
        total = total + one
    return net.head(total)


def in_place(net: Branches, made: list[Tensor]) -> Tensor:
    total = torch.zeros(len(X), D)
    for one in made:
        total += one
    return net.head(total)


def average(net: Branches, made: list[Tensor]) -> Tensor:
    return net.average(made)


SETS: dict[str, Join] = {
    "sum": lambda net, made: net.head(sum(made)),
    "folded": folded,
    "in place": in_place,
    "stacked": lambda net, made: net.head(torch.stack(made).mean(0)),
    "average": lambda net, made: net.head(sum(made) / len(made)),
    "largest": lambda net, made: torch.stack(made, 1).amax(1),
    "counted": average,
}
OTHERS: dict[str, Join] = {
    "channels": lambda net, made: net.wide(torch.cat(made, -1)),
    "weighted": lambda net, made: net.head(sum(w * one for w, one in zip(net.weights, made, strict=False))),
    "first twice": lambda net, made: net.head(sum(made) + made[0]),
    "returned": lambda net, made: torch.stack(made),
    "ordered": lambda net, made: net.head(torch.stack(made).cumsum(0)[-1] * made[0]),
}


@pytest.mark.parametrize("join", SETS.values(), ids=list(SETS))
def test_branches_that_are_joined_in_any_order_are_a_set(join):
    found, notes = searched(Branches(join), X)
    assert not notes
    one = found["branches.experts"]
    assert one.kind == EXPERTS and one.size == N and not one.required and one.runs
    assert one.counts or join is not average


@pytest.mark.parametrize("join", OTHERS.values(), ids=list(OTHERS))
def test_branches_with_a_place_of_their_own_are_none(join):
    found, notes = searched(Branches(join), X)
    assert not found and len(notes) == 1 and "branches" in notes[0]


def test_branches_of_other_shapes_are_none():
    net = Branches(SETS["sum"])
    net.branches[1].up, net.branches[1].down = nn.Linear(D, 7), nn.Linear(7, D)
    found, notes = searched(net, X)
    assert not found and "of one class with tensors of the same shapes" in notes[0]


def test_equal_weights_are_told_apart():
    """In any order they come to the same as long as they hold the same: noise on them shows the order."""
    net = Branches(OTHERS["first twice"])
    for branch in net.branches[1:]:
        branch.load_state_dict(net.branches[0].state_dict())
    assert not searched(net, X)[0]


class Dilated(nn.Module):
    """Branches with weights of one shape, that reach differently far."""

    def __init__(self, *dilations: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(D, D, 3, padding=d, dilation=d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        wide = x[..., None].expand(-1, -1, 9).cumsum(2)
        return sum(branch(wide) for branch in self.branches)


def test_units_that_differ_in_more_than_their_weights_are_no_set():
    assert set(searched(Dilated(1, 1, 1), X)[0]) == {"branches.experts"}
    found, notes = searched(Dilated(1, 2, 3), X)
    assert not found and "in another order" in notes[0]
