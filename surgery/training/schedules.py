"""Draws that count: each training forward of a twin is one turn of theirs.

They work in a training loop that knows nothing of them. Several forwards make one step of the optimizer where gradients
are accumulated over micro-batches, and each micro-batch then sees another width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from surgery.errors import InputError
from surgery.plan.plan import Draw, Plan
from surgery.plan.widths import WidthSpec, width_entries
from surgery.training.draws import ONE, check_draw, deep, grid, mixed

Turn: TypeAlias = "Draw | WidthSpec"

# A small, a middle and a large width in each step (docs/benchmarks.md, what a step draws). Together they are the
# fractions that `sweep` looks at.
NARROW: tuple[Draw, ...] = tuple(
    deep(mixed(grid(some))) for some in ((1 / 16, 1 / 8), (1 / 8, 3 / 16, 1 / 4), (1 / 4, 3 / 8, 1 / 2, 3 / 4))
)


@dataclass(frozen=True)
class At:
    """A draw that is always the same."""

    widths: WidthSpec

    def __call__(self, plan: Plan, generator: torch.Generator) -> Mapping[str, int | float]:
        return plan.widths(self.widths)


def turns(narrow: Sequence[Turn]) -> tuple[Draw, ...]:
    """Draws, and widths as draws. Raises InputError where `narrow` is no sequence of them, or empty."""
    if isinstance(narrow, str) or not isinstance(narrow, Sequence) or not narrow:
        raise InputError(f"narrow is a sequence of one or more draws and widths, got {narrow!r}")
    return tuple(map(_draw, narrow))


def _draw(turn: Turn) -> Draw:
    """A draw as it is, widths as a draw. Raises WidthError for what says nothing of widths."""
    if callable(turn):
        check_draw(turn)
        return turn
    width_entries(turn)
    return At(turn)


@dataclass
class Sandwich:
    """Full width, then others in turn; see `sandwich`.

    Attributes:
        forwards: training forwards so far. Set it to continue in the middle of a cycle.
    """

    narrow: tuple[Draw, ...]
    forwards: int = 0

    @property
    def rescale(self) -> bool:
        return any(getattr(draw, "rescale", False) for draw in self.narrow)

    def __call__(self, plan: Plan, generator: torch.Generator) -> Mapping[str, int | float]:
        turn = self.forwards % (1 + len(self.narrow))
        drawn = self.narrow[turn - 1](plan, generator) if turn else {}
        self.forwards += 1
        return drawn


def sandwich(narrow: Sequence[Turn] = (ONE,)) -> Sandwich:
    """A cycle over training forwards: full width, then each of `narrow` in turn.

    With gradients accumulated over `1 + len(narrow)` micro-batches, each step of the optimizer learns all of them, from
    another part of the batch each.

    Args:
        narrow: draws, and widths as `surgery.set_widths` takes them. Default: one of 1/8, 1/4 and 1/2, in a quarter of
            the turns drawn for each group by itself.
    """
    return Sandwich(turns(narrow))


@dataclass
class Warmup:
    """Full width at first, then another draw; see `warmup`.

    Attributes:
        draw: what follows.
        length: training forwards at full width.
        forwards: training forwards so far. Set it to continue an earlier training.
    """

    draw: Draw
    length: int
    forwards: int = 0

    @property
    def rescale(self) -> bool:
        return bool(getattr(self.draw, "rescale", False))

    def __call__(self, plan: Plan, generator: torch.Generator) -> Mapping[str, int | float]:
        drawn = self.draw(plan, generator) if self.forwards >= self.length else {}
        self.forwards += 1
        return drawn


def warmup(draw: Draw, forwards: int) -> Warmup:
    """Full width for the first `forwards` training forwards, then `draw`."""
    check_draw(draw)
    if isinstance(forwards, bool) or not isinstance(forwards, int) or forwards < 0:
        raise InputError(f"forwards is a number of training forwards, an int of at least 0, got {forwards!r}")
    return Warmup(draw, forwards)
