"""MiniLM made narrower with training: one family from a nested start, against each width pruned and trained alone.

`python -m tests.benchmarks distilled`. Both learn the embeddings of the trained model, without labels, in the same
total compute. Its unit is one forward and backward of 16 sentences at full width; a pass at other widths counts by its
multiply-adds. The embeddings to learn from are made once for both, and not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from tests.benchmarks.minilm import Batch, Encoder, Texts, cosine, elastic, embedded, texts

Value = dict[str, Any]
FRACTIONS = (0.75, 0.5, 0.25)
SIZE = 16  # sentences of a step
RISE = 0.1  # of the steps, until the learning rate is at its highest
Lesson = tuple[Batch, Tensor]  # sentences, and their embeddings by the full model


def lessons(full: nn.Module, batches: Sequence[Batch], seed: int) -> Iterator[Lesson]:
    """Batches without end, in random order, each with what the full model says."""
    said = dict[int, Tensor]()
    order = torch.Generator().manual_seed(seed)
    while True:
        for i in torch.randperm(len(batches), generator=order).tolist():
            said[i] = said[i] if i in said else embedded(full, [batches[i]])
            yield batches[i], said[i]


def fit(
    parameters: Sequence[nn.Parameter], source: Iterator[Lesson], steps: int, rate: float,
    step: Callable[[Lesson], object],
) -> None:  # fmt: skip
    """Adam, with a one-cycle learning rate that rises to `rate`; `step` adds the gradients of a batch."""
    optimizer = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(2, steps), pct_start=RISE)
    for _ in tqdm(range(steps), f"rate {rate}", unit="step", leave=False, mininterval=2):
        optimizer.zero_grad()
        step(next(source))
        optimizer.step()
        schedule.step()


def apart(one: Tensor, other: Tensor) -> Tensor:
    """How far embeddings are apart: 1 minus the mean cosine."""
    return 1 - (one * other).sum(-1).mean()


def learnt(model: nn.Module, lesson: Lesson) -> None:
    apart(model(*lesson[0]), lesson[1]).backward()


def scores(model: nn.Module, full: nn.Module, known: Texts) -> Value:
    return {"choice": cosine(full, known.choice)(model), "test": cosine(full, known.test)(model)}


class Trial:
    """What one cell begins with: the model and sentences of a seed, sorted by what readers absorb."""

    def __init__(self, what: str, seed: int, quick: bool):
        torch.manual_seed(seed)
        self.known = texts(quick, seed, SIZE)
        self.full = Encoder().eval()
        self.example = self.known.calibration[len(self.known.calibration) // 2]
        self.sorted = surgery.sort(self.full, self.example, by=surgery.absorbed(self.known.calibration))
        self.plan = surgery.inspect(self.sorted, self.example)
        self.widths = {f: elastic(self.plan, what, f) for f in FRACTIONS}
        self.source = lessons(self.full, self.known.train, seed)

    def share(self, fraction: float) -> float:
        """The multiply-adds at a fraction, of those at full width."""
        costs = [surgery.cost(self.sorted, w, self.example).macs for w in (self.widths[fraction], 1.0)]
        return costs[0] / costs[1]


def alone(what: str, fraction: float, rate: float, units: float, seed: int, quick: bool) -> Value:
    """Cut to one width, refitted, and trained to say what the full model says."""
    trial = Trial(what, seed, quick)
    small = surgery.shrink(trial.sorted, trial.widths[fraction], trial.example, refit=trial.known.calibration).eval()
    steps = round(units / trial.share(fraction))
    fit(list(small.parameters()), trial.source, steps, rate, lambda lesson: learnt(small, lesson))
    return {"steps": steps, **scores(small, trial.full, trial.known)}


def family(what: str, rate: float, units: float, polish: float, polish_rate: float, seed: int, quick: bool) -> Value:
    """Nested, trained at all widths together; then each width alone for a part of the compute.

    Args:
        polish: the part of `units` that goes into the widths one by one.
    """
    trial = Trial(what, seed, quick)
    nested = surgery.nest(trial.sorted, trial.known.calibration, trial.example, widths=list(trial.widths.values()))
    wrapped = surgery.wrap(nested, trial.example, rehearse=False).eval()
    found: Value = {
        "start": [scores(surgery.shrink(wrapped, w), trial.full, trial.known) for w in trial.widths.values()]
    }
    turns = list(trial.widths.values())
    each = statistics.mean(trial.share(f) for f in FRACTIONS)
    steps = round((1 - polish) * units / each)
    order = iter([turns[i % len(turns)] for i in range(steps)])

    def step(lesson: Lesson) -> None:
        with surgery.at_widths(wrapped, next(order)):
            learnt(wrapped, lesson)

    fit(list(wrapped.parameters()), trial.source, steps, rate, step)
    found["family"] = []
    found["polished"] = []
    for fraction, widths in trial.widths.items():
        small = surgery.shrink(wrapped, widths).eval()
        found["family"].append(scores(small, trial.full, trial.known))
        more = round(polish * units / len(FRACTIONS) / trial.share(fraction))
        if more:
            fit(list(small.parameters()), trial.source, more, polish_rate, lambda lesson: learnt(small, lesson))
        found["polished"].append(scores(small, trial.full, trial.known))
    return found
