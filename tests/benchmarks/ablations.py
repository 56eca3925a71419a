"""The default recipe with one piece changed at a time: `python -m tests.benchmarks ablations`.

Three tables. Recipes on the MLP of the benchmark `digits` (one-cycle to 0.01); statistics of BatchNorm on a small CNN;
criteria of `surgery.sort` on plainly trained models. Accuracies are on all images that were not trained on, and no
setting is chosen by them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from tests.benchmarks.digits import (
    BATCH,
    EPOCHS,
    ONE,
    WIDTHS,
    Loss,
    Parts,
    Step,
    accuracy,
    batches,
    data,
    drawn,
    mlp,
    one_narrow,
    optimize,
    rates,
    smoothed,
    steps,
    train,
)  # fmt: skip
from tests.benchmarks.run import Run

RATE = 1e-2
MIXES = 16  # mixed width vectors, the same for all rows


def stepped(**options: Any) -> Step:
    """`one_narrow` with some of it changed."""
    return lambda wrapped, x, loss: surgery.train_step(wrapped, x, loss, **{"narrow": ONE, **options})


def one(**options: Any) -> tuple[Any, ...]:
    """One narrow pass: the default draw with some of it changed."""
    options = {"p": 1.0, "smallest": 0.3, "independent": 0.25, **options}
    independent = options.pop("independent")
    return (surgery.mixed(surgery.shared(**options), independent),)


RECIPES: dict[str, tuple[Step, Mapping[str, Any]]] = {
    "one narrow width of all": (one_narrow, {}),
    "three narrow widths, the default": (surgery.train_step, {}),
    "narrow widths weigh 2": (stepped(weight=2.0), {}),
    "narrow widths weigh 1/2": (stepped(weight=0.5), {}),
    "narrow widths weigh 1/4": (stepped(weight=0.25), {}),
    "narrow widths learn from the labels": (stepped(labels=1.0), {}),
    "narrow widths learn from the full one": (stepped(labels=0.0), {}),
    "the same, and weigh 1/2": (stepped(labels=0.0, weight=0.5), {}),
    "no share at the smallest width": (stepped(narrow=one(smallest=0.0)), {}),
    "half at the smallest width": (stepped(narrow=one(smallest=0.5)), {}),
    "drawn uniformly, not log-uniformly": (stepped(narrow=one(log=False)), {}),
    "five fixed fractions": (stepped(narrow=(surgery.grid([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]),)), {}),
    "never each group by itself": (stepped(narrow=one(independent=0.0)), {}),
    "always each group by itself": (stepped(narrow=one(independent=1.0)), {}),
    "two narrow passes": (stepped(narrow=ONE * 2), {}),
    "smallest, and two drawn": (stepped(narrow=(1 / 32, *one(smallest=0.0) * 2)), {}),
    "taught by a frozen plain model": (one_narrow, {"teacher": True}),
    "an ordinary loop, default draw": (drawn, {}),
    "an ordinary loop, half full, half of all widths": (drawn, {"draw": lambda: surgery.mixed(ONE[0].uniform, p=0.5)}),
    "an ordinary loop, sandwich of all widths": (drawn, {"draw": lambda: surgery.sandwich(ONE)}),
    "an ordinary loop, sandwich after a tenth at full width": (drawn, {"draw": "warm"}),
    "an ordinary loop, paper(p=0.9)": (drawn, {"draw": lambda: surgery.paper(p=0.9)}),
}


def recipe(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Accuracies (%) at each width, and at mixed widths, of one row."""
    step, options = RECIPES[name]
    if options.get("teacher"):
        step, options = stepped(teacher=plainly(mlp(256, seed), seed, epochs)), {}
    draw = options.get("draw")
    if draw is not None:
        made = surgery.warmup(surgery.sandwich(ONE), steps(epochs) // 10) if draw == "warm" else draw()
        options = {"draw": made}
    wrapped, parts = train(seed, rates("one-cycle", RATE, steps(epochs)), epochs, step, **options)
    x, y = held_out(parts)
    return {
        "widths": [accuracy(wrapped, {"*": width}, x, y) for width in WIDTHS],
        "mixed": statistics.mean(accuracy(wrapped, widths, x, y) for widths in mixes(wrapped)),
    }


def plainly(model: nn.Module, seed: int, epochs: int) -> nn.Module:
    """The model after a training without this library."""
    x, y = data(seed)["train"]
    rows = list(batches(len(x), epochs, seed))

    def gradients(batch: Tensor) -> None:
        smoothed(model.train()(x[batch]), y[batch]).backward()

    optimize(list(model.parameters()), gradients, rows, rates("one-cycle", RATE, len(rows)))
    return model.eval()


def held_out(parts: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Everything that was not trained on."""
    images, labels = zip(parts["validation"], parts["test"], strict=True)
    return torch.cat(images), torch.cat(labels)


def mixes(wrapped: nn.Module) -> list[dict[str, int]]:
    """Widths from the table, drawn for each group by itself."""
    generator = torch.Generator().manual_seed(0)
    names = list(surgery.widths(wrapped))
    picks = torch.randint(len(WIDTHS), (MIXES, len(names)), generator=generator)
    return [{name: WIDTHS[i] for name, i in zip(names, row, strict=True)} for row in picks.tolist()]


# --- BatchNorm ---

FRACTIONS = (0.125, 0.25, 0.5, 1.0)


def cnn(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def mixing(wrapped: nn.Module, x: Tensor, loss: Loss) -> None:
    """The step of `train_step`, except that every width changes the running statistics."""
    with surgery.at_widths(wrapped, 1.0):
        full = wrapped(x)
        loss(full).backward()
    narrow = wrapped(x)
    (0.5 * loss(narrow) + 0.5 * F.cross_entropy(narrow, full.detach().softmax(1))).backward()


STATISTICS: dict[str, Step] = {"of the full width": one_narrow, "of all widths": mixing}


def statistics_of(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Accuracies (%) of a CNN at each fraction: as it was trained, and recalibrated."""
    rate = rates("one-cycle", RATE, steps(epochs))
    wrapped, parts = train(seed, rate, epochs, STATISTICS[name], build=cnn, draw=ONE[0])
    trained = [accuracy(wrapped, fraction, *held_out(parts)) for fraction in FRACTIONS]
    return {"as trained": trained, "recalibrated": recalibrated(wrapped, parts)}


# --- sort ---

CRITERIA: dict[str, Callable[[Any], Any]] = {
    "not sorted": lambda batches: lambda wrapped, plan: {},
    "magnitude(1)": lambda batches: surgery.magnitude(1),
    "magnitude(2)": lambda batches: surgery.magnitude(2),
    "taylor": lambda batches: surgery.taylor(batches, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])),
}
MODELS: dict[str, Callable[[int], nn.Module]] = {"mlp": lambda seed: mlp(256, seed), "cnn": cnn}


def sorted_by(model: str, seed: int, epochs: int) -> dict[str, Any]:
    """Accuracies (%) of a plainly trained model: sorted and cut, and after a fifth of the epochs of `one_narrow`."""
    parts, plain = data(seed), plainly(MODELS[model](seed), seed, epochs)
    x, y = parts["train"]
    small = list(zip(x[:512].split(8), y[:512].split(8), strict=True))
    return {
        name: continued(surgery.sort(plain, x[:4], by=by(small)), parts, epochs // 5, seed)
        for name, by in CRITERIA.items()
    }


def continued(plain: nn.Module, parts: Parts, epochs: int, seed: int) -> dict[str, list[float]]:
    """Accuracies (%) at each fraction, recalibrated: before and after a nested training that goes on."""
    x, y = parts["train"]
    wrapped = surgery.wrap(plain, x[:4], generator=torch.Generator().manual_seed(seed))
    found = {"cut": recalibrated(wrapped, parts)}
    rows = list(batches(len(x), epochs, seed + 1))
    wrapped.train()

    def gradients(batch: Tensor) -> None:
        one_narrow(wrapped, x[batch], lambda output: smoothed(output, y[batch]))

    optimize(list(wrapped.parameters()), gradients, rows, rates("one-cycle", RATE / 2, len(rows)))
    return {**found, "continued": recalibrated(wrapped.eval(), parts)}


def recalibrated(wrapped: nn.Module, parts: Parts) -> list[float]:
    found = []
    for fraction in FRACTIONS:
        with surgery.at_widths(wrapped, fraction):
            surgery.recalibrate(wrapped, parts["train"][0].split(BATCH)[:10])
        found.append(accuracy(wrapped, fraction, *held_out(parts)))
    return found


def main(run: Run) -> list[dict[str, object]]:
    """Print and return the rows of all tables: means over seeds."""
    seeds, epochs = run.seeds(3), 5 if run.quick else EPOCHS
    rows: list[dict[str, object]] = []

    def keep(**row: object) -> None:
        rows.append(row)
        print(row)

    for name in tqdm(RECIPES, "recipes"):
        found = [run.cell(recipe, name=name, seed=seed, epochs=epochs) for seed in seeds]
        widths = means([one["widths"] for one in found])
        mixed, seconds = (means([[one[key]] for one in found])[0] for key in ("mixed", "cpu seconds"))
        keep(recipe=name, accuracy=widths, mean=round(statistics.mean(widths), 2), mixed=mixed, seconds=seconds)
    for name in tqdm(STATISTICS, "statistics"):
        found = [run.cell(statistics_of, name=name, seed=seed, epochs=epochs // 5) for seed in seeds]
        for when in ("as trained", "recalibrated"):
            keep(statistics=name, when=when, accuracy=means([one[when] for one in found]))
    for model in tqdm(MODELS, "sort"):
        found = [run.cell(sorted_by, model=model, seed=seed, epochs=epochs // 5) for seed in seeds]
        for name in CRITERIA:
            for when in ("cut", "continued"):
                keep(sort=name, model=model, when=when, accuracy=means([one[name][when] for one in found]))
    return rows


def means(found: list[list[float]]) -> list[float]:
    return [round(statistics.mean(values), 1) for values in zip(*found, strict=True)]
