"""Widths that are measured in multiples are those that ship, whoever measures; steps that are too large are said."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery import InputError
from surgery.curves.page.facts import code
from surgery.twin.setting import plan_of
from tests.small_models import mlp

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, Any] = {"progress": False, "measure_latency": False}


def twin(**options: Any) -> nn.Module:
    return surgery.wrap(mlp(6, 100, 60, 6, 3), X, **options)


def score(model: nn.Module) -> float:
    return float(model(X).sum())


def point(model: nn.Module) -> surgery.Point:
    return surgery.sweep(model, score, [0.3], **OPTIONS)[0]


USES = {
    "sweep": lambda m, n: surgery.sweep(m, score, (1.0, 0.5, 0.3, 0.07), multiple=n, **OPTIONS),
    "points": lambda m, n: surgery.sweep(m, score, [{"0.o": 30}, point(m)], multiple=n, **OPTIONS),
    "adaptive": lambda m, n: surgery.sweep(m, score, surgery.adaptive(0.5, most=12), multiple=n, **OPTIONS),
    "sensitivity": lambda m, n: surgery.sensitivity(m, score, (0.5, 0.13), multiple=n, **OPTIONS).curve,
    "search": lambda m, n: surgery.search(m, score, (0.5, 0.2), evaluations=20, multiple=n, **OPTIONS),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("multiple", [1, 16])
def test_what_is_measured_is_what_ships(use: str, multiple: int) -> None:
    model = twin()
    plan, curve = plan_of(model), USES[use](model, multiple)
    assert curve.multiple == multiple
    for point in (*curve, *curve.uniform):
        for name, width in point.widths.items():
            assert width % multiple == 0 or width == plan.groups[name].size
        small = surgery.shrink(model, point)
        assert surgery.shrink(model, point, multiple=multiple)[0].out_features == small[0].out_features
        if point.fraction is not None:
            assert plan.widths(point.fraction, multiple) == point.widths
    assert len({tuple(point.widths.values()) for point in curve}) == len(curve) or use == "search"


def test_the_python_of_a_page_makes_the_model_that_was_measured() -> None:
    model = twin()
    for use in ("sweep", "search"):
        curve = USES[use](model, 16)
        section = surgery.Section("", {"": curve})
        for place, point in enumerate(curve):
            scope: dict[str, Any] = {"surgery": surgery, "wrapped": model}
            exec(code(section, place), scope)
            assert plan_of(surgery.wrap(scope["small"], X)).full() == {k: v for k, v in point.widths.items() if v > 1}


@pytest.mark.filterwarnings("ignore:minimum")
def test_a_minimum_makes_models_that_no_fraction_makes() -> None:
    model = twin(minimum=20)
    found = surgery.search(model, score, (0.5, 0.3), evaluations=20, **OPTIONS)
    for point in (*found, *found.uniform):
        assert point.fraction is None or plan_of(model).widths(point.fraction) == point.widths


@pytest.mark.parametrize("multiple", [0, -8, True, 2.0, "8", None])
@pytest.mark.parametrize("use", ["sweep", "sensitivity", "search"])
def test_a_multiple_is_a_positive_int(use: str, multiple: Any) -> None:
    with pytest.raises(InputError, match=f"multiple is a positive int, got {multiple!r}"):
        USES[use](twin(), multiple)


def said(**options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        twin(**options)
    return [str(warning.message) for warning in seen]


def test_a_granularity_above_a_size_is_said() -> None:
    (message,) = said(granularity=16)
    assert message.startswith("granularity: 4.o (6) have fewer units than one step")
    (message,) = said(granularity={"0.o": 128, "2.o": 4})
    assert (
        message.startswith("granularity: 0.o (100) have") and message in plan_of(twin(granularity={"0.o": 128})).notes
    )
    for silent in ({}, {"granularity": 6}, {"granularity": {"*": 16, "4.o": 1}}, {"granularity": 16, "fixed": "4.o"}):
        assert not said(**silent)


def test_the_full_model_of_a_search_is_known() -> None:
    found = surgery.search(twin(), score, (0.5,), evaluations=12, progress=False)
    assert found.base is not None and found.base.widths == found.sizes and found.base.latency is not None
    assert found.whole is found.base
    assert found.choose(max_loss=abs(found.base.score) + 1e3) is found[0]


def test_budgets_take_shares_of_every_cost(tmp_path: Path) -> None:
    model = twin()
    same = [surgery.search(model, score, [b], evaluations=20, **OPTIONS) for b in (0.5, "50%", {"max_macs": "50 %"})]
    for a, b in itertools.pairwise(same):
        assert dataclasses.replace(a) == b
    timed = surgery.search(model, score, [{"max_latency": "100%"}], evaluations=12, progress=False)
    assert len(timed) == 1
    with pytest.raises(InputError, match="a share of the full model lies above 0 %"):
        surgery.search(model, score, [{"max_latency": "0%"}], evaluations=12, progress=False)
