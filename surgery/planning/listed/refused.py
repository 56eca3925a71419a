"""Lists whose units cannot come and go, whatever the runs say: they share parameters, or are called again."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.errors import some
from surgery.modules.tensors import Parts, aliases
from surgery.planning.listed.calls import Run, inside
from surgery.planning.listed.candidates import Candidate

SHOWN = 3  # names in a note

def refused(candidate: Candidate, parts: Parts, runs: Sequence[Run]) -> str | None:
    """Why no unit of a candidate may go; None where it may be tried."""
    for names in aliases(parts).values():
        if len(names) > 1 and len({_unit(candidate, name) for name in names}) > 1:
            return f"{some(names, SHOWN)} are one tensor"
    for run in runs:
        for unit in range(candidate.size):
            seen: set[str] = set()
            for call in (call for child in candidate.children(unit) for call in run.top(child)):
                if call.path in seen:
                    return f"{call.path} is called more than once ({line(info(run.nodes[call.begin]).where)})"
                seen.add(call.path)
    return None


def _unit(candidate: Candidate, name: str) -> int | None:
    for unit in range(candidate.size):
        if any(inside(name, child) for child in candidate.children(unit)):
            return unit
    return None
