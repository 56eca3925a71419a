"""An ordinary training loop around a wrapped model, with one addition: each step also trains a narrow width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from surgery.demo.data import Part

BATCH = 64
RATE = 6e-3  # training all widths at once wants a higher rate than plain training
DECAY = 0.05


def train(wrapped: nn.Module, part: Part, epochs: int, seed: int, title: str = "training") -> None:
    """Train a wrapped classifier: AdamW with a one-cycle learning rate that rises to 0.006, batches of 64.

    Args:
        epochs: passes over `part`, at least 1.
        seed: of the order of the batches; the widths are drawn from the generator that `surgery.wrap` was given.
    """
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(part) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    order = torch.Generator().manual_seed(seed)
    wrapped.train()
    with tqdm(total=steps, desc=title, unit="step") as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(part), generator=order).split(BATCH):
                if len(rows) < BATCH:
                    continue
                optimizer.zero_grad()
                loss = step(wrapped, part.images[rows], part.labels[rows])
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)


def step(wrapped: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Gradients of one batch, at two widths: the full one learns the labels, a drawn one learns from the full one.

    `wrapped(images)` alone is a training step too. Teaching the narrow widths what the full one has just said costs
    less than a second full step and makes narrow models much better.
    """
    with surgery.at_widths(wrapped, 1.0):
        full = wrapped(images)
        loss = F.cross_entropy(full, labels)
        loss.backward()
    drawn = wrapped(images)  # in training mode, and outside of at_widths, each call draws its widths
    F.cross_entropy(drawn, full.detach().softmax(-1)).backward()
    return loss.item()
