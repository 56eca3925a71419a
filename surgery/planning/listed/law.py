"""When a model without some modules is right: what its run must have in common with the run of the whole model.

The shorter run is the whole one minus the calls of the modules that are left out, and of what comes with them. What is
read of these elsewhere is replaced by one value, of the same shape, that was there before the module ran. All else is
the same: functions, layers, parameters, constants, the order of arguments. Values are not compared, they differ.
"""

from __future__ import annotations

import functools
from collections.abc import Container
from typing import Any

from torch import fx

from surgery.axes.sizes import Size
from surgery.capture.callsites import line
from surgery.capture.frames import Frame, info
from surgery.nested import fold, is_object
from surgery.planning.listed.alive import wasted
from surgery.planning.listed.bindings import Bindings
from surgery.planning.listed.calls import Run, above, alike, same_data
from surgery.planning.listed.match import Differs, Match
from surgery.planning.listed.shorter import Drop
from surgery.planning.listed.sums import term, terms
from surgery.planning.listed.turns import loops, turns_of
from surgery.planning.listed.writes import written


class Comparison:
    """Two runs in step: each call of the shorter one is the next of the whole one that it could be."""

    def __init__(self, whole: Run, short: Run, drops: list[Drop], learned: Container[str]):
        self.whole, self.short, self.drops, self.learned = whole, short, drops, learned
        self.match = Match()
        self.bindings = Bindings()
        self.frames = self.bindings.frames
        self.used: dict[fx.Node, fx.Node] = {}  # calls of the whole run that have a partner, and that
        self.constants = {node.target: node for node in whole.capture.graph.nodes if node.op == "get_attr"}
        self.children = {child for drop in drops for child in drop.children}
        units = {child for drop in drops for i in range(drop.candidate.size) for child in drop.candidate.children(i)}
        self.stay = units - self.children
        lists = {listed.path for drop in drops for listed in drop.candidate.lists}
        self.around = {path for one in lists for path in (*above(one), one)}  # their code calls the modules
        self.starts = self._starts()
        self.turns = [self._turns(drop) for drop in drops]

    def matched(self) -> Match:
        """What the two have in common. Raises Differs where the shorter one is not right."""
        self.step_through()
        self.check_left_out()
        self.check_output()
        return self.match

    def _starts(self) -> list[tuple[int, str]]:
        """Where in the whole run each module that is left out begins."""
        return sorted((calls[0].begin, child) for child in self.children if (calls := self.whole.top(child)))

    def owner(self, node: fx.Node) -> str | None:
        """The module that is left out for which a call was made: its own, or else the last one that began before."""
        own = self.whole.within(node, self.children)
        if own is not None or not self.starts:
            return own
        before = [child for begin, child in self.starts if begin <= self.whole.index[node]]
        return before[-1] if before else self.starts[0][1]

    def steps(self, run: Run) -> list[fx.Node]:
        """The calls of a run that are compared. `sum` begins with zero: the first term plus zero is that term."""
        return [node for node in run.nodes if self.value(node) is node]

    def value(self, node: fx.Node) -> fx.Node:
        """The call whose result a value is."""
        return term(node)

    def step_through(self) -> None:
        """Find the partner of each call. Raises Differs where there is none."""
        wanted, nodes = self.steps(self.short), self.steps(self.whole)
        reached = done = position = 0
        while done < len(wanted):
            reached, node = max(reached, done), wanted[done]
            if self.short.within(node, self.children) is not None:
                raise Differs(f"{line(info(node).where)} uses what is left out by another way")
            self.bindings.at = done, position
            found = next((i for i in range(position, len(nodes)) if self._fits(nodes[i], node)), None)
            if found is not None:
                done, position = done + 1, found + 1
                continue
            back = self.bindings.back(node, self.short)
            if back is None:
                raise Differs(f"without it another thing is computed at {line(info(wanted[reached]).where)}")
            done, position = back

    def _fits(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether a call of the whole run is one of the shorter run. If so, they are partners from now on."""
        if a.op != b.op or a.target != b.target or not self.same_result(a, b):
            return False
        if not self.same_turn(a, b) or not same_data(a, b):
            return False
        frames: dict[int, int] = {}
        pairs: list[tuple[fx.Node, fx.Node]] = []
        if not self._same_frame(info(a).frame, info(b).frame, frames):
            return False
        if not self.same((a.args, a.kwargs), (b.args, b.kwargs), pairs):
            return False
        instead = self.agree(pairs)
        if instead is None:
            return False
        self.bindings.bind(frames)
        self.bindings.note(self.match.instead, instead)
        self.bindings.note(self.match.partner, {b: a})
        self.bindings.note(self.used, {a: b})
        return True

    def _turns(self, drop: Drop) -> tuple[dict[fx.Node, int], dict[fx.Node, int]]:
        candidate = drop.candidate
        units = {child: unit for unit in range(candidate.size) for child in candidate.children(unit)}
        around = {path for listed in candidate.lists for path in (*above(listed.path), listed.path)}
        found = loops(self.whole, around, units)
        return turns_of(self.whole, found), turns_of(self.short, found)

    def same_turn(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether no loop makes two calls for different units."""
        return all(a not in whole or b not in short or whole[a] == short[b] for whole, short in self.turns)

    def same_result(self, a: fx.Node, b: fx.Node) -> bool:
        return alike(a, b)

    def _same_frame(self, a: int | None, b: int | None, new: dict[int, int]) -> bool:
        """Whether calls of modules are the same, with those around them."""
        while b is not None and b not in self.frames:
            if a is None or not _same_module(self.whole.frames[a], self.short.frames[b]) or self.bindings.bars(b, a):
                return False
            new[b] = a
            a, b = self.whole.frames[a].parent, self.short.frames[b].parent
        return a is None if b is None else self.frames[b] == a

    def same(self, a: Any, b: Any, pairs: list[tuple[fx.Node, fx.Node]]) -> bool:
        """Whether arguments are the same if these `pairs` of values are."""
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            pairs.append((self.value(a), self.value(b)))
            return True
        if isinstance(a, Size) or isinstance(b, Size):
            return isinstance(a, int) and isinstance(b, int) and int.__eq__(a, b)
        if isinstance(a, float) and isinstance(b, float):
            return float.__eq__(a, b) or (a != a and b != b)
        if type(a) is not type(b):
            return False
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(self.same(x, y, pairs) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(self.same(a[key], b[key], pairs) for key in a)
        if isinstance(a, slice):
            return self.same((a.start, a.stop, a.step), (b.start, b.stop, b.step), pairs)
        return a is b or is_object(a) or bool(a == b)

    def agree(self, pairs: list[tuple[fx.Node, fx.Node]]) -> dict[fx.Node, fx.Node] | None:
        """What must stand for values that are gone if these are the same in both runs; None where they cannot be."""
        new: dict[fx.Node, fx.Node] = {}
        for a, b in pairs:
            other = self.constants.get(b.target) if b.op == "get_attr" else self.match.partner[b]
            if other is None or (other is not a and not self._stands_for(other, a, new)):
                return None
        return new

    def _stands_for(self, other: fx.Node, gone: fx.Node, new: dict[fx.Node, fx.Node]) -> bool:
        """Whether the whole run's `other` may be read in the place of what is gone. If so, it is from now on."""
        known = self.match.instead.get(gone) or new.get(gone)
        if known is not None:
            return known is other
        if gone.op in ("get_attr", "placeholder") or gone in self.used or not alike(gone, other):
            return False
        if self.is_rest(other, gone, new):
            return True
        owner = self.owner(gone)
        begin = next((begin for begin, child in self.starts if child == owner), self.whole.index[gone])
        if self.whole.index.get(other, -1) >= begin:
            return False
        new[gone] = other
        return True

    def is_rest(self, other: fx.Node, gone: fx.Node, new: dict[fx.Node, fx.Node]) -> bool:
        """Whether a value is what is left of a sum of which the other terms are left out."""
        left = [one for one in terms(gone) if not self.absent(one)]
        if gone in self.used or len(left) != 1 or not alike(gone, other):
            return False
        (rest,) = left
        if rest is not other and self.match.instead.get(rest) is not other and not self.is_rest(other, rest, new):
            return False
        new[gone] = other
        return True

    def absent(self, node: fx.Node) -> bool:
        """Whether nothing is left of a value: it is of a module that is left out, or a sum of such."""
        if node.op == "get_attr" or node in self.used:
            return False
        if self.whole.within(node, self.children) is not None:
            return True
        found = terms(node)
        return bool(found) and all(map(self.absent, found))

    def check_left_out(self) -> None:
        """Raises Differs where something is not called that is no part of what is left out, or shared by all."""
        for node in self.steps(self.whole):
            if node in self.used:
                continue
            self._check_gone(node)
            self.check_turn(node)
            owner = self.owner(node)
            if owner is None:
                raise Differs(f"{line(info(node).where)} is not reached any more")
            self.match.gone[node] = owner
        for node in self.match.gone:
            self._check_written(node)

    def check_turn(self, node: fx.Node) -> None:
        """Raises Differs where what is gone was computed in the turn of a unit that stays."""
        if self.whole.within(node, self.children) is None and any(
            node in turns and turns[node] not in drop.units
            for drop, (turns, _) in zip(self.drops, self.turns, strict=True)
        ):
            raise Differs(f"{line(info(node).where)} is not computed any more for a module that stays")

    def _check_written(self, node: fx.Node) -> None:
        """Raises Differs where what is gone has written into a tensor that others read: nothing stands for that."""
        held = written(node)
        if held is None or held in self.match.gone or self._unused(held):
            return
        raise Differs(f"{line(info(node).where)} writes into what is read elsewhere")

    def _check_gone(self, node: fx.Node) -> None:
        if self.whole.within(node, self.children) is not None:
            return
        where, path = line(info(node).where), self.whole.path(node)
        if path not in self.around and (path not in self._shared or info(node).frame in self.frames.values()):
            raise Differs(f"{path or 'the model'} computes less without it ({where})")
        if node.op == "call_module" and node.target not in self._layers:
            raise Differs(f"{node.target} is not called any more ({where})")
        for value in fold((node.args, node.kwargs), fx.Node):
            if value.target in self.learned and value.op == "get_attr" and self._unused(value):
                raise Differs(f"{value.target} is not read any more ({where})")

    def _unused(self, value: fx.Node) -> bool:
        """Whether no call reads a value that the shorter run makes, too."""
        return all(user not in self.used for user in value.users)

    @functools.cached_property
    def _shared(self) -> set[str | None]:
        """The paths of modules that the shorter run calls, too."""
        return {self.whole.frames[i].path for i in self.frames.values()}

    @functools.cached_property
    def _layers(self) -> set[object]:
        """The layers that the shorter run calls, too."""
        return {node.target for node in self.used if node.op == "call_module"}

    def check_output(self) -> None:
        """Raises Differs where the shorter run returns something else; lists of states may be shorter."""
        if not self._returns(self.whole.capture.root.output, self.short.capture.root.output):
            raise Differs("the model returns something else without it")
        whole, match = self.whole.capture.root, self.match
        returned = {match.instead.get(node, node) for node in map(self.value, whole.returned)}
        for node in map(self.value, self.short.capture.root.returned):
            if node.op != "get_attr" and match.partner[node] not in returned:
                raise Differs("the model returns something else without it")
        lost = wasted(match.partner, self.whole, self.short, self.stay)
        if lost is not None:
            raise Differs(f"what {line(info(lost).where)} makes is read by nobody without it")
        self._count()

    def _count(self) -> None:
        """What counts of the whole run's results counts of the shorter one's."""
        whole, short = self.whole.capture.root, self.short.capture.root
        counted = {self.match.instead.get(node, node) for node in map(self.value, whole.counted)}
        partner = self.match.partner
        short.counted = [n for n in short.returned if partner.get(self.value(n)) in counted or n.op == "get_attr"]
        short.names = whole.names

    def _returns(self, a: Any, b: Any) -> bool:
        """Whether results are the same. A list of the shorter run may have fewer items."""
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(self._returns(a[key], b[key]) for key in a)
        if isinstance(a, tuple | list) and type(a) is type(b):
            items = iter(a)
            fewer = len(b) < len(a)
            if not fewer:
                return len(a) == len(b) and all(map(self._returns, a, b))
            return all(any(self._returns(item, other) for item in items) for other in b)
        pairs: list[tuple[fx.Node, fx.Node]] = []
        instead = self.agree(pairs) if self.same(a, b, pairs) else None
        self.match.instead.update(instead or {})
        return instead is not None


def _same_module(a: Frame, b: Frame) -> bool:
    return a.path == b.path and type(a.module).__qualname__ == type(b.module).__qualname__
