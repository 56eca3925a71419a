"""Masks select positions of the dimensions that they cover, and leave the others as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import surgery
from tests.small_models import Given

X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

SELECTED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], set[str]]] = {
    # what of the features `h` (batch, tokens, features) goes on, by a mask (batch, tokens), and what stays elastic
    "tokens of all samples": (lambda h, mask: h[mask], {"a.o"}),
    "tokens of one sample": (lambda h, mask: h[0][mask[0]], {"a.o"}),
    "samples": (lambda h, mask: h[mask[:, 0]], {"a.o"}),
    "no sample": (lambda h, mask: h[mask & False].sum(0), {"a.o"}),
    "every token": (lambda h, mask: h[mask | True], {"a.o"}),
    "with a slice": (lambda h, mask: h[mask[:, 0], 1:3], {"a.o"}),
    "features": (lambda h, mask: h[..., h[0, 0] > h[0, 1]].sum(-1, keepdim=True).expand_as(h), set()),
}


@pytest.mark.parametrize("name", SELECTED)
def test_a_mask_takes_the_dimensions_that_it_covers(name: str) -> None:
    select, groups = SELECTED[name]
    model = Given(lambda s, x: s.b(select(s.a(x), x[..., 0] > 0))).double()
    assert set(surgery.inspect(model, X).groups) == groups
    for group in groups:
        surgery.shrink(model, {group: 3}, X)


@pytest.mark.parametrize("written", [lambda: 0.0, lambda: torch.zeros(())], ids=["a number", "a tensor"])
def test_what_a_mask_covers_is_written_by_position(written: Callable[[], float | Tensor]) -> None:
    def forward(s: Given, x: Tensor) -> Tensor:
        h = s.a(x)
        h[x[..., 0] > 0] = written()
        return s.b(h)

    model = Given(forward).double()
    assert set(surgery.inspect(model, X).groups) == {"a.o"}
    surgery.shrink(model, {"a.o": 3}, X)
