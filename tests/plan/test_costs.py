"""The costs of a plan are one polynomial: exact for one model, the same for many at once."""

import math

import pytest
import torch
from torch import nn

import surgery
from surgery.axes import layout
from surgery.axes.layout import Sum, Unit
from surgery.curves.points import MEASURES as TOLD
from surgery.plan.costs import MEASURES, Cost, cost_model
from tests.models import CASES, TRICKY


def by_hand(plan, widths) -> Cost:
    """The costs by the size of each dimension, one after another: no polynomial."""
    elements = {name: math.prod(layout.width(dim, widths) for dim in dims) for name, dims in plan.layouts.items()}
    return Cost(
        params=sum(elements.get(name, full) for name, full in plan.parameters.items()),
        bytes=sum(elements.get(name, full) * size for name, (full, size) in plan.stored_elements.items()),
        macs=sum(layout.width(dim, widths) for dim in plan.macs),
    )


@pytest.mark.parametrize("case", [*CASES, *TRICKY], ids=str)
def test_one_model_and_many_have_the_costs_of_their_layouts(case):
    plan = surgery.inspect(case.build().eval(), case.inputs(0))
    generator = torch.Generator().manual_seed(0)
    drawn = 1 - torch.rand(10, len(plan.groups), generator=generator)
    named = [plan.widths(dict(zip(plan.groups, row, strict=True))) for row in drawn.tolist()]
    costs = [by_hand(plan, widths) for widths in named]
    assert [surgery.cost(plan, widths) for widths in named] == costs
    model = plan.cost_model
    found = model(torch.stack([model.row(widths) for widths in named]))
    assert found.tolist() == [[cost.params, cost.bytes, cost.macs] for cost in costs]
    assert [model.named(model.row(widths)) for widths in named] == named


def test_costs_of_one_model_are_exact_however_large():
    a, b = Unit(2**40, "a"), Unit(2**40, "b")
    tensors = {"x": ((a,), (Sum(((b,), (Unit(1),))),))}
    model = cost_model(["a", "b"], tensors, {"x": 2**80, "y": 3}, {"x": (2**80, 4)}, [(a, b, b)])
    wide = {"a": 2**40, "b": 2**40 - 1}
    assert model.at(wide) == Cost(2**80 + 3, 2**82, 2**40 * (2**40 - 1) ** 2)
    assert model.at({"a": 1, "b": 1}) == Cost(2 + 3, 2 * 4, 1)


def test_a_model_without_groups_or_tensors_has_costs_too():
    assert cost_model([], {}, {}, {}, []).at({}) == Cost(0, 0, 0)
    plan = surgery.inspect(nn.Linear(3, 2), torch.randn(1, 3))
    assert not plan.groups and plan.cost_model(torch.empty(2, 0, dtype=torch.long)).tolist() == [[8, 32, 6]] * 2
    assert surgery.cost(plan) == Cost(8, 32, 6)


def test_rows_tell_the_same_costs():
    assert TOLD == MEASURES  # two rooms that do not import each other
