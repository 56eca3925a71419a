"""From a model and example inputs to a finished plan: capture, analyse, solve, name, freeze."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from surgery.axes.algebra import Axis, pin, unify
from surgery.axes.formulas import Origin
from surgery.capture.record import Capture
from surgery.capture.runs import record_runs
from surgery.errors import CaptureError, InputError
from surgery.modules.caches import without_caches
from surgery.modules.inputs import Batches, Examples, Inputs, runs
from surgery.modules.outputs import Outputs
from surgery.modules.tensors import Parts
from surgery.modules.verify import TOLERANCES
from surgery.plan.plan import Plan
from surgery.plan.selecting import Patterns, covers, patterns_of
from surgery.plan.ties import TieSpec
from surgery.planning import rehearsal
from surgery.planning.analysis import Analysis, group_axes, pin_held
from surgery.planning.carried import unify_carried
from surgery.planning.coarse import with_granularity
from surgery.planning.experts.frozen import with_experts
from surgery.planning.experts.routers import candidates
from surgery.planning.experts.settled import available, join, settle
from surgery.planning.experts.told import told
from surgery.planning.followed import follows
from surgery.planning.freeze import Freezer, coarser_dtypes
from surgery.planning.listed.frozen import with_modules
from surgery.planning.listed.lists import Lists, find_lists
from surgery.planning.names import axis_names, min_widths
from surgery.planning.repeats import repeats
from surgery.planning.silent import read_silently
from surgery.planning.solving.expressions import Key
from surgery.planning.solving.solve import Solution, solve
from surgery.planning.supported import check_model
from surgery.planning.tying import CONFIG, Sayable, named_ties, sayable, tied, tied_by_config
from surgery.planning.unreached import reach
from surgery.planning.unread import pin_constants, pin_unread, unread_integers

WORTH = 0.5  # of what is elastic, a plan for inputs of other lengths as well may cost the rest
ROUNDS = 20  # of a rehearsal beyond one for each group and forward: larger steps take a few
OFTEN = 50_000  # objects more than were freed: by default torch and its friends are searched again at each 700th


@contextlib.contextmanager
def fewer_gc_passes() -> Iterator[None]:
    """Search for cycles less often inside.

    Planning keeps most of the small objects that it makes until it ends. Searching all that Python holds for cycles
    among them again and again takes up to a third of its time.
    """
    first, *others = gc.get_threshold()
    if not 0 < first < OFTEN:  # switched off, or few already
        yield
        return
    gc.set_threshold(OFTEN, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


@dataclass(frozen=True)
class Asked:
    """What is asked for, as in `surgery.wrap`."""

    rehearse: bool
    outputs: Outputs
    depth: bool | list[str]
    experts: bool | list[str]


@fewer_gc_passes()
def make_plan(
    model: nn.Module,
    examples: Examples,
    fixed: Iterable[str] = (),
    only: Iterable[str] = (),
    granularity: int | Mapping[str, int] = 1,
    rehearse: bool = True,
    tie: TieSpec = (),
    outputs: Outputs = (),
    depth: Patterns = False,
    experts: Patterns = False,
) -> Plan:
    """Find the width groups of a model. The arguments are those of `surgery.wrap`.

    Raises InputError for something that is no plain model, CaptureError where the model does not run on the inputs.
    """
    parts, caches = without_caches(check_model(model), examples)
    asked = Asked(rehearse, outputs, patterns_of(depth, "depth"), patterns_of(experts, "experts"))
    draft, plan = _drafted(parts, examples, asked)
    if rehearse and plan.rewrites:
        other = rehearsal.other_inputs(parts, plan, examples)
        if other is not None:  # code with sizes in it has seen too few of them
            wider = _drafted(parts, examples, asked, other)
            if wider[1].elastic_share >= WORTH * plan.elastic_share:  # else other inputs get an error that helps
                draft, plan = wider
    fixed, only = _listed(fixed, "fixed"), _listed(only, "only")
    said = Sayable()
    if tie == CONFIG:
        lists = frozenset(follows(parts, with_granularity(plan, granularity), examples))
        said = sayable(parts, plan, examples, lists)
    if fixed or only:
        plan = draft.restricted(plan, fixed, only)
    options: dict[str, object] = {"fixed": fixed, "only": only, "granularity": granularity}
    if not rehearse:
        options["rehearse"] = False
    if plan.outputs:
        options["outputs"] = list(plan.outputs)
    options |= {key: value for key, value in (("depth", asked.depth), ("experts", asked.experts)) if value}
    plan = replace(with_granularity(plan, granularity), options=options, caches=caches)
    plan = plan.ordered(depth) if isinstance(depth, Mapping) else plan
    return tied_by_config(plan, said) if tie == CONFIG else tied(plan, named_ties(plan, tie))


def _drafted(parts: Parts, examples: Examples, asked: Asked, other: Inputs | None = None) -> tuple[_Draft, Plan]:
    """The plan of what runs on these inputs show, and on an `other` one, and what it is made from."""
    captures, notes = record_runs(parts, examples, asked.outputs)
    more = [] if other is None else record_runs(parts, other, asked.outputs)[0]
    lists = find_lists(parts, captures, examples, asked.depth, asked.experts)
    sizes = candidates(parts.modules, captures) if asked.experts else frozenset()
    analysis = analyse(parts, captures, [*more, *lists.runs()], sizes)
    examples = examples if other is None else Batches((*runs(examples), other))
    reach(analysis)
    join(analysis)
    pin_unread(analysis)
    pin_constants(analysis)
    if asked.experts:
        notes += settle(analysis, examples, None if asked.experts is True else asked.experts, lists.patterns)
        lists.claim(listed.path for one in analysis.experts.values() for listed in one.lists)
    solution = _solved(analysis, examples)
    notes = (*notes, *_precision(parts, captures), *unread_integers(analysis))
    draft = _Draft(analysis, examples, axis_names(analysis), min_widths(analysis), notes, lists, told(analysis))
    if not asked.experts:
        lists.available += tuple(available(analysis))
    return draft, _rehearsed(draft, draft.plan(solution), all_widths=asked.rehearse)


def _solved(analysis: Analysis, examples: Examples, refused: Mapping[str, str] = MappingProxyType({})) -> Solution:
    """What solves, once every attribute that seems to be unread has been tried."""
    while True:
        solution = solve(analysis, refused)
        untried = sorted(solution.unread - analysis.tried, key=str)
        found = read_silently(analysis.parts, examples, _outputs(analysis, examples), untried)
        analysis.tried.update(untried)
        analysis.read |= found
        if not found:
            return solution


def _outputs(analysis: Analysis, examples: Examples) -> list[Any]:
    """What the recorded model returned for each of the examples."""
    return [run.output for run in analysis.captures if not run.training][: len(runs(examples))]


def _rehearsed(draft: _Draft, plan: Plan, all_widths: bool) -> Plan:
    """The plan without what does not hold when its twin runs."""
    analysis, examples = draft.analysis, draft.examples
    known = _outputs(analysis, examples)
    training = any(run.training for run in analysis.captures)
    rounds = len(plan.groups) + len(plan.rewrites) + ROUNDS
    while plan.groups and (all_widths or plan.rewrites):
        refused = rehearsal.rehearse(analysis.parts, plan, examples, known, training, all_widths)
        if not refused:
            break
        rounds -= 1
        if not rounds:
            raise CaptureError(f"no plan of {plan.model} comes out right in a rehearsal: {refused}")
        draft.forwards.update(refused.forwards)
        draft.give_up(refused.groups, refused.steps)
        plan = draft.plan(draft.solved())
    return plan


@dataclass(frozen=True)
class _Draft:
    """A plan while it is mended.

    It has axes, their names, those of at least two units, notes, lists of modules, formulas that a configuration has
    told, and refused `forwards`.
    """

    analysis: Analysis
    examples: Examples
    names: dict[Axis, str]
    coarse: dict[Axis, int]
    notes: tuple[str, ...]
    lists: Lists
    told: Mapping[Key, Origin]
    forwards: dict[str, str] = field(default_factory=dict)

    def solved(self) -> Solution:
        return _solved(self.analysis, self.examples, self.forwards)

    def plan(self, solution: Solution) -> Plan:
        lists = self.lists
        for key, origin in self.told.items():
            solution.formulas.setdefault(key, origin)
        plan = Freezer(self.analysis, solution, self.names, self.coarse, (*self.notes, *lists.notes)).plan()
        plan = with_experts(replace(plan, available=lists.available), self.analysis, self.names)
        return with_modules(plan, lists.found, self.analysis.workers, lists.steps)

    def give_up(self, groups: Mapping[str, str], steps: Mapping[str, int]) -> None:
        """Pin groups, each for its reason; two of one size are made one instead. Others go in larger `steps`."""
        self.coarse.update({axis: steps[name] for axis, name in self.names.items() if name in steps})
        self.lists.give_up(groups, steps)
        axes = [axis for axis in group_axes(self.analysis) if self.names[axis] in groups]
        if len(axes) == 2 and axes[0].size == axes[1].size:
            unify((axes[0],), (axes[1],), f"a rehearsal ({next(iter(groups.values()))})")
            return
        for axis in axes:
            pin((axis,), groups[self.names[axis]])

    def restricted(self, plan: Plan, fixed: Sequence[str], only: Sequence[str]) -> Plan:
        """The plan when the caller keeps some groups fixed."""
        kept = {name for pattern in fixed if not self.rests(plan, pattern) for name in plan.find(pattern)}
        if only:
            kept |= set(plan.groups) - {name for pattern in only for name in plan.find(pattern)}
        for axis in group_axes(self.analysis):
            if self.names[axis] in kept:
                pin((axis,), "kept fixed by the caller")
        self.lists.found = [one for one in self.lists.found if one.name not in kept]
        return self.plan(self.solved())

    def rests(self, plan: Plan, pattern: str) -> bool:
        """Whether a pattern names parts of the model that are fixed in any case."""
        inside = [name for name in plan.parameters if covers(pattern, name)]
        lists = any(covers(pattern, listed.child("0")) for group in plan.groups.values() for listed in group.lists)
        cut = any(tensor in inside for group in plan.groups.values() for tensor, _ in group.cuts)
        return bool(inside) and not cut and not lists


def _listed(patterns: str | Iterable[str], what: str) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str):
            raise InputError(f"{what} takes globs over group names, or module paths, got {pattern!r}")
    return listed


def analyse(
    parts: Parts,
    captures: Sequence[Capture],
    more: Sequence[Capture] = (),
    candidates: frozenset[int] = frozenset(),
) -> Analysis:
    """Apply the rules to the recorded runs of a model, once where a training run repeats the eval run before it.

    What `more` runs do is no work that counts: they are of other inputs than the examples. Dimensions of `candidates`
    sizes are left open where their order seems to be read.
    """
    analysis = Analysis(parts, candidates=candidates)
    _add(analysis, captures)
    with analysis.uncounted():
        _add(analysis, more)
    unify_carried(analysis)
    pin_held(analysis)
    return analysis


def _add(analysis: Analysis, captures: Sequence[Capture]) -> None:
    for i, run in enumerate(captures):
        alike = run.training and captures[i - 1].root.names == run.root.names  # the same parts of it count
        if alike and repeats(analysis, captures[i - 1], run):
            analysis.captures.append(run)
        else:
            analysis.add(run)


def _precision(parts: Parts, captures: Sequence[Capture]) -> tuple[str, ...]:
    """A note where the model computes in a coarser float type than that of its parameters, which bounds any proof."""
    coarse = coarser_dtypes(parts, captures)
    if not coarse:
        return ()
    allowed = max(TOLERANCES[dtype] for dtype in coarse)
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in coarse))
    return (f"it computes partly in {names}: proofs allow a difference of {allowed:.0e} of the output's scale",)
