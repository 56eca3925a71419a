"""Dimensions of a finished plan: what `surgery.axes` found, frozen, hashable and picklable."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Unit:
    """`size` units of the group named `group`; None for a fixed axis."""

    size: int
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """Layouts laid one after another."""

    terms: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """One while a module is there that is a unit of a group, and zero without it: a factor of work, not of shapes."""

    group: str
    unit: int
    size: int = 1


Layout: TypeAlias = "tuple[Unit | Sum | Present, ...]"


def width(layout: Layout, widths: Mapping[str, int]) -> int:
    """The size of a dimension at the given widths; groups that are left out are full."""
    size = 1
    for factor in layout:
        if isinstance(factor, Sum):
            size *= sum(width(term, widths) for term in factor.terms)
        elif isinstance(factor, Unit):
            size *= widths.get(factor.group, factor.size) if factor.group else factor.size
    return size


def groups(layout: Layout) -> Iterator[str]:
    """The names of the groups in a layout, in order, with repeats."""
    for factor in layout:
        if isinstance(factor, Sum):
            for term in factor.terms:
                yield from groups(term)
        elif factor.group:
            yield factor.group


def outside(layout: Layout, inside: frozenset[str]) -> int:
    """How many positions of a dimension belong to none of the groups in `inside`."""
    size = 1
    for factor in layout:
        if isinstance(factor, Sum):
            size *= sum(outside(term, inside) for term in factor.terms)
        else:
            size *= 0 if factor.group in inside else factor.size
    return size


def positions(layout: Layout, chosen: Mapping[str, Tensor]) -> Tensor:
    """The positions in the full dimension that remain, in order, when each group keeps its `chosen` units."""
    index = torch.zeros(1, dtype=torch.long)
    for factor in layout:
        if isinstance(factor, Sum):
            parts, offset = [], 0
            for term in factor.terms:
                parts.append(positions(term, chosen) + offset)
                offset += width(term, {})
            inner, size = torch.cat(parts) if parts else index[:0], offset
        else:
            kept = chosen.get(factor.group) if factor.group else None
            inner, size = torch.arange(factor.size) if kept is None else kept, factor.size
        index = (index[:, None] * size + inner).flatten()
    return index


def units(layout: Layout, group: str) -> Tensor:
    """The unit of a group that each position of a dimension belongs to; -1 where it belongs to none."""
    owner = torch.full((1,), -1)
    for factor in layout:
        if isinstance(factor, Sum):
            inner = torch.cat([units(term, group) for term in factor.terms])
        else:
            inner = torch.arange(factor.size) if factor.group == group else torch.full((factor.size,), -1)
        owner = torch.maximum(owner[:, None], inner).flatten()
    return owner


@functools.lru_cache(maxsize=4096)
def _kept(layout: Layout, chosen: tuple[tuple[str, int], ...]) -> int | Tensor:
    widths = dict(chosen)
    lead, rest = layout[0], layout[1:]
    if isinstance(lead, Unit) and all(widths[group] == full for group, full in sizes(rest)):
        return width(layout, widths)
    index = positions(layout, {group: torch.arange(count) for group, count in chosen})
    return len(index) if torch.equal(index, torch.arange(len(index))) else index


def kept(layout: Layout, widths: Mapping[str, int]) -> int | Tensor | None:
    """What of a dimension remains at the given widths: all (None), its first n positions, or a list of positions."""
    if len(layout) == 1 and isinstance(lead := layout[0], Unit):  # nearly all of them are, and this is a hot path
        count = widths.get(lead.group, lead.size) if lead.group else lead.size
        return None if count == lead.size else count
    chosen = tuple((group, widths[group]) for group, size in sizes(layout) if widths.get(group, size) != size)
    if not chosen:
        return None
    return _kept(layout, tuple((group, widths.get(group, size)) for group, size in sizes(layout)))


@functools.lru_cache(maxsize=16384)
def sizes(layout: Layout) -> tuple[tuple[str, int], ...]:
    """The groups of a layout, each once, with their full sizes."""
    found: dict[str, int] = {}

    def visit(part: Layout) -> None:
        for factor in part:
            if isinstance(factor, Sum):
                for term in factor.terms:
                    visit(term)
            elif factor.group:
                found[factor.group] = factor.size

    visit(layout)
    return tuple(found.items())
