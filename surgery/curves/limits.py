"""What `choose` is asked for, read: a limit in the unit of its measure, and what is said of one that limits nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from surgery.curves.points import MEASURES, Point, Rows
from surgery.errors import InputError

BOUNDS = ("max_params", "max_macs", "max_latency", "max_bytes", "min_score", "max_loss")
SCORES = ("min_score", "max_loss")


@dataclass(frozen=True)
class Bound:
    """One argument of `choose`: what it limits, and the limit in that measure's own unit."""

    name: str
    given: float | str
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
        return f"it has {quantity(self.measure, self.value(point))}{surely}, {self} asks for " + (
            f"{words} {quantity(self.measure, self.limit)}"
        )

    def __str__(self) -> str:
        return f"{self.name}={self.given!r}" if isinstance(self.given, str) else f"{self.name}={self.given:g}"


def bound(curve: Rows, name: str, value: object) -> Bound:
    """An argument of `choose` as a bound, a share taken of the curve's full model. Raises InputError."""
    if name not in BOUNDS:
        raise InputError(f"choose: {name} is no limit; the limits are {', '.join(BOUNDS)}")
    kind, _, measure = name.partition("_")
    share = _share(name, value)
    if share is None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
        also = " (nor a share such as '50%')" if isinstance(value, str) and name not in SCORES else ""
        raise InputError(f"choose: {name}={value!r} is not a finite number{also}")
    number = float(value) if share is None else share  # type: ignore[arg-type]
    given = value if isinstance(value, str) else number
    if name == "max_loss":
        return Bound(name, given, "score", _least(curve, number), -1)
    if kind == "max" and number <= 0:
        raise InputError(f"choose: {name}={value!r}, but it must be above 0")
    if measure == "latency" and any(point.latency is None for point in curve):
        raise InputError("choose: max_latency needs latencies: sweep with measure_latency=True")
    if share is not None or (measure in MEASURES and not isinstance(value, int) and number <= 1):
        number *= _full(curve, measure, name, value)
    return Bound(name, given, measure, number, 1 if kind == "max" else -1)


def _share(name: str, value: object) -> float | None:
    """The fraction that `"50%"` means; None for what does not end like that."""
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        return None
    if name in SCORES:
        raise InputError(f"choose: {name}={value!r}: scores have their own unit, and no shares: write 0.01 for a point")
    try:
        share = float(value.rstrip()[:-1]) / 100
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise InputError(f"choose: {name}={value!r}: a share of the full model lies above 0 % and is at most 100 %")
    return share


def _full(curve: Rows, measure: str, name: str, value: object) -> float:
    """What the full model costs. Raises InputError where its time is not known."""
    if measure in MEASURES:
        return curve.full[measure]
    whole = curve.whole
    if whole is None or whole.latency is None:
        raise InputError(
            f"choose: {name}={value!r} is a share of the full model's time, which was not measured: sweep with 1.0 "
            "among the widths, or give seconds"
        )
    return whole.latency


def _least(curve: Rows, loss: float) -> float:
    """The score that is left after a loss against the full model."""
    if loss < 0:
        raise InputError(f"choose: max_loss={loss:g} is below 0: it is what the score may fall by")
    if len(curve) == 0:
        return 0.0
    whole = curve.whole
    if whole is None:
        raise InputError(
            "choose: max_loss is counted from the full model's score, which was not measured: sweep with 1.0 among the "
            "widths, or give min_score"
        )
    if loss >= 1 and all(0 <= point.score <= 1 for point in (*curve, whole)):
        raise InputError(
            f"choose: max_loss={loss:g}, and all scores lie between 0 and 1, so that nothing could lose more. It has "
            "the unit of the scores: 0.01 is one point of a hundred"
        )
    return whole.score - loss - 1e-12 * max(1.0, abs(whole.score))  # 0.98 - 0.01 is not quite 0.97


def idle(curve: Rows, bounds: Sequence[Bound]) -> list[str]:
    """What is to be said of limits that are beyond all rows, so that they limit nothing.

    Raises InputError where the one limit is a score below all rows: then nothing tells which model is wanted.
    """
    if len(curve) < 2:
        return []
    said = []
    for item in bounds:
        if any(item.excess(point) >= 0 for point in curve) or item.limit == curve.full.get(item.measure):
            continue
        nearest = max(curve, key=item.excess)
        has = f"choose: all {len(curve)} points are within {item}, which limits nothing"
        words = f"{has}: the nearest of them has {quantity(item.measure, item.value(nearest))}"
        if item.name == "min_score" and len(bounds) == 1:
            raise InputError(f"{words}. Ask for more, sweep narrower widths, or say max_params or another cost")
        said.append(f"{words}. {HINTS.get(item.measure, '')}".rstrip())
    return said


HINTS = {
    "latency": "Latencies are in seconds; a share is written as '50%'.",
    "score": "Narrower widths would do as well: sweep them.",
}
QUANTITIES = {
    "params": "{:,.0f} parameters",
    "macs": "{:,.0f} MACs",
    "bytes": "{:,.0f} bytes",
    "latency": "{:.3g} s per call",
    "score": "score {:.4g}",
}


def quantity(measure: str, value: float) -> str:
    """A value of a measure in words."""
    return QUANTITIES[measure].format(value)
