"""An ordinary training loop, but for one line: `surgery.train_step` also trains narrow widths at each step."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
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
                loss = surgery.train_step(
                    wrapped, part.images[rows], partial(F.cross_entropy, target=part.labels[rows])
                )
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
