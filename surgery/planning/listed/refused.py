"""Lists whose units cannot come and go, whatever the runs say: they share parameters, or are called again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.errors import some
from surgery.planning.listed.calls import inside
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.experiment import Laboratory

SHOWN = 3  # names in a note


def refused(candidate: Candidate, tied: Iterable[Sequence[str]], laboratory: Laboratory) -> str | None:
    """Why no unit of a candidate may go; None where it may be tried. `tied` are the names of each shared tensor."""
    for names in tied:
        if len({_unit(candidate, name) for name in names}) > 1:
            return f"{some(list(names), SHOWN)} are one tensor"
    modules = laboratory.parts.modules
    for run in laboratory.whole:
        children = (child for unit in range(candidate.size) for child in candidate.children(unit))
        seen: set[str] = set()
        for call in (call for child in children for call in run.top(child)):
            learned = next(modules[call.path].parameters(), None) is not None  # an activation may be called again
            if call.path in seen and learned:
                return f"{call.path} is called more than once ({line(info(run.nodes[call.begin]).where)})"
            seen.add(call.path)
    return None


def _unit(candidate: Candidate, name: str) -> int | None:
    units = range(candidate.size)
    return next((unit for unit in units if any(inside(name, child) for child in candidate.children(unit))), None)
