"""Sizes that were unequal when the model ran stay so at every width, or are pinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.modules.code.helpers import meet
from tests.copies import pickled
from tests.models import BY_NAME


@pytest.mark.parametrize("widths", [0.5, {"stages.0.proj.o": 12, "stages.1.proj.o": 24}, {"stages.1.proj.o": 24}])
def test_widths_that_differ_never_seem_equal(widths: Any) -> None:
    """`if self.inside != self.outside` takes the way that it took, though nothing tells that `inside` is a width."""
    case = BY_NAME["widths_that_differ"]
    model, inputs = case.build().eval(), case.inputs(0)
    plan = surgery.inspect(model, inputs)
    assert plan.elastic_share > 0.99 and not plan.notes and set(plan.rewrites) == {"stages.0", "stages.1"}
    small = surgery.shrink(model, widths, inputs)
    wide = plan.widths(widths)
    assert small.stages[1].proj.weight.shape == (wide["stages.1.proj.o"], wide["stages.0.proj.o"])
    assert pickled(small)(*inputs).equal(small(*inputs))


class Doubles(nn.Module):
    """It doubles features where their width is not what an attribute says; `differ` says how it asks."""

    def __init__(self, differ: Callable[[Any, Tensor], bool], widths: tuple[int, ...] = (16,)):
        super().__init__()
        self.c, self.differ = sum(widths) // 2, differ
        self.ups = nn.ModuleList(nn.Linear(6, width) for width in widths)
        self.down = nn.Linear(sum(widths), 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([up(x) for up in self.ups], -1)
        if self.differ(self, h):
            h = h * 2
        return self.down(h)


def cut_by_hand(model: Doubles, width: int, x: Tensor) -> Tensor:
    """The way that the full model takes, with the first units of every layer."""
    h = torch.cat([F.linear(x, up.weight[:width], up.bias[:width]) for up in model.ups], -1) * 2
    columns = torch.cat(
        [weight[:, :width] for weight in model.down.weight.split([len(up.bias) for up in model.ups], 1)], 1
    )
    return F.linear(h, columns, model.down.bias)


HELD: dict[str, tuple[Callable[[Any, Tensor], bool], tuple[int, ...]]] = {
    "a width and an attribute": (lambda m, h: h.shape[-1] != m.c, (16,)),
    "the other way round, as equal": (lambda m, h: (m.c == h.shape[-1]) is False, (16,)),
    "arithmetic on both sides": (lambda m, h: h.shape[-1] // 2 != m.c // 2, (16,)),
    "an attribute whose own width is fixed": (lambda m, h: h.shape[-1] != m.down.out_features * 8 // 3, (16,)),
    "a sum of wide axes": (lambda m, h: h.shape[-1] != m.c, (512, 512)),
}


@pytest.mark.parametrize("name", HELD)
def test_unequal_sizes_stay_so_however_they_are_compared(name: str) -> None:
    torch.manual_seed(0)
    differ, widths = HELD[name]
    model, x = Doubles(differ, widths).double().eval(), torch.randn(4, 6, dtype=torch.double)
    plan = surgery.inspect(model, x)
    assert set(plan.groups) == {f"ups.{i}.o" for i in range(len(widths))}
    for width in {widths[0] // 2, widths[0] // 2 + 1, 8, 3}:
        small = surgery.shrink(model, dict.fromkeys(plan.groups, width), x)
        assert torch.allclose(small(x), cut_by_hand(model, width, x), rtol=1e-9)


@pytest.mark.parametrize(
    "differ",
    [
        lambda m, h: h.shape[1:] != (m.c,),
        lambda m, h: [h.shape[-1]] != [m.c],
        lambda m, h: m.c != 48 // (h.shape[-1] // 8),
    ],
)
def test_comparisons_that_cannot_be_held_pin(differ: Callable[[Any, Tensor], bool]) -> None:
    plan = surgery.inspect(Doubles(differ).double().eval(), torch.randn(4, 6, dtype=torch.double))
    assert not plan.groups
    assert any("the comparison at test_comparisons.py" in item.reason for item in plan.fixed)


class Both(nn.Module):
    """One place in the code finds sizes equal at one time and unequal at another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.c = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 3)]), 6
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if x.shape[-1] == self.c:
                x = self.norm(x)
            x = layer(x).tanh()
        return x


def test_a_comparison_that_came_out_both_ways_pins() -> None:
    plan = surgery.inspect(Both(), torch.randn(4, 6))
    assert not plan.groups and any("the same code compares several sizes" in item.reason for item in plan.fixed)


@pytest.mark.parametrize(
    ("left", "right", "expected"), [(12, 12, False), (12, 24, False), (24, 24, True), (7, 7, True), (7, 12, False)]
)
def test_two_sizes_meet_where_they_did_not_come_from_different_ones(left: int, right: int, expected: bool) -> None:
    assert meet(left, right, 12, 12) is expected
