"""Draws that count training forwards, and draws that mix."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError
from tests.copies import pickled
from tests.small_models import X, mlp


def twin(draw: Any, **options: Any) -> nn.Module:
    return surgery.wrap(mlp(6, 16, 8, 3), X, draw=draw, **options).train()


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


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
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


def test_mixed_draws_give_each_group_its_own_fraction_sometimes() -> None:
    always, never = (seen(twin(surgery.mixed(surgery.shared(p=1.0), share)), 60) for share in (1.0, 0.0))
    assert all(abs(a - 2 * b) <= 1 or b == 1 for a, b in never)
    assert sum(abs(a - 2 * b) > 4 for a, b in always) > 10
    assert set(seen(twin(surgery.mixed(surgery.grid([0.25, 1.0]), 1.0)), 40)) == {(4, 2), (4, 8), (16, 2), (16, 8)}


def test_the_smallest_width_has_its_share() -> None:
    found = seen(twin(surgery.shared(p=1.0, lower=0.25, smallest=0.5)), 200)
    assert 80 < sum(a == 4 for a, _ in found) < 140 and max(found) >= (14, 7)
    assert set(seen(twin(surgery.shared(p=1.0, lower=0.25, smallest=1.0)), 5)) == {(4, 2)}


def test_the_default_of_a_sandwich_is_full_width_and_a_narrow_one() -> None:
    found = seen(twin(surgery.sandwich()), 40)
    assert set(found[::2]) == {(16, 8)} and (16, 8) not in found[1::2] and len(set(found[1::2])) > 4


@pytest.mark.parametrize("make", [surgery.sandwich, lambda narrow: surgery.warmup(surgery.sandwich(narrow), 1)])
def test_rescaling_is_known_through_draws_that_count(make: Any) -> None:
    draw = make([surgery.paper(p=1.0, lower=4, step=4, rescale=True)])
    wrapped = twin(draw).eval()
    with surgery.at_widths(wrapped, 0.5):
        assert torch.allclose(wrapped[0](X), 2 * torch.nn.functional.linear(X, *_halves(wrapped)), atol=1e-6)


def _halves(wrapped: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    state = wrapped.state_dict()
    return state["0.weight"][:8], state["0.bias"][:8]


BAD = [
    (lambda: surgery.mixed(0.5), "uniform is surgery.shared"),
    (lambda: surgery.mixed(independent=2), r"independent is a probability in \[0, 1\], got 2"),
    (lambda: surgery.shared(smallest=-1), r"smallest is a probability in \[0, 1\], got -1"),
    (lambda: surgery.sandwich([]), "narrow is a sequence of one or more draws and widths"),
    (lambda: surgery.sandwich("all"), "narrow is a sequence of one or more draws and widths, got 'all'"),
    (lambda: surgery.warmup(0.5, 3), "draw is a callable"),
    (lambda: surgery.warmup(surgery.shared(), -1), "forwards is a number of training forwards"),
    (lambda: surgery.warmup(surgery.shared(), True), "forwards is a number of training forwards"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_draws(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
