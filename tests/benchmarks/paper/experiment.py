"""One experiment of the paper: its model, its data, the trainings that are compared, and how good a model is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from surgery.plan.plan import Draw

RATES, FIRST = (1e-4, 3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2), (1e-3, 3e-3, 6e-3)
RISE = 0.2  # of the steps, until the learning rate is at its highest


@dataclass(frozen=True)
class Mode:
    """A way of training.

    Attributes:
        step: "plain", "paper" (one forward at the paper's draw, features rescaled) or "default" (`train_step`).
        scope: which axes are elastic; a key of `Experiment.scopes`.
        rate: a constant learning rate; without one, one-cycle up to one of the experiment's `rates`.
        narrow: what narrow passes of `train_step` draw; its own draws without.
    """

    step: str
    scope: str
    rate: float | None = None
    narrow: tuple[Draw, ...] | None = None


@dataclass(frozen=True)
class Task:
    """What is learnt, by what model, and how good it is.

    Attributes:
        build: the model with random weights.
        inputs: example inputs.
        batches: (seed) gives batches for ever.
        loss: (output, labels).
        scores: (model, part) is how good it is on "validation" or "test" data, a number for each of `measures`.
        measures: the names of the scores; higher is better.
        unit: of the scores, as an axis says it.
        margin: how much of a score may go.
        calibration: batches for BatchNorm, and for refits.
        normed: whether there is BatchNorm.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    batches: Callable[[int], Iterator[tuple[Any, Tensor]]]
    loss: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[nn.Module, str], list[float]]
    measures: tuple[str, ...]
    unit: str
    margin: float
    calibration: Callable[[], list[Any]]
    normed: bool = False


@dataclass(frozen=True)
class Experiment:
    """A task, and what is compared on it.

    Attributes:
        steps: of a training, and of a quick one.
        p, lower: of the paper's draw.
        scopes: which groups are elastic, as globs for `surgery.wrap(only=)`, by name; no globs are all of them.
        modes: the trainings that are compared, "plain" first.
        widths: what is measured, fractions or numbers of features, the full one first.
        few: of these, what costs a training or a refit each.
        rates, first: learning rates to choose from, in order, and those of them that are tried first.
        trial: the share of the steps of trainings that choose a rate.
        alone: the model with its widths multiplied by a fraction, where each of the few widths is trained alone too.
    """

    task: Task
    steps: tuple[int, int]
    p: float
    lower: int
    scopes: dict[str, tuple[str, ...]]
    modes: dict[str, Mode]
    widths: tuple[float, ...]
    few: tuple[float, ...]
    rates: tuple[float, ...] = RATES
    first: tuple[float, ...] = FIRST
    trial: float = 0.2
    alone: Callable[[float], nn.Module] | None = None

    def wrapped(self, model: nn.Module, mode: Mode, seed: int = 0) -> nn.Module:
        """A twin as the mode trains and measures it."""
        draw = surgery.paper(self.p, self.lower, rescale=True) if mode.step == "paper" else None
        generator = torch.Generator().manual_seed(seed)
        return surgery.wrap(model, self.task.inputs(), only=self.scopes[mode.scope], draw=draw, generator=generator)

    def gradients(self, mode: Mode, model: nn.Module, x: Any, y: Tensor) -> None:
        """Those of one batch."""
        if mode.step == "default":
            surgery.train_step(model, x, lambda output: self.task.loss(output, y), narrow=mode.narrow)
        else:
            self.task.loss(model(*x) if isinstance(x, tuple) else model(x), y).backward()

    def fit(self, model: nn.Module, mode: Mode, rate: float, share: float, seed: int, quick: bool) -> float:
        """Train in place for a share of the steps; the seconds of one core that it took."""
        steps = max(10, round(share * self.steps[quick]))
        optimizer = torch.optim.Adam(model.parameters(), rate, fused=True)
        schedule = None
        if mode.rate is None:  # it moves the momentum, too
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=RISE)
        batches = self.task.batches(seed)
        start = time.process_time()
        model.train()
        for _ in tqdm(range(steps), f"{mode.step}, seed {seed}, rate {rate}", leave=False, mininterval=5):
            optimizer.zero_grad()
            self.gradients(mode, model, *next(batches))
            optimizer.step()
            if schedule is not None:
                schedule.step()
        model.eval()
        return round(time.process_time() - start, 4)

    def at(self, twin: nn.Module, width: float, *parts: str, calibrated: bool = True) -> list[list[float]]:
        """The scores of a twin at one width on each part, its BatchNorm calibrated there or as the training left it."""
        with surgery.at_widths(twin, {"*": width}):
            if calibrated and self.task.normed:
                surgery.recalibrate(twin, self.task.calibration())
            return [self.task.scores(twin, part) for part in parts]
