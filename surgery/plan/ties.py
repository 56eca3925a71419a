"""Groups that move together: what their widths are, when something is asked of some of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from surgery.axes.formulas import Steps
from surgery.errors import WidthError
from surgery.plan.groups import Group
from surgery.plan.widths import width_of

TieSpec: TypeAlias = "str | Iterable[str | Iterable[str]]"  # "config"; a pattern; or one or more patterns for each tie


@dataclass(frozen=True)
class Tie:
    """Groups that have one fraction of their sizes.

    Attributes:
        groups: their names, in the order of the plan.
        exact: whether the fraction is the same to the unit, so that widths keep their ratios; otherwise each group
            rounds it by itself, and those of one size are alike.
        fields: where a configuration ties them, its numbers that have this fraction too, and what they are in full.
        step: of an exact tie, the parts that go together, of as many as its sizes have in common.
    """

    groups: tuple[str, ...]
    exact: bool = False
    fields: tuple[tuple[Steps, int], ...] = ()
    step: int = 1

    def widths(
        self, groups: Mapping[str, Group], given: Mapping[str, object], named: Collection[str], multiple: int = 1
    ) -> dict[str, int]:
        """The widths of all, from what is given for some.

        Args:
            groups: those of the plan.
            given: what is asked of groups, the last word last.
            named: those that were asked for by their own names, which must agree.
            multiple: widths are multiples of this.

        Raises WidthError where two groups are given widths by name that do not go together.
        """
        members = [name for name in given if name in self.groups]
        if not members:
            return {}
        asked = {name: width_of(groups[name], given[name], multiple) for name in members}
        by_name = {name: width for name, width in asked.items() if name in named}
        self._check(groups, by_name)
        if len(by_name) == len(self.groups):  # a point of a curve: its widths stay what they are
            return by_name
        leader = [name for name in members if name in by_name or not by_name][-1]
        value = given[leader]
        share = value if isinstance(value, float) else asked[leader] / groups[leader].size
        if self.exact and not by_name:
            largest = max((groups[name] for name in self.groups), key=lambda group: group.size)
            part = Fraction(width_of(largest, float(share), multiple), largest.size)
            return {name: int(part * groups[name].size) for name in self.groups}
        size = groups[leader].size
        found = {
            name: asked[leader] if groups[name].size == size else width_of(groups[name], float(share), multiple)
            for name in self.groups
        }
        return found | by_name

    def _check(self, groups: Mapping[str, Group], named: Mapping[str, int]) -> None:
        """Raises WidthError for widths that are not one fraction, but for rounding."""
        if not named:
            return
        multiple = math.gcd(*(width for name, width in named.items() if width < groups[name].size)) or 1  # of rounding
        rounding = {name: 0 if self.exact else math.lcm(groups[name].granularity, multiple) for name in named}
        steps = {name: Fraction(units, groups[name].size) for name, units in rounding.items()}
        shares = {name: Fraction(width, groups[name].size) for name, width in named.items()}
        low = max(named, key=lambda name: shares[name] - steps[name])
        high = min(named, key=lambda name: shares[name] + steps[name])
        alike = len({(groups[n].size, width) for n, width in named.items()}) == len({groups[n].size for n in named})
        if shares[low] - steps[low] > shares[high] + steps[high] or not alike:
            one, other = [name for name in named if name in (low, high)] if low != high else list(named)[:2]
            asked = f"{named[one]} of {groups[one].size} and {named[other]} of {groups[other].size}"
            raise WidthError(
                f"{one} and {other} are tied: they have one fraction of their sizes, but {asked} were asked for. Give "
                "one of them, or wrap the model without tie="
            )


def told(ties: Sequence[Tie], groups: Mapping[str, Group], widths: Mapping[str, int]) -> dict[Steps, Fraction]:
    """What those numbers of a configuration are that ties name. A number that several ties name has all shares."""
    result: dict[Steps, Fraction] = {}
    for tie in ties:
        first = tie.groups[0]
        for path, value in tie.fields:
            result[path] = result.get(path, Fraction(value)) * Fraction(widths[first], groups[first].size)
    return result


def merged(sets: Sequence[Sequence[str]], order: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of names as disjoint ones: those that share a name are one. Single names are left out."""
    place = {name: i for i, name in enumerate(order)}
    found: list[set[str]] = []
    for names in map(set, sets):
        for other in [other for other in found if other & names]:
            names |= other
            found.remove(other)
        found.append(names)
    kept = (tuple(sorted(names, key=place.__getitem__)) for names in found if len(names) > 1)
    return sorted(kept, key=lambda names: place[names[0]])


def with_steps(groups: Mapping[str, Group], ties: Sequence[Tie]) -> dict[str, Group]:
    """The groups, with steps that all groups of one tie can take."""
    result = dict(groups)
    for tie in ties:
        for name, step in _steps(tie, groups):
            result[name] = groups[name].stepped(step)
    return result


def whole(tie: Tie, parts: int) -> Iterator[int]:
    """For each number of a configuration, of how many parts its steps must be so that it stays an integer."""
    for _, value in tie.fields:
        yield parts // math.gcd(parts, value)


def _steps(tie: Tie, groups: Mapping[str, Group]) -> Iterator[tuple[str, int]]:
    members = [groups[name] for name in tie.groups]
    if tie.exact:
        parts = math.gcd(*(group.size for group in members))
        units = {group.name: group.size // parts for group in members}
        step = math.lcm(
            *(math.lcm(g.granularity, units[g.name]) // units[g.name] for g in members), *whole(tie, parts), tie.step
        )
        yield from ((name, unit * step) for name, unit in units.items())
        return
    for size in {group.size for group in members}:
        alike = [group for group in members if group.size == size]
        step = math.lcm(*(group.granularity for group in alike))
        yield from ((group.name, step) for group in alike)
