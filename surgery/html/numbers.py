"""Numbers as a person reads them: three digits and a unit, shares in percent."""

from __future__ import annotations

import math
from dataclasses import dataclass


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


def percent(part: float, whole: float) -> str:
    """A share: `25 %`, and `6.2 %` below ten."""
    share = 100 * part / whole if whole else 100.0
    return f"{share:.0f} %" if share >= 10 or math.isclose(share, 0) else f"{share:.1f} %"
