"""The training loop that all image models of the benchmarks share, so that only the step differs between methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from surgery.demo.data import Part

DECAY = 0.05
RISE = 0.2  # of the steps, until the learning rate is at its highest
Step = Callable[[nn.Module, Tensor, Tensor], object]


def plain(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Gradients of one batch, as without this library."""
    F.cross_entropy(model(x), y).backward()


def fit(model: nn.Module, part: Part, epochs: float, rate: float, seed: int, batch: int, step: Step) -> nn.Module:
    """The model after AdamW with a one-cycle learning rate that rises to `rate`.

    Args:
        epochs: passes over `part`, whole or not.
        seed: of the order of the batches.
        batch: images in a batch.
        step: adds the gradients of a batch.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY, fused=True)
    steps = max(6, round(epochs * (len(part) // batch)))  # fewer leave no room for the rise
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=RISE)
    order = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    model.train()
    for _ in tqdm(range(steps), f"seed {seed}, rate {rate}", unit="step", leave=False, mininterval=2):
        if not rows:
            rows = list(torch.randperm(len(part), generator=order).split(batch))[: len(part) // batch]
        chosen = rows.pop()
        optimizer.zero_grad()
        step(model, part.images[chosen], part.labels[chosen])
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """Percent of the images that are labelled right, in eval mode."""
    model.eval()
    parts = zip(part.images.split(2_500), part.labels.split(2_500), strict=True)
    return 100 * sum((model(x).argmax(1) == y).sum().item() for x, y in parts) / len(part)
