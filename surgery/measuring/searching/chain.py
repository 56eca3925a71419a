"""A nested chain: for each budget one of its models, each a slice of the one before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from surgery.curves.curve import Point


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
