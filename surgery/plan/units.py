"""Modules that are units of groups: which of them are there at some widths, and what their tensors are called then."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from surgery.plan.groups import Group, Listed

T = TypeVar("T")
Home: TypeAlias = tuple[str, int]  # a group, and a unit of it


@dataclass(frozen=True)
class Units:
    """All that a plan knows of modules that come and go.

    Attributes:
        groups: those of the plan whose units are modules.
        others: the further names of tensors that have several.
    """

    groups: Mapping[str, Group]
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def orders(self) -> dict[str, list[int]]:
        """The orders of importance that groups have, by name."""
        return {name: list(group.order) for name, group in self.groups.items() if group.order}

    @functools.cached_property
    def children(self) -> dict[str, Home]:
        """The unit that each listed child is, or is a part of, by its path."""
        return {
            listed.child(name): (group.name, unit)
            for group in self.groups.values()
            for listed in group.lists
            for unit, names in enumerate(listed.units)
            for name in names
        }

    @functools.cached_property
    def lists(self) -> dict[str, list[tuple[Group, Listed]]]:
        """The groups whose units are children of a module, by its path."""
        found: dict[str, list[tuple[Group, Listed]]] = {}
        for group in self.groups.values():
            for listed in group.lists:
                found.setdefault(listed.path, []).append((group, listed))
        return found

    def homes(self, name: str) -> tuple[Home, ...]:
        """The units that a module or tensor lies in, the outermost first; of what several hold, those of all."""
        if not self.groups:
            return ()
        each = [self._above(one) for one in (name, *self.others.get(name, ()))]
        alike = itertools.takewhile(lambda homes: len(set(homes)) == 1, zip(*each, strict=False))
        return tuple(homes[0] for homes in alike)

    def _above(self, path: str) -> tuple[Home, ...]:
        return tuple(self.children[one] for one in _paths(path) if one in self.children)

    def there(self, name: str, widths: Mapping[str, int]) -> bool:
        """Whether a module or tensor is there at these widths; groups that are left out are full."""
        return self._all_there(self.homes(name), widths)

    def reached(self, path: str, widths: Mapping[str, int]) -> bool:
        """Whether what is called so in the whole model is there, by this one of its names."""
        return self._all_there(self._above(path), widths)

    def above(self, path: str) -> list[str]:
        """The groups that may leave out what is called so."""
        return [group for group, unit in self._above(path) if unit not in self.groups[group].stays]

    def _all_there(self, homes: Iterable[Home], widths: Mapping[str, int]) -> bool:
        return all(self.groups[g].rank(unit) < widths.get(g, self.groups[g].size) for g, unit in homes)

    def inside(self, group: str, names: Iterable[str]) -> list[str]:
        """Those of some tensors that come and go with a group."""
        found = self.groups.get(group)
        if found is None:
            return []
        return [n for n in names if any(g == group and unit not in found.stays for g, unit in self.homes(n))]

    def moved(self, name: str, orders: Mapping[str, Sequence[int]]) -> str:
        """What comes to the place of a module or tensor where units are permuted, `new[i] = old[order[i]]`."""
        path = ""
        for part in name.split("."):
            path = f"{path}.{part}".lstrip(".")
            group, unit = self.children.get(path, ("", 0))
            if group in orders:
                path = self._child_of(group, int(orders[group][unit]), path)
        return path

    def _child_of(self, group: str, unit: int, path: str) -> str:
        """The child of another unit that does there what this one does in its own."""
        for listed in self.groups[group].lists:
            for names in listed.units:
                for place, name in enumerate(names):
                    if listed.child(name) == path:
                        return listed.child(listed.units[unit][place])
        raise KeyError(path)

    def name(self, name: str, widths: Mapping[str, int]) -> str | None:
        """What a module or tensor is called in a small model; None where it is not there."""
        if not self.groups or not name:
            return name
        for one in (name, *self.others.get(name, ())):
            if self._all_there(self._above(one), widths):
                above = ["", *_paths(one)]
                return ".".join(self.key(path, part, widths) for path, part in zip(above, one.split("."), strict=False))
        return None

    def key(self, path: str, name: str, widths: Mapping[str, int]) -> str:
        """What a child or tensor of the module at `path` is called when others are gone."""
        for group, listed in self.lists.get(path, ()):
            for place, unit in enumerate(group.kept(widths.get(group.name, group.size)) if listed.own else ()):
                if name in listed.units[unit]:
                    return listed.units[place][listed.units[unit].index(name)]
        if not name.isdigit():
            return name
        gone = [int(other) for other in self.gone(path, widths, renumbered=True)]
        return str(int(name) - sum(other < int(name) for other in gone))

    def children_of(self, path: str, children: Mapping[str, T], widths: Mapping[str, int]) -> dict[str, T]:
        """Those of a module's children that stay where they are, by what they are called then.

        Of children that leave a stand-in behind, that takes their place: they count as there.
        """
        standing = {name for _, one in self.lists.get(path, ()) if one.passing is not None for name in _all(one)}
        gone = set(self.gone(path, widths)) - standing
        return {self.key(path, name, widths): child for name, child in children.items() if name not in gone}

    def gone(self, path: str, widths: Mapping[str, int], renumbered: bool = False) -> Iterator[str]:
        """The names of the children of the module at `path` that are not there at these widths."""
        for group, listed in self.lists.get(path, ()):
            kept = set(group.kept(widths.get(group.name, group.size)))
            if listed.renumbered or not renumbered:
                yield from (name for unit, names in enumerate(listed.units) if unit not in kept for name in names)


def _all(listed: Listed) -> Iterator[str]:
    return (name for names in listed.units for name in names)


def _paths(name: str) -> Iterator[str]:
    """The paths of the modules that a module or tensor lies in, and its own, the outermost first."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))
