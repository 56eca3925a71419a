"""What is run once and kept: a training, and what its model scores at every width.

All trainings of an experiment share the loop, the batches, and how a learning rate and a length are chosen: on
validation data, with the first seed, families by their mean over the widths from a quarter up, which all of them draw.
Trainings of a share of the steps choose the rate, which goes on up or down while the best one is the last that was
tried. The whole length is taken where it is better than that share by more than a tenth of the margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import surgery
from tests.benchmarks.paper.experiment import Experiment
from tests.benchmarks.run import Run

Value = dict[str, Any]
WORTH = 0.1  # of the margin, what a whole training has to gain
CHOOSING, NESTED = 1 / 4, 1 / 16  # of the widths: the least that choices look at, and that weights are nested for
PARTS = ("validation", "test")
FITTED = ("sorted and refitted", "sorted and nested")  # what a trained model is made into without training


class Results:
    """Of one experiment: trainings, at learning rates and of lengths that were chosen, and their scores by width."""

    def __init__(self, run: Run, name: str, experiment: Experiment):
        self.run, self.experiment = run, experiment
        self.common = {"name": name, "quick": run.quick}

    def trained(self, mode: str, seed: int, fraction: float = 1.0) -> Value:
        """Seconds, scores on both parts (of a plain model), weights, the learning rate and the share of the steps."""
        given, known = {"experiment": self.experiment}, self.experiment.modes[mode].rate

        def cell(rate: float, share: float, seed: int) -> Value:
            settings = {"mode": mode, "fraction": fraction, "rate": rate, "share": share, "seed": seed}
            return {**self.run.cell(trained, given, **self.common, **settings), "rate": rate, "share": share}

        if known is not None:
            return cell(known, 1.0, seed)
        of, trial = self.experiment, self.experiment.trial
        rate = climbed(of.rates, of.first, lambda rate: cell(rate, trial, 0)["chosen by"])
        short, whole = (cell(rate, share, 0)["chosen by"] for share in (trial, 1.0))
        return cell(rate, 1.0 if whole > short + WORTH * of.task.margin else trial, seed)

    def family(self, mode: str, seed: int, scope: str | None = None, calibrated: bool = True) -> Value:
        """Scores of one training at all widths; of a plain one on the axes of a scope."""
        made = self.trained(mode, seed)
        settings = {"mode": mode, "rate": made["rate"], "share": made["share"], "seed": seed}
        given = {"experiment": self.experiment, "weights": made["weights"]}
        return self.run.cell(by_width, given, **self.common, **settings, scope=scope, calibrated=calibrated)

    def fitted(self, how: str, seed: int, scope: str) -> Value:
        """Scores at a few widths of the plain model, made into a family without training."""
        made = self.trained("plain", seed)
        settings = {"how": how, "rate": made["rate"], "share": made["share"], "seed": seed}
        given = {"experiment": self.experiment, "weights": made["weights"]}
        return self.run.cell(fitted, given, **self.common, **settings, scope=scope)


def climbed(rates: Sequence[float], first: Sequence[float], score: Callable[[float], float]) -> float:
    """The best of the first rates and of all beyond them that the best leads to."""
    tried = list(first)
    while True:
        best = max(tried, key=score)
        at = rates.index(best)
        beyond = [rate for rate in rates[max(0, at - 1) : at + 2] if rate not in tried]
        if not beyond:
            return best
        tried += beyond


def trained(
    name: str, mode: str, fraction: float, rate: float, share: float, seed: int, quick: bool, experiment: Experiment
) -> Value:
    """One training, from random weights."""
    torch.manual_seed(seed)
    how, task = experiment.modes[mode], experiment.task
    model = task.build() if fraction == 1 or experiment.alone is None else experiment.alone(fraction)
    twin = model if how.step == "plain" else experiment.wrapped(model, how, seed)
    seconds = experiment.fit(twin, how, rate, share, seed, quick)
    weights = {key: value.clone() for key, value in model.state_dict().items()}  # scores calibrate BatchNorm
    if how.step == "plain":
        found = {part: task.scores(model, part) for part in PARTS}
        return {"seconds": seconds, **found, "chosen by": sum(found["validation"]), "weights": weights}
    scores = [sum(experiment.at(twin, width, "validation")[0]) for width in from_(experiment, CHOOSING)]
    return {"seconds": seconds, "chosen by": sum(scores) / len(scores), "weights": weights}


def from_(experiment: Experiment, least: float) -> list[float]:
    """Those of the few widths that are at least a fraction of the full one."""
    return [width for width in experiment.few if width >= least * experiment.few[0]]


def loaded(experiment: Experiment, weights: Value) -> nn.Module:
    """The full model with weights of a training."""
    model = experiment.task.build()
    model.load_state_dict(weights)
    return model.eval()


def by_width(
    mode: str, scope: str | None, calibrated: bool, experiment: Experiment, weights: Value, **training: Any
) -> Value:
    """Scores at each of the widths: those of validation data, and those of test data. `training` made the weights."""
    how = experiment.modes[mode]
    how = how if scope is None else replace(how, scope=scope)
    twin = experiment.wrapped(loaded(experiment, weights), how).eval()
    scores = [experiment.at(twin, width, *PARTS, calibrated=calibrated) for width in experiment.widths]
    return {part: list(found) for part, found in zip(PARTS, zip(*scores, strict=True), strict=True)}


def fitted(how: str, scope: str, experiment: Experiment, weights: Value, **training: Any) -> Value:
    """Scores at a few widths of a plain model, refitted for each, or of one set of weights for all, without labels.

    `training` made the weights.
    """
    task, only, example = experiment.task, experiment.scopes[scope], experiment.task.inputs()
    batches = task.calibration()
    model = surgery.sort(loaded(experiment, weights), example, by=surgery.absorbed(batches))
    if how == "sorted and nested":
        plan = surgery.inspect(surgery.wrap(model, example, only=only))
        widths = [plan.widths({"*": width}) for width in from_(experiment, NESTED)]
        model = surgery.nest(model, batches, example, widths=widths)
    twin = surgery.wrap(model, example, only=only, calibration=batches).eval()
    found: Value = {part: [] for part in PARTS}
    for width in experiment.few:
        refit = batches if how == "sorted and refitted" and width != experiment.few[0] else None
        small = surgery.shrink(twin, {"*": width}, refit=refit).eval()
        for part in PARTS:
            found[part].append(task.scores(small, part))
    return found
