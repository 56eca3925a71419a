"""Modules that are units of groups: which of them are there at some widths, and what their tensors are called then."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from surgery.plan.groups import Group, Listed

Home: TypeAlias = tuple[str, int]  # a group, and a unit of it


@dataclass(frozen=True)
class Units:
    """All that a plan knows of modules that come and go.

    Attributes:
        groups: those of the plan whose units are modules.
    """

    groups: Mapping[str, Group]

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
        """The units that a module or tensor lies in, the outermost first."""
        if not self.groups:
            return ()
        return tuple(self.children[path] for path in _paths(name) if path in self.children)

    def there(self, name: str, widths: Mapping[str, int]) -> bool:
        """Whether a module or tensor is there at these widths; groups that are left out are full."""
        return all(
            self.groups[group].rank(unit) < widths.get(group, self.groups[group].size)
            for group, unit in self.homes(name)
        )

    def name(self, name: str, widths: Mapping[str, int]) -> str | None:
        """What a module or tensor is called in a small model; None where it is not there."""
        if not self.groups or not name:
            return name
        if not self.there(name, widths):
            return None
        above = ["", *_paths(name)]
        return ".".join(self.key(path, part, widths) for path, part in zip(above, name.split("."), strict=False))

    def key(self, path: str, name: str, widths: Mapping[str, int]) -> str:
        """What a child of the module at `path` is called when others are gone."""
        if not name.isdigit():
            return name
        gone = [int(other) for other in self.gone(path, widths, renumbered=True)]
        return str(int(name) - sum(other < int(name) for other in gone))

    def gone(self, path: str, widths: Mapping[str, int], renumbered: bool = False) -> Iterator[str]:
        """The names of the children of the module at `path` that are not there at these widths."""
        for group, listed in self.lists.get(path, ()):
            kept = set(group.kept(widths.get(group.name, group.size)))
            if listed.renumbered or not renumbered:
                yield from (name for unit, names in enumerate(listed.units) if unit not in kept for name in names)


def _paths(name: str) -> Iterator[str]:
    """The paths of the modules that a module or tensor lies in, and its own, the outermost first."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))
