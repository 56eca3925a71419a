"""Choosing one point of a curve from what the user can afford."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from surgery.curves.limits import SCORES, Bound, bound, idle
from surgery.curves.points import MEASURES, Point, Rows
from surgery.errors import InputError, WidthError

Limit: TypeAlias = "float | str"


def choose(
    curve: Rows,
    *,
    max_params: Limit | None = None,
    max_macs: Limit | None = None,
    max_latency: Limit | None = None,
    max_bytes: Limit | None = None,
    min_score: float | None = None,
    max_loss: float | None = None,
    errors: float = 0.0,
) -> Point:
    """The best point within all the bounds that are given; they hold together.

    That is the one of the best score, and of several such the cheapest (parameters, then MACs). Where only the score is
    bounded it is the cheapest point, and of several such the one of the best score.

    A bound that limits nothing, since all of several points are within it, is told in a warning.

    Scores come with errors (`Point.error`), and the best of many is partly the luckiest. With `errors=1`, scores within
    one standard error of the best count as equally good, so the cheapest of them is chosen; and a score has to reach
    `min_score` with one standard error in hand. Points of unknown error count as exact. Scores on the same samples
    differ by less than their errors say, so this is on the safe side.

    Args:
        max_params: `"50%"`, or a float up to 1, is a share of the full model's parameters; else a number of them.
        max_macs: the same for multiply-adds.
        max_bytes: the same for bytes.
        max_latency: `"50%"` of the full model's time; a number is seconds per call, never a share.
        min_score: in the unit of the scores, never a share of one.
        max_loss: how much lower than the full model's the score may be, in the unit of the scores.
        errors: how many standard errors of the scores to allow for.

    Raises:
        WidthError: no point is within the bounds; the message names the nearest one.
        InputError: a bound cannot be read, the curve is empty, the latency or the full model that a bound refers to
            was not measured; or `min_score` is the only bound, and below all of several points.
    """
    given = {
        "max_params": max_params,
        "max_macs": max_macs,
        "max_latency": max_latency,
        "max_bytes": max_bytes,
        "min_score": min_score,
        "max_loss": max_loss,
    }
    bounds = [bound(curve, name, value) for name, value in given.items() if value is not None]
    bounds = with_errors(bounds, errors)
    point = best(curve, bounds, errors)
    for text in idle(curve, bounds):
        warnings.warn(text, UserWarning, stacklevel=2)
    return point


def with_errors(bounds: Sequence[Bound], errors: float) -> list[Bound]:
    """Bounds that are met with so many standard errors in hand. Raises InputError for no such number."""
    if isinstance(errors, bool) or not isinstance(errors, int | float) or not 0 <= errors < math.inf:
        raise InputError(f"choose: errors={errors!r} is not a number of standard errors, 0 or above")
    return [replace(item, errors=float(errors)) for item in bounds]


def best(curve: Rows, bounds: Sequence[Bound], errors: float = 0.0) -> Point:
    """The best point within bounds, as `choose` says. Raises WidthError where there is none."""
    if not len(curve):
        raise InputError("choose: the curve has no points")
    fitting = [point for point in curve if all(bound.excess(point) <= 0 for bound in bounds)]
    if not fitting:
        raise WidthError(_nearest(curve, bounds))
    if bounds and all(bound.name in SCORES for bound in bounds):
        return min(fitting, key=lambda point: (point.params, point.macs, -point.score))
    top = min(fitting, key=lambda point: (-point.score, point.params, point.macs))
    as_good = [point for point in fitting if point.score >= top.score - errors * (top.error or 0.0)]
    return min(as_good, key=lambda point: (point.params, point.macs, -point.score))


def _nearest(curve: Rows, bounds: Sequence[Bound]) -> str:
    """The message that says which point comes nearest, and what it misses."""

    def worst(row: int) -> float:
        return max(bound.excess(curve[row]) for bound in bounds)

    row = min(range(len(curve)), key=worst)
    reasons = "; ".join(bound.broken(curve[row]) for bound in bounds if bound.excess(curve[row]) > 0)
    alone = [str(item) for item in bounds if all(item.excess(point) > 0 for point in curve)]
    never = f" No point at all is within {', nor within '.join(alone)}." if len(bounds) > 1 and alone else ""
    return (
        f"choose: none of the {len(curve)} points fits. The nearest is curve[{row}]: {reasons}.{never}"
        f"{_units(curve, bounds)} Loosen the bound, or sweep other widths."
    )


def _units(curve: Rows, bounds: Sequence[Bound]) -> str:
    """A hint where a score is asked for in another unit than that of the curve."""
    for item in bounds:
        if item.measure in MEASURES and item.limit <= 100:  # fewer than any model has
            return f" {item.limit:g} is a number of {item.measure}; a share of the full model's is '{item.limit:g}%'."
    asked = max((item.limit for item in bounds if item.name == "min_score"), default=0.0)
    shares = all(0 <= point.score <= 1 for point in curve)
    return f" All scores lie between 0 and 1: {asked:g} % is {asked / 100:g}." if shares and asked > 1 else ""
