"""Which units of one candidate may be left out, and what follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import fx

from surgery.capture.record import Capture
from surgery.plan.groups import EXPERTS
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.experiment import Laboratory, Result
from surgery.planning.listed.settings import Choices, ends, settings
from surgery.planning.listed.shorter import Drop, Setting


@dataclass
class Chain:
    """What is known of a candidate, while it is found out.

    Attributes:
        follows: what follows where units are left out.
        passing: whether containers keep stand-ins.
        required: the units that must stay, and why.
        runs: recordings without units that were right.
        work: calls of the whole runs that are not made without a unit.
        wrong: why none of it may go; None while it may.
    """

    candidate: Candidate
    follows: Choices
    passing: bool = False
    required: dict[int, str] = field(default_factory=dict)
    runs: list[Capture] = field(default_factory=list)
    work: dict[fx.Node, int] = field(default_factory=dict)
    wrong: str | None = None

    @property
    def free(self) -> list[int]:
        """The units that may go, as far as is known."""
        return [unit for unit in range(self.candidate.size) if unit not in self.required]

    @property
    def setting(self) -> Setting:
        """What follows, with stand-ins or without."""
        return replace(self.follows.setting, passing=self.passing)

    def drop(self, units: Iterable[int]) -> Drop:
        """Some units left out, with what follows."""
        return Drop(self.candidate, frozenset(units), self.setting)

    def turns(self) -> list[list[int]]:
        """The units that may go, every other one, and the others: each is left out where its neighbours stay.

        Of a set, the last ones: no others go.
        """
        if self.candidate.kind == EXPERTS:
            return [self.free[-1:], self.free[1:]]
        return [turn for turn in (self.free[1::2], self.free[::2]) if turn]

    def ends(self) -> list[int]:
        """The first and the last unit that may go: all others move up without the first, and none without the last."""
        return list(dict.fromkeys((*self.free[:1], *self.free[-1:])))

    def but_one(self) -> list[int]:
        """All units that can go at once."""
        return self.free if self.required else self.free[1:]

    def learn(self, drops: Iterable[Drop], result: Result) -> None:
        """Take note of leaving units out that was right."""
        mine: dict[str, int] = {}
        for drop in drops:
            mine.update(drop.children if drop.candidate is self.candidate else {})
        self.runs += result.runs
        self.work.update({node: mine[child] for node, child in result.gone.items() if child in mine})


def explore(chain: Chain, laboratory: Laboratory) -> None:
    """Find out which units may go, this candidate alone."""
    wrong = _settle(chain, laboratory)
    if wrong is not None:
        chain.wrong = wrong
        return
    for turn in chain.turns():
        _split(chain, laboratory, turn)
    _alone(chain, laboratory)
    if chain.free:
        _at_once(chain, laboratory)


def _settle(chain: Chain, laboratory: Laboratory) -> str | None:
    """Find what follows, by the first unit that can be left out with it. Returns why none can."""
    free = chain.free
    everything, first = chain.follows, ""
    behind = [free[(len(free) - 1) // 2], free[0]]  # others come after it
    for unit in dict.fromkeys(([] if chain.candidate.kind == EXPERTS else behind[:1]) + [free[-1]] + behind[1:]):
        for chain.passing in (False, True):
            named = False
            for chain.follows in ends(everything) if first else settings(everything):
                result = laboratory.without([chain.drop([unit])])
                if result.wrong is None:
                    return None
                first, named = first or result.wrong, named or result.named
            if not named or chain.candidate.place is None:
                break  # else stand-ins may help: `self.blocks[0](x)`
    return first


def _split(chain: Chain, laboratory: Laboratory, units: list[int]) -> None:
    """Leave units out together; in halves where that is wrong. One that is wrong alone must stay."""
    drops = [chain.drop(units)]
    result = laboratory.without(drops)
    if result.wrong is None:
        chain.learn(drops, result)
    elif len(units) == 1:
        chain.required[units[0]] = result.wrong
    else:
        middle = len(units) // 2
        _split(chain, laboratory, units[:middle])
        _split(chain, laboratory, units[middle:])


def _alone(chain: Chain, laboratory: Laboratory) -> None:
    """Leave out the first one alone, then the last one. Where that is wrong, each must be right alone."""
    if chain.candidate.kind == EXPERTS:
        return

    def wrong(unit: int) -> str | None:
        return laboratory.without([chain.drop([unit])]).wrong

    if any(wrong(unit) is not None for unit in chain.ends()):
        reasons = {unit: reason for unit in chain.free if (reason := wrong(unit)) is not None}
        chain.required.update(reasons)


def _at_once(chain: Chain, laboratory: Laboratory) -> None:
    """Leave out all that may go. Where that is wrong although each may, only those may that have gone together."""
    drops = [chain.drop(chain.but_one())]
    result = laboratory.without(drops) if drops[0].units else Result()
    if result.wrong is None:
        chain.learn(drops, result)
    else:
        stay = chain.turns()[-1]
        chain.required.update({unit: f"not all may go at once: {result.wrong}" for unit in stay})
