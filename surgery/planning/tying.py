"""Which groups are to move together: those that a user names, and those that a configuration has one number for."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from torch import Tensor

from surgery.axes import layout
from surgery.axes.formulas import LayoutSize, Origin, Steps, leaves
from surgery.axes.layout import Layout
from surgery.configs.building import built_over, unlike
from surgery.configs.fields import fields
from surgery.configs.fitting import Fit, Unfit
from surgery.configs.kept import config_of
from surgery.configs.voting import Place, Sizes
from surgery.errors import InputError, WidthError, some
from surgery.modules.inputs import Examples
from surgery.modules.plain_data import at, replaced
from surgery.modules.tensors import Parts
from surgery.modules.verify import compare
from surgery.plan.cutting import cut
from surgery.plan.plan import Plan
from surgery.plan.ties import Tie, TieSpec, merged, whole, with_steps
from surgery.twin.install import twin_of
from surgery.twin.setting import at_widths

CONFIG = "config"
SHOWN = 4  # groups named in a note
HALF = Fraction(1, 2)
MOST = 8  # numbers of which three are tried at a time: each trial builds a model on the meta device
INSTEAD = "Name what is to move together instead, by globs, module paths or kinds: tie=['ffn', 'heads']"


def named_ties(plan: Plan, tie: TieSpec) -> list[Tie]:
    """The ties that are asked for by names, globs, module paths and kinds.

    Raises WidthError for a pattern that no group fits, InputError for what is no pattern.
    """
    items = [tie] if isinstance(tie, str) else list(tie) if isinstance(tie, Iterable) else [tie]
    sets = []
    for item in items:
        patterns = _patterns(item)
        try:
            sets.append([name for pattern in patterns for name in plan.find(pattern)])
        except WidthError as error:
            raise WidthError(f"tie: {error}. Groups that are fixed cannot be tied") from error
        if len(set(sets[-1])) == 1 and all(pattern in plan.groups for pattern in patterns):
            raise InputError(
                f"tie: {item!r} is one group, and moves with none. A list within the list is one tie of several: "
                "tie=[['a.o', 'b.o']]"
            )
    return [Tie(names) for names in merged(sets, list(plan.groups))]


def _patterns(item: object) -> list[str]:
    patterns = [item] if isinstance(item, str) else list(item) if isinstance(item, Iterable) else []
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns) or CONFIG in patterns:
        raise InputError(
            "tie is 'config'; a name, glob, module path or kind such as 'ffn'; or a list of these, in which a list of "
            f"several is one tie: ['ffn', ['encoder.*', 'decoder.*']]. Got {item!r}"
        )
    return patterns


def tied(plan: Plan, ties: Sequence[Tie]) -> Plan:
    """A plan with ties, and steps that all groups of one tie can take."""
    return replace(plan, ties=tuple(ties), groups=with_steps(plan.groups, ties))


@dataclass(frozen=True)
class _Move:
    """Some numbers of a configuration, and the groups that are halved with them."""

    paths: tuple[Steps, ...]
    groups: frozenset[str]


@dataclass(frozen=True)
class Sayable:
    """What a configuration can say: groups that move together, and lists of modules that may have any number."""

    ties: Sequence[Tie] = ()
    lists: frozenset[str] = frozenset()


def sayable(parts: Parts, plan: Plan, examples: Examples, lists: frozenset[str]) -> Sayable:
    """The ties under which the class of a model builds every narrower model from a configuration.

    Groups that no number of the configuration moves, or that move no other way than against each other, are in none.
    Of two ways that share a group, that is taken which leaves heads their width. A tie is believed only if a model that
    the class builds from halved numbers gives the outputs of the twin. `lists` of modules that follow by themselves
    need no tie.

    Raises InputError where the model is not built from its configuration, or none of its numbers will do.
    """
    model, name = parts.model, type(parts.model).__name__
    if config_of(model, plan.formulas) is None:
        raise InputError(f"tie='config': {name} is not built as {name}(config) from its attribute `config`. {INSTEAD}")
    try:
        experiment = _Experiment(parts, plan, examples)
        moves = _disjoint(experiment.moves(), plan)
    except Unfit as unfit:
        raise InputError(f"tie='config': {unfit}. {INSTEAD}") from unfit
    if not experiment.holds(moves):
        moves = [move for move in moves if experiment.holds([move])]
        while moves and not experiment.holds(moves):
            moves.pop()
    if not moves and not lists:
        raise InputError(f"tie='config': no numbers of its config make a narrower {name} that says the same. {INSTEAD}")
    ties = [experiment.stepped(move) for move in moves]
    return Sayable([tie for tie in ties if tie is not None], lists)


def tied_by_config(plan: Plan, said: Sayable) -> Plan:
    """A plan with the ties of a configuration. What it cannot say keeps its full width, as a group of one step.

    So does the rest of a tie of which the caller has fixed a part.
    """
    complete = [tie for tie in said.ties if set(tie.groups) <= plan.groups.keys()]
    plan, moving = tied(plan, complete), {*said.lists, *(name for tie in complete for name in tie.groups)}
    kept = [name for name in plan.groups if name not in moving]
    if not kept:
        return plan
    groups = {name: replace(g, granularity=g.size) if name in kept else g for name, g in plan.groups.items()}
    note = f"tie='config': {some(kept, SHOWN)} cannot move by it, and stay full"
    return replace(plan, groups=groups, notes=(*plan.notes, note))


def _disjoint(moves: Sequence[_Move], plan: Plan) -> list[_Move]:
    """Moves that share no group: those that keep the width of heads first, then those of the most work."""

    def rank(move: _Move) -> tuple[bool, int, int]:
        groups = [plan.groups[name] for name in move.groups]
        return any(group.kind == "head_width" for group in groups), -sum(g.macs for g in groups), len(move.paths)

    chosen: list[_Move] = []
    for move in sorted(moves, key=rank):
        if not any(move.groups & other.groups for other in chosen):
            chosen.append(move)
    return chosen


@dataclass
class _Experiment:
    """The class of a model is built with numbers of its configuration halved: which groups are halved by that?"""

    parts: Parts
    plan: Plan
    examples: Examples
    fit: Fit = field(init=False)
    known: dict[Place, Origin] = field(init=False)

    def __post_init__(self) -> None:
        config = config_of(self.parts.model, self.plan.formulas)
        self.fit = Fit(self.parts.model, self.plan.formulas, config)
        self.known = dict(self._known())

    def _known(self) -> Iterator[tuple[Place, Origin]]:
        """What each size of the model is, as a formula over widths."""
        for name, dims in self.plan.layouts.items():
            for i, dim in enumerate(dims):
                yield (name, i), LayoutSize(dim)
        for owner, path, formula in self.plan.formulas:
            yield (owner, path), formula

    def moves(self) -> list[_Move]:
        """One number at a time; then two, and three, that move something else together than parts of them do."""
        absent = [path for path, value in fields(self.fit.config) if value is None]
        self.fit.config, _ = self.fit.told(absent)
        base = self.fit.build(self.fit.config)
        numbers = [path for path, value in fields(self.fit.config) if value is not None and value > 1]
        single = {path: self._sizes([path]) for path in numbers}
        useful = [path for path, sizes in single.items() if sizes is None or self._touches(base, sizes)]
        found = [_Move((path,), groups) for path in useful if (groups := self._halved(single[path]))]
        for several in (2, 3):
            moved = {name for move in found for name in move.groups}
            if several == 3 and (moved >= self.plan.groups.keys() or len(useful) > MOST):
                break
            for paths in itertools.combinations(useful, several):
                groups = self._halved(self._sizes(paths))
                parts = [move.groups for move in found if set(move.paths) < set(paths)]
                if groups and groups != frozenset[str]().union(*parts):
                    found.append(_Move(paths, groups))
        return found

    def tie(self, move: _Move) -> Tie:
        """What a move says, with what its numbers are in the full model."""
        order = list(self.plan.groups)
        names = tuple(sorted(move.groups, key=order.index))
        return Tie(names, exact=True, fields=tuple((path, at(self.fit.config, path)) for path in move.paths))

    def _sizes(self, paths: Sequence[Steps]) -> Sizes | None:
        """The sizes with these numbers halved; None where they are odd, or the class refuses them."""
        config = self.fit.config
        try:
            for path in paths:
                value = at(config, path)
                if value % 2:
                    return None
                config = replaced(config, path, value // 2)
            return self.fit.build(config)
        except Unfit:
            return None

    def _touches(self, base: Sizes, sizes: Sizes) -> bool:
        """Whether sizes that differ are all made of widths."""
        changed = [place for place, size in base.items() if sizes.get(place, size) != size]
        return bool(changed) and all(_groups(self.known[place]) for place in changed if place in self.known)

    def _halved(self, sizes: Sizes | None) -> frozenset[str]:
        """The groups that have half of their width in a model of these sizes, where all others have all of it."""
        if sizes is None:
            return frozenset()
        places = [(self.known[place], size) for place, size in sizes.items() if place in self.known]
        widths: dict[str, int] = {}
        while True:
            before = len(widths)
            for formula, size in places:
                open_ = _groups(formula) - widths.keys()
                if len(open_) == 1:
                    (name,) = open_
                    full = self.plan.groups[name].size
                    options = [widths | {name: width} for width in {full, full // 2} if width]
                    fitting = [option for option in options if self.plan.value(formula, option) == size]
                    if len(fitting) != 1:
                        return frozenset()
                    (widths,) = fitting
            if len(widths) == before:
                break
        every = self.plan.full() | widths
        if any(self.plan.value(formula, every) != size for formula, size in places):
            return frozenset()
        return frozenset(name for name, width in widths.items() if width < self.plan.groups[name].size)

    def holds(self, moves: Sequence[_Move], share: Fraction = HALF) -> bool:
        """Whether the model that the class builds at this share, with the twin's weights, says what the twin says."""
        config, moved = self.fit.config, {name for move in moves for name in move.groups}
        widths = {name: int(size * share) if name in moved else size for name, size in self.plan.full().items()}
        try:
            for path, times in Counter(path for move in moves for path in move.paths).items():
                value = at(config, path) * share**times
                if value.denominator != 1:
                    return False
                config = replaced(config, path, int(value))
            model = self.parts.model
            built = built_over(self.fit.make, config, self._cut(model.state_dict(), widths), model.training)
            if unlike(self._cut(self._computed(), widths), built) is not None:
                return False
            twin = twin_of(self.parts, self.plan, self.examples)
            with at_widths(twin, widths):
                compare(twin, built, self.examples, None, ("the twin", "the model that its config builds"))
        except Exception:  # classes of configurations check themselves wherever they are touched
            return False
        return True

    def stepped(self, move: _Move) -> Tie | None:
        """A tie with the smallest steps at which the class builds what is wanted; None where there are none.

        A class may round what a number says, or change its ways at some size: one step and all but one are tried.
        """
        tie = self.tie(move)
        parts = math.gcd(*(self.plan.groups[name].size for name in tie.groups))
        coarse = math.lcm(*whole(tie, parts))
        for times in (1, 2, 4, 8, 16, 32):
            step = coarse * times
            if parts % step or step >= parts:
                continue
            if all(self.holds([move], Fraction(kept, parts)) for kept in dict.fromkeys((step, parts - step))):
                return replace(tie, step=step)
        return replace(tie, step=parts // 2) if parts % 2 == 0 else None

    def _computed(self) -> dict[str, Tensor]:
        """The buffers that some call has read, as the model has computed them."""
        return {name: tensor for name, tensor in self.parts.model.named_buffers() if name in self.plan.layouts}

    def _cut(self, tensors: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Tensors of the model at these widths, by name."""
        layouts = self.plan.layouts
        return {
            name: cut(tensor, layouts[own], widths) if (own := self.plan.canonical(name)) in layouts else tensor
            for name, tensor in tensors.items()
        }


@functools.lru_cache(maxsize=4096)
def _groups_of(dim: Layout) -> frozenset[str]:
    return frozenset(layout.groups(dim))


def _groups(formula: Origin) -> frozenset[str]:
    found = (_groups_of(leaf.layout) for leaf in leaves(formula) if isinstance(leaf, LayoutSize))
    return frozenset[str]().union(*found)
