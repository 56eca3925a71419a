"""Choosing one point of a curve from what the user can afford."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from surgery.curves.points import Point, Rows
from surgery.errors import InputError, WidthError

BOUNDS = ("max_params", "max_macs", "max_latency", "max_bytes", "min_score")


@dataclass(frozen=True)
class Bound:
    """One argument of `choose`: what it limits, and the limit in that measure's own unit."""

    name: str
    given: float
    measure: str
    limit: float
    sign: int  # 1: at most, -1: at least
    errors: float = 0.0  # standard errors that a score has to be beyond its limit

    def excess(self, point: Point) -> float:
        """How far a point is beyond the limit, relative to it; zero or less where it is not."""
        return self.sign * (self.value(point) - self.limit) / (abs(self.limit) or 1.0)

    def value(self, point: Point) -> float:
        """What is compared with the limit."""
        value: float = getattr(point, self.measure)
        return value - self.errors * (point.error or 0.0) if self.measure == "score" else value

    def broken(self, point: Point) -> str:
        """How a point breaks the bound, in words."""
        words = "at most" if self.sign > 0 else "at least"
        surely = f" less {self.errors:g} standard errors" if self.errors and self.measure == "score" else ""
        return f"it has {_quantity(self.measure, self.value(point))}{surely}, " + (
            f"{self.name}={self.given:g} asks for {words} {_quantity(self.measure, self.limit)}"
        )


def choose(
    curve: Rows,
    *,
    max_params: float | None = None,
    max_macs: float | None = None,
    max_latency: float | None = None,
    max_bytes: float | None = None,
    min_score: float | None = None,
    errors: float = 0.0,
) -> Point:
    """The best point within all the bounds that are given; they hold together.

    That is the one of the best score, and of several such the cheapest (parameters, then MACs). Where `min_score` is
    the only bound it is the cheapest point, and of several such the one of the best score.

    Scores come with errors (`Point.error`), and the best of many is partly the luckiest. With `errors=1`, scores within
    one standard error of the best count as equally good, so the cheapest of them is chosen; and a score has to reach
    `min_score` with one standard error in hand. Points of unknown error count as exact. Scores on the same samples
    differ by less than their errors say, so this is on the safe side.

    Args:
        max_params: a float up to 1 is a fraction of the full model's parameters; anything else is a number of them.
        max_macs: the same for multiply-adds.
        max_bytes: the same for bytes.
        max_latency: seconds per call, never a fraction.
        min_score: in the unit of the scores, never a fraction of a score.
        errors: how many standard errors of the scores to allow for.

    Raises:
        WidthError: no point is within the bounds; the message names the nearest one.
        InputError: a bound is not a number or not positive, the curve is empty, or latency was not measured.
    """
    given = {
        "max_params": max_params,
        "max_macs": max_macs,
        "max_latency": max_latency,
        "max_bytes": max_bytes,
        "min_score": min_score,
    }
    bounds = [bound(curve, name, value) for name, value in given.items() if value is not None]
    if not len(curve):
        raise InputError("choose: the curve has no points")
    if isinstance(errors, bool) or not isinstance(errors, int | float) or not 0 <= errors < math.inf:
        raise InputError(f"choose: errors={errors!r} is not a number of standard errors, 0 or above")
    bounds = [replace(item, errors=float(errors)) for item in bounds]
    fitting = [point for point in curve if all(bound.excess(point) <= 0 for bound in bounds)]
    if not fitting:
        raise WidthError(_nearest(curve, bounds))
    if [bound.name for bound in bounds] == ["min_score"]:
        return min(fitting, key=lambda point: (point.params, point.macs, -point.score))
    best = min(fitting, key=lambda point: (-point.score, point.params, point.macs))
    as_good = [point for point in fitting if point.score >= best.score - errors * (best.error or 0.0)]
    return min(as_good, key=lambda point: (point.params, point.macs, -point.score))


def bound(curve: Rows, name: str, value: object) -> Bound:
    """An argument of `choose` as a bound, a fraction taken of the curve's full model. Raises InputError."""
    if name not in BOUNDS:
        raise InputError(f"choose: {name} is no limit; the limits are {', '.join(BOUNDS)}")
    kind, _, measure = name.partition("_")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"choose: {name}={value!r} is not a finite number")
    if kind == "max" and value <= 0:
        raise InputError(f"choose: {name}={value!r}, but it must be above 0")
    if measure == "latency" and any(point.latency is None for point in curve):
        raise InputError("choose: max_latency needs latencies: sweep with measure_latency=True")
    share = measure in curve.full and not isinstance(value, int) and value <= 1
    limit = float(value * curve.full[measure]) if share else float(value)
    return Bound(name, float(value), measure, limit, 1 if kind == "max" else -1)


def _nearest(curve: Rows, bounds: list[Bound]) -> str:
    """The message that says which point comes nearest, and what it misses."""

    def worst(row: int) -> float:
        return max(bound.excess(curve[row]) for bound in bounds)

    row = min(range(len(curve)), key=worst)
    reasons = "; ".join(bound.broken(curve[row]) for bound in bounds if bound.excess(curve[row]) > 0)
    return (
        f"choose: none of the {len(curve)} points fits. The nearest is curve[{row}]: {reasons}. "
        "Loosen the bound, or sweep other widths."
    )


QUANTITIES = {
    "params": "{:,.0f} parameters",
    "macs": "{:,.0f} MACs",
    "bytes": "{:,.0f} bytes",
    "latency": "{:.3g} s per call",
    "score": "score {:.4g}",
}


def _quantity(measure: str, value: float) -> str:
    return QUANTITIES[measure].format(value)
