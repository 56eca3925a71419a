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
LOWER = 1 / 16  # the narrowest fraction that is swept
DRAWN = surgery.mixed(surgery.shared(p=1.0, lower=LOWER))
# More narrow passes than the default, and of more weight: the training is short, and narrow widths learn little in one
# pass that is drawn. On calls this cheap the extra time is small.
NARROW, WEIGHT = (LOWER, DRAWN, DRAWN), 1.5


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
                loss_of = partial(F.cross_entropy, target=part.labels[rows])
                loss = surgery.train_step(wrapped, part.images[rows], loss_of, narrow=NARROW, weight=WEIGHT)
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
