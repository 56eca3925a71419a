"""Whether a recorded run only repeats another one.

Most models take one way in eval mode and in training mode, apart from the flags and rates of dropout. Then the rules
have said already what the second run could tell.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

from torch import fx

from surgery.analysis import Analysis
from surgery.axes import Dims, resolve
from surgery.capture import Branch, Capture, Frame, nodes_in
from surgery.sizes import Arithmetic, Extent, Origin, Size
from surgery.source import Chain, span

_SETTINGS = (bool, float)  # what may be another in the other mode, where a rule does not mind


def repeats(analysis: Analysis, known: Capture, capture: Capture) -> bool:
    """Whether a run makes the calls of a run that is analysed already: in the same places, on the same values.

    Modules must be called in the same order, set the same attributes, and decide alike about sizes.
    """
    return _Comparison(analysis, known, capture).alike()


class _Comparison:
    """Two runs in step. Nodes of the second get the values of the first, as far as they are alike."""

    def __init__(self, analysis: Analysis, known: Capture, capture: Capture):
        self.analysis, self.runs = analysis, (known, capture)
        self.partner: dict[fx.Node, fx.Node] = {}

    def alike(self) -> bool:
        steps = (
            (self._node, [list(run.graph.nodes) for run in self.runs]),
            (self._frame, [run.frames for run in self.runs]),
            (self._branch, [run.branches for run in self.runs]),
        )
        return all(len(a) == len(b) and all(map(same, a, b)) for same, (a, b) in steps)

    def _node(self, a: fx.Node, b: fx.Node) -> bool:
        if (a.op, a.target) != (b.op, b.target) or any(
            a.meta[key] != b.meta[key] for key in ("shape", "dtype", "frame")
        ):
            return False
        if not _same_place(a.meta["chain"], b.meta["chain"]):
            return False
        self.analysis.values[b] = self.analysis.values[a]
        self.partner[b] = a
        if self._same((a.args, a.kwargs), (b.args, b.kwargs)):
            return True
        return (
            a.op == "call_function" and self._same((a.args, a.kwargs), (b.args, b.kwargs), _SETTINGS) and self._again(b)
        )

    def _again(self, node: fx.Node) -> bool:
        """Whether the rule says the same of a call with other settings, and asks for nothing."""
        analysis, before = self.analysis, self.analysis.values[node]
        asked = len(analysis.needs), len(analysis.pairs)
        made = analysis.value(node, self.runs[1])
        return _resolved(made) == _resolved(before) and asked == (len(analysis.needs), len(analysis.pairs))

    def _frame(self, a: Frame, b: Frame) -> bool:
        if (a.path, a.parent, a.stored, a.states) != (b.path, b.parent, b.stored, b.states):
            return False
        first, second = (list(nodes_in((f.args, f.kwargs, f.output, f.returned))) for f in (a, b))
        return type(a.module) is type(b.module) and self._same(first, second)

    def _branch(self, a: Branch, b: Branch) -> bool:
        one, other = a.decision, b.decision
        if (a.frame, one.sign, one.outcome, one.operand) != (b.frame, other.sign, other.outcome, other.operand):
            return False
        sides = (one.left, other.left), (one.right, other.right)
        return _same_place(a.chain, b.chain) and all(self._origin(x, y) for x, y in sides)

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
        return type(a) in settings or bool(a is b or a == b)

    def _origin(self, a: Origin, b: Origin) -> bool:
        if isinstance(a, Arithmetic) and isinstance(b, Arithmetic):
            return a.sign == b.sign and self._origin(a.left, b.left) and self._origin(a.right, b.right)
        if isinstance(a, Extent) and isinstance(b, Extent):
            return self.partner.get(b.node) is a.node and a.dim == b.dim
        return a == b


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
    if isinstance(value, Dims):
        return [resolve(dim) for dim in value]
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    return [_resolved(item) for item in value] if isinstance(value, tuple | list) else value
