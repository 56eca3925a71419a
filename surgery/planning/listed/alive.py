"""Which calls of a run come to anything: what the model returns or keeps is made of them."""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import fx

from surgery.nested import fold
from surgery.planning.listed.calls import Run


def wasted(partner: Mapping[fx.Node, fx.Node], whole: Run, short: Run, stay: Container[str]) -> fx.Node | None:
    """A call of the modules that `stay` that comes to nothing, though it does in the whole run; None without such.

    `partner` has the call of the whole run for each. Where states are looked up by their places, other ones are read
    when layers are gone, and what the last layers make may be read by nobody. What is made for layers that are gone,
    such as a mask, may well be read by none that stays.
    """
    before, now = _alive(whole), _alive(short)
    lost = (call for call in short.nodes if call in partner and partner[call] in before and call not in now)
    return next((call for call in lost if short.within(call, stay) is not None), None)


def _alive(run: Run) -> set[fx.Node]:
    kept = [value for frame in run.frames for value in (frame.stored, frame.assigned)]
    alive = set(run.capture.root.returned) | set(fold(kept, fx.Node))
    for node in reversed(list(run.capture.graph.nodes)):
        if node not in alive and any(user in alive for user in node.users):
            alive.add(node)
    return alive
