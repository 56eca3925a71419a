"""A byte-level language model on Shakespeare with elastic widths: `python -m tests.benchmarks language`.

Plain training against nested training of the MLP's width, of the number of heads, and of every axis, by perplexity per
byte on plays that were held out. The learning rate is chosen for the plain model, on validation text, by short
trainings of the first seed; nested training uses the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from tests.benchmarks.data import shakespeare
from tests.benchmarks.decoder import Decoder
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
LENGTH, BATCH = 128, 16  # bytes of a window, windows of a step
STEPS, SHORT = 600, 80
RATES = (3e-3, 6e-3)
FRACTIONS = (1.0, 0.5, 0.25, 0.125)
WINDOWS = 512  # of the test text that are scored, evenly spaced; a quarter as many for validation


@dataclass(frozen=True)
class Kind:
    """Which axes are elastic, and how narrow widths are trained in the time of 0.6 plain trainings.

    Attributes:
        only: globs of groups; none means all.
        share: of the steps, evenly spread, that train narrow widths too.
        passes: how many narrow widths such a step draws, each of them from `NARROW`.
        independent: the probability that every group draws a width of its own.
        weight, labels: of what narrow widths learn, and the share of it that is the next byte; the rest is what the
            full width has just said.
    """

    only: tuple[str, ...]
    share: float = 1.0
    passes: int = 1
    independent: float = 0.0
    weight: float = 0.5
    labels: float = 0.5

    def narrow(self, i: int) -> bool:
        """Whether step `i` trains narrow widths."""
        return math.floor((i + 1) * self.share) > math.floor(i * self.share)


NARROW = (0.5, 0.25, 0.125, 0.125)  # every second one is the narrowest: it is the hardest
KINDS = {
    "MLP width": Kind(("blocks.*.mlp.gate.o",)),
    "heads": Kind(("blocks.*.attention.q.o.0",), share=0.7),
    "everything": Kind((), passes=2, independent=0.25),
}


def windows(text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes (B, LENGTH) and the ones that follow each, of windows at `starts`."""
    found = text[starts[:, None] + torch.arange(LENGTH + 1)].long()
    return found[:, :-1], found[:, 1:]


def fit(model: nn.Module, rate: float, seed: int, steps: int, kind: Kind | None) -> float:
    """Train with AdamW and a one-cycle learning rate that rises to `rate`; the seconds of one core that it took."""
    text, _, _ = shakespeare()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    model.train()
    start = time.process_time()
    for i in tqdm(range(steps), f"seed {seed}, rate {rate}", unit="step", leave=False, mininterval=2):
        x, y = windows(text, torch.randint(len(text) - LENGTH, (BATCH,), generator=order))
        optimizer.zero_grad()
        step(model, x, y, kind if kind is not None and kind.narrow(i) else None)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return round(time.process_time() - start, 2)


def step(model: nn.Module, x: Tensor, y: Tensor, kind: Kind | None) -> None:
    """Gradients of one batch: of full width; with a kind, of drawn widths too."""

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    if kind is None:
        loss(model(x)).backward()
        return

    draw = surgery.mixed(surgery.grid(NARROW), kind.independent)
    surgery.train_step(model, x, loss, narrow=[draw] * kind.passes, weight=kind.weight, labels=kind.labels)


@torch.no_grad()
def losses(model: nn.Module, text: Tensor, count: int) -> list[float]:
    """Mean loss in nats per byte of each of `count` windows, evenly spaced."""
    found = []
    for starts in torch.linspace(0, len(text) - LENGTH - 1, count).long().split(64):
        x, y = windows(text, starts)
        found.append(F.cross_entropy(model(x).transpose(1, 2), y, reduction="none").mean(1))
    return [round(value, 5) for value in torch.cat(found).tolist()]


def scored(model: nn.Module, count: int) -> Value:
    _, validation, test = shakespeare()
    return {"validation": losses(model, validation, count // 4), "test": losses(model, test, count)}


def plain(rate: float, seed: int, steps: int, count: int) -> Value:
    """An ordinary training."""
    torch.manual_seed(seed)
    model = Decoder()
    seconds = fit(model, rate, seed, steps, None)
    return {"seconds": seconds, **scored(model, count)}


def alone(fraction: float, rate: float, seed: int, steps: int, count: int) -> Value:
    """An ordinary training of a model whose MLPs are narrower."""
    torch.manual_seed(seed)
    model = Decoder(hidden=round(512 * fraction))
    seconds = fit(model, rate, seed, steps, None)
    return {"seconds": seconds, **scored(model, count)}


def wrapped(model: nn.Module, kind: Kind, seed: int) -> nn.Module:
    """The twin; its plain training steps are at full width."""
    example = torch.zeros(2, LENGTH, dtype=torch.long)
    generator = torch.Generator().manual_seed(seed)
    return surgery.wrap(model, example, only=kind.only, draw=surgery.grid([1.0]), generator=generator)


def nested(name: str, rate: float, seed: int, steps: int, count: int, recipe: Value) -> Value:
    """One training for all widths; `recipe` says how, and is part of the cell's key."""
    torch.manual_seed(seed)
    model, kind = Decoder(), KINDS[name]
    twin = wrapped(model, kind, seed)
    seconds = fit(twin, rate, seed, steps, kind)
    found = []
    for fraction in FRACTIONS:
        with surgery.at_widths(twin, fraction):
            found.append(scored(twin, count))
    return {"seconds": seconds, "widths": found, "weights": model.state_dict()}


def perplexity(values: list[float]) -> float:
    return math.exp(sum(values) / len(values))


def difference(narrow: list[float], wide: list[float]) -> tuple[float, float]:
    """How much higher the perplexity is, in percent, and the standard error of that over the windows, paired."""
    paired = torch.tensor(narrow) - torch.tensor(wide)
    ratio = math.exp(paired.mean().item())
    return round(100 * (ratio - 1), 2), round(100 * ratio * (paired.std() / len(paired) ** 0.5).item(), 2)


class Language:
    """The trainings of one run of the benchmark."""

    def __init__(self, run: Run):
        self.run = run
        self.steps, self.short, self.count = (20, 5, 32) if run.quick else (STEPS, SHORT, WINDOWS)

    def cell(self, function: Callable[..., Value], seed: int, rate: float, steps: int, **settings: Any) -> Value:
        return self.run.cell(function, rate=rate, seed=seed, steps=steps, count=self.count, **settings)

    def rate(self) -> float:
        """The learning rate that is best for the plain model after a short training."""
        return min(RATES, key=lambda rate: perplexity(self.cell(plain, 0, rate, self.short)["validation"]))

    def plain(self, seed: int) -> Value:
        return self.cell(plain, seed, self.rate(), self.steps)

    def alone(self, fraction: float, seed: int) -> Value:
        """With MLPs of this fraction of their width, at the rate of the plain model."""
        return self.cell(alone, seed, self.rate(), self.steps, fraction=fraction)

    def nested(self, name: str, seed: int) -> Value:
        recipe = {**vars(KINDS[name]), "draws": NARROW}
        return self.cell(nested, seed, self.rate(), self.steps, name=name, recipe=recipe)


def main(run: Run) -> list[Value]:
    """Print and return a row for each kind of elastic width and seed."""
    results = Language(run)
    rows: list[Value] = [{"rate": results.rate(), "steps": results.steps, "batch": BATCH, "length": LENGTH}]
    for seed in run.seeds(1):
        base = results.plain(seed)
        rows.append({"seed": seed, "elastic": "none", "perplexity": round(perplexity(base["test"]), 3)})
        narrow = [results.alone(fraction, seed) for fraction in FRACTIONS[1:]]
        tests = {"none: each MLP width alone": ([base, *narrow], sum(v["seconds"] for v in (base, *narrow)))}
        for name in KINDS:
            value = results.nested(name, seed)
            tests[name] = value["widths"], value["seconds"]
        for name, (widths, seconds) in tests.items():
            rows.append({
                "seed": seed, "elastic": name,
                "perplexity": [round(perplexity(width["test"]), 3) for width in widths],
                "above plain %, error": [difference(width["test"], base["test"]) for width in widths],
                "time / plain": round(seconds / base["seconds"], 2),
            })  # fmt: skip
    print(*rows, sep="\n")
    return rows


def plot(rows: list[Value], path: Path) -> None:
    """How much the perplexity rises as one kind of axis narrows, of the first seed."""
    series = {}
    for row in rows:
        if row.get("seed") == 0 and "time / plain" in row:
            found = zip(FRACTIONS, row["above plain %, error"], strict=True)
            series[row["elastic"]] = [(fraction, *values) for fraction, values in found]
    x, y = "width of the elastic axes, of the full one", "perplexity above plain training, %"
    lines(path, series, x, y, "Language model, one training for each line", bend=10)
