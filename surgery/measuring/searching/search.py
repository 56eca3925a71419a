"""Per-axis widths: for each budget a model no worse than the uniform one, each a slice of the one before."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from torch import nn

from surgery.curves.curve import Curve
from surgery.curves.points import AnyPath, Point
from surgery.errors import InputError
from surgery.measuring.adaptive import fractions
from surgery.measuring.evaluate import Evaluator, captured, opened
from surgery.measuring.ledger import header
from surgery.measuring.options import Options
from surgery.measuring.ranks import Ranks
from surgery.measuring.rows import Row, listed
from surgery.measuring.scoring import Validate, check_validate
from surgery.measuring.searching.budget import Budget, BudgetSpec, budgets, largest
from surgery.measuring.searching.candidates import cut_alone, knapsacks
from surgery.measuring.searching.chain import SearchState
from surgery.measuring.searching.choices import Allowed, allowed
from surgery.measuring.searching.local_search import exchange
from surgery.measuring.sweep import warned
from surgery.modules.inputs import Examples
from surgery.modules.labelled import Batch
from surgery.plan.plan import Plan
from surgery.plan.widths import check_multiple
from surgery.twin.elastic import state_of
from surgery.twin.statistics import Recalibrate

BUDGETS = (0.5, 0.3, 0.2, 0.1)


def search(
    wrapped: nn.Module,
    validate: Validate,
    budgets: Iterable[BudgetSpec] = BUDGETS,
    *,
    evaluations: int = 100,
    multiple: int = 1,
    examples: Examples | None = None,
    measure_latency: bool = True,
    recalibrate: Recalibrate = None,
    executor: Executor | Ranks | None = None,
    resume: AnyPath | None = None,
    progress: bool = True,
    refit: Iterable[Batch] | None = None,
) -> Curve:
    """For each budget the widths of every axis, found by real evaluation: a curve whose points are a nested chain.

    Each point is a slice of the one before it, and its score is never below that of the largest uniform model within
    its budget (`curve.uniform`), on the data that `validate` uses. First each axis is cut alone; a knapsack over what
    that loses and what widths cost gives candidates, which are evaluated together with the uniform models; then widths
    are exchanged between axes, as long as evaluations are left and the chain gets better. There is no randomness; where
    latency is limited, measured times decide.

    Args:
        budgets: a float is a share of the full model's MACs; a mapping has one or more of `max_params`, `max_bytes`,
            `max_macs`, `max_latency`, as for `Curve.choose`, and all of them hold. The largest comes first. A share may
            be written as `"50%"`, that of the full model's time must be.
        evaluations: how often `validate` is called at most. Deep models are searched in blocks of axes that move
            together, as many as this allows.
        multiple: widths are multiples of this, as hardware likes, where a group is not smaller.
        validate, examples, measure_latency, recalibrate, executor, resume, progress, refit: as for `surgery.sweep`.
            Latency is measured for every candidate only where a budget limits it.

    Raises:
        WidthError: a budget that no uniform model fits.
        InputError: a budget cannot be read, or `evaluations` does not even do for the uniform models.
        SweepError, FileError: as `surgery.sweep` does.
    """
    check_validate("search", validate)
    check_multiple(multiple)
    given = listed("search", "budgets", budgets, "(0.5, 0.25)")
    plan = captured(wrapped, examples)
    wanted = _budgets(plan, given)
    if isinstance(evaluations, bool) or not isinstance(evaluations, int) or evaluations < len(wanted) + 1:
        least = len(wanted) + 1
        raise InputError(
            f"search: evaluations={evaluations}, but the full and uniform models are {least}: give at least {least}"
        )
    timed = any(budget.timed for budget in wanted)
    options = Options(examples, measure_latency or timed, recalibrate, executor, resume, progress, multiple, refit)
    with opened("search", wrapped, validate, options, total=evaluations, each=timed) as evaluate:
        widths = functools.partial(allowed, plan, multiple=multiple, minimum=state_of(wrapped).minimum)
        if any(isinstance(item.given, str) for budget in wanted for item in budget.bounds if item.measure == "latency"):
            wanted = _budgets(plan, given, evaluate.seconds(plan.full()))
        chain, uniform = _searched(evaluate, wanted, evaluations, widths)
        return warned(_curve(evaluate, chain, uniform, timed))


def _budgets(plan: Plan, given: Iterable[BudgetSpec], seconds: float = 1.0) -> list[Budget]:
    """The budgets of a search. Before anything has run, shares of time are read as if the full model took a second."""
    costs = plan.cost_model.at(plan.full())
    full = Point(plan.full(), 0.0, costs.params, costs.bytes, costs.macs, latency=seconds)
    return budgets(replace(header(plan), base=full), given)


def _searched(
    evaluate: Evaluator, wanted: Sequence[Budget], evaluations: int, widths: Allowed
) -> tuple[list[Point], list[Point]]:
    """The chain and the uniform models, from large budgets to small ones."""
    plan = evaluate.plan
    priced, full, grid = plan.cost_model, plan.full(), fractions(plan, 1e-9)
    pairs = [(largest(budget, grid, widths, priced, evaluate.seconds), budget) for budget in wanted]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [Row(full, 1.0), *(Row(widths(fraction), fraction) for fraction, _ in pairs)]
    base, *uniform = evaluate(rows)
    left = evaluations - len({tuple(row.widths.values()) for row in rows})
    task = SearchState(evaluate, [budget for _, budget in pairs], uniform, priced, priced.row(full), base, left)
    task.points += [base, *uniform]
    found = cut_alone(task, plan, widths)
    if found:
        knapsacks(task, found)
        exchange(task, found)
    return task.chain(), uniform


def _curve(evaluate: Evaluator, chain: Sequence[Point], uniform: Sequence[Point], timed: bool) -> Curve:
    """The result. Times that a budget limits stay those that were decided on."""
    plan, multiple = evaluate.plan, evaluate.multiple
    uniform = [point if _is_uniform(plan, point, multiple) else replace(point, fraction=None) for point in uniform]
    asked = {tuple(point.widths.values()): point.fraction for point in uniform}
    named = [replace(point, fraction=asked.get(tuple(point.widths.values()))) for point in chain]
    count = len(evaluate.asked)
    base = Row(plan.full(), 1.0)
    evaluate.timings([*named, *uniform, base])
    note = f"Searched with {count} evaluations; `uniform` is the largest uniform model within the same budget."
    limited = [evaluate.ledger.curve(map(evaluate.point, points)) for points in (named, uniform)]
    curve, compared = limited if timed else map(evaluate.settled, (named, uniform))
    return replace(curve, uniform=compared.points, notes=(note,), base=evaluate.point(base))


def _is_uniform(plan: Plan, point: Point, multiple: int) -> bool:
    """Whether the fraction alone makes this model: a `minimum` may have made it wider."""
    return point.fraction is not None and plan.widths(point.fraction, multiple) == point.widths
