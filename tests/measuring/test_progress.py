"""`progress`: the same few widths every time, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError, WidthError
from surgery.twin.elastic import state_of
from tests.unchanged import unchanged

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def twin() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3))
    wrapped = surgery.wrap(model, X, draw=surgery.sandwich([0.5])).train()
    surgery.set_widths(wrapped, 0.75)
    return wrapped


def validate(model: nn.Module) -> float:
    assert not model.training and not torch.is_grad_enabled()
    return float(model(X).square().mean())


def test_the_scores_are_those_of_the_widths() -> None:
    wrapped = twin()
    found = surgery.progress(wrapped, validate, [1.0, {"0.o": 3}])
    expected = []
    for widths in (1.0, {"0.o": 3}):
        with surgery.at_widths(wrapped.eval(), widths), torch.no_grad():
            expected.append(validate(wrapped))
    assert found.scores == tuple(expected) and found.mean == pytest.approx(sum(expected) / 2)
    assert str(found).startswith(f"{found.mean:.4f} (")


def test_recalibration_is_for_the_measure_only() -> None:
    wrapped = twin()
    with surgery.at_widths(wrapped, 0.25):
        surgery.recalibrate(wrapped, [X])
        with torch.no_grad():
            expected = validate(wrapped.eval())
    wrapped = twin()
    with unchanged(wrapped):
        found = surgery.progress(wrapped, validate, [0.25], recalibrate=iter([X]))
    assert found.scores == (pytest.approx(expected),)
    assert surgery.progress(wrapped, validate, [0.25]).scores != found.scores


def test_measuring_leaves_no_trace_in_training() -> None:
    def train(measured: bool) -> list[torch.Tensor]:
        wrapped = twin()
        torch.manual_seed(3)
        outputs = []
        for _ in range(4):
            outputs.append(wrapped(X))
            if measured:
                surgery.progress(wrapped, lambda model: torch.rand(()) + validate(model))
        assert state_of(wrapped).draw.forwards == 4 and wrapped.training
        return outputs

    for a, b in zip(train(True), train(False), strict=True):
        assert torch.equal(a, b)


BAD: list[tuple[dict[str, Any], type, str]] = [
    (dict(widths=[]), InputError, "progress was given no widths"),
    (dict(widths=[0.0]), WidthError, "fraction"),
    (dict(validate=lambda model: float("nan")), InputError, "validate returned nan"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_input_changes_nothing(options: dict[str, Any], error: type, message: str) -> None:
    wrapped = twin()
    with unchanged(wrapped), pytest.raises(error, match=message):
        surgery.progress(wrapped, **{"validate": validate, **options})
