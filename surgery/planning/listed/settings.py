"""What could follow where units of a candidate are left out, in the order in which it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from surgery.modules.tensors import Parts
from surgery.planning.listed import places
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.found import Place
from surgery.planning.listed.shorter import Setting

Index: TypeAlias = "tuple[tuple[Place, int, int], ...]"


@dataclass(frozen=True)
class Choices:
    """All that could follow, by kind."""

    counts: tuple[Place, ...]
    indices: tuple[Index, ...]
    picks: tuple[Place, ...]

    @property
    def setting(self) -> Setting:
        """All of it follows."""
        indices = tuple(entry for index in self.indices for entry in index)
        return Setting(tuple((place, 0) for place in self.counts), indices, self.picks)

    def fewer(self) -> Iterator[Choices]:
        """One of these less."""
        for place in self.counts:
            yield replace(self, counts=tuple(other for other in self.counts if other != place))
        for place in self.picks:
            yield replace(self, picks=tuple(other for other in self.picks if other != place))
        for index in self.indices:
            yield replace(self, indices=tuple(other for other in self.indices if other != index))

    def single(self) -> Iterator[Choices]:
        """One of these alone."""
        nothing = Choices((), (), ())
        yield from (replace(nothing, counts=(place,)) for place in self.counts)
        yield from (replace(nothing, picks=(place,)) for place in self.picks)
        yield from (replace(nothing, indices=(index,)) for index in self.indices)


def choices(candidate: Candidate, parts: Parts) -> Choices:
    """All that could follow where units of a candidate are left out."""
    return Choices(
        tuple(places.counts(candidate, parts)),
        tuple(places.indices(candidate, parts).values()),
        tuple(places.picks(candidate, parts)),
    )


def ends(everything: Choices) -> Iterator[Choices]:
    """All of it, then nothing."""
    yield from dict.fromkeys((everything, Choices((), (), ())))


def settings(everything: Choices) -> Iterator[Choices]:
    """All of it, then one less, then nothing, then one alone; each once."""
    tried = [everything, *everything.fewer(), Choices((), (), ()), *everything.single()]
    yield from dict.fromkeys(tried)
