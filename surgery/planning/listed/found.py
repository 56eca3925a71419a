"""What is known of modules that may be left out, before it becomes a group of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import fx

from surgery.axes.formulas import AttributePath
from surgery.capture.record import Capture
from surgery.plan.groups import Listed

Place: TypeAlias = tuple[str, AttributePath]  # the path of a module, and an attribute of it


@dataclass(frozen=True)
class Found:
    """Modules that may be left out, one unit at a time.

    Attributes:
        name: of the group.
        kind: of the group: `DEPTH` or `EXPERTS`.
        size: how many units there are.
        lists: the children that each unit is made of.
        required: the units that must stay, and why, with a source line.
        counts: attributes that hold the number of units, plus a number that stays.
        indices: attributes of units that hold the place of their unit among all, plus a number that stays.
        picks: attributes with an entry for each unit.
        entries: attributes with several entries for each unit, which forwards may set: how many, and whether they are
            names that units which stay take over from the first.
        work: the recorded calls that are not made without a unit.
        stacked: recorded calls that do the work of all units.
        runs: recordings of runs without some of the units, over the same tensors: they say which axes are one then.
    """

    name: str
    kind: str
    size: int
    lists: tuple[Listed, ...]
    required: Mapping[int, str] = field(default_factory=dict)
    counts: tuple[tuple[Place, int], ...] = ()
    indices: tuple[tuple[Place, int, int], ...] = ()  # the place, the unit, the number that stays
    picks: tuple[Place, ...] = ()
    entries: tuple[tuple[Place, int, bool], ...] = ()
    work: Mapping[fx.Node, int] = field(default_factory=dict)
    stacked: frozenset[fx.Node] = frozenset()
    runs: tuple[Capture, ...] = ()


@dataclass(frozen=True)
class Experts:
    """What is known of an axis whose units are experts.

    Attributes:
        least: how many of them must stay, since so many are chosen for one input.
        lists: where modules are units of it.
    """

    least: int = 1
    lists: tuple[Listed, ...] = ()
