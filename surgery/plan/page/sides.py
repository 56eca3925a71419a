"""A dimension of a tensor as a side of its rectangle: which groups cut which stretch of it, and what is cut away."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from surgery.axes.layout import Layout, Sum, groups, sizes, width

Span: TypeAlias = tuple[float, float]  # from where to where, as shares of a side
Runs: TypeAlias = tuple[tuple[int, int], ...]  # positions from where to where
LEAST, MOST = 12.0, 96.0  # lengths of sides, in pixels
SMALLEST = 64  # the size that has the longest side where the model has no larger one
PARTS = 48  # parts of a side that are told apart


@dataclass(frozen=True)
class Stretch:
    """A stretch of a side, and the groups that cut it, the outermost first; none where it is fixed."""

    start: float
    end: float
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """A side of a rectangle.

    Attributes:
        layout: the dimension that it stands for.
        length: in pixels; it goes with the logarithm of the size.
        stretches: from one end to the other.
        gaps: what is cut away at the widths that are shown.
    """

    layout: Layout
    length: float
    stretches: tuple[Stretch, ...]
    gaps: tuple[Span, ...]

    @property
    def size(self) -> int:
        """The full size."""
        return width(self.layout, {})


def side(dim: Layout, largest: int, widths: Mapping[str, int]) -> Side:
    """A dimension as a side, in a picture whose largest dimension is `largest`."""
    share = math.log(max(width(dim, {}), 1)) / math.log(max(largest, SMALLEST))
    at = tuple((name, widths.get(name, size)) for name, size in sizes(dim))
    return Side(dim, round(LEAST + share * (MOST - LEAST), 1), _stretches(dim), _gaps(dim, at))


@functools.lru_cache(maxsize=4096)
def _stretches(dim: Layout) -> tuple[Stretch, ...]:
    merged: list[Stretch] = []
    for item in _cut(dim):
        if merged and merged[-1].groups == item.groups:
            merged[-1] = Stretch(merged[-1].start, item.end, item.groups)
        else:
            merged.append(item)
    return tuple(merged)


def _cut(dim: Layout) -> Iterator[Stretch]:
    """The stretches of a dimension. A sum inside of a product repeats, and is taken as a whole."""
    lead = dim[0] if dim else None
    if not isinstance(lead, Sum):
        yield Stretch(0, 1, tuple(dict.fromkeys(groups(dim))))
        return
    inner, whole, start = tuple(groups(dim[1:])), width((lead,), {}), 0.0
    for term in lead.terms:
        share = width(term, {}) / whole
        for item in _cut(term):
            names = tuple(dict.fromkeys((*item.groups, *inner)))
            yield Stretch(start + item.start * share, start + item.end * share, names)
        start += share


@functools.lru_cache(maxsize=4096)
def _gaps(dim: Layout, at: tuple[tuple[str, int], ...]) -> tuple[Span, ...]:
    """What the widths cut away. Where that is in very many places it is drawn as one, of the same size."""
    widths, whole = dict(at), width(dim, {})
    if all(widths[name] == size for name, size in sizes(dim)):
        return ()
    kept = _kept(dim, widths) or ((0, width(dim, widths)),)
    edges = [0, *itertools.chain.from_iterable(kept), whole]
    return tuple(
        (start / whole, end / whole) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start
    )


def _kept(dim: Layout, widths: Mapping[str, int]) -> Runs | None:
    """The runs of positions that are kept, as the product of what each factor keeps; None where they are very many."""
    found: Runs = ((0, 1),)
    for factor in dim:
        size = width((factor,), {})
        inner = _laid(factor, widths) if isinstance(factor, Sum) else ((0, width((factor,), widths)),)
        if inner == ((0, size),):
            found = tuple((start * size, end * size) for start, end in found)
            continue
        places = sum(end - start for start, end in found)
        if inner is None or places * len(inner) > PARTS:
            return None
        each = (place for start, end in found for place in range(start, end))
        found = _joined((place * size + start, place * size + end) for place in each for start, end in inner)
    return found


def _laid(factor: Sum, widths: Mapping[str, int]) -> Runs | None:
    """The runs of a sum: those of its terms, one after another."""
    runs: list[tuple[int, int]] = []
    offset = 0
    for term in factor.terms:
        kept = _kept(term, widths)
        if kept is None:
            return None
        runs += [(offset + start, offset + end) for start, end in kept]
        offset += width(term, {})
    return _joined(runs)


def _joined(runs: Iterable[tuple[int, int]]) -> Runs:
    """Runs, with those as one that touch."""
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        elif end > start:
            joined.append((start, end))
    return tuple(joined)
