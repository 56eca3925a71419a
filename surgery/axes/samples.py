"""Expressions of sizes at many widths at once: a column holds the value at each of them."""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from surgery.axes.algebra import Axis, Dim, Sum, resolve

Column: TypeAlias = "list[int]"
SAMPLES = 4  # widths at which code that decides by sizes is tried
MANY = 256  # and sizes that hold a division
BEYOND = 2**32  # one draw from so many widths tells whether sums and products are equal


@dataclass(frozen=True)
class Samples:
    """Widths of axes at `count` points. An axis without a column has its full width at all of them."""

    count: int
    columns: Mapping[Axis, Column]

    def constant(self, value: int) -> Column:
        return [value] * self.count

    def width(self, dim: Dim) -> Column:
        """The size of a dimension at every point."""
        return self._product(resolve(dim))

    def _product(self, dim: Dim) -> Column:
        """The size of a dimension that is resolved in depth."""
        columns = [self._factor(factor) for factor in dim]
        if not columns:
            return self.constant(1)
        first, *others = columns
        for column in others:
            first = list(map(operator.mul, first, column))
        return first

    def _factor(self, factor: Axis | Sum) -> Column:
        if isinstance(factor, Sum):
            terms = map(self._product, factor.terms)
            return list(map(sum, zip(*terms, strict=True))) if factor.terms else self.constant(0)
        return self.columns.get(factor) or self.constant(factor.size)


def every(axis: Axis) -> Samples:
    """All widths of one axis."""
    return Samples(axis.size, {axis: list(range(1, axis.size + 1))})


def many(axes: Sequence[Axis]) -> Samples:
    """More points for some axes: all of their widths, or many where there are too many."""
    if math.prod(axis.size for axis in axes) <= MANY:
        rows = list(itertools.product(*(range(1, axis.size + 1) for axis in axes)))
        return Samples(len(rows), {axis: [row[i] for row in rows] for i, axis in enumerate(axes)})
    generator = random.Random(0)
    return Samples(MANY, {axis: _drawn(axis, MANY, generator) for axis in axes})


def sampled(axes: Iterable[Axis]) -> Samples:
    """A few points: the full widths, the smallest, and random ones."""
    generator = random.Random(0)
    return Samples(SAMPLES, {axis: [axis.size, 1, *_drawn(axis, SAMPLES - 2, generator)] for axis in axes})


def spread(axes: Iterable[Axis], count: int) -> Samples:
    """The full widths, and random ones."""
    generator = random.Random(0)
    return Samples(count, {axis: [axis.size, *_drawn(axis, count - 1, generator)] for axis in axes})


def beyond(axes: Iterable[Axis]) -> Samples:
    """One point, of widths that no model has: sums and products that agree there agree everywhere (Schwartz, Zippel).

    Widths that a model can have are too few for that. Of two axes with two units each, every second draw finds them
    equally wide.
    """
    generator = random.Random(0)
    return Samples(1, {axis: [generator.randint(1, BEYOND)] for axis in axes})


def _drawn(axis: Axis, count: int, generator: random.Random) -> Column:
    return [generator.randint(1, axis.size) for _ in range(count)]
