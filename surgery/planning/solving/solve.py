"""Which integers must change with the widths, and how.

Every size that a recorded call was given must equal the width of some dimension, at every width. Where the integer came
from an attribute, a formula for the attribute is found. Where no attribute can carry it, the forward that contains the
call is rewritten (`surgery.rewrite`). Where that cannot be done either, the axes are pinned, with the line as the
reason. Everything found is checked at several sample widths before it is believed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from surgery.axes.algebra import Dim, axes_of, extent, pin, resolve, unify
from surgery.axes.formulas import Arithmetic, Attribute, Origin, SizeOf, invert, is_untracked, leaves
from surgery.axes.samples import Samples, beyond, many, sampled
from surgery.axes.sizes import Sign
from surgery.errors import CaptureError
from surgery.plan.groups import Rewrite
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.solving.constraints import Need, both_ways, needs_of, turns
from surgery.planning.solving.expressions import Expressions, Key
from surgery.planning.solving.rewrites import Blocked, Change, is_literal, plan_rewrites
from surgery.planning.solving.untracked import pin_untracked


@dataclass
class Solution:
    """Formulas for attributes, and the forwards that must be rewritten."""

    formulas: dict[Key, Origin] = field(default_factory=dict)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def solve(analysis: Analysis, refused: Mapping[str, str] = MappingProxyType({})) -> Solution:
    """Formulas and rewrites for everything in the recorded runs that must follow the widths. May pin axes.

    `refused` are the paths of modules that cannot do with another forward, and why.
    """
    while True:
        solver = _Solver(analysis)
        unmet = solver.unmet()
        given_up = [(need, refused[need.frame.path or ""]) for need in unmet if need.frame.path in refused]
        both = both_ways(analysis.captures) if any(not need.equal for need in unmet) else set()
        given_up += [
            (need, "cannot follow: the same code compares several sizes")
            for need in unmet
            if not need.equal and need.place in both
        ]
        given_up += [
            (need, "cannot follow: a cache has kept it from an earlier run")
            for need in unmet
            if is_untracked(need.origin)
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
        if pin_untracked(solver.expressions, solver.but(unmet), solver.literal):
            continue
        held = {need.place for need in unmet if not need.equal}
        return Solution(solver.formulas, rewrites, tuple(turns(solver.expressions, solver.samples, held)))


class _Solver:
    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.expressions = Expressions(analysis)
        self.formulas = self.expressions.formulas
        self.needs = needs_of(self.expressions)
        self._fixed_by_layers()
        self._fixed_by_uses()
        axes = group_axes(analysis)
        self.samples, self.beyond = sampled(axes), beyond(axes)
        self._inverted()

    def met(self, need: Need) -> bool:
        """Whether a need holds at every width, from those where it can fail: without divisions, beyond any model's."""
        sides = (need.origin, need.target)
        if not need.equal:
            return not self._may_meet(*sides)
        if is_untracked(need.origin):
            return not self.expressions.features_in(need.target)
        left, right = map(self.expressions.width, sides)
        if left is not None and left == right:  # one dimension has one width, and most needs are as plain as that
            return True
        if not any(map(self.expressions.divides, sides)):
            return self._agree(need, self.beyond)
        return self._agree(need, self.samples) and self._agree(need, many(self.expressions.axes(sides)))

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

    def _agree(self, need: Need, points: Samples) -> bool:
        try:
            return self.expressions.values(need.origin, points) == self.expressions.values(need.target, points)
        except ArithmeticError:
            return False

    def unmet(self) -> list[Need]:
        return [need for need in self.needs if not self.met(need)]

    def but(self, needs: Sequence[Need]) -> list[Need]:
        """All other needs."""
        known = set(map(id, needs))
        return [need for need in self.needs if id(need) not in known]

    def give_up(self, needs: Sequence[tuple[Need, str]]) -> None:
        """Pin what needs are about: the target, or where that is fixed already, what the code computes from."""
        pinned = False
        for need, why in needs:
            for side in (need.target, need.origin):
                axes = [axis for dim in self.expressions.dims(side) for axis in axes_of(dim) if not axis.pin]
                for axis in axes:
                    pin((axis,), f"the size in {need.where} {why}")
                if axes:
                    pinned = True
                    break
        if not pinned:
            raise CaptureError(f"the size in {needs[0][0].where} {needs[0][1]}")

    def change(self, need: Need) -> Change:
        """What must change in the code so that a need is met."""
        key = self.expressions.of_features(need.origin), self.expressions.of_features(need.target)
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

    def literal(self, need: Need) -> bool:
        """Whether the size of a need stands in the code as a number."""
        return is_literal(self.change(need))

    def departures(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Where sizes that are changed leave the arithmetic (`scale = (c // heads) ** -0.5`), they change as well."""
        first = {(change.frame.path, change.seen): change for change in reversed(changes) if change.equal}
        for capture in self.analysis.captures:
            for branch in capture.branches:
                frame = capture.frames[branch.frame]
                like = first.get((frame.path, self.expressions.known(branch.decision.left)))
                if branch.decision.sign is Sign.VALUE and like is not None and isinstance(like.seen, Arithmetic):
                    yield replace(like, frame=frame, chain=branch.chain, site=branch.decision.operand, needed=False)

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
                formula = invert(need.origin, leaf, need.target)
                if formula is None or leaf in self.expressions.attributes(formula):
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
