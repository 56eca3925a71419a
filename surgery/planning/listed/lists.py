"""Lists of modules while a plan is made: those that were asked for, and what is known of them by now."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from surgery.capture.record import Capture
from surgery.errors import InputError, some
from surgery.modules.inputs import Examples
from surgery.modules.tensors import Parts
from surgery.plan.groups import DEPTH, EXPERTS
from surgery.planning.listed.candidates import ROOT, Candidate, candidates
from surgery.planning.listed.find import find
from surgery.planning.listed.found import Found
from surgery.planning.listed.stacks import stacks
from surgery.planning.listed.told import told


@dataclass
class Lists:
    """Lists of modules that become groups.

    Attributes:
        found: those that were asked for.
        notes: why modules that were asked for stay.
        available: name, kind and size of those that were not asked for.
        steps: the granularity of groups that go in steps.
        patterns: those that select some list of experts.
    """

    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    available: tuple[tuple[str, str, int], ...] = ()
    steps: dict[str, int] = field(default_factory=dict)
    patterns: frozenset[str] = frozenset()

    def runs(self) -> Iterator[Capture]:
        """The recorded runs without some of the modules."""
        yield from {id(run): run for one in self.found for run in one.runs}.values()

    def claim(self, paths: Iterable[str]) -> None:
        """Leave lists to the axes whose units their modules are."""
        taken = set(paths)
        names = {f"{path or ROOT}.{EXPERTS}" for path in taken}
        self.found = [one for one in self.found if not taken & {listed.path for listed in one.lists}]
        self.notes = [note for note in self.notes if note.partition(":")[0] not in names]
        self.available = tuple(one for one in self.available if one[0] not in names)

    def give_up(self, groups: Mapping[str, str], steps: Mapping[str, int]) -> None:
        """Let lists be as they are, each for its reason. Others go in larger steps."""
        self.steps.update({one.name: steps[one.name] for one in self.found if one.name in steps})
        self.notes += [f"{one.name}: {groups[one.name]}" for one in self.found if one.name in groups]
        self.found = [one for one in self.found if one.name not in groups]


def find_lists(
    parts: Parts,
    captures: Sequence[Capture],
    examples: Examples,
    depth: bool | list[str],
    experts: bool | list[str],
) -> Lists:
    """The lists of modules in a model: those that were asked for become groups, others are named.

    Raises InputError where something was asked for that is not there.
    """
    layered, stuck = stacks(parts, captures)
    could = candidates(captures, parts)
    asked = {DEPTH: depth, EXPERTS: experts}
    known: list[Candidate | Found] = [*could, *layered]
    wanted = {one.name for one in known if selects(asked[one.kind], one)}
    _check(depth, [one for one in known if one.kind == DEPTH])
    chosen = [one for one in could if one.name in wanted]
    found, notes = find(parts, captures, examples, chosen) if chosen else ([], [])
    found = [told(parts, one) if one.kind == DEPTH else one for one in found]
    found += [one for one in layered if one.name in wanted]
    others = tuple((one.name, one.kind, one.size) for one in known if one.name not in wanted)
    sets = [one for one in known if one.kind == EXPERTS]
    patterns = {p for p in (experts if isinstance(experts, list) else ()) if any(selects([p], one) for one in sets)}
    return Lists(found, [*notes, *(stuck if depth is True else ())], others, patterns=frozenset(patterns))


def _check(depth: bool | list[str], known: Sequence[Candidate | Found]) -> None:
    """Raises InputError for a pattern that selects no list. (Experts are known when a plan is made.)"""
    for pattern in depth if isinstance(depth, list) else ():
        if not any(selects([pattern], one) for one in known):
            there = some([one.name for one in known], SHOWN) or "none"
            raise InputError(f"depth: no list of modules matches {pattern!r}. There are: {there}")


SHOWN = 6  # names in a message


def selects(patterns: bool | list[str], one: Candidate | Found) -> bool:
    """Whether a list was asked for: by its name or kind, or by the path of a module around it."""
    if isinstance(patterns, bool):
        return patterns
    return any(
        fnmatch.fnmatchcase(one.name, pattern)
        or pattern == one.kind
        or any(f"{listed.path}.".startswith(f"{pattern.rstrip('.')}.") for listed in one.lists)
        for pattern in patterns
    )
