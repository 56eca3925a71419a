"""A level for each axis, of a small predicted loss and a load of at most one: a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Load: TypeAlias = "Callable[[Tensor], Tensor]"  # (B, axes) levels -> (B) loads
ROUNDS = 4  # passes over all axes for each price
POWERS = range(-5, 6)  # of eight: the prices that are tried, around the loss of everything for the load of everything


def knapsack(losses: Sequence[Tensor], load: Load, start: Sequence[int]) -> list[int]:
    """The levels, one for each axis, of a small total loss whose load is at most 1.

    Lagrange's way: loss + price * load is made small axis by axis, for a ladder of prices; then what room is left is
    filled, the best gain for its load first. The load need not be a sum over axes.

    Args:
        losses: for each axis, the loss at each level. Level 0 is the widest; higher levels cost less and lose more.
        load: what share of the budget levels take. It falls from level to level.
        start: the lowest level of each axis that is allowed: chains go on from wider models.

    Returns the smallest levels that are allowed where nothing fits.
    """
    lowest, highest = list(start), [len(loss) - 1 for loss in losses]
    best, found, middle = highest, lowest, _price(losses, load, lowest, highest)
    for price in (middle * 8.0**power for power in POWERS):
        found = _descended(losses, load, lowest, found, price)
        if _load(load, found) <= 1 and total(losses, found) <= total(losses, best):
            best = found
    return _filled(losses, load, lowest, best)


def total(losses: Sequence[Tensor], levels: Sequence[int]) -> float:
    """The predicted loss of all axes together."""
    return sum(float(loss[level]) for loss, level in zip(losses, levels, strict=True))


def _price(losses: Sequence[Tensor], load: Load, lowest: Sequence[int], highest: Sequence[int]) -> float:
    """The loss of everything for the load of everything."""
    loss = total(losses, highest) - total(losses, lowest)
    return max(loss, 1e-9) / max(_load(load, lowest) - _load(load, highest), 1e-9)


def _descended(
    losses: Sequence[Tensor], load: Load, lowest: Sequence[int], start: Sequence[int], price: float
) -> list[int]:
    """Levels at which no axis by itself can make loss + price * load smaller."""
    levels = list(start)
    for _ in range(ROUNDS):
        before = list(levels)
        for axis, loss in enumerate(losses):
            choices = torch.arange(lowest[axis], len(loss))
            trial = torch.tensor([levels]).repeat(len(choices), 1)
            trial[:, axis] = choices
            levels[axis] = int(choices[int((loss[choices] + price * load(trial)).argmin())])
        if levels == before:
            break
    return levels


def _filled(losses: Sequence[Tensor], load: Load, lowest: Sequence[int], levels: Sequence[int]) -> list[int]:
    """The same levels with axes made wider, the best gain for its load first, while it fits."""
    levels = list(levels)
    while True:
        open_axes = [axis for axis in range(len(levels)) if levels[axis] > lowest[axis]]
        if not open_axes:
            return levels
        trial = torch.tensor(levels).repeat(len(open_axes), 1)
        trial[torch.arange(len(open_axes)), open_axes] -= 1
        loads, now = load(trial).tolist(), _load(load, levels)
        gains = {
            axis: float(losses[axis][levels[axis]] - losses[axis][levels[axis] - 1]) / max(there - now, 1e-12)
            for axis, there in zip(open_axes, loads, strict=True)
            if there <= 1
        }
        if not gains:
            return levels
        levels[max(gains, key=gains.__getitem__)] -= 1


def _load(load: Load, levels: Sequence[int]) -> float:
    return float(load(torch.tensor([list(levels)]))[0])
