"""Which integers must change with the widths, and how.

Every size that a recorded call was given must equal the width of some dimension, at every width. Where the integer came
from an attribute, a formula for the attribute is found. Where no attribute can carry it, the forward that contains the
call is rewritten (`surgery.rewrite`). Where that cannot be done either, the axes are pinned, with the line as the
reason. Everything found is checked at several sample widths before it is believed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import fx

from surgery.analysis import Analysis, Needed
from surgery.axes import Axis, Dim, axes_of, extent, pin, resolve, unify
from surgery.columns import MANY, Column, Points, beyond, every, many, sampled
from surgery.errors import CaptureError
from surgery.frames import Frame
from surgery.places import line
from surgery.rewrite import Blocked, Change, Rewrite, plan_rewrites
from surgery.rules.base import SizeOf
from surgery.sizes import COMPARISONS, OPERATORS, Arithmetic, Attribute, Constant, Extent, Origin, leaves, origin_of
from surgery.source import Chain

Key: TypeAlias = "tuple[str, tuple[Any, ...]]"  # a module's path, and the path of an attribute in it

Place: TypeAlias = "tuple[str | None, Chain]"  # a module's path, and where in its forward


@dataclass(frozen=True)
class Need:
    """`origin` must equal `target` at every width; where not `equal`, at none. A comparison has no node and no site."""

    node: fx.Node | None
    origin: Origin
    target: Origin
    site: tuple[fx.Node, tuple[Any, ...]] | None
    frame: Frame
    chain: Chain
    where: str
    equal: bool = True


@dataclass
class Solution:
    """Formulas for attributes, and the forwards that must be rewritten."""

    formulas: dict[Key, Origin] = field(default_factory=dict)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def group_axes(analysis: Analysis) -> list[Axis]:
    """The axes that may be cut: in some parameter, and not pinned. In order of first appearance."""
    found: dict[Axis, None] = {}
    for name in analysis.parameters:
        if name in analysis.tensors:
            for dim in analysis.tensors[name]:
                found.update(dict.fromkeys(axis for axis in axes_of(dim) if not axis.pin))
    return list(found)


def solve(analysis: Analysis, refused: Mapping[str, str] = MappingProxyType({})) -> Solution:
    """Formulas and rewrites for everything in the recorded runs that must follow the widths. May pin axes.

    `refused` are the paths of modules that cannot do with another forward, and why.
    """
    while True:
        solver = _Solver(analysis)
        unmet = solver.unmet()
        given_up = [(need, refused[need.frame.path or ""]) for need in unmet if need.frame.path in refused]
        both = solver.both_ways() if any(not need.equal for need in unmet) else set()
        given_up += [
            (need, "cannot follow: the same code compares several sizes")
            for need in unmet
            if not need.equal and (need.frame.path, need.chain) in both
        ]
        # what a rule computed from arguments of the call follows when they do
        follows = {need.node for need in solver.needs if need.site is not None}
        computed = [need for need in unmet if need.site is None and need.node is not None]
        given_up += [
            (need, "cannot follow: no argument of the call holds it") for need in computed if need.node not in follows
        ]
        if given_up:
            solver.give_up(given_up)
            continue
        unmet = [need for need in unmet if need.site is not None or need.node is None]
        changes = [solver.change(need) for need in unmet]
        try:
            rewrites = plan_rewrites([*changes, *solver.departures(changes)])
        except Blocked as blocked:
            solver.give_up([(unmet[changes.index(blocked.change)], f"cannot follow: {blocked}")])
            continue
        held = {(need.frame.path, need.chain) for need in unmet if not need.equal}
        return Solution(solver.formulas, rewrites, tuple(solver.turns(held)))


class _Solver:
    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.formulas: dict[Key, Origin] = {}
        known = [dim for name in analysis.parameters for dim in analysis.tensors.get(name, ())]
        self.features = {axis for dim in known for axis in axes_of(dim)}
        self.needs = [self._need(needed) for needed in analysis.needs] + list(self._comparisons())
        self._fixed_by_layers()
        self._fixed_by_uses()
        axes = group_axes(analysis)
        self.samples, self.beyond = sampled(axes), beyond(axes)
        self._inverted()

    def _need(self, needed: Needed) -> Need:
        requirement = needed.requirement
        frame = needed.capture.frames[needed.frame]
        origin, target = self.known(origin_of(requirement.size)), self.known(requirement.target)
        chain = requirement.node.meta["chain"]
        return Need(requirement.node, origin, target, requirement.site, frame, chain, needed.where)

    def _comparisons(self) -> Iterator[Need]:
        """Sizes that code found equal stay so; sizes that it found unequal, if one is an attribute, as well.

        That may be a width for which no call ever asks, as in `if self.inside != self.outside: ...`: it stays what it
        is, and would seem equal to the other one at a single width, where nobody has seen what the code does.
        """
        for capture in self.analysis.captures:
            for branch in capture.branches:
                decision = branch.decision
                if decision.sign not in ("==", "!="):
                    continue
                sides = self.known(decision.left), self.known(decision.right)
                equal = decision.outcome == (decision.sign == "==")
                if equal and not isinstance(sides[0], Attribute):
                    sides = sides[::-1]
                held = SizeOf if equal else Attribute
                if any(isinstance(leaf, held) for side in sides for leaf in leaves(side)):
                    where = f"the comparison at {line(branch.where)}"
                    yield Need(None, *sides, None, capture.frames[branch.frame], branch.chain, where, equal)

    def known(self, origin: Origin) -> Origin:
        """An origin with the dimensions of tensors in place of their extents."""
        if isinstance(origin, Arithmetic):
            return replace(origin, left=self.known(origin.left), right=self.known(origin.right))
        if isinstance(origin, Extent):
            return SizeOf(resolve(self.analysis.values[origin.node][origin.dim]))
        return SizeOf(resolve(origin.dim)) if isinstance(origin, SizeOf) else origin

    def values(self, origin: Origin, points: Points) -> Column:
        """What an expression comes to at some widths. Raises ZeroDivisionError as the code would."""
        if isinstance(origin, Arithmetic):
            sides = self.values(origin.left, points), self.values(origin.right, points)
            return list(map(OPERATORS[origin.sign], *sides))
        if isinstance(origin, Constant):
            return points.constant(origin.value)
        if isinstance(origin, SizeOf):
            return points.width(origin.dim)
        assert isinstance(origin, Attribute)
        formula = self.formulas.get((origin.module, origin.path))
        return points.constant(origin.value) if formula is None else self.values(formula, points)

    def met(self, need: Need) -> bool:
        """Whether a need holds at every width, from those where it can fail: without divisions, beyond any model's."""
        sides = (need.origin, need.target)
        if not need.equal:
            return not self._may_meet(*sides)
        left, right = map(self._width, sides)
        if left is not None and left == right:  # one dimension has one width, and most needs are as plain as that
            return True
        if not any(map(self._divides, sides)):
            return self._agree(need, self.beyond)
        return self._agree(need, self.samples) and self._agree(need, many(self._axes(sides)))

    def _may_meet(self, left: Origin, right: Origin) -> bool:
        """Whether one side comes from attributes and stays, and the other is a width that may get equal to it."""
        stays = [not self._widths(s) and any(isinstance(leaf, Attribute) for leaf in leaves(s)) for s in (left, right)]
        if not any(stays) or not self._widths(left, right):
            return False
        outcomes = self._outcomes(operator.eq, left, right)
        return outcomes is None or True in outcomes

    def _widths(self, *sides: Origin) -> list[Axis]:
        """The axes of parameters that expressions depend on and that may be cut."""
        return [axis for axis in self._axes(sides) if axis in self.features]

    def _outcomes(self, compare: Callable[[int, int], bool], left: Origin, right: Origin) -> set[bool] | None:
        """What a comparison comes to at all widths; None where they are too many, or where the code would fail."""
        axes = self._widths(left, right)
        if len(axes) > 1 and math.prod(axis.size for axis in axes) > MANY:
            return None
        points = every(axes[0]) if len(axes) == 1 else many(axes)
        try:
            return set(map(compare, self.values(left, points), self.values(right, points)))
        except ZeroDivisionError:
            return None

    def _agree(self, need: Need, points: Points) -> bool:
        try:
            return self.values(need.origin, points) == self.values(need.target, points)
        except ZeroDivisionError:
            return False

    def _width(self, origin: Origin) -> Dim | None:
        """The dimension whose width a plain expression is."""
        if isinstance(origin, Attribute):
            origin = self.formulas.get((origin.module, origin.path), origin)
        return resolve(origin.dim) if isinstance(origin, SizeOf) else None

    def _divides(self, origin: Origin) -> bool:
        """Whether an expression holds a division, which a few widths may satisfy by chance."""
        if isinstance(origin, Arithmetic):
            return origin.sign in ("//", "%") or self._divides(origin.left) or self._divides(origin.right)
        formula = self.formulas.get((origin.module, origin.path)) if isinstance(origin, Attribute) else None
        return formula is not None and self._divides(formula)

    def _axes(self, sides: Sequence[Origin]) -> list[Axis]:
        """The axes that expressions depend on and that may be cut."""
        dims = [dim for side in sides for dim in self.dims(side)]
        return list(dict.fromkeys(axis for dim in dims for axis in axes_of(dim) if not axis.pin))

    def turns(self, held: Set[Place]) -> Iterator[str]:
        """A note for every place where Python code goes another way at other widths than at the full ones.

        Comparisons in `held` places come out as they did.
        """
        for capture in self.analysis.captures:
            for branch in capture.branches:
                decision = branch.decision
                if decision.sign == "is" or (capture.frames[branch.frame].path, branch.chain) in held:
                    continue
                compare, sides = COMPARISONS[decision.sign], (self.known(decision.left), self.known(decision.right))
                outcomes = self._outcomes(compare, *sides) if decision.sign in ("==", "!=") else None
                if outcomes is None:
                    outcomes = self._sampled(compare, *sides)
                if len(outcomes) > 1:
                    yield f"the code at {line(branch.where)} compares a width, and goes another way at some widths"

    def _sampled(self, compare: Callable[[int, int], bool], left: Origin, right: Origin) -> set[bool]:
        """What a comparison comes to at a few widths; both, where the code would fail at one of them."""
        try:
            return set(map(compare, self.values(left, self.samples), self.values(right, self.samples)))
        except ZeroDivisionError:
            return {True, False}

    def both_ways(self) -> set[Place]:
        """Places in forwards where sizes were found equal at one time and unequal at another."""
        seen: dict[Place, set[bool]] = {}
        for capture in self.analysis.captures:
            for branch in capture.branches:
                decision = branch.decision
                if decision.sign in ("==", "!="):
                    place = capture.frames[branch.frame].path, branch.chain
                    seen.setdefault(place, set()).add(decision.outcome == (decision.sign == "=="))
        return {place for place, outcomes in seen.items() if len(outcomes) > 1}

    def unmet(self) -> list[Need]:
        return [need for need in self.needs if not self.met(need)]

    def give_up(self, needs: Sequence[tuple[Need, str]]) -> None:
        """Pin what needs are about: the target, or where that is fixed already, what the code computes from."""
        pinned = False
        for need, why in needs:
            for side in (need.target, need.origin):
                axes = [axis for dim in self.dims(side) for axis in axes_of(dim) if not axis.pin]
                for axis in axes:
                    pin((axis,), f"the size in {need.where} {why}")
                if axes:
                    pinned = True
                    break
        if not pinned:
            raise CaptureError(f"the size in {needs[0][0].where} {needs[0][1]}")

    def dims(self, origin: Origin) -> Iterator[Dim]:
        """The dimensions that the value of an expression depends on."""
        for leaf in leaves(origin):
            if isinstance(leaf, SizeOf):
                yield leaf.dim
            elif isinstance(leaf, Attribute) and (leaf.module, leaf.path) in self.formulas:
                yield from self.dims(self.formulas[leaf.module, leaf.path])

    def change(self, need: Need) -> Change:
        """What must change in the code so that a need is met."""
        key = self._of_features(need.origin), self._of_features(need.target)
        return Change(
            need.frame,
            need.chain,
            need.site,
            need.origin,
            need.target,
            need.equal and key[1] != need.target,
            (*key, need.site is None, need.equal),
            equal=need.equal,
        )

    def departures(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Where sizes that are changed leave the arithmetic (`scale = (c // heads) ** -0.5`), they change as well."""
        first = {(change.frame.path, change.seen): change for change in reversed(changes) if change.equal}
        for capture in self.analysis.captures:
            for branch in capture.branches:
                frame = capture.frames[branch.frame]
                like = first.get((frame.path, self.known(branch.decision.left)))
                if branch.decision.sign == "is" and like is not None and isinstance(like.seen, Arithmetic):
                    yield replace(like, frame=frame, chain=branch.chain, site=branch.decision.operand, needed=False)

    def _of_features(self, origin: Origin) -> Origin:
        """An expression without the factors that are no parameter's: what other inputs may have in another size."""
        if isinstance(origin, Arithmetic):
            return replace(origin, left=self._of_features(origin.left), right=self._of_features(origin.right))
        if isinstance(origin, SizeOf):
            return SizeOf(tuple(f for f in resolve(origin.dim) if self.features.intersection(axes_of((f,)))))
        return origin

    def _fixed_by_layers(self) -> None:
        for module, path, dim in self.analysis.attributes:
            self._state((module, path), dim)

    def _fixed_by_uses(self) -> None:
        for need in self.needs:
            if need.equal and isinstance(need.origin, Attribute) and isinstance(need.target, SizeOf):
                self._state((need.origin.module, need.origin.path), need.target.dim)

    def _state(self, key: Key, dim: Dim) -> None:
        """One attribute holds one width: what it bounds in several places is tied, unless some of it is pinned."""
        dim = resolve(dim)
        known = self.formulas.get(key)
        if known is None:
            self.formulas[key] = SizeOf(dim)
            return
        other = resolve(known.dim) if isinstance(known, SizeOf) else dim
        axes = [axis for side in (dim, other) for axis in axes_of(side)]
        if dim != other and extent(dim) == extent(other) and not any(axis.pin for axis in axes):
            unify(other, dim, f"attribute {key[1][0]!r} of {key[0] or 'the model'}, which holds one width,")

    def _inverted(self) -> None:
        """Solve expressions such as `c // heads` for the one attribute in them that nothing states."""
        uses: dict[Attribute, list[Need]] = {}
        needs = [need for need in self.needs if need.equal]
        for need in needs:
            for leaf in dict.fromkeys((*leaves(need.origin), *leaves(need.target))):
                if isinstance(leaf, Attribute):
                    uses.setdefault(leaf, []).append(need)
        for need in needs:
            if self.met(need):
                continue
            for leaf in leaves(need.origin):
                if not isinstance(leaf, Attribute) or (leaf.module, leaf.path) in self.formulas:
                    continue
                formula = _invert(need.origin, leaf, need.target)
                if formula is None or leaf in self._attributes(formula):
                    continue
                if self._pays((leaf.module, leaf.path), formula, need, uses[leaf]):
                    self.formulas[leaf.module, leaf.path] = formula
                    break

    def _pays(self, key: Key, formula: Origin, need: Need, uses: Sequence[Need]) -> bool:
        """Whether an attribute that follows a formula meets a need, and more of its uses than without it."""
        self.formulas[key] = formula
        after = sum(map(self.met, uses)) if self.met(need) else 0
        del self.formulas[key]
        return after > 0 and after > sum(map(self.met, uses))

    def _attributes(self, origin: Origin) -> Iterator[Attribute]:
        """The attributes that an expression reads, also through the formulas of others."""
        for leaf in leaves(origin):
            if isinstance(leaf, Attribute):
                yield leaf
                formula = self.formulas.get((leaf.module, leaf.path))
                yield from () if formula is None else self._attributes(formula)


_INVERSES = {
    # sign: (the left operand, the right operand) from the result and the other operand
    "+": (lambda t, r: Arithmetic("-", t, r), lambda t, left: Arithmetic("-", t, left)),
    "-": (lambda t, r: Arithmetic("+", t, r), lambda t, left: Arithmetic("-", left, t)),
    "*": (lambda t, r: Arithmetic("//", t, r), lambda t, left: Arithmetic("//", t, left)),
    "//": (lambda t, r: Arithmetic("*", t, r), lambda t, left: Arithmetic("//", left, t)),
}


def _invert(origin: Origin, leaf: Origin, target: Origin) -> Origin | None:
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
        return _invert(origin.left, leaf, for_left(target, origin.right))
    return _invert(origin.right, leaf, for_right(target, origin.left))
