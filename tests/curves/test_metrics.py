"""A dict of metrics: the first is the score, all are kept."""

from __future__ import annotations

import csv
import math

import pytest
import torch

import surgery
from surgery.curves.score import as_score
from tests.small_models import mlp

X = torch.randn(6, 8)


def swept(validate):
    return surgery.sweep(surgery.wrap(mlp(8, 16, 3), X), validate, (1.0, 0.5), measure_latency=False, progress=False)


def metrics(model):
    out = model(X)
    return {"accuracy": (out.argmax(1) == 0).float(), "loss": out.square().mean(), "worst": out.max().item()}


def test_the_first_is_the_score_and_all_are_kept(tmp_path) -> None:
    curve = swept(metrics)
    for point in curve:
        assert point.metrics["accuracy"] == pytest.approx(point.score) and point.error is not None
        assert set(point.metrics) == {"accuracy", "loss", "worst"}
    assert "loss" in str(curve).splitlines()[0] and "accuracy" not in str(curve).splitlines()[0]
    curve.to_json(tmp_path / "curve.json")
    assert surgery.Curve.from_json(tmp_path / "curve.json").points == curve.points
    curve.to_csv(tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["metric:loss"]) for row in rows] == [point.metrics["loss"] for point in curve]


def test_rows_go_to_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = swept(metrics).to_pandas()
    assert isinstance(frame, pandas.DataFrame) and list(frame["score"]) == list(frame["metric:accuracy"])
    assert {"params", "macs", "metric:loss", "width:0.o"} <= set(frame.columns)


def test_without_pandas_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(surgery.InputError, match="pip install pandas"):
        swept(metrics).to_pandas()


@pytest.mark.parametrize("name", ["loss", "val_loss", "Perplexity", "test-error", "MSE"])
def test_a_metric_that_is_better_when_lower_is_no_score(name: str) -> None:
    with pytest.raises(surgery.InputError, match="higher is better"):
        as_score({name: 0.5, "accuracy": 0.9})
    assert as_score({"accuracy": 0.9, name: 0.5}).metrics[name] == 0.5
    assert as_score({f"negative_{name}": -0.5}).value == -0.5


def test_other_metrics_may_be_anything_that_is_a_number() -> None:
    found = as_score({"accuracy": (0.5, 0.01), "loss": math.inf, "f1": torch.tensor([1.0, 0.0])})
    assert (found.value, found.error, found.metrics["loss"], found.metrics["f1"]) == (0.5, 0.01, math.inf, 0.5)
    for wrong in ({}, {"accuracy": "high"}, {"accuracy": 0.5, "loss": None}, {1: 0.5}, {"accuracy": math.nan}):
        with pytest.raises(surgery.InputError):
            as_score(wrong)
