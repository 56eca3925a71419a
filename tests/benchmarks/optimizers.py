"""Whether it hurts that optimizers move what a narrow pass has not touched: `python -m tests.benchmarks optimizers`.

In a narrow pass gradients beyond the drawn widths are exactly zero. Momentum and weight decay move these elements all
the same, and so does the orthogonalisation of Muon. Here the same trainings are run as they are, with a step that
leaves these elements and their state as they were, and with one that only does not decay them. All pairs have the
same start, batches and draws. Scored on validation data: accuracy in percent, or -100 times nats per byte.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

import surgery
from surgery.demo.data import Part
from tests.benchmarks.data import fashion_mnist, shakespeare
from tests.benchmarks.decoder import Decoder
from tests.benchmarks.fitting import accuracy
from tests.benchmarks.images import cnn, mlp
from tests.benchmarks.run import Run
from tests.benchmarks.undecayed import Undecayed

Value = dict[str, Any]
FRACTIONS = (1.0, 0.5, 0.25, 0.125)
FEW = surgery.grid(FRACTIONS[1:])
IMAGES, TEXT, LENGTH = 10_000, 256, 64  # images to train on; windows of the validation text, and their bytes
EARLY, LATER = 10, 100  # full steps after which a training has hardly begun; steps at a half, after some


def adam(twin: nn.Module, rate: float) -> list[Optimizer]:
    return [torch.optim.Adam(twin.parameters(), rate)]


def sgd(twin: nn.Module, rate: float) -> list[Optimizer]:
    return [torch.optim.SGD(twin.parameters(), rate, momentum=0.9, weight_decay=5e-4)]


def adamw(twin: nn.Module, rate: float) -> list[Optimizer]:
    return [torch.optim.AdamW(twin.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.1)]


def muon(twin: nn.Module, rate: float) -> list[Optimizer]:
    """Muon for the matrices of the blocks, AdamW at a fifth of the rate for the rest."""
    named = list(twin.named_parameters())
    inner = [p for name, p in named if p.dim() == 2 and "blocks" in name]
    known = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in known]
    return [
        torch.optim.Muon(inner, rate, weight_decay=0.1),
        torch.optim.AdamW(rest, rate / 5, betas=(0.9, 0.95), weight_decay=0.1),
    ]


@dataclass(frozen=True)
class Setup:
    """A model, its optimizers, the learning rates to choose from, and its training.

    Attributes:
        steps, batch: of all trainings.
        decays: whether steps without decay are looked at, too.
    """

    build: Callable[[], nn.Module]
    optimizers: Callable[[nn.Module, float], list[Optimizer]]
    rates: tuple[float, ...]
    steps: int
    batch: int
    decays: bool = False


def decoder() -> nn.Module:
    return Decoder(64, 2, 8, 256, LENGTH)


SETUPS = {
    "MLP, Adam": Setup(mlp, adam, (1.5e-3, 4e-3), 500, 128),
    "CNN, SGD": Setup(cnn, sgd, (0.05, 0.15), 500, 64, decays=True),
    "decoder, AdamW": Setup(decoder, adamw, (5e-3, 1e-2), 400, 16, decays=True),
    "decoder, Muon": Setup(decoder, muon, (1e-2, 3e-2), 400, 16),
}
# How the twin draws; whether the full width is trained, or narrow widths alone learn from a trained model.
WAYS: dict[str, tuple[Any, bool]] = {
    "an unchanged loop": (None, True),
    "the same, a tenth full": (surgery.mixed(FEW, p=0.9), True),
    "train_step(full=False), one width": (None, False),
}
STEPS: dict[str, Callable[[Optimizer, nn.Module], object]] = {
    "as it is": lambda optimizer, twin: None,
    "nothing beyond": surgery.step_touched,
    "no decay beyond": Undecayed,
}
VARIANTS = tuple(STEPS)


def is_text(model: str) -> bool:
    return model.startswith("decoder")


def batches(model: str, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and what they are to be, without end."""
    order, size = torch.Generator().manual_seed(seed), SETUPS[model].batch
    if is_text(model):
        text = shakespeare()[0]
        while True:
            starts = torch.randint(len(text) - LENGTH - 1, (size,), generator=order)
            found = text[starts[:, None] + torch.arange(LENGTH + 1)].long()
            yield found[:, :-1], found[:, 1:]
    part = images(seed)
    while True:
        for rows in torch.randperm(len(part), generator=order).split(size)[: len(part) // size]:
            yield part.images[rows], part.labels[rows]


def images(seed: int) -> Part:
    """The training images of one seed."""
    part = fashion_mnist()[0]
    rows = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    return Part(part.images[rows], part.labels[rows])


def cross_entropy(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


@torch.no_grad()
def score(model: str, twin: nn.Module) -> float:
    """On validation data; higher is better."""
    if not is_text(model):
        return accuracy(twin, fashion_mnist()[1])
    text = shakespeare()[1]
    starts = torch.linspace(0, len(text) - LENGTH - 1, TEXT).long()
    found = text[starts[:, None] + torch.arange(LENGTH + 1)].long()
    return -100 * float(cross_entropy(twin(found[:, :-1]), found[:, 1:]))


def scores(model: str, twin: nn.Module) -> list[float]:
    return [round(value, 3) for value in surgery.progress(twin.eval(), lambda m: score(model, m), FRACTIONS).scores]


def wrapped(model: str, seed: int, plain: nn.Module, draw: Any) -> nn.Module:
    x, _ = next(batches(model, seed))
    known = None if is_text(model) else list(images(seed).images[:2048].split(128))
    generator = torch.Generator().manual_seed(seed)
    return surgery.wrap(plain, x[:2], draw=draw, generator=generator, calibration=known)


def fit(
    model: str, twin: nn.Module, rate: float, seed: int, steps: int, variant: str, teacher: nn.Module | None
) -> list[Optimizer]:
    """Train with a one-cycle rate; returns the optimizers."""
    optimizers = SETUPS[model].optimizers(twin, rate)
    schedules = [
        OneCycleLR(o, o.param_groups[0]["lr"], total_steps=max(20, steps), pct_start=0.2, cycle_momentum=False)
        for o in optimizers
    ]
    for optimizer in optimizers:
        STEPS[variant](optimizer, twin)
    twin.train()
    for _, (x, y) in zip(range(steps), batches(model, seed), strict=False):
        step(twin, x, y, teacher)
        for one in (*optimizers, *schedules):
            one.step()
    return optimizers


def step(twin: nn.Module, x: Tensor, y: Tensor, teacher: nn.Module | None) -> None:
    twin.zero_grad()
    if teacher is None:
        cross_entropy(twin(x), y).backward()
    else:
        surgery.train_step(twin, x, lambda out: cross_entropy(out, y), narrow=[FEW], teacher=teacher, full=False)


def plain(model: str, rate: float, seed: int, steps: int) -> Value:
    """An ordinary training, whose model others start from."""
    torch.manual_seed(seed)
    built = SETUPS[model].build()
    fit(model, built, rate, seed, steps, "as it is", None)
    return {"score": score(model, built.eval()), "weights": built.state_dict()}


def family(model: str, way: str, variant: str, rate: float, seed: int, steps: int, start: Value | None) -> Value:
    """Scores at every width after one training."""
    draw, full = WAYS[way]
    torch.manual_seed(seed)
    built, teacher = SETUPS[model].build(), None
    if not full:
        built.load_state_dict(start or {})
        built = surgery.sort(built.eval(), next(batches(model, seed))[0][:2])
        teacher = copy.deepcopy(built)
    twin = wrapped(model, seed, built, draw)
    fit(model, twin, rate, seed, steps, variant, teacher)
    return {"scores": scores(model, twin)}


def drift(model: str, rate: float, seed: int, steps: int) -> Value:
    """How far elements beyond a half go in steps at a half after a training, and what the full width is then."""
    found: Value = {}
    for variant in VARIANTS[:2]:
        torch.manual_seed(seed)
        twin = wrapped(model, seed, SETUPS[model].build(), surgery.grid([1.0]))
        optimizers = fit(model, twin, rate, seed, steps, variant, None)
        before = {name: p.detach().clone() for name, p in twin.named_parameters()}
        for optimizer in optimizers:  # the schedule has ended: as in its middle
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] / 2
        twin.train()
        for _, (x, y) in zip(range(LATER), batches(model, seed + 1), strict=False):
            with surgery.at_widths(twin, 0.5):
                step(twin, x, y, None)
            for optimizer in optimizers:
                optimizer.step()
        found[variant] = {"moved": moved(twin, before), "scores": scores(model, twin)}
    return found


def moved(twin: nn.Module, before: dict[str, Tensor]) -> float:
    """The change of all matrices beyond a half, relative to what was there."""
    change, whole = 0.0, 0.0
    for name, p in twin.named_parameters():
        if p.dim() > 1 and p.shape[0] % 2 == 0 and min(p.shape[:2]) > 1:
            beyond = slice(p.shape[0] // 2, None), slice(p.shape[1] // 2, None)
            change += float((p.detach() - before[name])[beyond].square().sum())
            whole += float(before[name][beyond].square().sum())
    return round((change / whole) ** 0.5, 4)


def cost(model: str) -> Value:
    """Steps at a half of which nothing beyond is changed, in ordinary ones: medians of times in turn."""
    torch.manual_seed(0)
    twins = [wrapped(model, 0, SETUPS[model].build(), None).train() for _ in range(2)]
    found = [SETUPS[model].optimizers(twin, 1e-4) for twin in twins]
    for optimizer in found[1]:
        surgery.step_touched(optimizer, twins[1])
    times: list[list[float]] = [[], []]
    for _, (x, y) in zip(range(40), batches(model, 0), strict=False):
        for i, twin in enumerate(twins):
            began = time.process_time()
            with surgery.at_widths(twin, 0.5):
                step(twin, x, y, None)
            for optimizer in found[i]:
                optimizer.step()
            times[i].append(time.process_time() - began)
    return {"ratio": round(statistics.median(times[1]) / statistics.median(times[0]), 2)}


def variants(model: str) -> tuple[str, ...]:
    """Adam has no decay to leave out."""
    return VARIANTS if SETUPS[model].decays else VARIANTS[:2]


class Optimizers:
    """The trainings of one run."""

    def __init__(self, run: Run):
        self.run, self.seeds = run, run.seeds(3)

    def steps(self, model: str) -> int:
        return 10 if self.run.quick else SETUPS[model].steps

    def plain(self, model: str, seed: int) -> Value:
        """The trained model that narrow widths start from."""
        return self.run.cell(plain, model=model, rate=SETUPS[model].rates[0], seed=seed, steps=self.steps(model))

    def family(self, model: str, way: str, variant: str, rate: float, seed: int) -> list[float]:
        steps = self.steps(model)
        given = {"start": None if WAYS[way][1] else self.plain(model, seed)["weights"]}
        settings = {"model": model, "way": way, "variant": variant, "rate": rate, "seed": seed, "steps": steps}
        found: list[float] = self.run.cell(family, given, **settings)["scores"]
        return found

    def best(self, model: str, way: str, variant: str) -> tuple[float, list[list[float]]]:
        """The rate that is best in the mean over seeds and widths, and the scores of each seed."""
        rates = SETUPS[model].rates[:1] if self.run.quick else SETUPS[model].rates
        every = {rate: [self.family(model, way, variant, rate, seed) for seed in self.seeds] for rate in rates}
        rate = max(rates, key=lambda rate: sum(map(sum, every[rate])))
        return rate, every[rate]


def main(run: Run) -> list[Value]:
    """Print and return a row for each model, way and variant: scores, and the gain over the training as it is."""
    found, rows = Optimizers(run), []
    for model in SETUPS:
        for way in WAYS:
            _, usual = found.best(model, way, VARIANTS[0])
            if not WAYS[way][1]:
                start = statistics.mean(found.plain(model, seed)["score"] for seed in found.seeds)
                rows.append({"model": model, "way": way, "trained model": round(start, 2)})
                print(rows[-1], flush=True)
            for variant in variants(model):
                rate, values = found.best(model, way, variant)
                rows.append({"model": model, "way": way, "variant": variant, "rate": rate, **compared(values, usual)})
                print(rows[-1], flush=True)
        for seed, steps in itertools.product(found.seeds, (EARLY, found.steps(model))):
            value = run.cell(drift, model=model, rate=SETUPS[model].rates[0], seed=seed, steps=steps)
            rows.append({"model": model, "seed": seed, "steps": steps, "after steps at a half": value})
            print(rows[-1], flush=True)
        rows.append({"model": model, **run.cell(cost, model=model)})
        print(rows[-1], flush=True)
    return rows


def compared(values: list[list[float]], usual: list[list[float]]) -> Value:
    """Means over seeds at every width; the gain, and its standard error of pairs."""
    gains = [[a - b for a, b in zip(v, u, strict=True)] for v, u in zip(values, usual, strict=True)]
    row: Value = {"score": means(values), "gain": means(gains)}
    if len(values) > 1:
        row["spread"] = [round(statistics.stdev(column), 2) for column in zip(*values, strict=True)]
        row["error"] = [round(statistics.stdev(c) / len(c) ** 0.5, 2) for c in zip(*gains, strict=True)]
    return row


def means(values: list[list[float]]) -> list[float]:
    return [round(statistics.mean(column), 2) for column in zip(*values, strict=True)]
