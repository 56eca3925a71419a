"""Solving an expression for an attribute in it."""

from __future__ import annotations

from surgery.axes.sizes import Arithmetic, Origin, leaves

_INVERSES = {
    # sign: (the left operand, the right operand) from the result and the other operand
    "+": (lambda t, r: Arithmetic("-", t, r), lambda t, left: Arithmetic("-", t, left)),
    "-": (lambda t, r: Arithmetic("+", t, r), lambda t, left: Arithmetic("-", left, t)),
    "*": (lambda t, r: Arithmetic("//", t, r), lambda t, left: Arithmetic("//", t, left)),
    "//": (lambda t, r: Arithmetic("*", t, r), lambda t, left: Arithmetic("//", left, t)),
}


def invert(origin: Origin, leaf: Origin, target: Origin) -> Origin | None:
    """The value of `leaf` that gives `origin` the value `target`; None where the leaf stands in two places."""
    if origin == leaf:
        return target
    if not isinstance(origin, Arithmetic) or origin.sign not in _INVERSES:
        return None
    in_left, in_right = leaf in leaves(origin.left), leaf in leaves(origin.right)
    if in_left == in_right:
        return None
    for_left, for_right = _INVERSES[origin.sign]
    if in_left:
        return invert(origin.left, leaf, for_left(target, origin.right))
    return invert(origin.right, leaf, for_right(target, origin.left))
