"""A trained decoder, made a family in a fifth of its training: `python -m tests.benchmarks language_start`.

Its features are sorted by what readers absorb, nested, and trained at narrow widths alone to say what the trained model
says. Beside it stand models that were trained alone at these sizes, as long as the plain one. A step at a width counts
by its multiply-adds, and the teacher's forward by a third of a step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from surgery.plan.widths import WidthSpec
from tests.benchmarks.data import shakespeare
from tests.benchmarks.decoder import Decoder
from tests.benchmarks.language import (
    BATCH,
    FRACTIONS,
    KINDS,
    LENGTH,
    RATES,
    SHORT,
    STEPS,
    WINDOWS,
    difference,
    fit,
    perplexity,
    plain,
    scored,
    windows,
)  # fmt: skip
from tests.benchmarks.run import Run

Value = dict[str, Any]
EXAMPLE = torch.zeros(2, LENGTH, dtype=torch.long)
CALIBRATION = 64  # windows
PART = 0.2  # of the plain training
STARTED_RATES = (1e-3, 3e-3)
DRAWN = (0.5, 0.25, 0.125, 0.125)  # in turn
RISE = 0.1
TEACHER = 1 / 3  # of a step


def widths(name: str, fraction: float) -> WidthSpec:
    """Every elastic group of a kind at one fraction."""
    return {glob: fraction for glob in KINDS[name].only} if KINDS[name].only else fraction


def trained(rate: float, seed: int, steps: int, count: int) -> Value:
    """An ordinary training; its weights are kept."""
    torch.manual_seed(seed)
    model = Decoder()
    seconds = fit(model, rate, seed, steps, None)
    return {"seconds": seconds, **scored(model, count), "weights": model.state_dict()}


def alone(name: str, fraction: float, rate: float, seed: int, steps: int, count: int) -> Value:
    """A model of this size, trained from its beginning."""
    torch.manual_seed(seed)
    model = surgery.shrink(Decoder(), widths(name, fraction), EXAMPLE)
    seconds = fit(model, rate, seed, steps, None)
    return {"seconds": seconds, **scored(model, count)}


def begun(start: Value, name: str, seed: int) -> tuple[nn.Module, nn.Module]:
    """The trained model, and the nested start of a kind, wrapped."""
    model = Decoder()
    model.load_state_dict(start)
    text, _, _ = shakespeare()
    starts = torch.randint(len(text) - LENGTH, (CALIBRATION,), generator=torch.Generator().manual_seed(seed))
    calibration = [windows(text, part)[0] for part in starts.split(BATCH)]
    ordered = surgery.sort(model.eval(), EXAMPLE, by=surgery.absorbed(calibration))
    nested = surgery.nest(ordered, calibration, EXAMPLE, widths=[widths(name, f) for f in FRACTIONS[1:]])
    return model, surgery.wrap(nested, EXAMPLE, only=KINDS[name].only)


def family(name: str, rate: float, seed: int, steps: float, count: int, start: Value) -> Value:
    """Narrow widths of the trained model, in the compute of so many plain steps."""
    model, wrapped = begun(start, name, seed)
    found: Value = {"start": at_each_width(wrapped, count)}
    whole = surgery.cost(wrapped).macs
    cost = TEACHER + sum(surgery.cost(wrapped, f).macs / whole for f in DRAWN) / len(DRAWN)
    learn(wrapped, model, rate, seed, round(steps / cost))
    return {**found, "widths": at_each_width(wrapped, count), "steps": round(steps / cost)}


def learn(wrapped: nn.Module, model: nn.Module, rate: float, seed: int, steps: int) -> None:
    """Train narrow widths, one in each step, to say what the model says."""
    text, _, _ = shakespeare()
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(11, steps), pct_start=RISE)
    order = torch.Generator().manual_seed(seed + 1)
    wrapped.train()
    for i in tqdm(range(steps), f"rate {rate}", unit="step", leave=False, mininterval=2):
        x, y = windows(text, torch.randint(len(text) - LENGTH, (BATCH,), generator=order))

        def loss(logits: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(logits.flatten(0, 1), y.flatten())

        optimizer.zero_grad()
        surgery.train_step(wrapped, x, loss, teacher=model, full=False, narrow=[DRAWN[i % len(DRAWN)]])
        nn.utils.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    wrapped.eval()


def at_each_width(wrapped: nn.Module, count: int) -> list[Value]:
    found = []
    for fraction in FRACTIONS[1:]:
        with surgery.at_widths(wrapped, fraction):
            found.append(scored(wrapped, count))
    return found


class Started:
    """The trainings of one run of the benchmark."""

    def __init__(self, run: Run):
        self.run = run
        self.steps, self.short, self.count = (20, 5, 32) if run.quick else (STEPS, SHORT, WINDOWS)

    def rate(self) -> float:
        """The learning rate that is best for the plain model after a short training."""
        common = {"seed": 0, "steps": self.short, "count": self.count}
        return min(RATES, key=lambda rate: perplexity(self.run.cell(plain, rate=rate, **common)["validation"]))

    def plain(self, seed: int) -> Value:
        return self.run.cell(trained, rate=self.rate(), seed=seed, steps=self.steps, count=self.count)

    def alone(self, name: str, fraction: float, seed: int) -> Value:
        settings = {"rate": self.rate(), "seed": seed, "steps": self.steps, "count": self.count}
        return self.run.cell(alone, name=name, fraction=fraction, **settings)

    def family(self, name: str, seed: int) -> Value:
        """At the rate that is best for the first seed, by validation text, in the mean over widths."""

        def cell(rate: float, seed: int) -> Value:
            settings = {"rate": rate, "seed": seed, "steps": PART * self.steps, "count": self.count}
            return self.run.cell(family, {"start": self.plain(seed)["weights"]}, name=name, **settings)

        rate = min(STARTED_RATES, key=lambda rate: sum(perplexity(w["validation"]) for w in cell(rate, 0)["widths"]))
        return {**cell(rate, seed), "rate": rate}


def main(run: Run) -> list[Value]:
    """Print and return a row for each kind of elastic width and seed: how far above the plain perplexity it is."""
    results = Started(run)
    rows: list[Value] = [{"rate": results.rate(), "steps": results.steps}]
    for seed in run.seeds(3):
        base = results.plain(seed)
        rows.append({"seed": seed, "perplexity": round(perplexity(base["test"]), 3)})
        for name in KINDS:
            value = results.family(name, seed)
            apart = [results.alone(name, fraction, seed) for fraction in FRACTIONS[1:]]
            tests = {"nested start": value["start"], "family": value["widths"], "alone": apart}
            rows += [
                {"seed": seed, "elastic": name, "kind": kind, "steps": value["steps"], "rate": value["rate"],
                 "above plain %, error": [difference(width["test"], base["test"]) for width in found]}
                for kind, found in tests.items()
            ]  # fmt: skip
    print("fractions", FRACTIONS[1:], *rows, sep="\n")
    return rows
