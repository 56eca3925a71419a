"""A trained CNN made a family and polished, against pruning, refits, and training alone, at equal total compute.

`python -m tests.benchmarks compared`. The CNN of `fashion_cnn`, longer. The budget is what all widths alone take. It
is counted in epochs of the plain model: a step of another kind counts by its time, measured in turn with plain steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.demo.data import Part
from tests.benchmarks.fitting import Step, fit, plain
from tests.benchmarks.image_cells import EXAMPLE, alone, batches, parts, pruned, scores
from tests.benchmarks.images import SETUPS
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
Cell = Callable[[float, int, float], Value]  # learning rate, seed, epochs
MODEL = "cnn"
FRACTIONS = (1.0, 0.75, 0.5, 0.25, 0.125)
NARROW = ((0.125,), (0.25,), (0.5, 0.75))  # a small, a middle and a large width of the table in every step
EPOCHS, FAMILY = 12, 8  # of plain trainings, and of the nested one
RATES, FINE_RATES = (6e-3, 1.2e-2), (2e-3, 6e-3)
TRIAL = 0.2  # of the epochs: short trainings with seed 0 choose the learning rate, on validation images
ROUNDS = 40


def numbered(part: Part) -> Part:
    """The same images, with their numbers in the place of labels: what a teacher says is looked up by them."""
    return Part(part.images, torch.arange(len(part.images)))


@torch.no_grad()
def logits(model: nn.Module, part: Part) -> Tensor:
    return torch.cat([model(x) for x in part.images.split(2_500)])


def learning(part: Part, said: Tensor) -> Step:
    """A step of one width: half from the labels, half from what the trained model says."""

    def step(model: nn.Module, x: Tensor, rows: Tensor) -> None:
        made = model(x)
        (0.5 * F.cross_entropy(made, part.labels[rows]) + 0.5 * F.cross_entropy(made, said[rows].softmax(1))).backward()

    return step


def nested(part: Part, said: Tensor) -> Step:
    """A step of the family: narrow widths alone, from the same."""
    draws = [surgery.grid(fractions) for fractions in NARROW]

    def step(model: nn.Module, x: Tensor, rows: Tensor) -> None:
        surgery.train_step(
            model, x, lambda made: F.cross_entropy(made, part.labels[rows]), narrow=draws, weight=len(draws),
            teacher=lambda _: said[rows], full=False,
        )  # fmt: skip

    return step


def sorted_model(start: Value) -> nn.Module:
    built = SETUPS[MODEL].build(1.0)
    built.load_state_dict(start)
    return surgery.sort(built.eval(), EXAMPLE, by=surgery.absorbed(batches(False)))


def begun(start: Value) -> tuple[nn.Module, nn.Module]:
    """The sorted model, and the nested start of the narrow widths, wrapped."""
    model = sorted_model(start)
    made = surgery.nest(model, batches(False), EXAMPLE, widths=FRACTIONS[1:])
    return model, surgery.wrap(made, EXAMPLE, calibration=batches(False))


def times(quick: bool) -> Value:
    """Time of a step at every width, of a family's step and of what comes before it, in plain steps and epochs."""
    train, _, _ = parts(quick)
    models = {str(f): (SETUPS[MODEL].build(f).train(), plain, train) for f in FRACTIONS}
    first = models["1.0"][0]
    began = time.process_time()
    model, wrapped = begun(first.state_dict())
    said = logits(model, train)
    before = time.process_time() - began
    models["family"] = (wrapped.train(), nested(train, said), numbered(train))
    taken: dict[str, list[float]] = {name: [] for name in models}
    for i in range(ROUNDS):
        rows = torch.arange(SETUPS[MODEL].batch) + i * SETUPS[MODEL].batch
        for name, (one, step, part) in models.items():
            began = time.process_time()
            step(one, part.images[rows], part.labels[rows])
            taken[name].append(time.process_time() - began)
    whole = statistics.median(taken["1.0"])
    epoch = whole * (len(train.images) // SETUPS[MODEL].batch)
    return {name: round(statistics.median(of) / whole, 3) for name, of in taken.items()} | {
        "before": round(before / epoch, 2)
    }


def family(seed: int, rate: float, epochs: float, quick: bool, recipe: Value, start: Value) -> Value:
    """Trained plain, sorted, nested, trained at the narrow widths together; `recipe` is a part of the key."""
    torch.manual_seed(seed)
    train, _, _ = parts(quick)
    model, wrapped = begun(start)
    fit(wrapped, numbered(train), epochs, rate, seed, SETUPS[MODEL].batch, nested(train, logits(model, train)))
    found = [scores(surgery.shrink(wrapped, fraction), quick) for fraction in FRACTIONS[1:]]
    validation = statistics.mean(of["validation"] for of in found)
    return {"validation": validation, "widths": found, "weights": surgery.unwrap(wrapped).state_dict()}


def polished(
    fraction: float, seed: int, rate: float, epochs: float, quick: bool, recipe: Value, start: Value, whole: Value
) -> Value:
    """One width of the family, `start`, trained alone; `whole` is the plain model."""
    built = SETUPS[MODEL].build(1.0)
    built.load_state_dict(start)
    small = surgery.shrink(built, fraction, EXAMPLE, recalibrate=batches(False))
    return finished(small, seed, rate, epochs, quick, whole)


def separate(fraction: float, seed: int, rate: float, epochs: float, quick: bool, start: Value) -> Value:
    """The plain model, sorted, cut to one width, refitted, and trained alone."""
    model = sorted_model(start)
    small = surgery.shrink(model, fraction, EXAMPLE, refit=batches(False), recalibrate=batches(False))
    return finished(small, seed, rate, epochs, quick, start)


def finished(small: nn.Module, seed: int, rate: float, epochs: float, quick: bool, whole: Value) -> Value:
    torch.manual_seed(seed)
    train, _, _ = parts(quick)
    teacher = SETUPS[MODEL].build(1.0)
    teacher.load_state_dict(whole)
    said = logits(teacher.eval(), train)
    fit(small, numbered(train), epochs, rate, seed, SETUPS[MODEL].batch, learning(train, said))
    return scores(small, quick)


class Compared:
    """The results of one run, each at the learning rate that short trainings chose, within the budget of all."""

    def __init__(self, run: Run):
        self.run = run
        self.epochs, self.family_epochs = (1, 1) if run.quick else (EPOCHS, FAMILY)
        self.times = run.cell(times, quick=run.quick)
        self.budget = self.epochs * sum(self.times[str(f)] for f in FRACTIONS)
        self.recipe = {"narrow": repr(NARROW), "epochs": self.family_epochs}

    def chosen(self, cell: Cell, rates: tuple[float, ...], seed: int, epochs: float) -> Value:
        rate = max(rates, key=lambda rate: cell(rate, 0, TRIAL * epochs)["validation"])
        return {**cell(rate, seed, epochs), "rate": rate}

    def alone(self, fraction: float, seed: int) -> Value:
        def cell(rate: float, seed: int, epochs: float) -> Value:
            return self.run.cell(
                alone, model=MODEL, fraction=fraction, epochs=epochs, rate=rate, seed=seed, quick=self.run.quick
            )

        return self.chosen(cell, RATES, seed, self.epochs)

    def plain(self, seed: int) -> Value:
        weights: Value = self.alone(1.0, seed)["weights"]
        return weights

    def family(self, seed: int) -> Value:
        def cell(rate: float, seed: int, epochs: float) -> Value:
            settings = {"seed": seed, "rate": rate, "epochs": epochs, "quick": self.run.quick, "recipe": self.recipe}
            return self.run.cell(family, {"start": self.plain(seed)}, **settings)

        return self.chosen(cell, RATES, seed, self.family_epochs)

    def share(self, fraction: float, used: float) -> float:
        """Epochs at one narrow width in its part of the budget, after what all of them have used."""
        return round((self.budget - self.epochs - used) / (len(FRACTIONS) - 1) / self.times[str(fraction)], 2)

    def fine(self, function: Callable[..., Value], fraction: float, seed: int, used: float, **given: Any) -> Value:
        def cell(rate: float, seed: int, epochs: float) -> Value:
            starts = {"start": self.plain(seed)}
            settings = {"fraction": fraction, "epochs": epochs, "rate": rate, "seed": seed, "quick": self.run.quick}
            if function is polished:
                starts = {"start": self.family(seed)["weights"], "whole": self.plain(seed)}
            return self.run.cell(function, starts, **settings, **given)

        return self.chosen(cell, FINE_RATES, seed, self.share(fraction, used))

    def of_seed(self, seed: int) -> dict[str, list[Value]]:
        """What every method found with one seed: a value for each width, the first of them the whole."""
        narrow, before = FRACTIONS[1:], self.times["before"]
        whole = self.alone(1.0, seed)
        nest = before + self.family_epochs * self.times["family"]
        found = {"alone": [whole, *(self.alone(f, seed) for f in narrow)]}
        made = self.family(seed)
        found["family"] = [whole, *({**of, "rate": made["rate"]} for of in made["widths"])]
        found["family, polished"] = [whole] + [self.fine(polished, f, seed, nest, recipe=self.recipe) for f in narrow]
        found["refitted, then trained"] = [whole, *(self.fine(separate, f, seed, before) for f in narrow)]
        found["Torch-Pruning"] = [whole, *(self.fine(pruned, f, seed, 0.0, model=MODEL) for f in narrow)]
        return found


def main(run: Run) -> list[Value]:
    """Print and return a row for each method: mean and standard error of the test accuracy at every width."""
    results = Compared(run)
    seeds = run.seeds(3)
    found = [results.of_seed(seed) for seed in seeds]
    rows: list[Value] = []
    for method in found[0]:
        values = [[of[method][i]["test"] for of in found] for i in range(len(FRACTIONS))]
        rows.append({"method": method, "seeds": len(seeds), "test %": [round(statistics.mean(at), 2) for at in values]})
        if len(seeds) > 1:
            rows[-1]["error"] = [round(statistics.stdev(at) / len(at) ** 0.5, 2) for at in values]
    rows.append({"times": results.times, "budget, epochs": round(results.budget, 1),
                 "rates": {m: [v.get("rate") for v in of] for m, of in found[0].items()}})  # fmt: skip
    print("widths", FRACTIONS, *rows, sep="\n")
    return rows


def plot(rows: list[Value], path: Path) -> None:
    """Test accuracy against width, one line for each method."""
    series = {
        row["method"]: list(zip(FRACTIONS, row["test %"], row.get("error", [0.0] * len(FRACTIONS)), strict=True))
        for row in rows if "test %" in row
    }  # fmt: skip
    lines(path, series, "width of every layer, of the full one", "test accuracy, %", "CNN, equal total compute")
