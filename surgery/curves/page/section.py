"""One model of a report: its curves, the limits, and the point that they pick."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from surgery.curves.choose import best, choose, with_errors
from surgery.curves.limits import Bound, bound
from surgery.curves.page.words import is_share
from surgery.curves.points import Point, Rows
from surgery.errors import InputError
from surgery.html.numbers import COST_WORDS

LOSS = 0.01  # of a share, what a model may lose where nobody says otherwise


@dataclass(frozen=True)
class Section:
    """One model of a report.

    Attributes:
        title: its heading; "" for none.
        curves: what was swept, by a name that tells the curves apart. All are of one model at full width.
        limits: what the page opens with, as keywords of `Curve.choose`. Without any, shares may lose one point.
        score: what the score is called.
        notes: further paragraphs of plain text, such as the score on test data.
        load: how to load the picked model, as Python, where it was saved.
    """

    title: str
    curves: Mapping[str, Rows]
    limits: Mapping[str, Any] = field(default_factory=dict)
    score: str = "score"
    notes: tuple[str, ...] = ()
    load: str = ""

    def __post_init__(self) -> None:
        if not self.curves or not all(map(len, self.curves.values())):
            raise InputError(f"report: {self.title or 'a section'} has no curve, or one without points")
        fulls = {tuple(sorted(curve.full.items())) for curve in self.curves.values()}
        if len(fulls) > 1:
            names = ", ".join(self.curves)
            raise InputError(f"report: {names} are of different models: give each model a section of its own")

    @cached_property
    def curve(self) -> Rows:
        """All points in one curve, in the order of the curves."""
        first = next(iter(self.curves.values()))
        sizes: dict[str, int] = {}
        for curve in self.curves.values():
            sizes |= curve.sizes
        points = tuple(point for _, _, point in self.rows)
        return dataclasses.replace(first, points=points, sizes=sizes)

    @cached_property
    def rows(self) -> list[tuple[int, int, Point]]:
        """Every point, with the number of its curve and its row there."""
        return [(series, row, p) for series, curve in enumerate(self.curves.values()) for row, p in enumerate(curve)]

    @property
    def measures(self) -> list[str]:
        """The costs that it can be drawn against: time only where it was measured everywhere."""
        timed = all(point.latency is not None for point in self.curve)
        return [x for x in COST_WORDS if timed or x != "latency"]

    @property
    def errors(self) -> bool:
        """Whether the standard error of some score is known."""
        return any(point.error for point in self.curve)

    @property
    def uniform(self) -> tuple[Point, ...]:
        """Of searched curves the uniform models that they are compared with."""
        return tuple(point for curve in self.curves.values() for point in curve.uniform)

    @property
    def share(self) -> bool:
        """Whether scores are shares, told in percent."""
        return is_share(self.curve)

    @cached_property
    def groups(self) -> dict[str, int]:
        """The full width of every group; of one that no curve tells, the largest width of a point."""
        found: dict[str, int] = {}
        for point in self.curve:
            for name, width in point.widths.items():
                found[name] = max(width, found.get(name, 0))
        return {name: max(size, self.curve.sizes.get(name, 0)) for name, size in found.items()}

    @property
    def reference(self) -> Point:
        """The full model where it was measured, else the widest point: what losses refer to."""
        return self.curve.whole or max(self.curve, key=lambda point: point.params)

    def most(self, measure: str) -> float:
        """The largest cost of a point."""
        return float(max(getattr(point, measure) for point in self.curve))

    def opening(self) -> dict[str, Any]:
        """The limits that the page opens with, as keywords of `choose`."""
        if self.limits or not self.share:
            return dict(self.limits)
        least = min(self.reference.score - LOSS, max(point.score for point in self.curve))  # a search may have no more
        return {"min_score": math.floor(1e5 * least) / 1e5}

    def pick(self) -> int:
        """The place in `curve` of the point that these limits choose. WidthError where none is within them."""
        bounds, errors = self.bounds(), self.opening().get("errors", 0.0)
        if self.limits:
            chosen = choose(self.curve, **self.opening())
        else:  # limits that nobody gave are not talked of
            chosen = best(self.curve, with_errors(bounds, errors), errors)
        return next(i for i, point in enumerate(self.curve) if point is chosen)

    def bounds(self) -> list[Bound]:
        """The limits in the measures' own units: a fraction of the full model is worked out. Raises InputError."""
        return [bound(self.curve, name, value) for name, value in self.opening().items() if name != "errors"]

    def limit_of(self) -> dict[str, float]:
        """The limit of each measure; of a score and a loss that are both limited, the stricter one."""
        found: dict[str, float] = {}
        for item in self.bounds():
            limit = round(item.limit, 9) if item.name == "max_loss" else item.limit  # a difference has many digits
            found[item.measure] = max(limit, found.get(item.measure, limit))
        return found
