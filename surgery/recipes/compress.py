"""From a trained model to a smaller one within a budget, without labels."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import surgery
from surgery.recipes.polish import polish, said, telling

HELD = 5  # one batch in so many is kept for scores
MEASURES = ("macs", "params", "bytes", "latency")


@dataclass(frozen=True)
class Compressed:
    """What `compress` has made: the small model, the curve that it is of, and what the full one and it score."""

    model: nn.Module
    curve: surgery.Curve
    point: surgery.Point
    full: float
    score: float


def compress(
    model: nn.Module,
    batches: Iterable[Any],
    budget: str,
    *,
    validate: Callable[[nn.Module], Any] | None = None,
    evaluations: int = 40,
    epochs: int = 0,
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
        epochs: passes over the batches in which the model that was chosen learns to say what the full one says (see
            `polish`); it is kept where it scores higher.
        progress: show bars.

    Raises InputError for a budget that cannot be read, fewer than two batches or negative epochs; and what
    `surgery.search` raises.
    """
    if epochs < 0:
        raise surgery.InputError(f"epochs is how often the batches are gone over, at least 0: got {epochs}")
    if isinstance(batches, torch.Tensor) or not isinstance(batches, Iterable):
        raise surgery.InputError(
            f"compress takes several batches, got one {type(batches).__name__}: put it into a list"
        )
    if validate is not None and not callable(validate):
        raise surgery.InputError(
            f"validate is a function of a model that returns its score, got {type(validate).__name__}"
        )
    limits, given = _limits(budget), _inputs(model, batches)
    if len(given) < 2:
        raise surgery.InputError(f"compress needs several batches, as some are kept for the scores: got {len(given)}")
    held, used = given[::HELD], [batch for i, batch in enumerate(given) if i % HELD]
    example = used[0]
    ordered = surgery.sort(model, example, by=surgery.absorbed(used)).eval()
    wrapped = surgery.wrap(ordered, example)  # what is fitted has statistics of the same batches
    score = validate or agreement(ordered, held)
    curve = surgery.search(
        wrapped, score, [limits], evaluations=evaluations, refit=used, progress=progress,
        measure_latency="max_latency" in limits,
    )  # fmt: skip
    small = surgery.shrink(wrapped, curve[-1], refit=used).eval()
    if epochs:
        small = polish(small, ordered, used, epochs, score=lambda model: _scored(score, model), progress=progress)
    whole = curve.whole
    reached = _scored(score, small) if epochs else curve[-1].score
    return Compressed(small, curve, curve[-1], float("nan") if whole is None else whole.score, reached)


@torch.no_grad()
def _scored(score: Callable[[nn.Module], Any], model: nn.Module) -> float:
    """A score without its error."""
    found = score(model)
    return float(found[0] if isinstance(found, tuple) else found)


def agreement(model: nn.Module, inputs: Sequence[Any]) -> Callable[[nn.Module], float]:
    """How much of what a model says to some inputs another one says: 1 is all of it."""
    with torch.no_grad():
        known = [said(model, given) for given in inputs]
    usual = [telling(row) for row in known]
    spread = sum(float((x[at] - x[at].mean()).square().sum()) for x, at in zip(known, usual, strict=True)) or 1.0

    @torch.no_grad()
    def score(other: nn.Module) -> float:
        every = zip(inputs, known, usual, strict=True)
        return 1 - sum(float((said(other, given) - x)[at].square().sum()) for given, x, at in every) / spread

    return score


def _inputs(model: nn.Module, batches: Iterable[Any]) -> list[Any]:
    """What of batches a model takes: all of them, or what stands before the labels, as the first of them tells."""
    takes, given, count = inspect.signature(model.forward).parameters, list[Any](), 0
    for batch in batches:
        if isinstance(batch, Mapping):
            batch = dict(batch)
            given.append(batch if _is_open(takes) else {key: value for key, value in batch.items() if key in takes})
            continue
        parts = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
        count = count or _taken(model, parts)
        given.append(parts[:count])
    return given


@torch.no_grad()
def _taken(model: nn.Module, parts: Sequence[Any]) -> int:
    """How many parts of a batch a model runs on: as many as it can, the first at least."""
    for count in range(len(parts), 1, -1):
        try:
            copy.deepcopy(model).eval()(*parts[:count])
        except Exception:  # these are not all inputs
            continue
        _say(model, count)
        return count
    return 1


def _say(model: nn.Module, count: int) -> None:
    """A part of a batch that a model could do without may be labels that happen to fit."""
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = [one for one in inspect.signature(model.forward).parameters.values() if one.kind in places]
    spare = [one.name for one in takes[:count] if one.default is not inspect.Parameter.empty]
    if spare:
        names = ", ".join(one.name for one in takes[:count])
        warnings.warn(
            f"{type(model).__name__} is given the parts of a batch as {names}: if {spare[-1]} gets labels by that, "
            "give batches without labels",
            stacklevel=4,
        )


def _is_open(takes: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in takes.values())


def _limits(budget: str) -> dict[str, Any]:
    """A budget in words as `surgery.search` takes it."""
    amount, _, measure = str(budget).strip().partition(" ")
    measure = measure.strip().lower()
    try:
        value = float(amount.removesuffix("%"))
    except ValueError:
        value = -1.0
    share = amount.endswith("%") or measure == "latency"
    if measure not in MEASURES or not (0 if share else 1) < value < math.inf:
        raise surgery.InputError(f"budget {budget!r} is not like '50% macs' or '2000000 bytes': {', '.join(MEASURES)}")
    return {f"max_{measure}": amount if amount.endswith("%") else value if measure == "latency" else int(value)}


def write(found: Compressed, folder: Path) -> list[Path]:
    """Save the small model and its curve, and a page about it."""
    folder.mkdir(parents=True, exist_ok=True)
    surgery.save(found.model, folder / "small")
    found.curve.to_json(folder / "curve.json")
    surgery.report({"searched": found.curve}, folder / "report.html", score="agreement")
    return [folder / name for name in ("small.safetensors", "small.json", "curve.json", "report.html")]
