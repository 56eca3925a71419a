"""A pretrained start: sort, wrap, and continue for a fifth of the epochs: `python -m tests.benchmarks pretrained`.

The plain CNN of `fashion_cnn` goes on as a nested one, with its features sorted by importance and without. How much of
the gap between cutting the plain model and nested training from scratch is made up, in the mean over widths below 1?
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.benchmarks.fashion import Fashion, mean
from tests.benchmarks.fitting import BATCH
from tests.benchmarks.image_cells import EXAMPLE, RECIPE, at_each_width, measured, nested_step, parts
from tests.benchmarks.images import FRACTIONS, SETUPS
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
SHARE = 0.2  # of the epochs


def loss(model: nn.Module, rows: slice) -> torch.Tensor:
    train, _, _ = parts(False)
    return F.cross_entropy(model(train.images[rows]), train.labels[rows])


def started(start: Value, by: str) -> nn.Module:
    """The plain model with its weights, sorted `by` magnitude or Taylor (on two batches), or not at all."""
    model = SETUPS["cnn"].build(1.0)
    model.load_state_dict(start)
    batches = [slice(0, BATCH), slice(BATCH, 2 * BATCH)]
    orders = {"magnitude": surgery.magnitude(), "taylor": surgery.taylor(batches, loss)}
    return model if by == "none" else surgery.sort(model.eval(), EXAMPLE, by=orders[by])


def continued(by: str, rate: float, seed: int, epochs: float, quick: bool, recipe: Value, start: Value) -> Value:
    """Nested training that goes on from plain weights; without epochs, those weights cut."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(started(start, by), EXAMPLE, generator=generator)
    seconds = measured(wrapped, epochs, rate, seed, quick, nested_step) if epochs else 0.0
    widths = at_each_width(wrapped, quick)
    return {"seconds": seconds, "validation": mean([width["validation"] for width in widths]), "widths": widths}


class Pretrained:
    """Results by start and seed; the learning rate of the continued training is the best of seed 0 on validation."""

    def __init__(self, run: Run):
        self.run, self.fashion = run, Fashion(run, "cnn")

    def cell(self, by: str, rate: float, seed: int, epochs: float) -> Value:
        given = {"start": self.fashion.alone(1.0, seed)["weights"]}
        settings = {"by": by, "rate": rate, "seed": seed, "epochs": epochs, "quick": self.run.quick}
        return self.run.cell(continued, given, **settings, recipe=RECIPE)

    def continued(self, by: str, seed: int) -> Value:
        epochs = SHARE * self.fashion.epochs
        rate = max(self.fashion.rates, key=lambda rate: self.cell(by, rate, 0, epochs)["validation"])
        return {**self.cell(by, rate, seed, epochs), "rate": rate}

    def of_seed(self, seed: int) -> dict[str, Value]:
        sorts = ("none", "magnitude", "taylor")
        found = {f"cut, sorted by {by}": self.cell(by, 0.0, seed, 0.0) for by in sorts}
        found |= {f"continued, sorted by {by}": self.continued(by, seed) for by in sorts}
        return {**found, "nested from scratch": self.fashion.nested(seed)}


def main(run: Run) -> list[Value]:
    """Print and return a row for each start: mean test accuracy at every width, and the share of the gap made up."""
    results = Pretrained(run)
    seeds = run.seeds(3)
    found = [results.of_seed(seed) for seed in seeds]
    rows: list[Value] = []
    for name in found[0]:
        scores = [[values[name]["widths"][i]["test"] for values in found] for i in range(len(FRACTIONS))]
        rows.append({"start": name, "seeds": len(seeds), "test %": [round(mean(at), 2) for at in scores]})
        if len(seeds) > 1:
            rows[-1]["stdev"] = [round(statistics.stdev(at), 2) for at in scores]
        rows[-1]["rate"] = found[0][name].get("rate")
    worst, goal = (mean(rows[i]["test %"][1:]) for i in (0, -1))
    for row in rows:
        row["gap made up"] = round((mean(row["test %"][1:]) - worst) / (goal - worst), 3)
    print("widths", FRACTIONS, *rows, sep="\n")
    return rows


def plot(rows: list[Value], path: Path) -> None:
    """Test accuracy against width, one line for each start."""
    none = [0.0] * len(FRACTIONS)
    series = {
        row["start"]: list(zip(FRACTIONS, row["test %"], row.get("stdev", none), strict=True)) for row in rows
    }  # fmt: skip
    lines(path, series, "width of every layer, of the full one", "test accuracy, %", "CNN from a pretrained start")
