"""One set of weights for all widths, in closed form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import surgery
from tests.models import BY_NAME, REPRESENTATIVE
from tests.refitting.test_refit import BATCHES, X
from tests.small_models import mlp

WIDTHS = (1.0, 0.5, 0.25)


def test_slices_of_a_nested_start_are_nearer_to_the_model() -> None:
    model = mlp(6, 32, 16, 3).double()
    nested = surgery.nest(model, BATCHES, X, widths=WIDTHS)
    plain, fitted = (surgery.wrap(m, X).eval() for m in (model, nested))

    def error(wrapped: torch.nn.Module, width: float) -> float:
        with surgery.at_widths(wrapped, width), torch.no_grad():
            return F.mse_loss(wrapped(X), model(X)).item()

    assert all(error(fitted, width) < 0.8 * error(plain, width) for width in WIDTHS[1:])
    assert error(fitted, 1.0) < 0.2 * error(fitted, 0.5), "the full width counts four times"


def test_one_width_alone_is_the_refit_of_that_width() -> None:
    model = mlp(6, 16, 8, 3).double()
    small = surgery.shrink(model, 0.5, X, refit=BATCHES)
    nested = surgery.nest(model, BATCHES, X, widths=[0.5])
    again = surgery.shrink(nested, 0.5, X)
    assert all(torch.allclose(p, q) for p, q in zip(small.parameters(), again.parameters(), strict=True))


def test_the_full_width_alone_stays_what_it_is() -> None:
    model = mlp(6, 16, 8, 3).double()
    nested = surgery.nest(model, BATCHES, X, widths=[1.0])
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), nested.parameters(), strict=True))


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_any_model_can_be_nested(name: str) -> None:
    case = BY_NAME[name]
    torch.manual_seed(0)
    model, x = case.build(), case.inputs(0)
    nested = surgery.nest(model, [x, case.inputs(1)], surgery.inputs(*x), widths=[1.0, 0.5])
    assert type(nested) is type(model)
    assert {n: v.shape for n, v in nested.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}
    surgery.shrink(nested, 0.5, surgery.inputs(*x))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0)])
def test_weights_that_cannot_be_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(surgery.InputError, match="a positive number for each of 3 widths"):
        surgery.nest(mlp(6, 16, 3).double(), BATCHES, X, widths=WIDTHS, weights=weights)
