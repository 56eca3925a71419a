"""Small changes of widths, and a guess of which one is worth an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.curves.points import Point
from surgery.measuring.searching.budget import Budget
from surgery.measuring.searching.chain import SearchState
from surgery.measuring.searching.choices import Choices

STRIDES = (1, 3, 6)  # how far an axis is moved at once: up to an octave
REACH = 1.5  # octaves: models further than this from the present one tell little of it
TRUST = 0.5  # how many models' worth the slopes are that cutting axes alone has shown
OCTAVE = 2**0.5


def proposals(axes: Sequence[Choices], here: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """(B, groups) one axis wider, alone or with another one narrower in exchange; all between `lower` and `upper`."""
    wider = {a: [m for widths in STRIDES if (m := axis.moved(here, widths)) is not None] for a, axis in enumerate(axes)}
    found = [row for rows in wider.values() for row in rows]
    for a, axis in enumerate(axes):
        for widths in STRIDES:
            narrow = axis.moved(here, -widths)
            if narrow is not None:
                found += [torch.where(row != here, row, narrow) for b, rows in wider.items() if a != b for row in rows]
    if not found:
        return here[None][:0]
    distinct: Tensor = torch.minimum(torch.maximum(torch.stack(found), lower), upper).unique(dim=0)
    return distinct


@dataclass(frozen=True)
class RidgeSurrogate:
    """A score for models near one: what an octave of each axis is worth.

    Attributes:
        here: (groups) the widths of that model.
        members: (groups, axes) the part of a group in its axis.
        slopes: (axes) score for each octave.
    """

    here: Tensor
    members: Tensor
    slopes: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """(B) the change of score that is guessed for (B, groups) widths."""
        return (rows / self.here).log2() @ self.members @ self.slopes

    @classmethod
    def from_points(
        cls,
        axes: Sequence[Choices],
        point: Point,
        here: Tensor,
        known: Sequence[tuple[Tensor, float]],
        sizes: Tensor,
    ) -> RidgeSurrogate:
        """Slopes as cutting axes alone has shown them, mended by all models that were evaluated, near ones first.

        It is a ridge regression around those slopes.
        """
        here = here.double()
        members = torch.zeros(len(here), len(axes), dtype=torch.float64)
        for number, axis in enumerate(axes):
            members[axis.columns, number] = 1 / len(axis.columns)
        shares = [axis.share(here, sizes) for axis in axes]
        prior = torch.tensor([_slope(axis, share) for axis, share in zip(axes, shares, strict=True)]).double()
        octaves = (torch.stack([row for row, _ in known]) / here).log2() @ members
        change = torch.tensor([score - point.score for _, score in known], dtype=torch.float64)
        weight = torch.exp(-octaves.square().sum(1) / (2 * REACH**2))
        left = (octaves * weight[:, None]).T @ octaves + TRUST * torch.eye(len(axes), dtype=torch.float64)
        right = (octaves * weight[:, None]).T @ (change - octaves @ prior)
        return cls(here, members, prior + torch.linalg.solve(left, right))


def _slope(axis: Choices, share: float) -> float:
    """The predicted gain of score for an octave more."""
    wide, narrow = min(1.0, share * OCTAVE), share / OCTAVE
    return (axis.loss(narrow) - axis.loss(wide)) / max(1e-9, torch.tensor(wide / narrow).log2().item())


PATIENCE = 10  # rounds of moves for a budget without a better chain, before it is left alone


def exchange(task: SearchState, axes: Sequence[Choices]) -> None:
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
    task: SearchState,
    axes: Sequence[Choices],
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
    guess = RidgeSurrogate.from_points(
        axes, chain[number], here, [(row(p.widths), p.score) for p in task.points], task.sizes
    )
    return trial[new][int(guess(trial[new]).argmax())]
