"""Which modules in lists may be left out, found by leaving them out."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.capture.record import Capture
from surgery.modules.inputs import Examples, runs
from surgery.modules.tensors import Parts, aliases
from surgery.plan.groups import EXPERTS
from surgery.planning.listed.calls import Run, inside
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.chain import Chain, explore
from surgery.planning.listed.counted import evident
from surgery.planning.listed.decided import as_recorded, decided
from surgery.planning.listed.experiment import Laboratory
from surgery.planning.listed.found import Found
from surgery.planning.listed.order import order_matters
from surgery.planning.listed.refused import refused
from surgery.planning.listed.settings import choices
from surgery.planning.listed.shorter import lists
from surgery.planning.listed.together import together


def find(
    parts: Parts, captures: Sequence[Capture], examples: Examples, chosen: Sequence[Candidate]
) -> tuple[list[Found], list[str]]:
    """The groups of modules that may be left out, and notes on lists of which nothing may.

    Args:
        parts: of the model.
        captures: recordings of it on the examples.
        examples: what it was recorded on.
        chosen: the lists to look at, of those that `candidates` gives.

    The model, its buffers and the global random state stay as they were.
    """
    whole = [capture for capture in captures if not capture.training]
    recorded = [Run(capture) for capture in whole]
    steady = decided(parts, runs(examples), whole)
    laboratory = Laboratory(parts, runs(examples), steady or recorded, steady is not None)
    chains = [Chain(one, choices(one, parts)) for one in chosen]
    tied = [names for names in aliases(parts).values() if len(names) > 1]
    for chain in chains:
        chain.wrong = refused(chain.candidate, tied, laboratory)
        chain.required.update({unit: _held(chain.candidate, unit, laboratory) for unit in chain.candidate.held})
        chain.required.update(dict.fromkeys(chain.candidate.unlike, "no other block of its kind is in the list"))
    for level in _levels([chain for chain in chains if chain.wrong is None]):
        together([chain for chain in level if chain.candidate.kind != EXPERTS], laboratory)
        for chain in level:
            if chain.candidate.kind == EXPERTS:
                explore(chain, laboratory)
                chain.wrong = chain.wrong or order_matters(chain.candidate, parts, examples)
    for chain in chains:
        if chain.wrong is None and chain.free:
            chain.follows = evident(chain, laboratory)
            _tell_work(chain, laboratory, recorded)
    return [_found(c) for c in chains if _may(c)], [_note(c) for c in chains if not _may(c)]


def _may(chain: Chain) -> bool:
    return chain.wrong is None and bool(chain.free)


def _levels(chains: Sequence[Chain]) -> list[list[Chain]]:
    """Chains by how many others they lie in: what is left out of one must not be in what is left out of another."""
    levels: dict[int, list[Chain]] = {}
    for chain in chains:
        around = sum(_around(other.candidate, chain.candidate) for other in chains)
        levels.setdefault(around, []).append(chain)
    return [levels[depth] for depth in sorted(levels)]


def _around(outer: Candidate, inner: Candidate) -> bool:
    units = (child for unit in range(outer.size) for child in outer.children(unit))
    return outer is not inner and any(inside(listed.path, child) for child in units for listed in inner.lists)


def _held(candidate: Candidate, unit: int, laboratory: Laboratory) -> str:
    """Why a unit must stay whose result has another shape than what it gets."""
    for run in laboratory.whole:
        calls = sorted((call for child in candidate.children(unit) for call in run.top(child)), key=lambda c: c.begin)
        if calls:
            where = line(info(run.nodes[calls[0].begin]).where)
            return f"what comes out of {candidate.children(unit)[0]} has another shape than what goes in ({where})"
    return "what comes out has another shape than what goes in"


def _tell_work(chain: Chain, laboratory: Laboratory, recorded: Sequence[Run]) -> None:
    """Tell of the recorded calls, not of those in the laboratory, which are not made without a unit."""
    units = {child: unit for unit in range(chain.candidate.size) for child in chain.candidate.children(unit)}
    if laboratory.whole is not recorded:
        outside = {
            n: unit
            for run in laboratory.whole
            for n in run.nodes
            if run.within(n, units) is None and (unit := chain.work.get(n)) is not None
        }
        work = as_recorded(outside, laboratory.whole, recorded)
        if work is None:
            chain.wrong = "how much is done beside it depends on what is chosen"
        chain.work = work or {}
    for run in recorded:
        for node in run.nodes:
            own = run.within(node, units)
            if own is not None:
                chain.work[node] = units[own]


def _found(chain: Chain) -> Found:
    candidate, setting = chain.candidate, chain.setting
    return Found(
        candidate.name,
        candidate.kind,
        candidate.size,
        lists(candidate, setting),
        dict(sorted(chain.required.items())),
        setting.counts,
        setting.indices,
        setting.picks,
        work=chain.work,
        runs=tuple(chain.runs),
    )


def _note(chain: Chain) -> str:
    """Why nothing of a list may go."""
    candidate = chain.candidate
    reason = chain.wrong or "; ".join(dict.fromkeys(chain.required.values()))
    return f"{candidate.name}: the {candidate.size} modules in {candidate.path or 'the model'} stay, since {reason}"
