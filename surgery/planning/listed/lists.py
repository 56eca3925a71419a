"""Lists of modules while a plan is made: those that were asked for, and what is known of them by now."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from surgery.capture.record import Capture
from surgery.errors import InputError
from surgery.modules.inputs import Examples
from surgery.modules.tensors import Parts
from surgery.planning.listed.found import Found
from surgery.planning.listed.search import available, find
from surgery.planning.listed.stacks import stacks

# All, none, or globs over names of groups and module paths; as a mapping, with an order of importance for each.
Patterns: TypeAlias = "bool | str | Iterable[str] | Mapping[str, Sequence[int]]"


def patterns_of(asked: Patterns, what: str) -> bool | list[str]:
    """What was asked for, as it is kept. Raises InputError for what says nothing of groups."""
    if isinstance(asked, bool):
        return asked
    listed = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Iterable) else None
    if listed is None or not all(isinstance(pattern, str) for pattern in listed):
        raise InputError(f"{what} is True, or globs over group names or module paths, got {asked!r}")
    return listed


@dataclass
class Lists:
    """Lists of modules that become groups.

    Attributes:
        found: those that were asked for.
        notes: why modules that were asked for stay.
        available: name, kind and size of those that were not asked for.
        steps: the granularity of groups that go in steps.
    """

    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    available: tuple[tuple[str, str, int], ...] = ()
    steps: dict[str, int] = field(default_factory=dict)

    def runs(self) -> Iterator[Capture]:
        """The recorded runs without some of the modules."""
        for one in self.found:
            yield from one.runs

    def give_up(self, groups: Mapping[str, str], steps: Mapping[str, int]) -> None:
        """Let lists be as they are, each for its reason. Others go in larger steps."""
        self.steps.update({one.name: steps[one.name] for one in self.found if one.name in steps})
        self.notes += [f"{one.name}: {groups[one.name]}" for one in self.found if one.name in groups]
        self.found = [one for one in self.found if one.name not in groups]


def find_lists(parts: Parts, captures: Sequence[Capture], examples: Examples, depth: bool | list[str]) -> Lists:
    """The lists of modules in a model: those that were asked for become groups, others are named."""
    layered, stuck = stacks(parts, captures)
    there = (*available(captures, parts), *((one.name, one.kind, one.size) for one in layered))
    if not depth:
        return Lists(available=there)
    found, notes = find(parts, captures, examples, depth)
    found += [one for one in layered if selects(depth, one)]
    names = {one.name for one in found}
    return Lists(found, [*notes, *(stuck if depth is True else ())], tuple(one for one in there if one[0] not in names))


def selects(patterns: bool | list[str], one: Found) -> bool:
    """Whether a list was asked for: by its name or kind, or by the path of a module around it."""
    if isinstance(patterns, bool):
        return patterns
    return any(
        fnmatch.fnmatchcase(one.name, pattern) or pattern == one.kind or _below(pattern, one) for pattern in patterns
    )


def _below(pattern: str, one: Found) -> bool:
    return any(f"{listed.path}.".startswith(f"{pattern.rstrip('.')}.") for listed in one.lists)
