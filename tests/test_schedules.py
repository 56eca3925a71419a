"""Draws that count training forwards, and draws that mix."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import surgery

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def twin(draw: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    return surgery.wrap(model, X, draw=draw, **options).train()


def seen(wrapped: nn.Module, times: int) -> list[tuple[int, int]]:
    """The widths that training forwards ran at."""
    found: list[int] = []
    hooks = [wrapped[i].register_forward_hook(lambda m, a, y: found.append(y.shape[-1])) for i in (0, 2)]
    for _ in range(times):
        wrapped(X)
    for hook in hooks:
        hook.remove()
    return list(zip(found[::2], found[1::2], strict=True))


def test_a_sandwich_is_a_cycle_over_training_forwards() -> None:
    wrapped = twin(surgery.sandwich([0.25, {"0.o": 3}, surgery.grid([0.5])]))
    assert seen(wrapped, 6) == [(16, 8), (4, 2), (3, 8), (8, 4), (16, 8), (4, 2)]


def test_what_is_not_drawn_is_no_turn() -> None:
    wrapped = twin(surgery.sandwich([0.25]))
    with surgery.at_widths(wrapped, 0.5):
        assert seen(wrapped, 3) == [(8, 4)] * 3
    wrapped.eval()(X)
    assert seen(wrapped.train(), 3) == [(16, 8), (4, 2), (16, 8)]


def test_a_warmup_is_full_width_and_then_its_draw() -> None:
    assert seen(twin(surgery.warmup(surgery.grid([0.5]), 3)), 5) == [(16, 8)] * 3 + [(8, 4)] * 2
    inside = surgery.warmup(surgery.sandwich([0.25]), 1)
    assert seen(twin(inside), 4) == [(16, 8), (16, 8), (4, 2), (16, 8)]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_of_a_twin_goes_on_by_itself(duplicate: Any) -> None:
    wrapped = twin(surgery.warmup(surgery.sandwich(), 2))
    seen(wrapped, 3)
    other = duplicate(wrapped)
    expected = seen(wrapped, 9)
    assert seen(other, 9) == expected and len(set(expected)) > 3


def test_an_earlier_training_is_continued_by_setting_the_count() -> None:
    draw = surgery.sandwich([0.25, 0.5])
    wrapped = twin(draw)
    draw.forwards = 2
    assert seen(wrapped, 2) == [(8, 4), (16, 8)] and draw.forwards == 4
