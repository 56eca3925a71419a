"""Axes that are searched as one: a deep model has hundreds of groups, and a search has less evaluations than that."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from surgery.plan.groups import Group
from surgery.plan.plan import Plan


def blocks(plan: Plan, most: int) -> dict[str, tuple[str, ...]]:
    """All groups in at most `most` blocks, by a name for each. With as many groups or fewer, each is alone.

    Tied groups are one. Groups of one kind stay together: those of the same size, step and name but for its numbers,
    neighbours first, as the blocks of a deep model are. Where there are more kinds than blocks, names count less.
    """
    groups = [plan.groups[name] for name in plan.free]
    if len(groups) <= most:
        return {group.name: plan.tied(group.name) for group in groups}
    for kind in (_by_name, _by_size, _counted, _all):
        kinds: dict[tuple[object, ...], list[Group]] = {}
        for group in groups:
            kinds.setdefault(kind(group), []).append(group)
        if len(kinds) <= most:
            break
    parts = _shares([len(found) for found in kinds.values()], most)
    chunks = [chunk for found, count in zip(kinds.values(), parts, strict=True) for chunk in _chunks(found, count)]
    return {_label(chunk): tuple(name for group in chunk for name in plan.tied(group.name)) for chunk in chunks}


def _by_name(group: Group) -> tuple[object, ...]:
    return group.size, group.granularity, group.counted, re.sub(r"\d+", "#", group.name)


def _by_size(group: Group) -> tuple[object, ...]:
    return group.size, group.granularity, group.counted


def _counted(group: Group) -> tuple[object, ...]:
    return (group.counted,)


def _all(group: Group) -> tuple[object, ...]:
    return ()


def _shares(counts: Sequence[int], most: int) -> list[int]:
    """In how many parts each kind goes: one at least, the rest where parts are largest."""
    parts = [1] * len(counts)
    while sum(parts) < most:
        largest = max(range(len(counts)), key=lambda kind: counts[kind] / parts[kind])
        if parts[largest] >= counts[largest]:
            break
        parts[largest] += 1
    return parts


def _chunks(found: Sequence[Group], count: int) -> Iterable[Sequence[Group]]:
    """Neighbours together, in parts of about the same size."""
    edges = [round(i * len(found) / count) for i in range(count + 1)]
    return [found[a:b] for a, b in itertools.pairwise(edges)]


def _label(chunk: Sequence[Group]) -> str:
    return chunk[0].name if len(chunk) == 1 else f"{chunk[0].name} and {len(chunk) - 1} more"
