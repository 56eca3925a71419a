"""What sizes want a field of a configuration to be: each one votes, by how it changes with the field."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from surgery.axes.formulas import Steps

Place: TypeAlias = "tuple[str, int | Steps]"  # a tensor and a dimension, or a module and the path of an attribute
Sizes: TypeAlias = "dict[Place, int]"
Slopes: TypeAlias = "dict[Place, float]"  # how fast sizes grow with a field

TRIED = 3  # values that are tried: the right one nearly always leads, and each costs a model on the meta device


def wanted(value: int, sizes: Sizes, target: Sizes, slopes: Slopes) -> list[int]:
    """The values of a field, `value` now, that most sizes need to become what they are in `target`."""
    votes: Counter[int] = Counter()
    for place, slope in slopes.items():
        for vote in _votes(value, sizes[place], target.get(place, sizes[place]), slope):
            if vote >= 1 and vote == int(vote):
                votes[int(vote)] += 1
    return [vote for vote, _ in votes.most_common(TRIED)]


def _votes(value: int, size: int, goal: int, slope: float) -> set[float]:
    """A size follows in a straight line; one that shrinks may be a share of another, as the width of a head is."""
    line = value + (goal - size) / slope
    return {line, value * size / goal} if slope < 0 else {line}


def slopes_between(few: Sizes, many: Sizes, step: float) -> Slopes:
    """How fast sizes grow with a field that `step` more of were counted; those that do not are left out."""
    return {place: (many[place] - size) / step for place, size in few.items() if many.get(place, size) != size}
