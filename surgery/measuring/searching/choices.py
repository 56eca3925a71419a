"""The widths that a search may give each axis, and their predicted effect on score and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from surgery.measuring.sensitivity import Sensitivity
from surgery.plan.plan import Plan

Allowed: TypeAlias = "Callable[[float | Mapping[str, float]], dict[str, int]]"  # fractions -> widths that may be had
STEPS = tuple(2 ** (-i / 6) for i in range(31))  # from 1 to 1/32, six to an octave


@dataclass(frozen=True)
class Choices:
    """One axis: its groups and the widths to choose from, widest first.

    Attributes:
        columns: (N) which groups.
        widths: (L, N) their widths.
        shares: (L) the mean of width / size.
        losses: (L) the predicted loss of score, rising.
        times: (L) the predicted factor on the time of a call, falling.
    """

    columns: Tensor
    widths: Tensor
    shares: Tensor
    losses: Tensor
    times: Tensor

    def share(self, row: Tensor, sizes: Tensor) -> float:
        """The mean of width / size in a row of all groups' widths."""
        return float((row[self.columns] / sizes[self.columns]).mean())

    def loss(self, share: float) -> float:
        """The predicted loss at any share, on straight lines over its logarithm."""
        return _line(math.log(share), self.shares.log().flip(0).tolist(), self.losses.flip(0).tolist())

    def moved(self, row: Tensor, widths: int) -> Tensor | None:
        """A row with this axis so many widths wider (above 0) or narrower; None where there is none."""
        here = row[self.columns]
        if widths > 0:
            wider = (self.widths > here).any(1).nonzero().flatten().flip(0)
            chosen = wider[widths - 1 : widths]
        else:
            narrower = (self.widths < here).any(1).nonzero().flatten()
            chosen = narrower[-widths - 1 : -widths]
        if not len(chosen):
            return None
        rung = self.widths[int(chosen[0])]
        moved = row.clone()
        moved[self.columns] = torch.maximum(here, rung) if widths > 0 else torch.minimum(here, rung)
        return moved


@dataclass(frozen=True)
class ChoiceTable:
    """All choices_of as tables, to look up thousands of models at once.

    Attributes:
        widths: (L, groups) the width of each group at each level; short choices_of end in repeats.
        times: (L, axes) the predicted factors on the time of a call.
        axis: (groups) which axis a group is in.
    """

    widths: Tensor
    times: Tensor
    axis: Tensor

    @classmethod
    def of(cls, axes: Sequence[Choices], sizes: Tensor) -> ChoiceTable:
        """The table of some axes; groups in none of them have their full `sizes`."""
        depth = max(len(axis.widths) for axis in axes)
        widths, member = sizes.long().repeat(depth, 1), torch.zeros(len(sizes), dtype=torch.long)
        for number, axis in enumerate(axes):
            widths[:, axis.columns] = _padded(axis.widths, depth)
            member[axis.columns] = number
        return cls(widths, torch.stack([_padded(axis.times, depth) for axis in axes], 1), member)

    def rows(self, levels: Tensor) -> Tensor:
        """(B, groups) the widths of (B, axes) levels."""
        return self.widths.gather(0, levels[:, self.axis])

    def factor(self, levels: Tensor) -> Tensor:
        """(B) the predicted factor on the time of a call."""
        return self.times.gather(0, levels).prod(1)


def _padded(widths: Tensor, depth: int) -> Tensor:
    return torch.cat([widths, widths[-1:].repeat_interleave(depth - len(widths), 0)])


def choices_of(plan: Plan, axes: Mapping[str, Sequence[str]], fitting: Allowed, found: Sensitivity) -> list[Choices]:
    """A ladder for each axis, with losses and times from what cutting it alone has shown."""
    columns = {name: column for column, name in enumerate(plan.groups)}
    result = []
    for axis, names in axes.items():
        rows = [fitting(dict.fromkeys(names, step)) for step in _steps(plan, names)]
        distinct = list(dict.fromkeys(tuple(widths[name] for name in names) for widths in rows))
        widths, sizes = torch.tensor(distinct), torch.tensor([plan.groups[name].size for name in names])
        shares = (widths / sizes).mean(1)
        losses, times = _measured(found, axis, names, plan, shares)
        result.append(Choices(torch.tensor([columns[name] for name in names]), widths, shares, losses, times))
    return result


def _steps(plan: Plan, names: Sequence[str]) -> list[float]:
    """Fractions, the widest first. Of modules each one counts."""
    groups = [plan.groups[name] for name in names]
    each = {w / g.size for g in groups if g.counted for w in range(g.smallest, g.size, g.granularity)}
    return sorted({*STEPS, *each}, reverse=True)


def allowed(plan: Plan, spec: float | Mapping[str, float], multiple: int, minimum: Mapping[str, int]) -> dict[str, int]:
    """Widths of fractions, none below its minimum."""
    return {name: max(width, minimum.get(name, 1)) for name, width in plan.widths(spec, multiple).items()}


def _measured(found: Sensitivity, axis: str, names: Sequence[str], plan: Plan, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The losses and factors of time at each share, from the rows of one axis. They are made to rise, and to fall."""
    base, logs, lost, taken = found.curve[0], [0.0], [0.0], [1.0]
    for point in found.points(axis):
        logs.append(math.log(sum(point.widths[name] / plan.groups[name].size for name in names) / len(names)))
        lost.append(max(lost[-1], base.score - point.score))
        timed = base.latency and point.latency
        taken.append(min(taken[-1], point.latency / base.latency) if timed else taken[-1])  # type: ignore[operator]
    ends = logs[::-1], lost[::-1], taken[::-1]
    losses = [_line(math.log(share), ends[0], ends[1]) for share in shares.tolist()]
    times = [max(0.05, _line(math.log(share), ends[0], ends[2])) for share in shares.tolist()]
    tie = 1e-9 * torch.arange(len(losses), dtype=torch.float64)  # of equal losses, the wider is better
    return torch.tensor(losses, dtype=torch.float64) + tie, torch.tensor(times, dtype=torch.float64)


def _line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """A value on straight lines between points of ascending x, and beyond them."""
    if len(xs) == 1:
        return ys[0]
    right = min(max(sum(known < x for known in xs), 1), len(xs) - 1)
    way = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + way * (ys[right] - ys[right - 1])
