"""Modules side by side, whose results are added up or averaged: what a run without some of them has in common."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import fx

from surgery.capture.frames import info
from surgery.planning.listed.calls import Run, alike
from surgery.planning.listed.law import Comparison
from surgery.planning.listed.match import Differs
from surgery.planning.listed.shorter import Drop
from surgery.planning.listed.sums import term


class SideBySide(Comparison):
    """Two runs in step, where sums and lists of results have fewer terms in the shorter one."""

    def __init__(self, whole: Run, short: Run, drops: list[Drop], learned: Container[str]):
        super().__init__(whole, short, drops, learned)
        self.sizes = {(drop.candidate.size, len(drop.kept)) for drop in drops}

    def same_turn(self, a: fx.Node, b: fx.Node) -> bool:
        """In which turn results are added up is no matter."""
        return True

    def check_turn(self, node: fx.Node) -> None:
        """What is added up in the first turn is no call of its unit alone."""

    def same_result(self, a: fx.Node, b: fx.Node) -> bool:
        """Lists of results, stacked, are shorter; what the model returns in the end is not."""
        first, second = info(a), info(b)
        return bool(alike(a, b) or (first.dtype == second.dtype and _dims(first.shape) == _dims(second.shape)))

    def same(self, a: Any, b: Any, pairs: list[tuple[fx.Node, fx.Node]]) -> bool:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            return super().same(a, b, pairs)
        if isinstance(a, tuple | list) and type(a) is type(b) and len(b) < len(a):
            a = type(a)(item for item in a if not (isinstance(item, fx.Node) and self.absent(term(item))))
        if isinstance(a, int) and isinstance(b, int) and (int(a), int(b)) in self.sizes:
            return True
        return super().same(a, b, pairs)

    def _stands_for(self, other: fx.Node, gone: fx.Node, new: dict[fx.Node, fx.Node]) -> bool:
        return self.is_rest(other, gone, new)

    def check_output(self) -> None:
        super().check_output()
        for node in map(term, self.short.capture.root.returned):
            if node in self.match.partner and not alike(node, self.match.partner[node]):
                raise Differs("the model returns more or less without it")


def _dims(shape: Any) -> Any:
    return [_dims(item) for item in shape] if isinstance(shape, list) else shape if shape is None else len(shape)
