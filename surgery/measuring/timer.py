"""How long the small models of a twin take, measured here."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from surgery.modules.inputs import Examples
from surgery.modules.latency import Timing, side_by_side, timing
from surgery.plan.widths import WidthSpec
from surgery.shrinking.shrink import shrink, unlearned_copy
from surgery.twin.setting import plan_of


@dataclass(frozen=True)
class Timer:
    """Times calls of shrunk models on the same inputs."""

    wrapped: nn.Module
    inputs: Examples

    def timing(self, widths: WidthSpec) -> Timing:
        """The time of one model."""
        return timing(self._small(widths), self.inputs)

    def in_turns(self, first: WidthSpec, second: WidthSpec) -> tuple[Timing, Timing]:
        """The times of two models measured in turns: what slows the machine for a while slows both."""
        return side_by_side(self._small(first), self._small(second), self.inputs)

    def _small(self, widths: WidthSpec) -> nn.Module:
        if plan_of(self.wrapped).widths(widths) == plan_of(self.wrapped).full():
            return unlearned_copy(self.wrapped)  # large models do not fit twice
        return shrink(self.wrapped, widths, recalibrate=False)  # statistics take no time
