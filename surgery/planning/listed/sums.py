"""Values that are added up, one for each module: losses of layers, results of branches."""

from __future__ import annotations

from torch import fx

from surgery.capture.recorder import call_name
from surgery.nested import fold

_SUMS = frozenset(("add", "__add__", "__radd__", "__iadd__", "add_"))


def term(node: fx.Node) -> fx.Node:
    """The value that a call hands on where it only adds zero to it, as `sum` does first."""
    while call_name(node.target) in _SUMS and not node.kwargs and _zero(node):
        node = next(fold(node.args, fx.Node))
    return node


def terms(node: fx.Node) -> list[fx.Node]:
    """The values that a call adds up; none where it does anything else."""
    plain = call_name(node.target) in _SUMS and len(node.args) == 2 and not node.kwargs
    found = [term(value) for value in node.args if isinstance(value, fx.Node)] if plain else []
    return found if len(found) == 2 else []


def _zero(node: fx.Node) -> bool:
    return any(type(value) in (int, float) and value == 0 for value in node.args)
