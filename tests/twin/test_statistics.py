"""BatchNorm's statistics: what is run for them alone draws nothing, and a twin knows which widths they are of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.twin.elastic import state_of
from tests.small_models import mlp

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
LOADER = [(X[:32] + 1, None), (X[32:] * 2, None)]
QUARTER = {"0.o": 4, "3.o": 2}


@pytest.fixture
def model() -> nn.Sequential:
    return mlp(6, 16, 8, 3, norm=True)


@pytest.fixture
def wrapped(model: nn.Module) -> Any:
    return surgery.wrap(model, X[:4], draw=surgery.grid([0.25])).train()


def seen(wrapped: nn.Module, run: Callable[[], object]) -> set[int]:
    """The widths that the first layer ran at."""
    found: set[int] = set()
    handle = wrapped[0].register_forward_hook(lambda m, a, y: found.add(y.shape[-1]))
    run()
    handle.remove()
    return found


def by_hand(model: nn.Module, batches: Any) -> None:
    """As people write it: reset, then forwards in training mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        for batch, _ in batches:
            model(batch)


AVERAGES = {
    "update_bn": lambda model: update_bn(LOADER, model),
    "by hand": lambda model: by_hand(model, LOADER),
    "recalibrate": lambda model: surgery.recalibrate(model, [batch for batch, _ in LOADER]),
}


@pytest.mark.parametrize("estimate", AVERAGES.values(), ids=AVERAGES)
@pytest.mark.parametrize("width", [1.0, 0.5])
def test_what_is_run_for_statistics_runs_at_the_widths_that_are_set(
    model: nn.Sequential, wrapped: Any, estimate: Callable, width: float
) -> None:
    """They come out as those of the small model, and nothing of the draws is used up."""
    wrapped(X).sum().backward()
    surgery.set_widths(wrapped, width)
    small = surgery.shrink(wrapped, width, recalibrate=False).train()
    before = state_of(wrapped).generator.get_state()
    assert seen(wrapped, lambda: estimate(wrapped)) == {round(16 * width)}
    assert torch.equal(state_of(wrapped).generator.get_state(), before)
    estimate(small)
    kept = round(16 * width)
    assert torch.allclose(model[1].running_mean[:kept], small[1].running_mean)
    assert torch.allclose(model[1].running_var[:kept], small[1].running_var)
    assert state_of(wrapped).estimated == surgery.widths(wrapped)
    assert seen(wrapped, lambda: wrapped.train()(X).sum().backward()) == {4}, "draws go on"


def test_turns_of_a_sandwich_are_not_used_up(model: nn.Module) -> None:
    wrapped = surgery.wrap(model, X[:4], draw=surgery.sandwich([0.25])).train()
    wrapped(X)
    update_bn(LOADER, wrapped)
    assert state_of(wrapped).draw.forwards == 1


def test_an_averaged_model_draws_nothing_and_its_model_does(wrapped: Any) -> None:
    averaged = AveragedModel(wrapped)
    averaged.update_parameters(wrapped)
    assert averaged.training
    assert seen(averaged.module, lambda: averaged(X)) == {16}
    assert seen(averaged.module, lambda: update_bn(LOADER, averaged)) == {16}
    assert seen(averaged.module, lambda: averaged.module(X)) == {4}
    assert seen(wrapped, lambda: wrapped(X)) == {4}
    assert not state_of(copy.deepcopy(wrapped)).averaged


def test_a_frozen_copy_draws_nothing(wrapped: Any) -> None:
    frozen = copy.deepcopy(wrapped).requires_grad_(False)
    assert seen(frozen, lambda: frozen(X)) == {16}
    x = X.clone().requires_grad_()
    assert seen(frozen, lambda: checkpoint(frozen, x, use_reentrant=True).sum().backward()) == {4}
    with torch.no_grad():
        assert seen(frozen, lambda: frozen(X)) == {16}
    assert seen(frozen, lambda: frozen(X.clone().requires_grad_())) == {4}, "what comes before it learns"


def test_an_epoch_for_statistics_with_gradients_draws_nothing(wrapped: Any) -> None:
    """As trainers run it after averaging weights: statistics are reset and averaged, and no step is taken."""
    wrapped(X).sum().backward()
    wrapped[1].reset_running_stats()
    wrapped[1].momentum = None
    assert seen(wrapped, lambda: (wrapped(X), wrapped(X))) == {16}
    wrapped[1].momentum = 0.1
    assert seen(wrapped, lambda: wrapped(X)) == {4}


def test_a_training_with_plain_means_draws(model: nn.Sequential, wrapped: Any) -> None:
    wrapped[1].momentum = None
    assert seen(wrapped, lambda: wrapped(X).sum().backward()) == {4}
    assert seen(wrapped, lambda: wrapped(X).sum().backward()) == {4}
    assert state_of(wrapped).estimated is None
    model[1].momentum = None
    other = surgery.wrap(model, X[:4], draw=surgery.grid([0.25])).train()
    with torch.no_grad():
        assert seen(other, lambda: other(X)) == {4}


@pytest.mark.parametrize("norm", [True, False])
def test_other_forwards_without_gradients_draw(norm: bool) -> None:
    """Statistics that nobody has reset are not estimated anew, whatever the mode of gradients."""
    wrapped = surgery.wrap(mlp(6, 16, 8, 3, norm=norm), X[:4], draw=surgery.grid([0.25])).train()
    with torch.no_grad():
        assert seen(wrapped, lambda: wrapped(X)) == {4}
        assert seen(wrapped, lambda: wrapped(X)) == {4}


def test_a_checkpoint_around_the_model_draws(wrapped: Any) -> None:
    """Its forward has no gradients either, but somebody learns from it; also right after statistics were reset."""
    wrapped(X).sum().backward()
    wrapped[1].reset_running_stats()
    x = X.clone().requires_grad_()
    assert seen(wrapped, lambda: checkpoint(wrapped, x, use_reentrant=True).sum().backward()) == {4}


def test_a_twin_knows_which_widths_its_statistics_are_of(wrapped: Any) -> None:
    state = state_of(wrapped)
    assert state.estimated == {"0.o": 16, "3.o": 8}
    surgery.train_step(wrapped, X, lambda y: y.logsumexp(1).mean() - y[:, 0].mean(), narrow=[0.25])
    assert state.estimated == {"0.o": 16, "3.o": 8}, "narrow passes of a step leave them alone"
    wrapped(X)
    assert state.estimated is None
    surgery.recalibrate(wrapped, [X])
    assert state.estimated == {"0.o": 16, "3.o": 8}
    with surgery.at_widths(wrapped, 0.25):
        surgery.recalibrate(wrapped, [X])
    assert state.estimated == QUARTER
