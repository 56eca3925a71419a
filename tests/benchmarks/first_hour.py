"""Short trainings of a ResNet, a ViT and a decoder, by what a step draws: `python -m tests.benchmarks first_hour`.

What a newcomer trains in the first hour: few images, few epochs, the defaults. 8,000 images of Fashion-MNIST, or 300
steps on Shakespeare; each width alone is trained as long. Nothing is chosen here: the defaults were chosen on other
images and text, that no training or test has seen.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.demo.data import Part
from tests.benchmarks.data import fashion_mnist, shakespeare
from tests.benchmarks.decoder import Decoder
from tests.benchmarks.fitting import accuracy, fit
from tests.benchmarks.language import LENGTH, windows
from tests.benchmarks.run import Run
from tests.benchmarks.small_models import resnet, vit

Value = dict[str, Any]
Step = Callable[[nn.Module, Tensor, Tensor], object]
FRACTIONS = (1.0, 0.75, 0.5, 0.25, 0.125)
IMAGES, BATCH = 8_000, 64
STEPS, RATE, TEXT = 300, 3e-3, 128  # of the decoder: steps, highest learning rate, windows of the test text


@dataclass(frozen=True)
class Setup:
    """An image model, its epochs, and its highest learning rate."""

    build: Callable[[float], nn.Module]
    epochs: int
    rate: float


SETUPS = {"resnet": Setup(resnet, 4, 1e-2), "vit": Setup(vit, 6, 3e-3)}
ALL = surgery.mixed(surgery.shared(p=1.0, smallest=0.3))  # one width of all from 1/32 up


def stepped(loss: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Step:
    return lambda model, x, y: surgery.train_step(model, x, lambda output: loss(output, y), **options)


def looped(loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    return lambda model, x, y: loss(model(x), y).backward()


# The way to train, what the step is told, and what the model is wrapped with.
RECIPES: dict[str, tuple[bool, Mapping[str, Any], Callable[[], Any]]] = {
    "train_step": (True, {}, lambda: None),
    "train_step, narrow=[3/4, 1/2, 1/4]": (True, {"narrow": [0.75, 0.5, 0.25]}, lambda: None),
    "train_step, the narrow widths weigh 3": (True, {"weight": 3.0}, lambda: None),
    "train_step, one narrow width of all": (True, {"narrow": [ALL], "weight": 1.0}, lambda: None),
    "an ordinary loop": (False, {}, lambda: None),
    "an ordinary loop, sandwich()": (False, {}, surgery.sandwich),
    "an ordinary loop, half full, half of all widths": (False, {}, lambda: surgery.mixed(ALL.uniform, p=0.5)),
}


def made(name: str, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Step, Any]:
    stepping, options, draw = RECIPES[name]
    return (stepped(loss, **options) if stepping else looped(loss)), draw()


def cross_entropy(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def some(seed: int) -> Part:
    """The images of one seed."""
    images, labels = fashion_mnist()[0].images, fashion_mnist()[0].labels
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    return Part(images[rows], labels[rows])


def image_family(model: str, recipe: str, seed: int, epochs: float) -> Value:
    """Test accuracy (%) at every width after one training."""
    part, setup = some(seed), SETUPS[model]
    step, draw = made(recipe, F.cross_entropy)
    torch.manual_seed(seed)
    batches = list(part.images[:2048].split(128))
    wrapped = surgery.wrap(setup.build(1.0), part.images[:2], draw=draw, calibration=batches)
    start = time.process_time()
    fit(wrapped, part, epochs, setup.rate, seed, BATCH, step)
    seconds = time.process_time() - start
    test = fashion_mnist()[2]
    found = surgery.progress(wrapped, lambda twin: accuracy(twin, test), FRACTIONS)
    return {"scores": found.scores, "seconds": seconds}


def image_alone(model: str, fraction: float, seed: int, epochs: float) -> Value:
    """Test accuracy (%) of a model of one width, trained plainly."""
    setup = SETUPS[model]
    torch.manual_seed(seed)
    start = time.process_time()
    trained = fit(setup.build(fraction), some(seed), epochs, setup.rate, seed, BATCH, looped(F.cross_entropy))
    return {"scores": [accuracy(trained, fashion_mnist()[2])], "seconds": time.process_time() - start}


def text_fit(model: nn.Module, seed: int, steps: int, step: Step) -> float:
    """Train on windows of the plays; the seconds of one core that it took."""
    text, _, _ = shakespeare()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(20, steps), pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    start = time.process_time()
    model.train()
    for _ in range(steps):
        x, y = windows(text, torch.randint(len(text) - LENGTH - 1, (16,), generator=order))
        optimizer.zero_grad()
        step(model, x, y)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.process_time() - start


@torch.no_grad()
def perplexity(model: nn.Module) -> float:
    """Per byte of the test plays, in evenly spaced windows."""
    text = shakespeare()[2]
    x, y = windows(text, torch.linspace(0, len(text) - LENGTH - 1, TEXT).long())
    return math.exp(float(cross_entropy(model(x), y)))


def text_family(recipe: str, seed: int, steps: int) -> Value:
    """Perplexity at every width after one training."""
    step, draw = made(recipe, cross_entropy)
    torch.manual_seed(seed)
    wrapped = surgery.wrap(Decoder(), torch.randint(256, (2, 64)), draw=draw)
    seconds = text_fit(wrapped, seed, steps, step)
    found = surgery.progress(wrapped.eval(), lambda twin: -perplexity(twin), FRACTIONS)
    return {"scores": [-score for score in found.scores], "seconds": seconds}


def text_alone(fraction: float, seed: int, steps: int) -> Value:
    """Perplexity of a decoder with this share of its features, heads and hidden units, trained plainly."""
    torch.manual_seed(seed)
    heads = max(1, round(8 * fraction))
    model = Decoder(round(128 * fraction), heads=heads, hidden=round(512 * fraction))
    seconds = text_fit(model, seed, steps, looped(cross_entropy))
    return {"scores": [perplexity(model.eval())], "seconds": seconds}


def main(run: Run) -> list[Value]:
    """Print and return a row for each model and recipe: the mean at every width, its standard error, and the time."""
    rows: list[Value] = []
    for model in (*SETUPS, "decoder"):
        seeds = run.seeds(3 if model == "resnet" else 1)
        length = (0.1 if run.quick else SETUPS[model].epochs) if model in SETUPS else (20 if run.quick else STEPS)
        image = model in SETUPS
        told = {"model": model, "epochs": length} if image else {"steps": length}
        whole, narrow = (image_family, image_alone) if image else (text_family, text_alone)
        alone = [[run.cell(narrow, **told, fraction=f, seed=seed) for f in FRACTIONS] for seed in seeds]
        plain = statistics.mean(values[0]["seconds"] for values in alone)
        rows.append(row(model, "each width alone", [[v["scores"][0] for v in values] for values in alone], 0.0))
        for recipe in RECIPES:
            found = [run.cell(whole, **told, recipe=recipe, seed=seed) for seed in seeds]
            ratio = statistics.mean(value["seconds"] for value in found) / plain
            rows.append(row(model, recipe, [value["scores"] for value in found], ratio))
    print("widths", FRACTIONS, *rows, sep="\n")
    return rows


def row(model: str, name: str, scores: list[list[float]], time_: float) -> Value:
    columns = list(zip(*scores, strict=True))
    means = [round(statistics.mean(column), 2) for column in columns]
    errors = [round(statistics.stdev(c) / len(c) ** 0.5, 2) if len(c) > 1 else None for c in columns]
    return {"model": model, "recipe": name, "test": means, "error": errors, "time": round(time_, 2)}
