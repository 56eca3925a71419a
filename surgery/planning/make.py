"""From a model and example inputs to a finished plan: capture, analyse, solve, name, freeze."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from torch import nn

from surgery.axes.algebra import Axis, pin
from surgery.capture.record import Capture
from surgery.capture.runs import record_runs
from surgery.errors import InputError
from surgery.modules.inputs import Examples
from surgery.modules.tensors import Parts
from surgery.modules.verify import TOLERANCES
from surgery.plan.plan import Plan, per_group
from surgery.planning import trial
from surgery.planning.analysis import Analysis, group_axes, pin_held
from surgery.planning.freeze import Freezer, coarser_dtypes
from surgery.planning.names import axis_names, min_widths
from surgery.planning.repeats import repeats
from surgery.planning.solving.solve import solve
from surgery.planning.supported import check_model
from surgery.planning.unreached import reach
from surgery.planning.unread import pin_constants, pin_unread

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


@fewer_gc_passes()
def make_plan(
    model: nn.Module,
    examples: Examples,
    fixed: Iterable[str] = (),
    only: Iterable[str] = (),
    granularity: int | Mapping[str, int] = 1,
) -> Plan:
    """Find the width groups of a model. The arguments are those of `surgery.wrap`.

    Raises InputError for something that is no plain model, CaptureError where the model does not run on the inputs.
    """
    parts = check_model(model)
    captures, notes = record_runs(parts, examples)
    analysis = analyse(parts, captures)
    reach(analysis)
    pin_unread(analysis)
    pin_constants(analysis)
    solution = solve(analysis)
    notes += _precision(parts, captures)
    names = axis_names(analysis)
    coarse = min_widths(analysis)
    plan = Freezer(analysis, solution, names, coarse, notes).plan()
    known = [run.output for run in captures if not run.training]
    while plan.rewrites and (refused := trial.refused(parts, plan, examples, known)):
        plan = Freezer(analysis, solve(analysis, refused), names, coarse, notes).plan()
    fixed, only = _listed(fixed, "fixed"), _listed(only, "only")
    if fixed or only:
        plan = _restricted(analysis, plan, names, coarse, notes, fixed, only)
    options = {"fixed": fixed, "only": only, "granularity": granularity}
    return replace(_with_granularity(plan, granularity), options=options)


def _listed(patterns: str | Iterable[str], what: str) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str):
            raise InputError(f"{what} takes globs over group names, or module paths, got {pattern!r}")
    return listed


def analyse(parts: Parts, captures: Sequence[Capture]) -> Analysis:
    """Apply the rules to the recorded runs of a model, once where a training run repeats the eval run before it."""
    analysis = Analysis(parts)
    for i, run in enumerate(captures):
        if run.training and repeats(analysis, captures[i - 1], run):
            analysis.captures.append(run)
        else:
            analysis.add(run)
    pin_held(analysis)
    return analysis


def _precision(parts: Parts, captures: Sequence[Capture]) -> tuple[str, ...]:
    """A note where the model computes in a coarser float type than that of its parameters, which bounds any proof."""
    coarse = coarser_dtypes(parts, captures)
    if not coarse:
        return ()
    allowed = max(TOLERANCES[dtype] for dtype in coarse)
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in coarse))
    return (f"it computes partly in {names}: proofs allow a difference of {allowed:.0e} of the output's scale",)


def _restricted(
    analysis: Analysis,
    plan: Plan,
    names: dict[Axis, str],
    coarse: dict[Axis, int],
    notes: tuple[str, ...],
    fixed: Sequence[str],
    only: Sequence[str],
) -> Plan:
    """The plan when the caller keeps some groups fixed."""
    kept = {name for pattern in fixed for name in plan.find(pattern)}
    if only:
        kept |= set(plan.groups) - {name for pattern in only for name in plan.find(pattern)}
    for axis in group_axes(analysis):
        if names[axis] in kept:
            pin((axis,), "kept fixed by the caller")
    return Freezer(analysis, solve(analysis), names, coarse, notes).plan()


def _with_granularity(plan: Plan, granularity: int | Mapping[str, int]) -> Plan:
    groups = dict(plan.groups)
    for name, value in per_group(plan, "granularity", granularity).items():
        groups[name] = replace(groups[name], granularity=math.lcm(groups[name].granularity, value))
    return replace(plan, groups=groups)
