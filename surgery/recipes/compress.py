"""From a trained model to a smaller one within a budget, without training and without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import surgery

HELD = 5  # one batch in so many is kept for scores
MEASURES = ("macs", "params", "bytes", "latency")


@dataclass(frozen=True)
class Compressed:
    """What `compress` has made: the small model, what it scores beside the full one, and the curve that it is of."""

    model: nn.Module
    curve: surgery.Curve
    point: surgery.Point
    full: float


def compress(
    model: nn.Module,
    batches: Iterable[Any],
    budget: str,
    *,
    validate: Callable[[nn.Module], Any] | None = None,
    evaluations: int = 40,
    progress: bool = True,
) -> Compressed:
    """Sort, search a width for every axis, cut and refit: the best small model within a budget that this finds.

    Args:
        model: a trained model; it stays as it is.
        batches: inputs, as in use, without labels or as a DataLoader gives them. One in five is kept for the scores.
        budget: "50% macs", "30% params", "2000000 bytes" or "40% latency": at most so much.
        validate: the score of a model, higher is better. Default: how like the full one it is, on the batches that were
            kept: 1 minus the squared error of its outputs, relative to their variance.
        evaluations: how many models are scored at most.

    Raises InputError for a budget that cannot be read or fewer than two batches; and what `surgery.search` raises.
    """
    limits, given = _limits(budget), list(batches)
    if len(given) < 2:
        raise surgery.InputError(f"compress needs several batches, as some are kept for the scores: got {len(given)}")
    held, used = given[::HELD], [batch for i, batch in enumerate(given) if i % HELD]
    example = surgery.batches([_inputs(used[0])])
    ordered = surgery.sort(model, example, by=surgery.absorbed(used)).eval()
    wrapped = surgery.wrap(ordered, example, calibration=used)
    score = validate or agreement(ordered, [_inputs(batch) for batch in held])
    curve = surgery.search(
        wrapped, score, [limits], evaluations=evaluations, refit=used, progress=progress,
        measure_latency="max_latency" in limits,
    )  # fmt: skip
    small = surgery.shrink(wrapped, curve[-1], refit=used).eval()
    whole = curve.whole
    return Compressed(small, curve, curve[-1], float("nan") if whole is None else whole.score)


def agreement(model: nn.Module, inputs: Sequence[Any]) -> Callable[[nn.Module], float]:
    """How much of what a model says to some inputs another one says: 1 is all of it."""
    known = [_said(model, given) for given in inputs]
    spread = sum(float((x - x.mean()).square().sum()) for x in known) or 1.0

    def score(other: nn.Module) -> float:
        error = sum(float((_said(other, given) - x).square().sum()) for given, x in zip(inputs, known, strict=True))
        return 1 - error / spread

    return score


@torch.no_grad()
def _said(model: nn.Module, given: Any) -> Tensor:
    """All numbers that a model returns, in one row."""
    args, kwargs = (
        (given, {}) if isinstance(given, tuple) else ((), given) if isinstance(given, dict) else ((given,), {})
    )
    found = [x for x in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(x, Tensor) and x.is_floating_point()]
    return torch.cat([x.flatten().double() for x in found])


def _inputs(batch: Any) -> Any:
    """A batch without the labels that a DataLoader gives as the last of a list."""
    return batch[0] if isinstance(batch, list) else batch


def _limits(budget: str) -> dict[str, Any]:
    """A budget in words as `surgery.search` takes it."""
    amount, _, measure = budget.strip().partition(" ")
    measure = measure.strip().lower()
    try:
        value = float(amount.removesuffix("%"))
    except ValueError:
        value = -1.0
    if measure not in MEASURES or value <= 0:
        raise surgery.InputError(f"budget {budget!r} is not like '50% macs' or '2000000 bytes': {', '.join(MEASURES)}")
    return {f"max_{measure}": amount if amount.endswith("%") else value if measure == "latency" else int(value)}


def write(found: Compressed, folder: Path) -> list[Path]:
    """Save the small model and its curve, and a page about it."""
    folder.mkdir(parents=True, exist_ok=True)
    surgery.save(found.model, folder / "small")
    found.curve.to_json(folder / "curve.json")
    surgery.report({"searched": found.curve}, folder / "report.html", score="agreement")
    return [folder / name for name in ("small.safetensors", "small.json", "curve.json", "report.html")]
