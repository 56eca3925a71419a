"""Training forwards run at the widths that a draw gives, within what `wrap` was told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import surgery
from tests.small_models import Net, X, seen_widths

DRAWS = [None, surgery.paper(p=0.7), surgery.paper(lower=3, step=4), surgery.shared(), surgery.grid([0.25, 1.0])]


@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_draws_repeat_from_a_seed(model: Net, draw: Any) -> None:
    def seeded(seed: int | None) -> list[tuple[int, ...]]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return seen_widths(surgery.wrap(model, X, draw=draw, generator=generator), 12)

    torch.manual_seed(1)
    first = seeded(3)
    torch.manual_seed(2)
    assert first == seeded(3) and first != seeded(4) and seeded(None) == seeded(0)


def test_draws_keep_to_their_ranges(model: Net) -> None:
    def many(draw: Any, times: int = 200) -> list[tuple[int, ...]]:
        return seen_widths(surgery.wrap(model, X, draw=draw), times)

    assert {a for a, _ in many(surgery.paper(lower=3, step=4))} == {3, 7, 11, 15, 16}
    assert all(0 < a < 16 and 0 < b < 8 for a, b in many(surgery.paper(p=1.0)))
    assert set(many(surgery.paper(p=0.0), 10)) == {(16, 8)}
    independent = many(surgery.paper())
    assert 0.15 < sum(a == 16 and b == 8 for a, b in independent) / 200 < 0.35
    assert set(many(surgery.grid([0.25, 0.5]))) == {(4, 2), (8, 4)}
    assert all(abs(a - 2 * b) <= 1 or b == 1 for a, b in many(surgery.shared(p=1.0)))
    default = many(None, 400)
    assert (16, 8) in default and min(a for a, _ in default) <= 2, "the default visits both ends"
    assert any(abs(a - 2 * b) > 4 for a, b in default), "and mixed widths"


def test_a_draw_of_the_user(model: Net) -> None:
    asked = []

    def draw(plan: surgery.Plan, generator: torch.Generator) -> dict:
        asked.append((list(plan.groups), generator))
        return {"fc1": 0.5, "fc2.o": 3}

    generator = torch.Generator()
    assert seen_widths(surgery.wrap(model, X, draw=draw, generator=generator), 2) == [(8, 3)] * 2
    assert asked == [(["fc1.o", "fc2.o"], generator)] * 2
    assert seen_widths(surgery.wrap(model, X, draw=lambda plan, generator: {}), 1) == [(16, 8)]


OPTIONS: list[tuple[dict, dict[str, set[int]]]] = [
    (dict(granularity=4), {"fc1.o": {4, 8, 12, 16}, "fc2.o": {4, 8}}),
    (dict(granularity={"fc1.o": 8}, minimum={"fc2.*": 7}), {"fc1.o": {8, 16}, "fc2.o": {7, 8}}),
    (dict(minimum=15), {"fc1.o": {15, 16}, "fc2.o": {8}}),
    (dict(granularity=8, minimum=3), {"fc1.o": {8, 16}, "fc2.o": {8}}),
    (dict(granularity=100), {"fc1.o": {16}, "fc2.o": {8}}),
    (dict(fixed="fc1.o", minimum=7), {"fc2.o": {7, 8}}),
    (dict(fixed=["fc1"], granularity=8), {"fc2.o": {8}}),
    (dict(fixed="head", granularity=8), {"fc1.o": {8, 16}}),
    (dict(only="norm", granularity=8), {"fc1.o": {8, 16}}),
    (dict(only=["*.o"], fixed="*2.o", granularity=8), {"fc1.o": {8, 16}}),
]


@pytest.mark.filterwarnings("ignore:minimum")
@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=[str(o) for o, _ in OPTIONS])
def test_options_of_wrap(model: Net, options: dict, expected: dict[str, set[int]]) -> None:
    wrapped = surgery.wrap(
        model, X, draw=lambda p, g: {n: float(torch.rand(1, generator=g)) or 1 for n in p.groups}, **options
    )
    assert set(surgery.widths(wrapped)) == set(expected)
    seen = seen_widths(wrapped, 60)
    assert {a for a, _ in seen} == expected.get("fc1.o", {16})
    assert {b for _, b in seen} == expected.get("fc2.o", {8})
