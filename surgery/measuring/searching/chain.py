"""A nested chain: for each budget one of its models, each a slice of the one before."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from surgery.curves.points import Point
from surgery.measuring.evaluate import Evaluator
from surgery.measuring.rows import Row
from surgery.measuring.searching.budget import Budget
from surgery.plan.costs import CostModel


def inside(small: Point, large: Point) -> bool:
    """Whether one model is a slice of another: no group is wider."""
    return all(width <= large.widths[name] for name, width in small.widths.items())


def best_chain(candidates: Sequence[Sequence[Point]]) -> list[Point]:
    """The nested chain of the largest sum of scores, one point of each list; lists go from large budgets to small.

    Dynamic programming over the lists. Of equal chains it is the one of the earlier candidates.

    Raises:
        ValueError: no chain is nested. With uniform models in each list there always is one.
    """
    best: list[list[tuple[float, int]]] = [[(point.score, -1) for point in candidates[0]]]
    for before, here in itertools.pairwise(candidates):
        column = []
        for point in here:
            scores = [
                (value, -row)
                for row, (value, _) in enumerate(best[-1])
                if value > -float("inf") and inside(point, before[row])
            ]
            value, row = max(scores, default=(-float("inf"), 0))
            column.append((value + point.score, -row))
        best.append(column)
    value, row = max((value, -row) for row, (value, _) in enumerate(best[-1]))
    if value == -float("inf"):
        raise ValueError("no candidates are nested")
    chain, row = [], -row
    for points, column in zip(reversed(candidates), reversed(best), strict=True):
        chain.append(points[row])
        row = column[row][1]
    return chain[::-1]


KEPT = 40  # candidates of a budget that a chain is made of


@dataclass
class SearchState:
    """A search under way.

    Attributes:
        budgets: the limits, from large to small.
        uniform: the largest uniform model within each of them.
        prices: what widths cost.
        sizes: (groups) full widths.
        base: the full model.
        left: how many models may still be evaluated.
        points: those that were.
    """

    evaluate: Evaluator
    budgets: Sequence[Budget]
    uniform: Sequence[Point]
    prices: CostModel
    sizes: Tensor
    base: Point
    left: int
    points: list[Point] = field(default_factory=list)

    def add(self, rows: Iterable[Tensor | Row]) -> None:
        """Evaluate models that are new, as many as are left."""
        known = {tuple(point.widths.values()) for point in self.points}
        asked = [row if isinstance(row, Row) else Row(self.prices.named(row)) for row in rows]
        new = list({key: row for row in asked if (key := tuple(row.widths.values())) not in known}.values())
        new = new[: self.left]
        self.left -= len(new)
        self.points += self.evaluate(new)

    def candidates(self, number: int) -> list[Point]:
        """The points that a budget may choose: those that fit and are not worse than uniform, the best first."""
        budget, uniform = self.budgets[number], self.uniform[number]
        found = [p for p in self.points if p.score >= uniform.score and budget.fits(p) and p.widths != uniform.widths]
        return [uniform, *sorted(found, key=lambda p: (-p.score, p.params))[:KEPT]]

    def chain(self) -> list[Point]:
        return best_chain([self.candidates(number) for number in range(len(self.budgets))])
