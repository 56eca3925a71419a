"""Several candidates in the same runs: most models are right at once, with a few of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from surgery.planning.listed.chain import Chain, explore
from surgery.planning.listed.experiment import Laboratory, Result
from surgery.planning.listed.shorter import Drop


def together(chains: Sequence[Chain], laboratory: Laboratory) -> None:
    """Find out which units of some candidates may go, none of which lies in another one."""
    learned = _rounds(chains, laboratory) if chains else []
    if learned is None and len(chains) == 1:
        explore(chains[0], laboratory)
    elif learned is None:
        middle = len(chains) // 2
        together(chains[:middle], laboratory)
        together(chains[middle:], laboratory)
    else:
        for drops, result in learned:
            for chain in chains:
                chain.learn(drops, result)


def _rounds(chains: Sequence[Chain], laboratory: Laboratory) -> list[tuple[list[Drop], Result]] | None:
    """Every other unit of all chains left out, the others, all but one; and of one chain, where others could matter.

    Then the first unit of each alone, and the last: what counts in pairs, or from the middle, is right without half.

    None where something of it is wrong.
    """
    rounds = [[chain.drop(turn) for chain in chains for turn in chain.turns()[i : i + 1]] for i in (0, 1)]
    rounds.append([chain.drop(chain.but_one()) for chain in chains if chain.but_one()])
    if len(chains) > 1:
        # as the ways down and up of a U-Net, which are right if both are shorter
        rounds += [[drop] for drop in rounds[-1] if not _apart(drop, laboratory)]
    learned = []
    for drops in rounds:
        result = laboratory.without(drops)
        if result.wrong is not None:
            return None
        learned.append((drops, result))
    alone = [[chain.drop([unit]) for chain in chains for unit in chain.ends()[i : i + 1]] for i in (0, 1)]
    right = all(laboratory.without(drops).wrong is None for drops in alone if drops and drops not in rounds)
    return learned if right else None


def _apart(drop: Drop, laboratory: Laboratory) -> bool:
    """Whether units are called by torch's own loop, which hands one value on and can tell others nothing."""
    modules = [laboratory.parts.modules[listed.path] for listed in drop.candidate.lists]
    return all(isinstance(m, nn.Sequential) and type(m).forward is nn.Sequential.forward for m in modules)
