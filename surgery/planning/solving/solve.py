"""Which integers must change with the widths, and how.

Every size that a recorded call was given must equal the width of some dimension, at every width. Where the integer came
from an attribute, a formula for the attribute is found. Where no attribute can carry it, the forward that contains the
call is rewritten (`surgery.rewrite`). Where that cannot be done either, the axes are pinned, with the line as the
reason. Everything found is checked at several sample widths before it is believed.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from surgery.axes.algebra import Dim, axes_of, extent, pin, resolve, unify
from surgery.axes.formulas import Arithmetic, Attribute, Field, Origin, SizeOf, invert, is_untracked, leaves
from surgery.axes.samples import Samples, beyond, many, sampled
from surgery.axes.sizes import Sign
from surgery.errors import CaptureError
from surgery.modules.code.source import collapsed
from surgery.plan.groups import Rewrite
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.solving.constraints import both_ways, constraints_of, turns
from surgery.planning.solving.constructed import follow_constructors
from surgery.planning.solving.expressions import Expressions, Key
from surgery.planning.solving.methods import with_methods
from surgery.planning.solving.rebuilt import deciding
from surgery.planning.solving.rewrites import Blocked, Change, is_literal, plan_rewrites
from surgery.planning.solving.untracked import pin_untracked
from surgery.rules.base import SizeConstraint


@dataclass
class Solution:
    """Formulas for attributes, and the forwards that must be rewritten."""

    formulas: dict[Key, Origin] = field(default_factory=dict)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unread: frozenset[Key] = frozenset()  # attributes with formulas that, as it seems, no run has read


def solve(analysis: Analysis, refused: Mapping[str, str] = MappingProxyType({})) -> Solution:
    """Formulas and rewrites for everything in the recorded runs that must follow the widths. May pin axes.

    `refused` are the paths of modules that cannot do with another forward, and why.
    """
    while True:
        solver = _Solver(analysis, refused)
        solver.state_attributes()
        solver.invert_expressions()
        solver.state_what_decides()
        solution = solver.solution()
        if solution is not None:
            return solution


class _Solver:
    """One attempt: what it cannot meet it pins, and then there is another attempt."""

    def __init__(self, analysis: Analysis, refused: Mapping[str, str]):
        self.analysis, self.refused = analysis, refused
        self.expressions = Expressions(analysis)
        self.formulas = self.expressions.formulas
        self.constraints = constraints_of(self.expressions)

    def solution(self) -> Solution | None:
        """What meets all constraints; None where something had to be pinned for it."""
        unmet = [one for one in self.constraints if not self.met(one)]
        if self.unify_places(unmet):
            return None
        hopeless = [(one, why) for why, found in self.hopeless(unmet) for one in found]
        if hopeless:
            self.give_up(hopeless)
            return None
        in_code = [one for one in unmet if one.site is not None or one.node is None]
        changes = [self.change(one) for one in in_code]
        try:
            rewrites = plan_rewrites([*changes, *self.departures(changes)])
        except Blocked as blocked:
            self.give_up([(in_code[changes.index(blocked.change)], f"cannot follow: {blocked}")])
            return None
        if pin_untracked(self.expressions, self.but(in_code), self.literal):
            return None
        kept = {one.place for one in in_code if not one.equal}
        unread, notes = follow_constructors(self.expressions)
        notes += turns(self.expressions, self.samples, kept)
        methods = with_methods(self.analysis, rewrites)
        return Solution(self.formulas | unread, methods, tuple(notes), frozenset(unread))

    def unify_places(self, unmet: Sequence[SizeConstraint]) -> bool:
        """Whether dimensions became one: those that one place in the code, which runs several times, is asked for.

        A size that the code computes there is one number. So what it splits is equally wide, as queries, keys and
        values are that go through one helper.
        """
        open_ = {one.caller.path for one in unmet if one.equal and one.site is not None}
        asked: dict[object, list[SizeConstraint]] = {}
        for one in self.constraints:
            if one.equal and one.site is not None and one.caller.path in open_:
                asked.setdefault(_edited(one), []).append(one)
        unmet_places = {_edited(one): one for one in unmet if one.equal and one.site is not None}
        changed = False
        for place, one in unmet_places.items():
            dims = [resolve(other.target.dim) for other in asked[place] if isinstance(other.target, SizeOf)]
            for dim in dims[1:]:
                changed |= self._unified(resolve(dims[0]), resolve(dim), one.where)
        return changed

    def _unified(self, dim: Dim, other: Dim, where: str) -> bool:
        """Whether two dimensions that may be cut were two, and are one now."""
        if dim == other or extent(dim) != extent(other):
            return False
        axes = [axis for side in (dim, other) for axis in axes_of(side)]
        if any(axis.pin for axis in axes) or not self.expressions.features.intersection(axes):
            return False
        unify(dim, other, where)
        return True

    def hopeless(self, unmet: Sequence[SizeConstraint]) -> Iterator[tuple[str, list[SizeConstraint]]]:
        """Why no change of the code could meet constraints, and those of which that is true."""
        for path, why in self.refused.items():
            yield why, [one for one in unmet if one.caller.path == path]
        if any(not one.equal for one in unmet):
            both = both_ways(self.analysis.captures)
            several = [one for one in unmet if not one.equal and one.place in both]
            yield "cannot follow: the same code compares several sizes", several
        cached = [one for one in unmet if is_untracked(one.origin)]
        yield "cannot follow: a cache has kept it from an earlier run", cached
        # what a rule computed from arguments of the call follows when they do
        follow = {one.node for one in self.constraints if one.site is not None}
        alone = [one for one in unmet if one.site is None and one.node is not None and one.node not in follow]
        yield "cannot follow: no argument of the call holds it", alone

    @functools.cached_property
    def samples(self) -> Samples:
        return sampled(group_axes(self.analysis))

    @functools.cached_property
    def beyond(self) -> Samples:
        return beyond(group_axes(self.analysis))

    def met(self, constraint: SizeConstraint) -> bool:
        """Whether a constraint holds at every width. Without divisions, one draw beyond any model's widths tells."""
        sides = (constraint.origin, constraint.target)
        if not constraint.equal:
            return not self._may_meet(*sides)
        if is_untracked(constraint.origin):
            return not self.expressions.features_in(constraint.target)
        left, right = map(self.expressions.width, sides)
        if left is not None and left == right:  # one dimension has one width, and most are as plain as that
            return True
        if not any(map(self.expressions.divides, sides)):
            return self._agree(constraint, self.beyond)
        return self._agree(constraint, self.samples) and self._agree(constraint, many(self.expressions.axes(sides)))

    def _may_meet(self, left: Origin, right: Origin) -> bool:
        """Whether one side comes from attributes and stays, and the other is a width that may get equal to it."""
        stays = [
            not self.expressions.features_in(s) and any(isinstance(leaf, Attribute) for leaf in leaves(s))
            for s in (left, right)
        ]
        if not any(stays) or not self.expressions.features_in(left, right):
            return False
        outcomes = self.expressions.outcomes(operator.eq, left, right)
        return outcomes is None or True in outcomes

    def _agree(self, constraint: SizeConstraint, points: Samples) -> bool:
        try:
            left, right = (self.expressions.values(side, points) for side in (constraint.origin, constraint.target))
            return left == right
        except ArithmeticError:
            return False

    def but(self, constraints: Sequence[SizeConstraint]) -> list[SizeConstraint]:
        """All other constraints."""
        known = set(map(id, constraints))
        return [constraint for constraint in self.constraints if id(constraint) not in known]

    def give_up(self, constraints: Sequence[tuple[SizeConstraint, str]]) -> None:
        """Pin what constraints are about: the target, or where that is fixed already, what the code computes from."""
        pinned = False
        for constraint, why in constraints:
            for side in (constraint.target, constraint.origin):
                axes = [axis for dim in self.expressions.dims(side) for axis in axes_of(dim) if not axis.pin]
                for axis in axes:
                    pin((axis,), f"the size in {constraint.where} {why}")
                if axes:
                    pinned = True
                    break
        if not pinned:
            raise CaptureError(f"the size in {constraints[0][0].where} {constraints[0][1]}")

    def change(self, constraint: SizeConstraint) -> Change:
        """What must change in the code so that a constraint is met."""
        key = self.expressions.of_features(constraint.origin), self.expressions.of_features(constraint.target)
        return Change(
            constraint.caller,
            constraint.chain,
            constraint.site,
            constraint.origin,
            constraint.target,
            constraint.equal and key[1] != constraint.target,
            (*key, constraint.site is None, constraint.equal),
            equal=constraint.equal,
        )

    def literal(self, constraint: SizeConstraint) -> bool:
        """Whether the size of a constraint stands in the code as a number."""
        return is_literal(self.change(constraint))

    def departures(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Where sizes that are changed leave the arithmetic (`scale = (c // heads) ** -0.5`), they change as well."""
        first = {(change.frame.path, change.seen): change for change in reversed(changes) if change.equal}
        for capture in self.analysis.captures:
            for branch in capture.branches:
                frame = capture.frames[branch.frame]
                like = first.get((frame.path, self.expressions.known(branch.decision.left)))
                if branch.decision.sign is Sign.VALUE and like is not None and isinstance(like.seen, Arithmetic):
                    yield replace(like, frame=frame, chain=branch.chain, site=branch.decision.operand, needed=False)

    def state_attributes(self) -> None:
        """Attributes follow what adapters say they hold, and the dimensions that they are used for as they are."""
        for module, path, dim in self.analysis.attributes:
            self._state((module, path), dim)
        for one in self.constraints:
            if one.equal and isinstance(one.origin, Attribute) and isinstance(one.target, SizeOf):
                self._state((one.origin.module, one.origin.path), one.target.dim)
        self.state_what_decides()

    def state_what_decides(self) -> None:
        """What a class makes attributes of, when it is copied, follows as they do."""
        for (module, path), formula in list(self.formulas.items()):
            if module in self.analysis.modules and not any(isinstance(step, Field) for step in path):
                for other in deciding(self.analysis.modules[module], path):
                    self.formulas.setdefault((module, other), formula)

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

    def invert_expressions(self) -> None:
        """Solve expressions such as `c // heads` for the one attribute in them that nothing states."""
        uses: dict[Attribute, list[SizeConstraint]] = {}
        constraints = [constraint for constraint in self.constraints if constraint.equal]
        for constraint in constraints:
            for leaf in dict.fromkeys((*leaves(constraint.origin), *leaves(constraint.target))):
                if isinstance(leaf, Attribute):
                    uses.setdefault(leaf, []).append(constraint)
        for constraint in constraints:
            if self.met(constraint):
                continue
            for leaf in leaves(constraint.origin):
                if not isinstance(leaf, Attribute) or (leaf.module, leaf.path) in self.formulas:
                    continue
                formula = invert(constraint.origin, leaf, constraint.target)
                if formula is None or leaf in self.expressions.attributes(formula):
                    continue
                if self._pays((leaf.module, leaf.path), formula, constraint, uses[leaf]):
                    self.formulas[leaf.module, leaf.path] = formula
                    break

    def _pays(self, key: Key, formula: Origin, constraint: SizeConstraint, uses: Sequence[SizeConstraint]) -> bool:
        """Whether an attribute that follows a formula meets a constraint, and more of its uses than without it."""
        self.formulas[key] = formula
        after = sum(map(self.met, uses)) if self.met(constraint) else 0
        del self.formulas[key]
        return after > 0 and after > sum(map(self.met, uses))


def _edited(one: SizeConstraint) -> object:
    """The place in the code that a change for a constraint would edit, however often it runs."""
    steps = tuple((id(code), where) for code, where in collapsed(one.chain))
    return one.caller.path, steps, None if one.site is None else one.site[1]
