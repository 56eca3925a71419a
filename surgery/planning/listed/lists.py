"""Lists of modules while a plan is made: those that were asked for, and what is known of them by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from surgery.capture.record import Capture
from surgery.errors import InputError
from surgery.modules.inputs import Examples
from surgery.modules.tensors import Parts
from surgery.planning.listed.found import Found
from surgery.planning.listed.search import available, find

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
    if not depth:
        return Lists(available=available(captures, parts))
    found, notes = find(parts, captures, examples, depth)
    names = {one.name for one in found}
    others = tuple(one for one in available(captures, parts) if one[0] not in names)
    return Lists(found, notes, others)
