"""Orders by what readers lose: greedy removal by hand, and criteria that leave alone what they cannot judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.models import BY_NAME, REPRESENTATIVE
from tests.refitting.test_refit import BATCHES, X, redundant
from tests.small_models import mlp


def loss(inputs: Tensor, targets: Tensor, kept: list[int]) -> float:
    """What is left of targets after a fit to some inputs and a one, with the ridge of the order."""
    x = torch.cat([inputs[:, kept], torch.ones(len(inputs), 1)], 1)
    ridge = 1e-3 * torch.cat([inputs, torch.ones(len(inputs), 1)], 1).square().mean(0).mean()
    gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1])
    moments = x.T @ targets / len(x)
    return float(targets.square().sum() / len(x) - (moments * torch.linalg.solve(gram, moments)).sum())


def test_units_go_one_by_one_as_the_loss_says() -> None:
    model = mlp(6, 8, 3).double()
    inputs = model[1](model[0](X)).detach()
    gram = torch.cat([inputs, torch.ones(len(X), 1)], 1)
    targets = gram @ torch.cat([model[2].weight, model[2].bias[:, None]], 1).T.detach()
    left, gone = list(range(8)), []
    while len(left) > 1:
        losses = {unit: loss(inputs, targets, [u for u in left if u != unit]) for unit in left}
        gone.append(min(losses, key=losses.__getitem__))
        left.remove(gone[-1])
    found = surgery.order(model, X, by=surgery.absorbed(BATCHES))["0.o"]
    # the weight is fitted with the ridge before the first unit goes, which by hand it is not: the ends agree
    assert set(found[4:].tolist()) == set(gone[:4])


@pytest.mark.parametrize("hidden", [16, 192])
def test_twins_of_units_go_first_and_only_one_of_each(hidden: int) -> None:
    """Also where so many go at once that both twins look as if nothing were lost without them."""
    half = hidden // 2
    found = surgery.order(redundant(hidden), X, by=surgery.absorbed(BATCHES))["0.o"]
    kept = [int(unit) % half for unit in found[:half]]
    assert len(set(kept)) > 0.9 * half, "of 6 inputs, some of so many features are nearly made by others"


def test_activation_counts_what_is_said_and_what_is_heard() -> None:
    model = mlp(6, 4, 3).double()
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = model[0].weight[:1], 1.0
        model[0].weight[3] *= 0.01
        model[0].bias[3] *= 0.01  # says little
        model[2].weight[:] = torch.tensor([1.0, 2.0, 0.5, 2.0])
    found = surgery.order(model, X, by=surgery.activation(BATCHES))["0.o"]
    assert found.tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("criterion", ["activation", "absorbed"])
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_sorted_models_compute_the_same(name: str, criterion: str) -> None:
    case = BY_NAME[name]
    torch.manual_seed(0)
    model, x = case.build(), case.inputs(0)
    by = getattr(surgery, criterion)([x, case.inputs(1)])
    examples = surgery.inputs(*x)
    surgery.verify(model, surgery.sort(model, examples, by=by), examples)  # `reorder` has proven it as well


def test_an_order_is_what_reorder_takes() -> None:
    model = mlp(6, 16, 8, 3).double()
    by = surgery.absorbed(BATCHES)
    orders = surgery.order(model, X, by=by)
    a, b = surgery.reorder(model, orders, X), surgery.sort(model, X, by=by)
    assert all(torch.equal(p, q) for p, q in itertools.zip_longest(a.parameters(), b.parameters()))
    assert torch.equal(a[0].weight, model[0].weight[orders["0.o"]])


class Scores(nn.Module):
    """Queries and keys that nothing linear reads, the width of heads in pairs or not."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return (self.q(x) * self.k(x)).sum(-1, keepdim=True) * self.v(x)


@pytest.mark.parametrize("by", [surgery.absorbed, surgery.activation])
def test_a_group_that_nothing_linear_reads_goes_by_what_its_makers_say_together(by: Callable) -> None:
    torch.manual_seed(0)
    model = Scores().double()
    energy = model.q(X).square().mean(0) * model.k(X).square().mean(0)
    (found,) = surgery.order(model, X, by=by(BATCHES)).values()
    assert found.tolist() == energy.argsort(descending=True).tolist()


def test_a_group_that_nothing_linear_makes_or_reads_keeps_its_order() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

        def forward(self, x: Tensor) -> Tensor:
            return x * (self.a * self.b).sum()

    assert surgery.order(Table().double(), X, by=surgery.absorbed(BATCHES)) == {}
