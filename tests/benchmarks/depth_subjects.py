"""What the benchmark of depth trains: a byte-level language model of eight blocks, and a residual network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.demo.data import Part
from tests.benchmarks import fitting, language
from tests.benchmarks.data import fashion_mnist, shakespeare
from tests.benchmarks.decoder import Decoder
from tests.benchmarks.small_models import Block

Step = Callable[[nn.Module, Tensor, Tensor], object]
Samples = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Subject:
    """A model, how it is trained, and how good it is.

    Attributes:
        build: the full model, with random weights.
        start: new random weights for a model of this kind, of any size.
        fit: (model, seed, step, quick) trains it in place.
        loss: (output, labels).
        validation, test: a number for each sample, higher is better.
        inputs: (batch) a batch of inputs, for plans and for times.
        calibration: batches for BatchNorm.
        depths, fractions: of what is measured.
        unit: of the goodness in tables, and what it is multiplied by there.
    """

    build: Callable[[], nn.Module]
    start: Callable[[nn.Module], None]
    fit: Callable[[nn.Module, int, Step, bool], None]
    loss: Callable[[Tensor, Tensor], Tensor]
    validation: Samples
    test: Samples
    inputs: Callable[[int], Tensor]
    calibration: Callable[[], list[Tensor]]
    depths: tuple[float, ...]
    fractions: tuple[float, ...]
    unit: tuple[str, float]


def timed(fit: Callable[[], object]) -> float:
    """The seconds of one core that a training takes."""
    start = time.process_time()
    fit()
    return round(time.process_time() - start, 2)


# The language model.
RATE, STEPS = 6e-3, 400


def decoder() -> nn.Module:
    return Decoder(dim=96, depth=8, heads=6, hidden=288)


def fit_text(model: nn.Module, seed: int, step: Step, quick: bool) -> None:
    text, steps = shakespeare()[0], 20 if quick else STEPS
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(text) - language.LENGTH, (language.BATCH,), generator=order)
        x, y = language.windows(text, starts)
        optimizer.zero_grad()
        step(model, x, y)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def likely(part: int, count: int) -> Samples:
    """Minus the loss of each of evenly spaced windows, in nats per byte."""
    return lambda model: -torch.tensor(language.losses(model, shakespeare()[part], count), dtype=torch.float64)


def next_byte(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


# The residual network.
CHANNELS, BLOCKS, EPOCHS, BATCH, HIGHEST = (16, 32, 64), 4, 2, 128, 6e-3


def residual() -> nn.Module:
    """Three stages of four blocks, of 16, 32 and 64 channels, on images of which each side is halved at once."""
    first = CHANNELS[0]
    stages, inside = [], first
    for channels in CHANNELS:
        strides = (1 if channels == inside else 2, *[1] * (BLOCKS - 1))
        sizes = (inside, *[channels] * (BLOCKS - 1))
        stages.append(nn.Sequential(*(Block(i, channels, s) for i, s in zip(sizes, strides, strict=True))))
        inside = channels
    stem = nn.Conv2d(1, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10)
    return nn.Sequential(*stem, *stages, *head).to(memory_format=torch.channels_last)


def restart(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]


def fit_images(model: nn.Module, seed: int, step: Step, quick: bool) -> None:
    train = fashion_mnist()[0]
    part = train.first(2_560) if quick else train
    fitting.fit(model, part, EPOCHS, HIGHEST, seed, BATCH, step)


def right(part: int) -> Samples:
    """1.0 for each image that is labelled right."""

    @torch.no_grad()
    def samples(model: nn.Module) -> Tensor:
        images: Part = fashion_mnist()[part]
        found = [model(some).argmax(1) for some in images.images.split(2_500)]
        return (torch.cat(found) == images.labels).double()

    return samples


SUBJECTS = {
    "language": Subject(
        decoder, lambda model: model.start(), fit_text, next_byte, likely(1, 96), likely(2, 512),  # type: ignore[operator]
        lambda batch: torch.zeros(batch, language.LENGTH, dtype=torch.long), list,
        (1.0, 0.75, 0.5, 0.375, 0.25), (1.0, 0.75, 0.5, 0.375, 0.25), ("nats per byte", 1.0),
    ),
    "cnn": Subject(
        residual, restart, fit_images, F.cross_entropy, right(1), right(2), lambda batch: torch.zeros(batch, 1, 28, 28),
        lambda: list(fashion_mnist()[0].images[:2_560].split(256)), (1.0, 0.75, 0.5, 0.25),
        (1.0, 0.75, 0.5, 0.375, 0.25), ("points", 100.0),
    ),
}  # fmt: skip
Value = dict[str, Any]
