"""A pretrained start: sort, wrap, and continue for a fifth of the epochs: `python -m tests.benchmarks pretrained`.

The plain CNN of `fashion_cnn` goes on as a nested one, with its features sorted by importance and without. How much of
the gap between cutting the plain model and nested training from scratch is made up, in the mean over widths below 1?
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.fashion import Fashion, mean
from tests.benchmarks.images import FRACTIONS
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
SHARE = 0.2  # of the epochs


class Pretrained:
    """Results by start and seed."""

    def __init__(self, run: Run):
        self.fashion = Fashion(run, "cnn")

    def cut(self, by: str, seed: int) -> Value:
        return self.fashion.continued(by, seed, 0.0)

    def continued(self, by: str, seed: int) -> Value:
        return self.fashion.continued(by, seed, SHARE * self.fashion.epochs)

    def of_seed(self, seed: int) -> dict[str, Value]:
        sorts = ("none", "magnitude", "taylor")
        found = {f"cut, sorted by {by}": self.cut(by, seed) for by in sorts}
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
