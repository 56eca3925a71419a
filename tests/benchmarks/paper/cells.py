"""What is run once and kept: a training, and what its model scores at every width.

All trainings of an experiment share the loop, the batches, and how a learning rate and a length are chosen: on
validation data, with the first seed. Trainings of a fifth of the steps choose the rate; then that length or the whole
one is taken. What is chosen of a family is chosen by its mean over widths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

import surgery
from tests.benchmarks.paper.experiment import Experiment
from tests.benchmarks.run import Run

Value = dict[str, Any]
TRIAL = 0.2  # of the steps
LEAST = 1 / 16  # of the widths: no less is drawn by default
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
        rate = max(self.experiment.rates, key=lambda rate: cell(rate, TRIAL, 0)["chosen by"])
        share = max((1.0, TRIAL), key=lambda share: cell(rate, share, 0)["chosen by"])
        return cell(rate, share, seed)

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


def trained(
    name: str, mode: str, fraction: float, rate: float, share: float, seed: int, quick: bool, experiment: Experiment
) -> Value:
    """One training, from random weights."""
    torch.manual_seed(seed)
    model, how = experiment.task.build(fraction), experiment.modes[mode]
    if how.step == "plain":
        seconds = experiment.fit(model, how, rate, share, seed, quick)
        found = {part: experiment.task.scores(model, part) for part in PARTS}
        return {"seconds": seconds, **found, "chosen by": sum(found["validation"]), "weights": model.state_dict()}
    twin = experiment.wrapped(model, how, seed)
    seconds = experiment.fit(twin, how, rate, share, seed, quick)
    drawn = [width for width in experiment.few if width >= LEAST * experiment.few[0]]
    total = sum(sum(experiment.at(twin, "validation", width)) for width in drawn)
    return {"seconds": seconds, "chosen by": total / len(drawn), "weights": model.state_dict()}


def loaded(experiment: Experiment, weights: Value) -> nn.Module:
    """The full model with weights of a training."""
    model = experiment.task.build(1.0)
    model.load_state_dict(weights)
    return model.eval()


def by_width(
    mode: str, scope: str | None, calibrated: bool, experiment: Experiment, weights: Value, **key: Any
) -> Value:
    """Scores at each of the widths: those of validation data, and those of test data."""
    how = experiment.modes[mode]
    how = how if scope is None else replace(how, scope=scope)
    twin = experiment.wrapped(loaded(experiment, weights), how).eval()
    return {part: [experiment.at(twin, part, w, calibrated) for w in experiment.widths] for part in PARTS}


def fitted(how: str, scope: str, experiment: Experiment, weights: Value, **key: Any) -> Value:
    """Scores at a few widths of a plain model: refitted for each, or of one set of weights for all. Without labels."""
    batches, only, example = experiment.task.calibration(), experiment.scopes[scope], experiment.task.inputs()
    model = surgery.sort(loaded(experiment, weights), example, by=surgery.absorbed(batches))
    if how == "sorted and nested":
        plan = surgery.inspect(surgery.wrap(model, example, only=only))
        model = surgery.nest(model, batches, example, widths=[plan.widths({"*": width}) for width in experiment.few])
    twin = surgery.wrap(model, example, only=only, calibration=batches).eval()
    found: Value = {part: [] for part in PARTS}
    for width in experiment.few:
        refit = batches if how == "sorted and refitted" and width != experiment.few[0] else None
        small = surgery.shrink(twin, {"*": width}, refit=refit).eval()
        for part in PARTS:
            found[part].append(experiment.task.scores(small, part))
    return found
