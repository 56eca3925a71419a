"""Whether a recorded run only repeats another one.

Most models take one way in eval mode and in training mode, apart from the flags and rates of dropout. Then the rules
have said already what the second run could tell.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

from torch import fx

from surgery.axes.algebra import Dims, resolve
from surgery.axes.formulas import Arithmetic, Extent, Origin
from surgery.axes.sizes import Size
from surgery.capture.frames import info
from surgery.capture.record import Capture
from surgery.modules.code.source import Chain, span
from surgery.modules.plain_data import ATOMS
from surgery.nested import fold, mapped
from surgery.planning.analysis import Analysis

_SETTINGS = (bool, float)  # what may be another in the other mode, where a rule does not mind


def repeats(analysis: Analysis, known: Capture, capture: Capture) -> bool:
    """Whether a run makes the calls of one that is analysed already, on the same values, with sizes in the same places.

    Then the analysis knows the dimensions of all that the run has made.
    """
    return _Comparison(analysis, known, capture).alike()


class _Comparison:
    """Two runs in step. What the second has made gets the dimensions of the first, as far as they are alike."""

    def __init__(self, analysis: Analysis, known: Capture, capture: Capture):
        self.analysis, self.runs = analysis, (known, capture)
        self.partner: dict[fx.Node, fx.Node] = {}

    def alike(self) -> bool:
        first, second = ([frame.path for frame in run.frames] for run in self.runs)
        nodes, others = (list(run.graph.nodes) for run in self.runs)
        if first != second or len(nodes) != len(others) or not all(map(self._node, nodes, others)):
            return False
        return self._same(self.runs[0].root.returned, self.runs[1].root.returned)

    def _node(self, a: fx.Node, b: fx.Node) -> bool:
        first, second = info(a), info(b)
        if a.op != b.op or a.target != b.target or first.described != second.described:
            return False
        if not _same_place(first.chain, second.chain) and _holds_size(b.args, b.kwargs):
            return False
        self.analysis.values[b] = self.analysis.values[a]
        self.partner[b] = a
        given = (a.args, a.kwargs), (b.args, b.kwargs)
        return self._same(*given) or (a.op == "call_function" and self._same(*given, _SETTINGS) and self._again(b))

    def _again(self, node: fx.Node) -> bool:
        """Whether the rule says the same of a call with other settings, and asks for nothing."""
        analysis, before = self.analysis, self.analysis.values[node]
        asked = len(analysis.constraints), len(analysis.min_units)
        made = analysis.value(node, self.runs[1])
        return _resolved(made) == _resolved(before) and asked == (len(analysis.constraints), len(analysis.min_units))

    def _same(self, a: Any, b: Any, settings: tuple[type, ...] = ()) -> bool:
        """Whether two arguments are the same; those of the types in `settings` need not be."""
        if isinstance(a, fx.Node):
            return self.partner.get(b) is a
        if type(a) is not type(b):
            return type(a) in settings and type(b) in settings
        if isinstance(a, Size):
            return int.__eq__(a, b) and self._origin(a.origin, b.origin)
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(self._same(x, y, settings) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(self._same(a[key], b[key], settings) for key in a)
        if isinstance(a, slice):
            return self._same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
        return type(a) in settings or a is b or (isinstance(a, ATOMS) and a == b)

    def _origin(self, a: Origin, b: Origin) -> bool:
        if isinstance(a, Arithmetic) and isinstance(b, Arithmetic):
            return a.sign == b.sign and self._origin(a.left, b.left) and self._origin(a.right, b.right)
        if isinstance(a, Extent) and isinstance(b, Extent):
            return self.partner.get(b.node) is a.node and a.dim == b.dim
        return a == b


def _holds_size(*values: Any) -> bool:
    """Whether there is an integer among arguments: it may have to follow a width, where it stands."""
    return any(not isinstance(value, bool) for value in fold(values, int))


def _same_place(a: Chain, b: Chain) -> bool:
    """Whether two chains lead through the same code. Python may be at another instruction of one expression."""
    return a == b or (
        len(a) == len(b) and all(x[0] is y[0] and (x == y or _same_span(x, y)) for x, y in zip(a, b, strict=True))
    )


def _same_span(a: tuple[CodeType, int], b: tuple[CodeType, int]) -> bool:
    where = span(*a)
    return where is not None and where == span(*b)


def _resolved(value: Any) -> Any:
    """The dimensions of a result as they are known by now."""
    return mapped(value, lambda leaf, _: [resolve(dim) for dim in leaf] if isinstance(leaf, Dims) else leaf, whole=Dims)
