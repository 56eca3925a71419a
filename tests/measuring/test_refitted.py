"""Rows of refitted models: the score is that of what `shrink(..., refit=batches)` gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.curves.page.facts import code
from surgery.curves.page.section import Section
from tests.refitting.test_refit import BATCHES, X
from tests.small_models import mlp

MODEL = mlp(6, 24, 16, 3).double()
FEW: dict[str, Any] = {"measure_latency": False, "progress": False}


def validate(model: nn.Module) -> float:
    return -F.mse_loss(model(X), MODEL(X)).item()


def test_rows_are_scores_of_fitted_models() -> None:
    wrapped = surgery.wrap(MODEL, X)
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    curve = surgery.sweep(wrapped, validate, (1.0, 0.5, 0.25), refit=BATCHES, **FEW)
    plain = surgery.sweep(wrapped, validate, (1.0, 0.5, 0.25), **FEW)
    for row, sliced in zip(curve, plain, strict=True):
        assert row.score == pytest.approx(validate(surgery.shrink(wrapped, row, refit=BATCHES)), abs=1e-12)
        assert row.score >= sliced.score
    assert curve.refitted == len(BATCHES) and plain.refitted == 0
    assert all(torch.equal(value, before[name]) for name, value in wrapped.state_dict().items())


def test_searches_and_sensitivities_take_it_as_well() -> None:
    wrapped = surgery.wrap(MODEL, X)
    found = surgery.search(wrapped, validate, (0.5,), evaluations=8, refit=BATCHES, **FEW)
    assert found[0].score == pytest.approx(validate(surgery.shrink(wrapped, found[0], refit=BATCHES)), abs=1e-12)
    alone = surgery.sensitivity(wrapped, validate, (0.5,), refit=BATCHES, **FEW)
    assert alone.curve.refitted == len(BATCHES)


def test_a_file_of_other_batches_is_refused_and_the_page_says_how(tmp_path: Path) -> None:
    wrapped, file = surgery.wrap(MODEL, X), tmp_path / "rows.json"
    curve = surgery.sweep(wrapped, validate, (0.5,), refit=BATCHES, resume=file, **FEW)
    assert surgery.Curve.from_json(file).refitted == len(BATCHES)
    assert "refit=batches" in code(Section("fitted", {"curve": curve}), 0)
    for other in (None, BATCHES[:2], [x + 1 for x in BATCHES]):
        with pytest.raises(surgery.FileError, match="other batches"):
            surgery.sweep(wrapped, validate, (0.5,), refit=other, resume=file, **FEW)


def test_an_executor_and_a_refit_exclude_each_other() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(surgery.InputError, match="leave out executor="):
        surgery.sweep(surgery.wrap(MODEL, X), validate, (0.5,), refit=BATCHES, executor=pool, **FEW)
