"""Does a width for every axis pay? `python -m tests.benchmarks choice`: searched against uniform widths on test data.

The models are those of `fashion_mlp`, `fashion_cnn` and `language` (everything elastic), of their first seed. `search`
chooses on validation data, at shares of the MACs; uniform is the largest uniform model within the same budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import surgery
from surgery.demo.data import Part
from tests.benchmarks import language
from tests.benchmarks.data import shakespeare
from tests.benchmarks.fashion import Fashion
from tests.benchmarks.image_cells import EXAMPLE, batches, parts
from tests.benchmarks.images import SETUPS
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
BUDGETS = (0.5, 0.3, 0.2, 0.1)
EVALUATIONS = 80


@dataclass(frozen=True)
class Subject:
    """A nested model, and its goodness for every sample of the validation and of the test data; higher is better.

    Attributes:
        calibration: batches for BatchNorm.
        scale: what one unit of goodness is in the table.
    """

    wrapped: nn.Module
    validation: Callable[[nn.Module], Tensor]
    test: Callable[[nn.Module], Tensor]
    calibration: list[Tensor] | None
    scale: float


def right(part: Part) -> Callable[[nn.Module], Tensor]:
    """1.0 for each image that is labelled right."""

    @torch.no_grad()
    def samples(model: nn.Module) -> Tensor:
        found = [model(images).argmax(1) for images in part.images.split(2_500)]
        return (torch.cat(found) == part.labels).double()

    return samples


def likely(text: Tensor, count: int) -> Callable[[nn.Module], Tensor]:
    """Minus the loss of each window, in nats per byte."""
    return lambda model: -torch.tensor(language.losses(model, text, count), dtype=torch.float64)


def images(name: str, weights: Value, quick: bool) -> Subject:
    model = SETUPS[name].build(1.0)
    model.load_state_dict(weights)
    _, validation, test = parts(quick)
    return Subject(surgery.wrap(model, EXAMPLE), right(validation), right(test), batches(quick), 100)


def text(name: str, weights: Value, quick: bool) -> Subject:
    model = language.Decoder()
    model.load_state_dict(weights)
    _, validation, test = shakespeare()
    wrapped = language.wrapped(model, language.KINDS["everything"], 0)
    return Subject(wrapped, likely(validation, 8 if quick else 64), likely(test, 32 if quick else 512), None, 1)


SUBJECTS = {"mlp": images, "cnn": images, "language": text}


def searched(name: str, evaluations: int, quick: bool, weights: Value) -> Value:
    """For each budget the searched and the uniform widths, and their goodness on the test data."""
    subject = SUBJECTS[name](name, weights, quick)
    calls = 0

    def validate(model: nn.Module) -> Tensor:
        nonlocal calls
        calls += 1
        return subject.validation(model)

    curve = surgery.search(
        subject.wrapped, validate, BUDGETS, evaluations=evaluations, measure_latency=False,
        recalibrate=subject.calibration,
    )  # fmt: skip
    found = [compared(subject, *pair) for pair in zip(curve, curve.uniform, strict=True)]
    return {"evaluations": calls, "full macs": curve.full["macs"], "budgets": found}


def compared(subject: Subject, point: surgery.Point, uniform: surgery.Point) -> Value:
    """Both on the test data, with the standard error of the difference over the same samples."""
    chosen, even = (tested(subject, widths) for widths in (point, uniform))
    gain = subject.scale * (chosen - even)
    return {
        "searched": subject.scale * chosen.mean().item(), "uniform": subject.scale * even.mean().item(),
        "gain": gain.mean().item(), "error": gain.std().item() / len(gain) ** 0.5,
        "validation": [subject.scale * point.score, subject.scale * uniform.score],
        "macs": [point.macs, uniform.macs], "widths": point.widths,
    }  # fmt: skip


def tested(subject: Subject, widths: surgery.Point) -> Tensor:
    with surgery.at_widths(subject.wrapped, widths):
        surgery.recalibrate(subject.wrapped, subject.calibration or ())
        return subject.test(subject.wrapped)


def nested(run: Run, name: str) -> Value:
    """The nested training that the other benchmark of this model has in the same file, or does now."""
    if name == "language":
        return language.Language(run).nested("everything", 0)
    return Fashion(run, name).nested(0)


def main(run: Run) -> list[Value]:
    """Print and return a row for each model and budget."""
    rows: list[Value] = []
    evaluations = 20 if run.quick else EVALUATIONS
    for name in SUBJECTS:
        given = {"weights": nested(run, name)["weights"]}
        value = run.cell(searched, given, name=name, evaluations=evaluations, quick=run.quick)
        for budget, found in zip(BUDGETS, value["budgets"], strict=True):
            cost = [round(macs / value["full macs"], 3) for macs in found["macs"]]
            scores = {key: round(found[key], 3) for key in ("searched", "uniform", "gain", "error")}
            rows.append({"model": name, "budget": budget, **scores, "MACs": cost, "evaluations": value["evaluations"]})
            print(rows[-1])
    return rows


def plot(rows: list[Value], path: Path) -> None:
    """What the search gains over uniform widths on the test data, in points of accuracy."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        scale = 100 if row["model"] == "language" else 1
        label = f"{row['model']}, {'0.01 nats' if scale > 1 else 'points'}"
        series.setdefault(label, []).append((row["budget"], scale * row["gain"], scale * row["error"]))
    lines(path, series, "budget, of the full model's MACs", "searched above uniform, on the test set", "Width per axis")
