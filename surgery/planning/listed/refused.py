"""Lists whose units cannot come and go, whatever the runs say: they share parameters, or are called again."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.modules.tensors import Parts, aliases
from surgery.planning.listed.calls import Run, inside
from surgery.planning.listed.candidates import Candidate


def refused(candidate: Candidate, parts: Parts, runs: Sequence[Run]) -> str | None:
    """Why no unit of a candidate may go; None where it may be tried."""
    for names in aliases(parts).values():
        homes = {_unit(candidate, name) for name in names}
        if len(homes) > 1:
            shared = " and ".join(sorted({names[0], next(n for n in names if _unit(candidate, n) not in (None,))}))
            return f"parameters are shared: {shared} are one tensor" if len(names) > 1 else None
    for run in runs:
        for unit in range(candidate.size):
            for child in candidate.children(unit):
                calls = run.top(child)
                if len({call.path for call in calls}) < len(calls):
                    again = next(c for i, c in enumerate(calls) if c.path in {other.path for other in calls[:i]})
                    return f"{again.path} is called more than once ({line(info(run.nodes[again.begin]).where)})"
    return None


def _unit(candidate: Candidate, name: str) -> int | None:
    for unit in range(candidate.size):
        if any(inside(name, child) for child in candidate.children(unit)):
            return unit
    return None
