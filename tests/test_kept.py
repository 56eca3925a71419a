"""What an earlier version has written can be read: a pickled small model, its file, and curves."""

from __future__ import annotations

from pathlib import Path

import torch

import surgery
from tests.kept.net import Net

KEPT = Path(__file__).parent / "kept"


def test_a_pickled_small_model_computes_what_it_computed() -> None:
    kept = torch.load(KEPT / "small.pt", weights_only=False)
    assert torch.allclose(kept["model"](kept["input"]), kept["output"], atol=1e-6)


def test_a_saved_small_model_is_loaded() -> None:
    kept = torch.load(KEPT / "small.pt", weights_only=False)
    small = surgery.load(KEPT / "saved", Net().eval(), kept["input"])
    assert torch.allclose(small(kept["input"]), kept["output"], atol=1e-6)


def test_curves_are_read() -> None:
    swept, searched = (surgery.Curve.from_json(KEPT / name) for name in ("curve.json", "searched.json"))
    assert [point.fraction for point in swept] == [1.0, 0.5, 0.25]
    assert swept.choose(max_params=0.2).params == 119
    assert searched.uniform and searched[0].score >= searched.uniform[0].score
