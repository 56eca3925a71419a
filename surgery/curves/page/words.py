"""What a sweep found, in plain words and short numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from surgery.curves.points import Point, Rows


@dataclass(frozen=True)
class Measure:
    """How a cost is told to a person.

    Attributes:
        name: in a table or a heading.
        units: names of units, the largest first, with what one of them is in the measure's own unit.
    """

    name: str
    units: tuple[tuple[str, float], ...]

    def unit(self, value: float) -> tuple[str, float]:
        """The largest unit that `value` has at least one of, or the smallest."""
        return next((unit for unit in self.units if value >= unit[1]), self.units[-1])

    def words(self, value: float) -> str:
        """A number and its unit: `23.1 kB`, `28,410`, `1.21 million`."""
        name, size = self.unit(value)
        return f"{digits(value / size)} {name}".strip()


COUNTS = (("billion", 1e9), ("million", 1e6), ("", 1.0))
COST_WORDS = {
    "bytes": Measure("Size", (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0))),
    "latency": Measure("Time", (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))),
    "macs": Measure("Multiply-adds", COUNTS),
    "params": Measure("Parameters", COUNTS),
}


def digits(value: float) -> str:
    """Three significant digits; above a thousand whole numbers, with commas."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def is_share(points: Iterable[Point]) -> bool:
    """Whether scores are taken for shares, which are told in percent and points (1 point is 0.01)."""
    return all(0 <= point.score <= 1 for point in points)


def score_words(score: float, share: bool) -> str:
    """A score as a person reads it: `97.4 %`, or four digits."""
    return f"{100 * score:.1f} %" if share else f"{score:.4g}"


def summary(curve: Rows, point: Point) -> str:
    """What `point` keeps and loses against the widest point of the curve, in a sentence.

    Where all scores lie in [0, 1] they are taken for shares, and differences are given in points (1 point is 0.01).
    """
    widest = max(curve, key=lambda row: row.params)
    words = [
        f"Kept {percent(point.params, curve.full['params'])} of the parameters "
        f"({point.params:,} of {curve.full['params']:,}) "
        f"and {percent(point.macs, curve.full['macs'])} of the multiply-adds; "
        f"{difference(widest.score, point.score, is_share(curve))}."
    ]
    if point.latency and widest.latency and point != widest:
        latency = COST_WORDS["latency"].words
        words.append(f"One call takes {latency(point.latency)} instead of {latency(widest.latency)}.")
    return " ".join(words)


def difference(before: float, after: float, share: bool = True) -> str:
    """A change of score in words: `lost 0.4 points (97.8 % to 97.4 %)`; as plain numbers where it is not a share."""
    amount = change(before, after, share)
    if amount is None:
        return f"the score is the same ({score_words(before, share)})"
    word = "lost" if after < before else "gained"
    return f"{word} {amount} ({score_words(before, share)} to {score_words(after, share)})"


def change(before: float, after: float, share: bool) -> str | None:
    """How far two scores are apart: `0.4 points`, or four digits; None where it rounds to nothing."""
    apart = abs(after - before)
    amount = f"{100 * apart:.1f}" if share else f"{apart:.4g}"
    if float(amount) == 0:
        return None
    return amount if not share else f"{amount} point" if amount == "1.0" else f"{amount} points"


def percent(part: float, whole: float) -> str:
    """A share: `25 %`, and `6.2 %` below ten."""
    share = 100 * part / whole if whole else 100.0
    return f"{share:.0f} %" if share >= 10 or math.isclose(share, 0) else f"{share:.1f} %"
