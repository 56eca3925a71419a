"""How long the small models of a twin take, measured here."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from surgery.measuring.ranks import LONE, Link
from surgery.modules.engines import is_spread
from surgery.modules.inputs import Examples
from surgery.modules.latency import Timing, side_by_side, timing
from surgery.plan.widths import WidthSpec
from surgery.shrinking.shrink import shrink, unlearned_copy
from surgery.twin.setting import plan_of


@dataclass(frozen=True)
class Timer:
    """Times calls of shrunk models on the same inputs, on rank 0 where there are several: all get its times."""

    wrapped: nn.Module
    inputs: Examples
    link: Link = LONE

    def timing(self, widths: WidthSpec) -> Timing:
        """The time of one model."""
        self._gathered(widths)
        return self.link.first(lambda: timing(self._small(widths), self.inputs))

    def in_turns(self, first: WidthSpec, second: WidthSpec) -> tuple[Timing, Timing]:
        """The times of two models measured in turns: what slows the machine for a while slows both."""
        self._gathered(first, second)
        return self.link.first(lambda: side_by_side(self._small(first), self._small(second), self.inputs))

    def _small(self, widths: WidthSpec) -> nn.Module:
        if plan_of(self.wrapped).widths(widths) == plan_of(self.wrapped).full():
            return unlearned_copy(self.wrapped)  # large models do not fit twice
        return shrink(self.wrapped, widths, recalibrate=False)  # statistics take no time

    def _gathered(self, *models: WidthSpec) -> None:
        """Have the other ranks take part where a sharded model is shrunk, as each of them has parts of it."""
        if self.link.rank and is_spread(self.wrapped):
            for widths in models:
                self._small(widths)
