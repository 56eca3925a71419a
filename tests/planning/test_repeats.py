"""A training run that makes the calls of the eval run tells nothing new; one that differs anywhere is analysed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.capture import runs as recording
from surgery.capture.runs import record_runs
from surgery.modules.tensors import parts_of
from surgery.planning import make as planning
from surgery.planning.make import analyse
from surgery.planning.repeats import repeats
from tests.models import CASES
from tests.models.case import Case

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
Change = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two layers with something between that may read the mode."""

    def __init__(self, between: Change):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(6, 8), nn.Linear(8, 4), between
        self.heads, self.width, self.rate = 2, 2, 0.1

    def forward(self, x: Tensor) -> Tensor:
        assert self.training in (True, False)  # this code reads the mode
        return self.b(self.between(self, self.a(x)))


def turned(net: Net, h: Tensor) -> Tensor:
    return h.view(-1, 2, 4).transpose(1, 2).flatten(1) if net.training else h.view(-1, 2, 4).flatten(1)


def elsewhere(net: Net, h: Tensor) -> Tensor:
    if net.training:
        return h.view(-1, 2, 4).flatten(1)
    return h.view(-1, 2, 4).flatten(1)


def moved(net: Net, h: Tensor) -> Tensor:
    if net.training:
        return h.relu()
    return h.relu()


ALIKE: dict[str, Change] = {
    "nothing": lambda net, h: h,
    "dropout": lambda net, h: F.dropout(h, net.rate, net.training),
    "rate": lambda net, h: F.dropout(h, net.rate if net.training else 0.0),
    "without sizes, elsewhere": moved,
    "decisions": lambda net, h: h + 0.0 if not net.training or net.heads == 2 else h,
}
OTHER: dict[str, Change] = {
    "another call": lambda net, h: h.flip(1) if net.training else h,
    "another function": lambda net, h: h.cumsum(1) if net.training else h.relu(),
    "another value": lambda net, h: torch.maximum(h, h if net.training else h.abs()) * h.abs(),
    "another order": turned,
    "a size elsewhere": elsewhere,
    "another attribute": lambda net, h: h.view(-1, net.heads if net.training else net.width, 4).flatten(1),
    "another flag that matters": lambda net, h: h - h.sum(1, keepdim=True) * h.mean(1, keepdim=net.training).mean(),
}


def compared(between: Change) -> bool:
    parts = parts_of(Net(between).eval())
    (first, second), _ = record_runs(parts, X)
    return repeats(analyse(parts, [first]), first, second)


@pytest.mark.parametrize("name", ALIKE)
def test_the_same_calls_are_not_analysed_again(name: str) -> None:
    assert compared(ALIKE[name])


@pytest.mark.parametrize("name", OTHER)
def test_what_differs_is_analysed(name: str) -> None:
    assert not compared(OTHER[name])


def test_what_only_training_does_pins() -> None:
    assert not surgery.inspect(Net(OTHER["another call"]), X).groups
    assert surgery.inspect(Net(ALIKE["dropout"]), X).groups


@pytest.mark.parametrize("between", [*ALIKE.values(), *OTHER.values()], ids=[*ALIKE, *OTHER])
def test_plans_are_those_of_full_analyses(between: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net(between)
    quick = surgery.inspect(model, X)
    monkeypatch.setattr(planning, "repeats", lambda *_: False)
    assert str(surgery.inspect(model, X)) == str(quick)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_repeated_run_leaves_the_plan_as_it_is(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = case.build(), case.inputs(0)
    plans = []
    for training in (True, False):
        monkeypatch.setattr(recording, "_reads_mode", lambda _, training=training: training)
        plans.append(surgery.inspect(model, inputs))
    assert str(plans[0]) == str(plans[1])
    assert plans[0].fingerprint == plans[1].fingerprint
