"""Models without some of the modules in their lists: what is changed in a copy before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from surgery.axes.formulas import Field
from surgery.modules.plain_data import replaced
from surgery.modules.tensors import Parts
from surgery.plan.groups import Listed
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.found import Place


@dataclass(frozen=True)
class Setting:
    """What follows where units are left out, as in `Found`."""

    counts: tuple[tuple[Place, int], ...] = ()
    indices: tuple[tuple[Place, int, int], ...] = ()
    picks: tuple[Place, ...] = ()
    passing: bool = False  # containers keep stand-ins, too


@dataclass(frozen=True)
class Drop:
    """Units of one candidate that are left out, and what follows.

    Attributes:
        listed: whether the lists are shorter; else attributes alone say that they are.
    """

    candidate: Candidate
    units: frozenset[int]
    setting: Setting = Setting()
    listed: bool = True

    @property
    def kept(self) -> list[int]:
        """The units that stay."""
        return [unit for unit in range(self.candidate.size) if unit not in self.units]

    @property
    def children(self) -> dict[str, int]:
        """The paths of the modules that are left out, and the unit of each."""
        return {child: unit for unit in self.units for child in self.candidate.children(unit)}


class HandsOn(nn.Module):
    """Stands where a module was, and returns one of the arguments that it gets."""

    def __init__(self, place: int | str):
        super().__init__()
        self.place = place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args[self.place] if isinstance(self.place, int) else kwargs[self.place]


def leave_out(copied: Parts, drops: Iterable[Drop]) -> None:
    """Leave units out of the lists of a copy; attributes follow."""
    for drop in drops:
        for listed in lists(drop.candidate, drop.setting) if drop.listed else ():
            _leave_out(copied.modules[listed.path], listed, [n for u in drop.units for n in listed.units[u]])
        for place, offset in drop.setting.counts:
            assign(copied, place, len(drop.kept) + offset)
        for place, unit, offset in drop.setting.indices:
            if unit not in drop.units:
                assign(copied, place, drop.kept.index(unit) + offset)
        for place in drop.setting.picks:
            held: Sequence[Any] = held_at(copied, place)
            assign(copied, place, type(held)([held[unit] for unit in drop.kept]))  # type: ignore[call-arg]


def lists(candidate: Candidate, setting: Setting) -> tuple[Listed, ...]:
    """The lists of a candidate as they are where this is what follows."""
    if not setting.passing:
        return candidate.lists
    return tuple(replace(listed, renumbered=False, passing=candidate.place) for listed in candidate.lists)


def _leave_out(module: nn.Module, listed: Listed, gone: Sequence[str]) -> None:
    table = module._modules
    if listed.passing is not None:
        table.update({name: HandsOn(listed.passing) for name in gone})
        return
    left = [(name, child) for name, child in table.items() if name not in gone]
    table.clear()
    table.update((str(i) if listed.renumbered else name, child) for i, (name, child) in enumerate(left))


def held_at(parts: Parts, place: Place) -> Any:
    """What an attribute holds."""
    path, (name, *steps) = place
    value = vars(parts.modules[path])[name]
    for step in steps:
        value = vars(value)[step.name] if isinstance(step, Field) else value[step]
    return value


def assign(parts: Parts, place: Place, value: Any) -> None:
    """Set an attribute. Objects and containers on the way are copies then: modules may share them."""
    path, (name, *steps) = place
    attributes = vars(parts.modules[path])
    attributes[name] = replaced(attributes[name], steps, value)
