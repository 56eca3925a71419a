"""A sweep that chooses its own widths: the next one is where the curve is least known."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from surgery.curves.curve import Curve
from surgery.curves.points import Point
from surgery.curves.surrogate import Surrogate, surrogate_of
from surgery.errors import InputError
from surgery.plan.groups import Group
from surgery.plan.plan import Plan

FIRST = 10  # rows before there is a surrogate, evenly spread over the logarithm of the fraction
SIGMAS = 2.0  # standard errors that an error is stated as
CLOSE = 1.001  # fractions nearer than this are one: no curve needs both


@dataclass(frozen=True)
class Adaptive:
    """Uniform widths that a sweep chooses itself; see `adaptive`."""

    tolerance: float
    lower: float
    most: int
    at_once: int


def adaptive(tolerance: float = 0.005, *, lower: float = 1 / 32, most: int = 50, at_once: int = 4) -> Adaptive:
    """Uniform widths for `sweep`, chosen one after another until the whole curve between them is known.

    The curve's `precision` is the error that is believed to be left at worst; `curve.at(fraction)` gives the score at
    any fraction.

    Args:
        tolerance: the error that is good enough (two standard errors), in the unit of the scores.
        lower: the smallest fraction.
        most: how many widths are evaluated at most.
        at_once: widths that are chosen together, for an executor to compute together.

    Raises:
        InputError: `tolerance` or `at_once` is not positive, `lower` is no fraction below 1, or `most` is too small.
    """
    numbers = all(isinstance(value, int | float) for value in (tolerance, lower, most, at_once))
    if not numbers or not tolerance > 0 or not 0 < lower < 1 or at_once < 1 or most < FIRST:
        raise InputError(
            f"adaptive(tolerance={tolerance!r}, lower={lower!r}, most={most!r}, at_once={at_once!r}): tolerance is "
            f"above 0, lower between 0 and 1, most at least {FIRST}, at_once at least 1"
        )
    return Adaptive(tolerance, lower, most, at_once)


class Measures(Protocol):
    """What measures uniform models: an `Evaluator`, or anything else that has points to give."""

    def fractions(self, fractions: Iterable[float], /) -> list[Point]:
        """The points of these fractions."""
        ...

    def settled(self, rows: Iterable[Point], /) -> Curve:
        """The curve of points that are done."""
        ...


def fractions(plan: Plan, lower: float, multiple: int = 1) -> list[float]:
    """The fractions from `lower` to 1 that give some group a width of its own, ascending."""
    ladders = {_ladder(group, multiple) for group in plan.groups.values()}
    found = sorted({lower, 1.0} | {w / ladder.stop for ladder in ladders for w in ladder if w > lower * ladder.stop})
    if multiple > 1:  # then many fractions are one model, which the lowest of them stands for; 1 for the full one
        models = {tuple(plan.widths(fraction, multiple).values()): fraction for fraction in reversed(found)}
        models[tuple(plan.full().values())] = 1.0
        found = sorted({lower, *models.values()})
    kept = [found[0]]
    for fraction in found[1:-1]:
        if CLOSE * kept[-1] < fraction < 1 / CLOSE:
            kept.append(fraction)
    return [*kept, 1.0]


def _ladder(group: Group, multiple: int) -> range:
    """The widths of a group below the full one, which is where they stop."""
    step = group.granularity if group.counted else math.lcm(group.granularity, multiple)
    return range(step * math.ceil(group.smallest / step), group.size, step)


def explored(evaluate: Measures, plan: Plan, wanted: Adaptive, multiple: int = 1) -> Curve:
    """The curve of the widths that were needed, widest first."""
    grid = fractions(plan, wanted.lower, multiple)
    rows = _first(grid)
    points = dict(zip(rows, evaluate.fractions([grid[row] for row in rows]), strict=True))
    while True:
        surrogate = surrogate_of(points.values())
        error = _error(surrogate, grid, points)
        worst = SIGMAS * float(error.max())
        room = min(wanted.at_once, wanted.most - len(points))
        rows = _least_known(error, sorted(points), room) if worst > wanted.tolerance else []
        if not rows:
            break
        points |= zip(rows, evaluate.fractions([grid[row] for row in rows]), strict=True)
    found = evaluate.settled([points[row] for row in sorted(points, reverse=True)])
    return replace(found, precision=worst, notes=(_note(wanted, worst, len(points), grid),))


def _first(grid: Sequence[float]) -> list[int]:
    wanted = [grid[0] ** (1 - i / (FIRST - 1)) for i in range(FIRST)]
    return sorted({min(range(len(grid)), key=lambda row: abs(math.log(grid[row] / value))) for value in wanted})


def _error(surrogate: Surrogate, grid: Sequence[float], known: dict[int, Point]) -> torch.Tensor:
    """What is not known at each fraction. A row that was measured is known, apart from its own error."""
    error = surrogate.at(grid)[1]
    if not surrogate.known:
        error[list(known)] = 0.0
    return error


def _least_known(error: torch.Tensor, known: Sequence[int], count: int) -> list[int]:
    """The rows of the largest errors that were not measured, each in another gap between measured ones."""
    found: list[int] = []
    error = error.clone()
    error[list(known)] = -1.0
    while len(found) < count and float(error.max()) >= 0:
        row = int(error.argmax())
        found.append(row)
        right = bisect.bisect(known, row)
        error[known[right - 1] : known[right]] = -1.0
    return found


def _note(wanted: Adaptive, worst: float, count: int, grid: Sequence[float]) -> str:
    span = f"at every uniform width from {grid[0]:.4g} to 1, from {count} of {len(grid)} widths"
    if worst <= wanted.tolerance:
        return f"The score is known to ±{worst:.4g} {span}."
    reason = "all were evaluated" if count == len(grid) else f"most={wanted.most}"
    return f"The score is known to ±{worst:.4g} {span}: not to tolerance={wanted.tolerance:g} ({reason})."
