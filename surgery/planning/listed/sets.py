"""Modules side by side, whose results are added up or averaged: what a run without some of them has in common."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import fx

from surgery.capture.frames import info
from surgery.capture.recorder import call_name
from surgery.nested import fold
from surgery.planning.listed.calls import Run, alike
from surgery.planning.listed.law import Comparison, Differs
from surgery.planning.listed.shorter import Drop

_SUMS = frozenset(("add", "__add__", "__radd__", "__iadd__", "add_"))


class SideBySide(Comparison):
    """Two runs in step, where sums and lists of results have fewer terms in the shorter one."""

    def __init__(self, whole: Run, short: Run, drops: list[Drop], learned: Container[str]):
        super().__init__(whole, short, drops, learned)
        self.sizes = {(drop.candidate.size, len(drop.kept)) for drop in drops}

    def steps(self, run: Run) -> list[fx.Node]:
        """`sum` begins with zero: the first term plus zero is that term."""
        return [node for node in run.nodes if self.value(node) is node]

    def value(self, node: fx.Node) -> fx.Node:
        return _term(node)

    def same_turn(self, a: fx.Node, b: fx.Node) -> bool:
        """In which turn results are added up is no matter."""
        return True

    def same_result(self, a: fx.Node, b: fx.Node) -> bool:
        """Lists of results, stacked, are shorter; what the model returns in the end is not."""
        first, second = info(a), info(b)
        return bool(alike(a, b) or (first.dtype == second.dtype and _dims(first.shape) == _dims(second.shape)))

    def same(self, a: Any, b: Any, pairs: list[tuple[fx.Node, fx.Node]]) -> bool:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            return super().same(a, b, pairs)
        if isinstance(a, tuple | list) and type(a) is type(b) and len(b) < len(a):
            a = type(a)(item for item in a if not (isinstance(item, fx.Node) and self.absent(_term(item))))
        if isinstance(a, int) and isinstance(b, int) and (int(a), int(b)) in self.sizes:
            return True
        return super().same(a, b, pairs)

    def absent(self, node: fx.Node) -> bool:
        """Whether nothing is left of a value: it is of a module that is left out, or a sum of such."""
        if node.op == "get_attr" or node in self.used:
            return False
        if self.whole.within(node, self.children) is not None:
            return True
        terms = self._terms(node)
        return bool(terms) and all(map(self.absent, terms))

    def _terms(self, node: fx.Node) -> list[fx.Node]:
        """The values that a call adds up; none where it does anything else."""
        plain = call_name(node.target) in _SUMS and len(node.args) == 2 and not node.kwargs
        terms = [_term(value) for value in node.args if isinstance(value, fx.Node)] if plain else []
        return terms if len(terms) == 2 else []

    def _stands_for(self, other: fx.Node, gone: fx.Node, new: dict[fx.Node, fx.Node]) -> bool:
        left = [term for term in self._terms(gone) if not self.absent(term)]
        if gone in self.used or len(left) != 1 or not alike(gone, other):
            return False
        (term,) = left
        if term is not other and self.match.instead.get(term) is not other and not self._stands_for(other, term, new):
            return False
        new[gone] = other
        return True

    def check_output(self) -> None:
        super().check_output()
        for node in map(_term, self.short.capture.root.returned):
            if node in self.match.partner and not alike(node, self.match.partner[node]):
                raise Differs("the model returns more or less without it")


def _dims(shape: Any) -> Any:
    return [_dims(item) for item in shape] if isinstance(shape, list) else shape if shape is None else len(shape)


def _term(node: fx.Node) -> fx.Node:
    """The value that a call hands on where it only adds zero to it."""
    while call_name(node.target) in _SUMS and not node.kwargs and _zero(node):
        node = next(fold(node.args, fx.Node))
    return node


def _zero(node: fx.Node) -> bool:
    return any(type(value) is int and value == 0 for value in node.args)
