"""Which of the integers that could be the number of units are."""

from __future__ import annotations

from dataclasses import replace

from surgery.plan.groups import EXPERTS
from surgery.planning.listed.chain import Chain
from surgery.planning.listed.experiment import Laboratory
from surgery.planning.listed.settings import Choices
from surgery.planning.listed.shorter import Drop, Setting


def evident(chain: Chain, laboratory: Laboratory) -> Choices:
    """What follows, without integers that only happen to be the number of units.

    With one less there, a loop that is bounded by it leaves out the last unit of the whole list. What has no such
    effect follows only where the model is not right without.
    """
    if chain.candidate.kind == EXPERTS:  # an average is over as many as there are, whatever its loop is bounded by
        return _needed(chain, laboratory, chain.follows)
    follows, last = chain.follows, chain.candidate.size - 1
    for place in chain.follows.counts:
        bounded = Drop(chain.candidate, frozenset([last]), Setting(((place, 0),)), listed=False)
        if laboratory.without([bounded]).wrong is None:
            continue
        others = replace(follows, counts=tuple(other for other in follows.counts if other != place))
        if laboratory.without([replace(chain.drop([chain.free[-1]]), setting=others.setting)]).wrong is None:
            follows = others
    return _needed(chain, laboratory, follows)


def _needed(chain: Chain, laboratory: Laboratory, follows: Choices) -> Choices:
    """Without lists that happen to have as many entries: names of classes, sizes of images. The model is right so."""
    for place in follows.picks:
        others = replace(follows, picks=tuple(other for other in follows.picks if other != place))
        if laboratory.without([replace(chain.drop([chain.free[0]]), setting=others.setting)]).wrong is None:
            follows = others
    return follows
