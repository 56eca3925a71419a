"""For which unit a loop makes a call: which turn of the loop it is in.

A call that a unit comes with (`x = x + layer(norm(x))`) belongs to the unit of its turn. A new turn begins where code
goes on at an instruction that it has been at, or before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import fx

from surgery.planning.listed.calls import Offsets, Run, Step

_Turn: TypeAlias = "list[Step]"
Bounds: TypeAlias = "Mapping[str, tuple[Offsets, Offsets]]"


@dataclass(frozen=True)
class Loops:
    """The loops whose turns call the units of one candidate.

    Attributes:
        units: the unit of each module, by its path.
        bounds: for the path of a module whose code has such a loop: the first and the last instruction in it.
    """

    units: Mapping[str, int]
    bounds: Bounds


def loops(whole: Run, around: set[str], units: Mapping[str, int]) -> Loops:
    """The loops of the whole run in the code of modules `around` the units."""
    bounds = {}
    for frame, steps in whole.steps.items():
        path = whole.frames[frame].path
        turns = _turns(steps) if path in around else []
        ours = [bool(_units(whole, turn, units)) for turn in turns]
        # what the first turn begins with may stand before the loop, what the last one ends with behind it
        begins = [turn[0].offsets for i, turn in enumerate(turns) if i and ours[i - 1] and ours[i]]
        ends = [turn[-1].offsets for i, turn in enumerate(turns[:-1]) if ours[i] and ours[i + 1]]
        if begins and path is not None:
            bounds[path] = min(begins), max(ends)
    return Loops(units, bounds)


def turns_of(run: Run, known: Loops) -> dict[fx.Node, int]:
    """The unit for whose turn each call is made; without calls in no turn, and in turns of several units."""
    found: dict[fx.Node, int] = {}
    for frame, steps in run.steps.items():
        bounds = known.bounds.get(run.frames[frame].path or "")
        for turn in _turns(steps) if bounds else ():
            inside = [step for step in turn if bounds and bounds[0] <= step.offsets <= bounds[1]]
            units = _units(run, turn, known.units)
            if len(units) > 1:  # the last turn, and a unit that is called behind the loop
                units = _units(run, inside, known.units)
            if len(units) == 1:
                found.update(dict.fromkeys((step.node for step in inside), units.pop()))
    return found


def _units(run: Run, turn: _Turn, units: Mapping[str, int]) -> set[int]:
    """The units that are called in a turn."""
    return {units[own] for step in turn if (own := run.within(step.node, units)) is not None}


def _turns(steps: _Turn) -> list[_Turn]:
    """Calls in the turns of a loop. All that one module does is at one place."""
    turns: list[_Turn] = []
    for i, step in enumerate(steps):
        before = steps[i - 1]
        if not i or step.offsets < before.offsets or (step.offsets == before.offsets and step.inner != before.inner):
            turns.append([])
        turns[-1].append(step)
    return turns
