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
from surgery.plan.widths import WidthSpec
from surgery.training.draws import mixed, shared

Turn: TypeAlias = "Draw | WidthSpec"

# One narrow width in each step: more cost more, and make wide models worse (docs/benchmarks.md, ablations).
NARROW: tuple[Draw, ...] = (mixed(shared(p=1.0, smallest=0.3)),)


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
    return tuple(turn if callable(turn) else At(turn) for turn in narrow)


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


def sandwich(narrow: Sequence[Turn] = NARROW) -> Sandwich:
    """A cycle over training forwards: full width, then each of `narrow` in turn.

    With gradients accumulated over `1 + len(narrow)` micro-batches, each step of the optimizer learns all of them, from
    another part of the batch each.

    Args:
        narrow: draws, and widths as `surgery.set_widths` takes them. Default: one, as in `surgery.train_step`.
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
    if not callable(draw):
        raise InputError(f"draw is a callable (plan, generator) -> mapping, such as surgery.shared(), got {draw!r}")
    if isinstance(forwards, bool) or not isinstance(forwards, int) or forwards < 0:
        raise InputError(f"forwards is a number of training forwards, an int of at least 0, got {forwards!r}")
    return Warmup(draw, forwards)
