"""A last training of a small model: to say what the full one says, without labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from tqdm import tqdm

import surgery

M = TypeVar("M", bound=nn.Module)
MASKED = 1e3
RISE = 0.1  # of the steps, until the learning rate is at its highest


def polish(
    small: M,
    full: nn.Module,
    batches: Sequence[Any],
    epochs: int,
    *,
    rate: float = 3e-4,
    score: Callable[[nn.Module], float] | None = None,
    progress: bool = True,
) -> M:
    """A copy of a small model that learns, by squared error, to say what the full one says.

    Both run in eval mode: BatchNorm keeps its statistics, and nothing is dropped. Adam, a one-cycle learning rate.

    Args:
        small: what `surgery.shrink` has made.
        full: the model that it was cut from.
        batches: inputs, each a tuple (positional arguments) or a dict (keyword arguments).
        epochs: passes over them.
        rate: the highest learning rate: small, since the start is good.
        score: of a model, higher is better. If it is not higher afterwards, `small` itself is returned.
        progress: show a bar.
    """
    learner = copy.deepcopy(small).eval()
    with torch.no_grad():
        known = [said(full, given) for given in batches]
    usual = [telling(row) for row in known]
    spread = float(torch.cat([row[at] for row, at in zip(known, usual, strict=True)]).var(correction=0)) or 1.0
    parameters = [parameter for parameter in learner.parameters() if parameter.is_floating_point()]
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in parameters:  # a trained model may be frozen as a whole
        parameter.requires_grad_()
    optimizer, steps = torch.optim.Adam(parameters, rate), epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 10, pct_start=RISE)
    order = torch.Generator().manual_seed(0)
    turns = [i for _ in range(epochs) for i in torch.randperm(len(batches), generator=order).tolist()]
    for i in tqdm(turns, "polish", disable=not progress, leave=False, unit=" steps"):
        optimizer.zero_grad()
        ((said(learner, batches[i]) - known[i])[usual[i]].square().mean() / spread).backward()
        optimizer.step()
        schedule.step()
    for parameter in frozen:
        parameter.requires_grad_(False)
    return learner if score is None or score(learner) > score(small) else small


def said(model: nn.Module, given: Any) -> Tensor:
    """All numbers that a model returns, in one row."""
    made = model(*given) if isinstance(given, tuple) else model(**given)
    found = [x for x in pytree.tree_leaves(made) if isinstance(x, Tensor) and x.is_floating_point()]
    if not found:
        raise surgery.InputError("the model returns no numbers that could be compared: pass validate=")
    return torch.cat([x.flatten().double() for x in found]).nan_to_num()


def telling(row: Tensor) -> Tensor:
    """Where numbers are no masks: those are a thousand times as large as usual, or more, and say nothing."""
    usual = row[row != 0].abs()
    return row.abs() <= MASKED * usual.median() if usual.numel() else torch.ones_like(row, dtype=torch.bool)
