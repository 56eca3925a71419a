"""What must hold of sizes at every width: what calls ask for, and what comparisons have found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import TypeAlias

from surgery.axes.formulas import Attribute, Constant, Origin, SizeOf, is_untracked, leaves
from surgery.axes.samples import Samples
from surgery.axes.sizes import COMPARISONS, Sign
from surgery.capture.callsites import line
from surgery.capture.record import Capture
from surgery.modules.code.source import Chain
from surgery.planning.solving.expressions import Expressions
from surgery.rules.base import SizeConstraint

EQUALITY = (Sign.EQ, Sign.NE)
Place: TypeAlias = "tuple[str | None, Chain]"  # a module's path, and where in its forward


def constraints_of(expressions: Expressions) -> list[SizeConstraint]:
    """What the calls of the recorded runs need, and then what their comparisons need, in terms of dimensions."""
    known, copies = expressions.known, _copies(expressions)
    calls = [
        replace(c, origin=_uncopied(known(c.origin), c, copies), target=known(c.target))
        for c in expressions.analysis.constraints
    ]
    return calls + list(_of_comparisons(expressions))


Copies: TypeAlias = "dict[tuple[int, int], Origin]"  # by the call of a module that made it, and the value


def _copies(expressions: Expressions) -> Copies:
    """Plain integers that code has made of one size, and that are that size: `int(x.shape[1])`."""
    found: Copies = {}
    full = Samples(1, {})
    for capture in expressions.analysis.captures:
        for branch in capture.branches:
            made, value = branch.decision, branch.decision.right
            if made.sign is Sign.INT and isinstance(value, Constant):
                size = expressions.known(made.left)
                if not is_untracked(size) and expressions.values(size, full) == [value.value]:
                    found.setdefault((id(capture.frames[branch.frame]), value.value), size)
    return found


def _uncopied(origin: Origin, constraint: SizeConstraint, copies: Copies) -> Origin:
    """The size that an integer argument is a copy of, where the same call of a module has made such a copy."""
    if not isinstance(origin, Constant) or constraint.site is None:
        return origin
    return copies.get((id(constraint.caller), origin.value), origin)


def _of_comparisons(expressions: Expressions) -> Iterator[SizeConstraint]:
    """Sizes that code found equal stay so; sizes that it found unequal, if one is an attribute, as well.

    That may be a width for which no call ever asks, as in `if self.inside != self.outside: ...`: it stays what it
    is, and would seem equal to the other one at a single width, where nobody has seen what the code does.
    """
    for capture in expressions.analysis.captures:
        for branch in capture.branches:
            decision = branch.decision
            if decision.sign not in EQUALITY:
                continue
            sides = expressions.known(decision.left), expressions.known(decision.right)
            equal = decision.outcome == (decision.sign is Sign.EQ)
            if equal and not isinstance(sides[0], Attribute):
                sides = sides[::-1]
            held = SizeOf if equal else Attribute
            if any(isinstance(leaf, held) for side in sides for leaf in leaves(side)) and not any(
                map(is_untracked, sides)
            ):
                where = f"the comparison at {line(branch.where)}"
                yield SizeConstraint(*sides, capture.frames[branch.frame], branch.chain, where, equal=equal)


def both_ways(captures: Iterable[Capture]) -> set[Place]:
    """Places in forwards where sizes were found equal at one time and unequal at another."""
    seen: dict[Place, set[bool]] = {}
    for capture in captures:
        for branch in capture.branches:
            decision = branch.decision
            if decision.sign in EQUALITY:
                place = capture.frames[branch.frame].path, branch.chain
                seen.setdefault(place, set()).add(decision.outcome == (decision.sign is Sign.EQ))
    return {place for place, outcomes in seen.items() if len(outcomes) > 1}


def turns(expressions: Expressions, samples: Samples, kept: Set[Place]) -> Iterator[str]:
    """A note for every place where Python code goes another way at other widths than at the full ones.

    Comparisons in `kept` places come out as they did.
    """
    for capture in expressions.analysis.captures:
        for branch in capture.branches:
            decision = branch.decision
            if decision.sign not in COMPARISONS or (capture.frames[branch.frame].path, branch.chain) in kept:
                continue
            compare = COMPARISONS[decision.sign]
            sides = expressions.known(decision.left), expressions.known(decision.right)
            outcomes = expressions.outcomes(compare, *sides) if decision.sign in EQUALITY else None
            if outcomes is None:
                outcomes = expressions.sampled(compare, *sides, samples)
            if len(outcomes) > 1:
                yield f"the code at {line(branch.where)} compares a width, and goes another way at some widths"
