"""Configurations of models with fewer modules in their lists: numbers and lists with an entry for each, by experiment.

A class makes as many modules as some integer says, or some list has entries. Which ones, is told by the names of the
tensors that it makes from a configuration in which they are changed; whether a list has an entry for each, by what
happens when it is one entry short.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from surgery.axes.formulas import Steps
from surgery.configs.fields import Config, fields, sequences, written_and_read
from surgery.configs.fitting import Unfit
from surgery.modules.plain_data import at, replaced

Names: TypeAlias = "frozenset[str]"  # of the tensors of a model


@dataclass(frozen=True)
class Shorter:
    """A list of modules of which a small model has some.

    Attributes:
        name: of the list, for messages.
        size: how many units the whole model has.
        kept: which of them the small one has.
        ends: of paths in configurations: a module holds what follows there, in its own configuration.
    """

    name: str
    size: int
    kept: tuple[int, ...]
    ends: tuple[Steps, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({len(self.kept)} of {self.size}: {', '.join(map(str, self.kept))})"


@dataclass
class Shortening:
    """The search for what a configuration says of lists of modules that a small model has a part of.

    Attributes:
        config: of the whole model.
        lists: those that are shorter.
        made: the names of the tensors that the class makes from a configuration. Raises Unfit where it refuses.
        wanted: the names that the model has where some of the lists are shorter, and all others whole.
        cut: the lists of the configuration that became shorter, and which of their entries are left.
        changed: the paths of all that has changed.
    """

    config: Config
    lists: Sequence[Shorter]
    made: Callable[[Config], Names]
    wanted: Callable[[Collection[str]], Names]
    cut: dict[Steps, tuple[int, ...]] = field(default_factory=dict)
    changed: set[Steps] = field(default_factory=set)

    def run(self) -> Config:
        """The configuration from which the class makes the small model's tensors, in size as they were.

        Raises Unfit where there is none.
        """
        done: set[str] = set()
        while rest := [one for one in self.lists if one.name not in done]:
            shorter = next((found for one in rest if (found := self._shorten(one, done))), None)
            if shorter is None:
                raise Unfit(f"no number or list of it makes its class leave out modules as in {rest[0]}")
            done |= shorter
        for one in self.lists:
            self._follow(one, done)
        return self.config

    def applied(self, config: Config) -> Config:
        """Another configuration of the class, with what has changed."""
        for path in self.changed:
            config = replaced(config, path, at(self.config, path))
        return config

    def moved(self, known: Mapping[Steps, Fraction]) -> dict[Steps, Fraction]:
        """Numbers of the whole model's configuration, where they stand now that lists are shorter."""
        result = {}
        for path, value in known.items():
            kept = self.cut.get(path[:-1])
            if kept is None:
                result[path] = value
            elif path[-1] in kept:
                result[*path[:-1], kept.index(path[-1])] = value
        return result

    def _shorten(self, one: Shorter, done: set[str]) -> set[str]:
        """Take the first change that makes a list shorter, and others with it perhaps; their names, if there is one."""
        before = self.wanted(done)
        if before == self.wanted({*done, one.name}):  # its modules are gone, or hold no tensors: names tell nothing
            return {one.name}
        for change in self._changes(one):
            try:
                names = self.made(self._with(change))
            except Unfit:
                continue
            others = [other.name for other in self.lists if other.name not in done]
            shorter = {name for name in others if not names & (before - self.wanted({*done, name}))}
            if one.name in shorter and names == self.wanted(done | shorter):
                self._take(change, one)
                return shorter
        return set()

    def _changes(self, one: Shorter) -> Iterator[Mapping[Steps, object]]:
        """What may tell how many there are: an integer, a list, both together, an integer that counts others too."""
        numbers = [path for path, value in fields(self.config) if value == one.size]
        numbers.sort(key=lambda path: not _ends(path, one.ends))
        lists = self._whole(one)
        yield from ({path: len(one.kept)} for path in numbers)
        yield from ({path: entries} for path, entries in lists.items())
        if lists:
            yield from ({path: len(one.kept), **lists} for path in numbers)
        gone = one.size - len(one.kept)
        others = [(path, value) for path, value in fields(self.config) if value is not None and value != one.size]
        yield from ({path: value - gone} for path, value in others if value > gone)

    def _whole(self, one: Shorter) -> dict[Steps, Sequence[object]]:
        """The lists that have as many entries as there are units, with those that are kept."""
        found = ((path, value) for path, value in sequences(self.config) if len(value) == one.size)
        kept = ((path, value, [value[unit] for unit in one.kept]) for path, value in found)
        return {path: tuple(items) if isinstance(value, tuple) else items for path, value, items in kept}

    def _follow(self, one: Shorter, done: set[str]) -> None:
        """Let integers and lists follow that do not decide what tensors there are."""
        wanted = self.wanted(done)
        for path, value in list(fields(self.config)):
            if value == one.size and _ends(path, one.ends) and self._makes({path: len(one.kept)}, wanted):
                self._take({path: len(one.kept)}, one)
        lists = {path: kept for path, kept in self._whole(one).items() if self._makes({path: kept}, wanted)}
        fits = bool(lists) and self._read(lists, wanted)
        needed = [path for path in lists if fits and not self._read(lists | {path: lists[path][:-1]}, wanted)]
        self._take({path: kept for path, kept in lists.items() if path in needed or _ends(path, one.ends)}, one)

    def _with(self, change: Mapping[Steps, object]) -> Config:
        config = self.config
        for path, value in change.items():
            config = replaced(config, path, value)
        return config

    def _makes(self, change: Mapping[Steps, object], wanted: Names) -> bool:
        with contextlib.suppress(Unfit):
            return self.made(self._with(change)) == wanted
        return False

    def _read(self, change: Mapping[Steps, object], wanted: Names) -> bool:
        """Whether a configuration with a change can be written and read, and the class takes it."""
        try:
            written_and_read(self._with(change))
        except Exception:  # classes of configurations check themselves
            return False
        return self._makes(change, wanted)

    def _take(self, change: Mapping[Steps, object], one: Shorter) -> None:
        """Change the configuration. Of what stands in a list, it is the list that has changed."""
        self.config = self._with(change)
        for path, value in change.items():
            self.changed.add(path[:-1] if isinstance(path[-1], int) else path)
            if isinstance(value, list | tuple):
                self.cut[path] = one.kept


def _ends(path: Steps, ends: Collection[Steps]) -> bool:
    return any(path[-len(end) :] == end for end in ends)
