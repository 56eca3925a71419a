"""What a wrapped model would say of itself: the widths that are set, what was drawn last, whose statistics it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from surgery.plan.plan import Draw
from surgery.twin.elastic import elastic_of, state_of
from surgery.twin.state import State

FEW = 3  # groups that are told on one line


@dataclass(frozen=True, repr=False)
class Status:
    """How a wrapped model stands. Printed, it is a few lines.

    Attributes:
        model: its class.
        training: whether it is in training mode, in which each forward draws.
        sizes: the full width of every group; empty before the plan is made.
        widths: those that are set, which eval mode runs at.
        drawn: those that were drawn last, by a training forward or by `train_step`; None before the first draw.
        draw: how they are drawn.
        calibration: how many batches BatchNorm's statistics are estimated on where it is scored or cut.
        statistics: the widths that BatchNorm's running statistics are of; None where they are mixed, or there are none.
        norms: how many BatchNorms keep statistics.
    """

    model: str
    training: bool
    sizes: Mapping[str, int]
    widths: Mapping[str, int]
    drawn: Mapping[str, int] | None
    draw: Draw
    calibration: int
    statistics: Mapping[str, int] | None
    norms: int

    def __str__(self) -> str:
        if not self.sizes:
            return f"{self.model}, wrapped without example inputs: it is analysed at its first forward"
        mode = f"in training mode: each forward draws, by {self.draw!r}" if self.training else "in eval mode"
        lines = [
            f"{self.model}, wrapped, with {len(self.sizes)} groups; {mode}",
            f"widths that are set: {told(self.widths, self.sizes)}",
            f"drawn last: {'nothing yet' if self.drawn is None else told(self.drawn, self.sizes)}",
        ]
        if self.norms:
            seen = "of several widths, mixed" if self.statistics is None else f"of {told(self.statistics, self.sizes)}"
            lines.append(f"BatchNorm: statistics {seen}; {self.calibration} batches to estimate others on")
        return "\n".join(lines)

    __repr__ = __str__


def status(wrapped: nn.Module) -> Status:
    """How a wrapped model stands: its mode, the widths that are set, what was drawn last. Print it.

    Raises InputError for a model that is not wrapped.
    """
    state = state_of(wrapped)
    return Status(
        model=type(wrapped).__name__,
        training=wrapped.training,
        sizes={} if state.plan is None else state.plan.full(),
        widths=dict(state.setting.chosen),
        drawn=None if state.last is None else dict(state.last),
        draw=state.draw,
        calibration=len(state.calibration),
        statistics=None if state.estimated is None or not state.norms else dict(state.estimated),
        norms=len(state.norms),
    )


def told(widths: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """Widths on one line: those that are not full."""
    cut = [f"{name} {width} of {sizes[name]}" for name, width in widths.items() if width != sizes[name]]
    if not cut:
        return "full"
    return ", ".join(cut[:FEW]) + (f" and {len(cut) - FEW} more groups" if len(cut) > FEW else "")


def line(module: nn.Module) -> str | None:
    """What the `repr` of the root of a twin has at its end; None for any other module."""
    elastic = elastic_of(module)
    if elastic is None or elastic.path:
        return None
    state: State = elastic.state
    if state.plan is None:
        return "[wrapped: analysed at its first forward]"
    full = state.plan.full()
    drawn = "" if state.last is None else f"; drawn last: {told(state.last, full)}"
    return f"[wrapped: widths that are set: {told(state.setting.chosen, full)}{drawn}]"
