"""Small changes of widths, and a guess of which one is worth an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.curves.curve import Point
from surgery.measuring.searching.choices import Ladder

RUNGS = (1, 3, 6)  # how far an axis is moved at once: up to an octave
REACH = 1.5  # octaves: models further than this from the present one tell little of it
TRUST = 0.5  # how many models' worth the slopes are that cutting axes alone has shown
OCTAVE = 2**0.5


def proposals(axes: Sequence[Ladder], here: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """(B, groups) one axis wider, alone or with another one narrower in exchange; all between `lower` and `upper`."""
    wider = {a: [m for rungs in RUNGS if (m := axis.moved(here, rungs)) is not None] for a, axis in enumerate(axes)}
    found = [row for rows in wider.values() for row in rows]
    for a, axis in enumerate(axes):
        for rungs in RUNGS:
            narrow = axis.moved(here, -rungs)
            if narrow is not None:
                found += [torch.where(row != here, row, narrow) for b, rows in wider.items() if a != b for row in rows]
    if not found:
        return here[None][:0]
    return torch.minimum(torch.maximum(torch.stack(found), lower), upper).unique(dim=0)


@dataclass(frozen=True)
class Guess:
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
        axes: Sequence[Ladder],
        point: Point,
        here: Tensor,
        known: Sequence[tuple[Tensor, float]],
        sizes: Tensor,
    ) -> Guess:
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


def _slope(axis: Ladder, share: float) -> float:
    """The predicted gain of score for an octave more."""
    wide, narrow = min(1.0, share * OCTAVE), share / OCTAVE
    return (axis.loss(narrow) - axis.loss(wide)) / max(1e-9, torch.tensor(wide / narrow).log2().item())
