"""Exchanges of width between axes, as long as they make the chain better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from surgery.curves.curve import Point
from surgery.measuring.searching.budget import Budget
from surgery.measuring.searching.choices import Ladder
from surgery.measuring.searching.local_search import Guess, proposals
from surgery.measuring.searching.task import Task

PATIENCE = 10  # rounds of moves for a budget without a better chain, before it is left alone


def exchange(task: Task, axes: Sequence[Ladder]) -> None:
    """Evaluate moves from the best chain, one for each budget at a time, until none makes it better."""
    waited = [0] * len(task.budgets)
    chain = task.chain()
    while task.left > 0 and min(waited) < PATIENCE:
        rows: list[Tensor] = []
        known = {tuple(point.widths.values()) for point in task.points}
        for number, budget in enumerate(task.budgets):
            if waited[number] == PATIENCE:
                continue
            found = _proposal(task, axes, chain, number, budget, known)
            if found is None:
                waited[number] = PATIENCE
                continue
            waited[number] += 1
            rows.append(found)
            known.add(tuple(found.tolist()))
        task.add(rows)
        after = task.chain()
        for number, (old, new) in enumerate(zip(chain, after, strict=True)):
            if new.widths != old.widths:
                waited = [0 if abs(number - other) <= 1 else turns for other, turns in enumerate(waited)]
        chain = after


def _proposal(
    task: Task,
    axes: Sequence[Ladder],
    chain: Sequence[Point],
    number: int,
    budget: Budget,
    known: set[tuple[int, ...]],
) -> Tensor | None:
    """The most promising new model of a budget: a slice of the chain's larger one, with its smaller one in it."""
    row = task.prices.row
    here = row(chain[number].widths)
    upper = row(chain[number - 1].widths) if number else task.sizes
    lower = row(chain[number + 1].widths) if number + 1 < len(chain) else torch.ones_like(here)
    trial = proposals(axes, here, lower, upper)
    best = task.candidates(number)[1:2]  # the best of all may not be nested: what of it is in the larger model is
    trial = torch.cat([trial, *(torch.minimum(row(point.widths), upper)[None] for point in best)])
    trial = trial[budget.load(task.prices(trial)) <= 1]
    new = [index for index, widths in enumerate(trial.tolist()) if tuple(widths) not in known]
    if not new:
        return None
    guess = Guess.from_points(axes, chain[number], here, [(row(p.widths), p.score) for p in task.points], task.sizes)
    return trial[new][int(guess(trial[new]).argmax())]
