"""Integers that a forward has computed from sizes, in a way that nothing can follow: `int(c * 0.25)`.

They are plain integers, and calls are given them as if they stood in the code. What they were computed from must keep
its width then, or the code would come to other integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass

from torch import fx

from surgery.axes.algebra import Axis, Dim, axes_of, pin, resolve
from surgery.axes.formulas import Constant, is_untracked, leaves
from surgery.axes.sizes import Sign
from surgery.capture.callsites import line
from surgery.nested import fold
from surgery.planning.solving.expressions import Expressions
from surgery.rules.base import SizeConstraint, tensors_in


@dataclass(frozen=True)
class Made:
    """A plain integer, where it was made, and of which axes."""

    value: int
    module: str | None
    axes: Set[Axis]
    where: str


def pin_untracked(
    expressions: Expressions, constraints: Iterable[SizeConstraint], literal: Callable[[SizeConstraint], bool]
) -> bool:
    """Pin what integers in constraints may have been computed from; whether there was anything left to pin.

    The constraints are those that no code is rewritten for. Where an integer was seen to be made, it is known by its
    value, and by the forward or the axes that both are about. Else, if it is not `literal` and bounds a part of a
    dimension that is fixed, the rest of the dimension is what it may depend on. One that a cache has kept may depend on
    anything.
    """
    made = list(_made(expressions))
    free: dict[Axis, str] = {}
    for constraint in constraints:
        if constraint.node is None:
            continue
        values = {leaf.value for leaf in leaves(constraint.origin) if isinstance(leaf, Constant)}
        if is_untracked(constraint.origin):
            axes = [axis for dim in _given(expressions, constraint) for axis in axes_of(dim)]
            free.update(dict.fromkeys(axes, f"{constraint.where} takes a size that a cache has kept"))
        about = _about(expressions, constraint) if values else set()
        for one in made if values else ():
            if one.value in values and (one.module == constraint.caller.path or one.axes & about):
                free.update(dict.fromkeys(one.axes, f"{one.where} computes a number from it, as in {constraint.where}"))
        beside = _beside(expressions, constraint, about)
        if beside and not literal(constraint):
            free.update(dict.fromkeys(beside, f"a size in {constraint.where} may be computed from it"))
    free = {axis: why for axis, why in free.items() if not axis.pin}
    for axis, why in free.items():
        pin((axis,), why)
    return bool(free)


def _made(expressions: Expressions) -> Iterator[Made]:
    for capture in expressions.analysis.captures:
        for branch in capture.branches:
            decision = branch.decision
            if decision.sign is Sign.INT and isinstance(decision.right, Constant):
                dims = expressions.dims(expressions.known(decision.left))
                axes = {axis for dim in dims for axis in axes_of(dim)}
                yield Made(decision.right.value, capture.frames[branch.frame].path, axes, line(branch.where))


def _about(expressions: Expressions, constraint: SizeConstraint) -> set[Axis]:
    return {
        axis
        for side in (constraint.origin, constraint.target)
        for dim in expressions.dims(side)
        for axis in axes_of(dim)
    }


def _beside(expressions: Expressions, constraint: SizeConstraint, about: Set[Axis]) -> list[Axis]:
    """Axes that may be cut, in dimensions of a call's tensors with the fixed features that a constraint is about."""
    fixed = {axis for axis in about if axis.pin and axis in expressions.features}
    if not fixed or len(fixed) < len(about):
        return []
    dims = [set(axes_of(dim)) for dim in _given(expressions, constraint)]
    return [axis for axes in dims if axes & fixed for axis in axes if not axis.pin]


def _given(expressions: Expressions, constraint: SizeConstraint) -> Iterator[Dim]:
    """The dimensions of the tensors that a call was given."""
    assert constraint.node is not None
    for node in fold((constraint.node.args, constraint.node.kwargs), fx.Node):
        for dims in tensors_in([expressions.analysis.values[node]]):
            yield from map(resolve, dims)
