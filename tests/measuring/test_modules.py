"""Sweeps, sensitivities and searches over which modules are there, beside widths of features."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import FileError
from surgery.measuring.adaptive import fractions
from surgery.measuring.searching.blocks import blocks
from surgery.measuring.searching.chain import inside
from surgery.twin.setting import plan_of
from tests.models.deep import IMAGES, X, deep, deep_cnn

QUIET = {"progress": False, "measure_latency": False}
ORDER = [2, 0, 3, 1, 5, 4]
TARGET = torch.randn(7, 3, generator=torch.Generator().manual_seed(5))


def score(model: nn.Module) -> float:
    return -float((model(X) - TARGET).square().mean().detach())


def mean_of(model: nn.Module) -> float:
    return float(model(IMAGES).mean().detach())


def counted(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_rows_are_those_of_the_small_models_and_cost_what_they_cost() -> None:
    twin = deep(6, depth={"layers.depth": ORDER})
    curve = surgery.sweep(twin, score, [1.0, 0.5, {"depth": 2}, {"depth": 1, "stem.o": 3}], **QUIET)  # type: ignore
    for point in curve:
        small = surgery.shrink(twin, point)
        assert point.score == pytest.approx(score(small), abs=1e-6) and point.params == counted(small)
        assert point.macs == surgery.cost(surgery.inspect(small, X)).macs
    assert [point.widths["layers.depth"] for point in curve] == [6, 3, 2, 1]


def test_times_are_those_of_shorter_models() -> None:
    twin = deep(6)
    curve = surgery.sweep(twin, score, [1.0, {"depth": 1}], progress=False)
    assert all(point.latency for point in curve)
    assert (curve[1].latency or 1.0) < (curve[0].latency or 0.0)


def test_rows_of_another_order_are_not_taken_up(tmp_path: Path) -> None:
    twin, path = deep(6, depth={"layers.depth": ORDER}), tmp_path / "rows.json"
    curve = surgery.sweep(twin, score, [0.5], resume=path, **QUIET)  # type: ignore[arg-type]
    assert curve.orders == {"layers.depth": ORDER} and surgery.Curve.from_json(path).orders == curve.orders
    again = surgery.sweep(twin, lambda model: 1 / 0, [0.5], resume=path, **QUIET)  # type: ignore[arg-type]
    assert again.points == curve.points
    surgery.set_depth_order(twin, {"depth": range(6)})
    with pytest.raises(FileError, match="small models with other modules"):
        surgery.sweep(twin, score, [0.5], resume=path, **QUIET)  # type: ignore[arg-type]


def test_statistics_are_estimated_at_each_depth_and_put_back() -> None:
    twin = deep_cnn(3, calibration=[IMAGES])
    before = {name: value.clone() for name, value in twin.named_buffers()}
    curve = surgery.sweep(twin, mean_of, [1.0, {"depth": 1}], **QUIET)  # type: ignore
    small = surgery.shrink(twin, {"depth": 1})
    assert curve[1].score == pytest.approx(mean_of(small), abs=1e-6)
    assert all(torch.equal(before[name], value) for name, value in twin.named_buffers())


def test_sensitivity_cuts_chains_alone_in_their_own_steps() -> None:
    twin = deep(6, granularity={"depth": 2})
    found = surgery.sensitivity(twin, score, [0.5, 0.25, 0.01], groups="depth", **QUIET)  # type: ignore[arg-type]
    assert [point.widths["layers.depth"] for point in found.points("layers.depth")] == [4, 2]
    assert all(point.widths["stem.o"] == 8 for point in found.curve)


def test_progress_scores_depths_too() -> None:
    twin = deep(6)
    found = surgery.progress(twin, score, [{"depth": 6}, {"depth": 2}])
    assert found.scores[0] == pytest.approx(score(twin)) and found.scores[1] != found.scores[0]


def test_fractions_of_a_curve_start_where_chains_can_be_no_shorter() -> None:
    plan = plan_of(deep(6, only="depth", granularity={"depth": 2}))
    assert fractions(plan, 0.01) == [0.01, 2 / 6, 4 / 6, 1.0]
    assert fractions(plan, 0.01, multiple=8) == [0.01, 4 / 6, 1.0]  # a model each: 2, 4 and 6 modules


def test_an_adaptive_curve_goes_over_depths() -> None:
    twin = deep(6)
    curve = surgery.sweep(twin, score, surgery.adaptive(1e-9, lower=0.1), **QUIET)  # type: ignore[arg-type]
    assert {point.widths["layers.depth"] for point in curve} == set(range(1, 7))
    said, true = curve.at(0.5), next(point.score for point in curve if point.fraction == 0.5)
    assert said.error is not None and abs(said.value - true) <= 2 * said.error


def test_chains_are_searched_apart_from_features() -> None:
    plan = plan_of(deep(12))
    for most in (2, 3, 5):
        found = blocks(plan, most)
        (own,) = (names for names in found.values() if "layers.depth" in names)
        assert own == ("layers.depth",)


@pytest.mark.parametrize("seed", range(4))
def test_a_search_over_depth_and_widths_is_nested_and_never_worse_than_uniform(seed: int) -> None:
    twin = deep(6, seed, depth={"layers.depth": ORDER}, granularity={"depth": 1 + seed % 2})
    budgets = (0.6, 0.35, 0.15)
    curve = surgery.search(twin, score, budgets, evaluations=60, **QUIET)  # type: ignore[arg-type]
    full = plan_of(twin).cost_model.at(plan_of(twin).full()).macs
    for point, uniform, budget in zip(curve, curve.uniform, budgets, strict=True):
        assert point.score >= uniform.score and point.macs <= budget * full
        assert score(surgery.shrink(twin, point)) == pytest.approx(point.score, abs=1e-6)
    group = plan_of(twin).groups["layers.depth"]
    for large, small in itertools.pairwise(curve):
        kept, there = (set(group.kept(point.widths["layers.depth"])) for point in (small, large))
        assert inside(small, large) and kept <= there


def test_where_depth_is_free_the_search_takes_modules_and_leaves_features() -> None:
    """Blocks that do nothing cost nothing to leave out: the search finds that, and a uniform model does not."""
    twin = deep(6)
    with torch.no_grad():
        for layer in twin.layers[2:]:
            layer.get_parameter("down.weight").zero_()
            layer.get_parameter("down.bias").zero_()
    expected = twin(X).detach()

    def near(model: nn.Module) -> float:
        return -float((model(X) - expected).square().mean())

    curve = surgery.search(twin, near, (0.5,), evaluations=60, **QUIET)  # type: ignore[arg-type]
    assert curve[0].score > -1e-6 > curve.uniform[0].score and curve[0].widths["layers.depth"] <= 3


def test_limits_of_time_choose_among_depths() -> None:
    twin = deep(6)
    curve = surgery.search(twin, score, ({"max_latency": "70%"},), evaluations=20, progress=False)
    assert curve[0].latency is not None and curve[0].score >= curve.uniform[0].score


def test_the_page_of_a_curve_and_what_is_chosen_tell_depths(tmp_path: Path) -> None:
    twin = deep(6)
    curve = surgery.sweep(twin, score, [1.0, 0.5, {"depth": 2}], **QUIET)  # type: ignore[arg-type]
    assert curve.choose(max_params=curve[2].params) in (curve[1], curve[2])
    (page,) = curve.report(tmp_path / "page.html")
    assert "layers.depth" in page.read_text()
