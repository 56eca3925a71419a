"""MiniLM made narrower with training: one family from a nested start, against widths that are trained one by one.

`python -m tests.benchmarks distilled`. Both learn the embeddings of the trained model, without labels, in the same
total compute. Its unit is one forward and backward of 16 sentences at full width; a pass at other widths counts by its
multiply-adds. The embeddings to learn from are made once for both, and not counted.
"""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from tests.benchmarks.minilm import Batch, Encoder, cosine, elastic, embedded, texts
from tests.benchmarks.run import Run

Value = dict[str, Any]
FRACTIONS = (0.75, 0.5, 0.25)
SIZE = 16  # sentences of a step
UNITS = 600  # in all
RATES, FAMILY_RATE = (1e-4, 3e-4), 3e-4
WEIGHTS = (4, 2, 1)  # of the widths in the nested start: the widest lose most by sharing, and the others learn faster
RISE = 0.1  # of the steps, until the learning rate is at its highest
Lesson = tuple[Batch, Tensor]  # sentences, and their embeddings by the full model


def fit(
    parameters: Sequence[nn.Parameter], source: Iterator[Lesson], steps: int, rate: float,
    step: Callable[[Lesson], object],
) -> None:  # fmt: skip
    """Adam, with a one-cycle learning rate that rises to `rate`; `step` adds the gradients of a batch."""
    optimizer = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(11, steps), pct_start=RISE)
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


class Trial:
    """What the cells of a seed begin with: sentences, and the model sorted by what readers absorb. Made once."""

    def __init__(self, what: str, seed: int, quick: bool):
        torch.manual_seed(seed)
        self.seed, self.known, self.full = seed, texts(quick, seed, SIZE), Encoder().eval()
        self.example = self.known.calibration[len(self.known.calibration) // 2]
        self.sorted = surgery.sort(self.full, self.example, by=surgery.absorbed(self.known.calibration))
        plan = surgery.inspect(self.sorted, self.example)
        self.widths = {f: elastic(plan, what, f) for f in FRACTIONS}
        self.said: dict[int, Tensor] = {}

    def share(self, fraction: float) -> float:
        """The multiply-adds at a fraction, of those at full width."""
        costs = [surgery.cost(self.sorted, w, self.example).macs for w in (self.widths[fraction], 1.0)]
        return costs[0] / costs[1]

    @functools.cache  # noqa: B019 - trials live as long as the process
    def refitted(self, fraction: float) -> nn.Module:
        widths = self.widths[fraction]
        return surgery.shrink(self.sorted, widths, self.example, refit=self.known.calibration).eval()

    @functools.cached_property
    def nested(self) -> nn.Module:
        widths = list(self.widths.values())
        return surgery.nest(self.sorted, self.known.calibration, self.example, widths=widths, weights=WEIGHTS)

    def lessons(self) -> Iterator[Lesson]:
        """Batches without end, in random order, each with what the full model says."""
        batches, order = self.known.train, torch.Generator().manual_seed(self.seed)
        while True:
            for i in torch.randperm(len(batches), generator=order).tolist():
                if i not in self.said:
                    self.said[i] = embedded(self.full, [batches[i]])
                yield batches[i], self.said[i]

    def scores(self, model: nn.Module) -> Value:
        """The mean cosine to the full model's embeddings, on sentences to choose on and to test on."""
        return {"choice": self._choice(model), "test": self._test(model)}

    @functools.cached_property
    def _choice(self) -> Callable[[nn.Module], float]:
        return cosine(self.full, self.known.choice)

    @functools.cached_property
    def _test(self) -> Callable[[nn.Module], float]:
        return cosine(self.full, self.known.test)


@functools.cache
def trial(what: str, seed: int, quick: bool) -> Trial:
    return Trial(what, seed, quick)


def trained(small: nn.Module, of: Trial, rate: float, steps: int) -> Value:
    """A small model after some steps of its own."""
    fit(list(small.parameters()), of.lessons(), steps, rate, lambda lesson: learnt(small, lesson))
    return {"steps": steps, **of.scores(small)}


def alone(what: str, fraction: float, rate: float, units: float, seed: int, quick: bool) -> Value:
    """Cut to one width, refitted, and trained to say what the full model says."""
    of = trial(what, seed, quick)
    small = copy.deepcopy(of.refitted(fraction))
    return {"start": of.scores(small), **trained(small, of, rate, round(units / of.share(fraction)))}


def family(what: str, rate: float, units: float, seed: int, quick: bool) -> Value:
    """Nested, and trained at one narrow width after another."""
    of = trial(what, seed, quick)
    widths = list(of.widths.values())
    wrapped = surgery.wrap(copy.deepcopy(of.nested), of.example, rehearse=False).eval()
    start = [of.scores(surgery.shrink(wrapped, w)) for w in widths]
    steps = round(units / statistics.mean(of.share(f) for f in FRACTIONS))
    turns = iter([widths[i % len(widths)] for i in range(steps)])

    def step(lesson: Lesson) -> None:
        with surgery.at_widths(wrapped, next(turns)):
            learnt(wrapped, lesson)

    fit(list(wrapped.parameters()), of.lessons(), steps, rate, step)
    made = [of.scores(surgery.shrink(wrapped, w)) for w in widths]
    return {"start": start, "widths": made}


def gradual(what: str, rates: Sequence[float], units: float, seed: int, quick: bool) -> Value:
    """The widest model, refitted and trained; the next one is cut from that, and so on, in equal parts of the units."""
    of = trial(what, seed, quick)
    model, found = of.sorted, list[Value]()
    for fraction, rate in zip(FRACTIONS, rates, strict=True):
        if found:
            model = surgery.sort(model, of.example, by=surgery.absorbed(of.known.calibration))
        full = {name: group.size for name, group in surgery.inspect(of.sorted, of.example).groups.items()}
        widths = {name: round(width * full[name]) if isinstance(width, float) else width
                  for name, width in of.widths[fraction].items()}  # fmt: skip
        model = surgery.shrink(model, widths, of.example, refit=of.known.calibration).eval()
        start = of.scores(model)
        steps = round(units / len(FRACTIONS) / of.share(fraction))
        found.append({"start": start, "rate": rate, **trained(model, of, rate, steps)})
    return {"widths": found}


class Distilled:
    """The trainings of one run, each at the rate that is best for the first seed on the sentences to choose on."""

    def __init__(self, run: Run, what: str):
        self.run = run
        self.units = 6 if run.quick else UNITS
        self.common = {"what": what, "quick": run.quick}

    def chosen(self, cell: Callable[[float, int], Value], seed: int) -> Value:
        rate = max(RATES, key=lambda rate: cell(rate, 0)["choice"])
        return {**cell(rate, seed), "rate": rate}

    def alone(self, fraction: float, seed: int) -> Value:
        units = self.units / len(FRACTIONS)

        def cell(rate: float, seed: int) -> Value:
            return self.run.cell(alone, fraction=fraction, rate=rate, units=units, seed=seed, **self.common)

        return self.chosen(cell, seed)

    def of_seed(self, seed: int) -> dict[str, list[Value]]:
        """What every method found with one seed: a value for each width."""
        apart = [self.alone(f, seed) for f in FRACTIONS]
        common = {"units": self.units, "seed": seed, **self.common}
        made = self.run.cell(family, rate=FAMILY_RATE, **common)
        cut = self.run.cell(gradual, rates=[one["rate"] for one in apart], **common)
        return {
            "refitted": [one["start"] for one in apart],
            "refitted, then trained": apart,
            "the same, one from another": cut["widths"],
            "nested": made["start"],
            "family": made["widths"],
        }


def main(run: Run) -> list[Value]:
    """Print and return a row for each method: the mean cosine at every width, and its standard error over seeds."""
    rows: list[Value] = []
    for what in ("ffn and heads",):
        found = [Distilled(run, what).of_seed(seed) for seed in run.seeds(3)]
        for method in found[0]:
            values = [[of[method][i]["test"] for of in found] for i in range(len(FRACTIONS))]
            row = {"what": what, "method": method, "cosine": [round(statistics.mean(at), 4) for at in values]}
            if len(found) > 1:
                row["error"] = [round(statistics.stdev(at) / len(at) ** 0.5, 4) for at in values]
            rows.append(row | {"rates": [one.get("rate") for one in found[0][method]]})
    print("fractions", FRACTIONS, *rows, sep="\n")
    return rows
