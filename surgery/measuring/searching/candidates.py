"""Models that are worth evaluating, by what each axis loses when it is cut alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from surgery.curves.points import Point
from surgery.measuring.searching.blocks import blocks
from surgery.measuring.searching.budget import Budget
from surgery.measuring.searching.chain import SearchState
from surgery.measuring.searching.choices import Allowed, Choices, ChoiceTable, choices_of
from surgery.measuring.searching.knapsack import Load, knapsack
from surgery.measuring.sensitivity import CUTS, alone, collected
from surgery.plan.plan import Plan

NEAR = (0.0, 0.05, 0.2, 1.0)  # how much it counts to stay near uniform widths, relative to the predicted loss


def cut_alone(task: SearchState, plan: Plan, widths: Allowed) -> list[Choices]:
    """Cut each axis alone, for at most half of the evaluations: what its widths are predicted to lose."""
    room = task.left // 2
    if not room:
        return []
    count = max(1, min(len(CUTS), room // len(plan.free)))
    axes = blocks(plan, max(1, room // count))
    cuts = alone(plan, axes, CUTS[:count] if count > 1 else (0.25,), widths)
    task.add(row for rows in cuts.values() for row in rows)
    points = task.evaluate([row for rows in cuts.values() for row in rows])
    found = collected(task.evaluate.ledger.curve([task.base, *points]), cuts)
    return choices_of(plan, axes, widths, found)


def knapsacks(task: SearchState, axes: Sequence[Choices]) -> None:
    """Evaluate the chains of small predicted loss: the smallest, and smaller ones nearer to uniform widths."""
    rows: list[Tensor] = []
    table = ChoiceTable.of(axes, task.sizes)
    for near in NEAR:
        levels = [0] * len(axes)
        for budget, uniform in zip(task.budgets, task.uniform, strict=True):
            levels = knapsack(_losses(task, axes, uniform, near), _load(task, axes, table, budget, uniform), levels)
            row = table.rows(torch.tensor([levels]))
            if float(budget.load(task.prices(row))[0]) <= 1:
                rows.append(row[0])
    task.add(rows[: max(1, task.left // 2)])


def _losses(task: SearchState, axes: Sequence[Choices], uniform: Point, near: float) -> list[Tensor]:
    """The predicted losses, and how far widths are from uniform ones, squared in octaves."""
    row = task.prices.row(uniform.widths)
    shares = [axis.share(row, task.sizes) for axis in axes]
    usual = max(1e-6, sum(axis.loss(share) for axis, share in zip(axes, shares, strict=True)) / len(axes))
    return [a.losses + near * usual * (a.shares / share).log2().square() for a, share in zip(axes, shares, strict=True)]


def _load(task: SearchState, axes: Sequence[Choices], table: ChoiceTable, budget: Budget, uniform: Point) -> Load:
    """What share of a budget levels take. Times are predicted as factors, and agree at the uniform model."""
    row = task.prices.row(uniform.widths)
    shares = [axis.share(row, task.sizes) for axis in axes]
    nearest = torch.tensor([int((a.shares - share).abs().argmin()) for a, share in zip(axes, shares, strict=True)])

    scale = (uniform.latency or 0.0) / table.factor(nearest[None])

    def load(levels: Tensor) -> Tensor:
        seconds = scale * table.factor(levels) if budget.timed else None
        return budget.load(task.prices(table.rows(levels)), seconds)

    return load
