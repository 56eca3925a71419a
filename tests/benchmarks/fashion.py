"""Nested training on Fashion-MNIST against each width alone and against Torch-Pruning.

`python -m tests.benchmarks fashion_mlp` and `fashion_cnn`. All methods share the loop, the schedule and the choice of
learning rates: on validation images, by trainings of a fifth of the epochs with the first seed. Torch-Pruning starts
from the plain model, whose training is not counted as its compute; it is where nested training is longer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.continued import continued
from tests.benchmarks.image_cells import alone, nested, pruned, recipe
from tests.benchmarks.images import FRACTIONS, SETUPS
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
Cell = Callable[[float, int, float], Value]  # learning rate, seed, epochs
TRIAL = 0.2  # of the epochs: short trainings with seed 0 choose the learning rate


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class Fashion:
    """Results of one model by method, width and seed, each at the learning rate that short trainings chose."""

    def __init__(self, run: Run, name: str):
        self.run = run
        self.epochs = 1 if run.quick else SETUPS[name].epochs
        self.rates = SETUPS[name].rates
        self.common = {"model": name, "quick": run.quick}
        self.recipe = recipe()

    def chosen(self, cell: Cell, seed: int, epochs: float) -> Value:
        rate = self.rates[0]
        if len(self.rates) > 1:
            rate = max(self.rates, key=lambda rate: cell(rate, 0, TRIAL * self.epochs)["validation"])
        return {**cell(rate, seed, epochs), "rate": rate}

    def alone(self, fraction: float, seed: int) -> Value:
        def cell(rate: float, seed: int, epochs: float) -> Value:
            return self.run.cell(alone, **self.common, fraction=fraction, epochs=epochs, rate=rate, seed=seed)

        return self.chosen(cell, seed, self.epochs)

    def nested(self, seed: int, epochs: float | None = None) -> Value:
        """Its `validation` is the mean over the widths."""

        def cell(rate: float, seed: int, epochs: float) -> Value:
            return self.run.cell(nested, **self.common, epochs=epochs, rate=rate, seed=seed, recipe=self.recipe)

        return self.chosen(cell, seed, self.epochs if epochs is None else epochs)

    def longer(self, seed: int) -> Value:
        """Nested training for the time of the plain training and the nested one together (seed 0)."""
        plain, nested = self.alone(1.0, 0)["seconds"], self.nested(0)["seconds"]
        return self.nested(seed, round(self.epochs * (1 + plain / nested), 1))

    def pruned(self, fraction: float, seed: int, epochs: float) -> Value:
        def cell(rate: float, seed: int, epochs: float) -> Value:
            given = {"start": self.alone(1.0, seed)["weights"]}
            return self.run.cell(pruned, given, **self.common, fraction=fraction, epochs=epochs, rate=rate, seed=seed)

        return self.chosen(cell, seed, epochs)

    def continued(self, by: str, seed: int, epochs: float) -> Value:
        """Nested training from the plain model, sorted `by` something; without epochs, that model cut."""

        def cell(rate: float, seed: int, epochs: float) -> Value:
            given = {"start": self.alone(1.0, seed)["weights"]}
            settings = {**self.common, "by": by, "epochs": epochs, "rate": rate, "seed": seed}
            return self.run.cell(continued, given, **settings, recipe=self.recipe)

        return self.chosen(cell, seed, epochs) if epochs else cell(0.0, seed, 0.0)

    def share(self, fraction: float) -> float:
        """Epochs at this width that take the time of the nested training divided by the number of widths (seed 0)."""
        each = self.nested(0)["seconds"] / len(FRACTIONS)
        return round(self.epochs * each / self.alone(fraction, 0)["seconds"], 2)

    def of_seed(self, seed: int) -> dict[str, list[Value]]:
        """What every method found with one seed: a value for each width."""
        found = {"alone": [self.alone(fraction, seed) for fraction in FRACTIONS]}
        found["nested"] = self.nested(seed)["widths"]
        found["nested, longer"] = self.longer(seed)["widths"]
        found["Torch-Pruning, equal compute"] = [self.pruned(f, seed, self.share(f)) for f in FRACTIONS]
        found["Torch-Pruning, equal epochs"] = [self.pruned(f, seed, self.epochs) for f in FRACTIONS]
        return found


def main(run: Run, name: str) -> list[Value]:
    """Print and return a row for each method: mean and standard deviation of the test accuracy at every width."""
    results = Fashion(run, name)
    seeds = run.seeds(3)
    found = [results.of_seed(seed) for seed in seeds]
    rows: list[Value] = []
    for method in found[0]:
        scores = [[values[method][i]["test"] for values in found] for i in range(len(FRACTIONS))]
        rows.append({"method": method, "seeds": len(seeds), "test %": [round(mean(at), 2) for at in scores]})
        if len(seeds) > 1:
            rows[-1]["stdev"] = [round(statistics.stdev(at), 2) for at in scores]
    rows.append(summary(results, seeds))
    print("widths", FRACTIONS, *rows, sep="\n")
    return rows


def summary(results: Fashion, seeds: range) -> Value:
    """The time of nested training, and the settings that the rates and the equal compute came to."""
    full = mean([results.alone(1.0, seed)["seconds"] for seed in seeds])
    every = sum(mean([results.alone(fraction, seed)["seconds"] for seed in seeds]) for fraction in FRACTIONS)
    return {
        "method": "times and rates",
        "plain seconds": round(full, 1),
        "nested / plain": round(mean([results.nested(seed)["seconds"] for seed in seeds]) / full, 2),
        "all widths alone / plain": round(every / full, 2),
        "nested rate": results.nested(0)["rate"],
        "alone rates": [results.alone(fraction, 0)["rate"] for fraction in FRACTIONS],
        "equal compute epochs": [results.share(fraction) for fraction in FRACTIONS],
    }


def plot(rows: list[Value], path: Path, title: str) -> None:
    """Test accuracy against width, one line for each method."""
    none = [0.0] * len(FRACTIONS)
    series = {
        row["method"]: list(zip(FRACTIONS, row["test %"], row.get("stdev", none), strict=True))
        for row in rows if "test %" in row
    }  # fmt: skip
    lines(path, series, "width of every layer, of the full one", "test accuracy, %", title)
