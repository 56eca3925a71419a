"""What a search knows so far, and the best chain of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from surgery.curves.curve import Point
from surgery.measuring.evaluate import Evaluator, Row
from surgery.measuring.searching.budget import Budget
from surgery.measuring.searching.chain import best_chain
from surgery.plan.costs import Prices

KEPT = 40  # candidates of a budget that a chain is made of


@dataclass
class Task:
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
    prices: Prices
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
