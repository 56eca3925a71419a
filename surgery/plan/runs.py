"""Orders of importance in steps: neighbours go together, so that patterns that alternate stay balanced."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import TypeAlias

Run: TypeAlias = tuple[int, ...]


def in_runs(order: Sequence[int], stays: Collection[int], step: int) -> tuple[tuple[int, ...], int]:
    """An order in which units come in whole runs of `step` neighbours, and how many of it must be there.

    A run stands where its units stood in the mean; those with a unit that stays come first. Of units that are no
    multiple of the step, the run that is too short is there in the whole model alone: it is the last one, or the first
    where the last ones stay. Where some of both stay, so do all.
    """
    found = runs(len(order), stays, step)
    if found is None:
        return tuple(order), len(order)
    kept, free, short = found
    place = {unit: rank for rank, unit in enumerate(order)}

    def mean(run: Run) -> float:
        return sum(place[unit] for unit in run) / len(run)

    ranked = (*sorted(kept, key=mean), *sorted(free, key=mean), *short)
    return tuple(unit for run in ranked for unit in run), sum(map(len, kept))


def runs(size: int, stays: Collection[int], step: int) -> tuple[list[Run], list[Run], list[Run]] | None:
    """The runs with a unit that stays, those that may go, and the one that is too short, which goes first.

    None where all units stay.
    """
    for first in (step, size % step or step):  # the length of the first run
        found = _runs(size, step, first)
        short = [run for run in found if len(run) < step]
        if not any(unit in stays for run in short for unit in run):
            held = [run for run in found if any(unit in stays for unit in run)]
            return held, [run for run in found if run not in held and run not in short], short
    return None


def _runs(size: int, step: int, first: int) -> list[Run]:
    edges = [0, *range(first, size, step), size]
    return [tuple(range(a, b)) for a, b in itertools.pairwise(edges)]
