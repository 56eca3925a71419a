"""What the page shows: a plan, perhaps at some widths, and numbers of its tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.plan.facts import Facts
from surgery.plan.groups import Fixed


@dataclass(frozen=True)
class View:
    """A plan, and the widths that its pictures are drawn at; None where nothing is cut away."""

    plan: Facts
    asked: Mapping[str, int] | None = None

    @functools.cached_property
    def widths(self) -> Mapping[str, int]:
        """The width of every group."""
        return self.plan.full() if self.asked is None else self.asked

    @functools.cached_property
    def largest(self) -> int:
        """The largest dimension of a parameter."""
        sizes = [layout.width(dim, {}) for name in self.plan.parameters for dim in self.dims(name)]
        return max(sizes, default=1)

    @functools.cached_property
    def fixed(self) -> Mapping[str, list[Fixed]]:
        """What is fixed of each tensor."""
        found: dict[str, list[Fixed]] = {}
        for item in self.plan.fixed:
            found.setdefault(item.tensor, []).append(item)
        return found

    def real(self, name: str) -> str:
        """The name that the plan has for a tensor."""
        return self.plan.aliases.get(name, name)

    def dims(self, name: str) -> tuple[Layout, ...]:
        """The dimensions of a parameter; one of all elements where the analysis saw no more of it."""
        real = self.real(name)
        known = self.plan.layouts.get(real)
        return ((layout.Unit(self.plan.parameters[real]),),) if known is None else known

    def there(self, name: str) -> bool:
        """Whether the modules that a parameter lies in are kept: by this name, if it has several."""
        return self.plan.units.reached(name, self.widths)

    def kept(self, name: str) -> int:
        """How many elements of a parameter are kept."""
        if not self.there(name):
            return 0
        return math.prod(layout.width(dim, self.widths) for dim in self.dims(name))

    def elements(self, names: Iterable[str]) -> tuple[int, int]:
        """How many elements parameters have, and how many of them are kept; each is counted once."""
        own: dict[str, int] = {}
        for name in names:
            own[self.real(name)] = max(own.get(self.real(name), 0), self.kept(name))
        return sum(self.plan.parameters[name] for name in own), sum(own.values())

    def kinds(self, name: str) -> list[str]:
        """The kinds of the groups that cut a parameter or leave it out, and `fixed` where a part of it is."""
        found = dict.fromkeys(self.plan.groups[group].kind for group in self.group_names(name))
        return [*found, *(["fixed"] if self.real(name) in self.fixed else [])]

    def group_names(self, name: str) -> list[str]:
        """The groups that cut a parameter, and those that leave out modules that it lies in."""
        cut = [group for dim in self.dims(name) for group in layout.groups(dim)]
        return list(dict.fromkeys([*cut, *self.plan.units.above(name)]))
