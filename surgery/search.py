"""Per-axis widths: for each budget a model no worse than the uniform one, each a slice of the one before."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from os import PathLike

import torch
from torch import Tensor, nn

from surgery.adaptive import fractions
from surgery.budget import Budget, budgets, largest
from surgery.bundles import bundles
from surgery.chain import best_chain
from surgery.curve import Curve, Point
from surgery.elastic import state_of
from surgery.errors import InputError
from surgery.evaluate import Evaluator, Row, Validate, captured, opened
from surgery.inputs import Examples
from surgery.knapsack import Load, knapsack
from surgery.ladder import Ladder, allowed, ladders
from surgery.ledger import header
from surgery.moves import Guess, proposals
from surgery.plan import Plan
from surgery.pricing import Prices, prices
from surgery.sensitivity import CUTS, Sensitivity, alone, collected
from surgery.sweep import warned

BUDGETS = (0.5, 0.3, 0.2, 0.1)
NEAR = (0.0, 0.05, 0.2, 1.0)  # how much it counts to stay near uniform widths, relative to the predicted loss
PATIENCE = 10  # rounds of moves for a budget without a better chain, before it is left alone
KEPT = 40  # candidates of a budget that a chain is made of


def search(
    wrapped: nn.Module,
    validate: Validate,
    budgets: Iterable[float | Mapping[str, float]] = BUDGETS,
    *,
    evaluations: int = 100,
    multiple: int = 1,
    examples: Examples | None = None,
    measure_latency: bool = True,
    recalibrate: Iterable[Examples] | None = None,
    executor: Executor | None = None,
    resume: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Curve:
    """For each budget the widths of every axis, found by real evaluation: a curve whose points are a nested chain.

    Each point is a slice of the one before it, and its score is never below that of the largest uniform model within
    its budget (`curve.uniform`), on the data that `validate` uses. First each axis is cut alone; a knapsack over what
    that loses and what widths cost gives candidates, which are evaluated together with the uniform models; then widths
    are exchanged between axes, as long as evaluations are left and the chain gets better. There is no randomness; where
    latency is limited, measured times decide.

    Args:
        budgets: a float is a share of the full model's MACs; a mapping has one or more of `max_params`, `max_bytes`,
            `max_macs`, `max_latency`, as for `Curve.choose`, and all of them hold. The largest comes first.
        evaluations: how often `validate` is called at most. Deep models are searched in bundles of axes that move
            together, as many as this allows.
        multiple: widths are multiples of this, as hardware likes, where a group is not smaller.
        validate, examples, measure_latency, recalibrate, executor, resume, progress: as for `surgery.sweep`. Latency is
            measured for every candidate only where a budget limits it.

    Raises:
        WidthError: a budget that no uniform model fits.
        InputError: a budget cannot be read, or `evaluations` does not even do for the uniform models.
        SweepError, FileError: as `surgery.sweep` does.
    """
    plan = captured(wrapped, examples)
    wanted = _budgets(plan, budgets)
    if evaluations < len(wanted) + 1:
        raise InputError(f"search: evaluations={evaluations}, but the full and uniform models are {len(wanted) + 1}")
    timed = any(budget.timed for budget in wanted)
    with opened(
        "search",
        wrapped,
        validate,
        examples=examples,
        measure_latency=measure_latency or timed,
        recalibrate=recalibrate,
        executor=executor,
        resume=resume,
        progress=progress,
        total=evaluations,
    ) as evaluate:
        inputs, evaluate.timed = evaluate.timed, evaluate.timed if timed else None
        chain, uniform = _searched(evaluate, wanted, evaluations, multiple)
        evaluate.timed = inputs
        return warned(_curve(evaluate, chain, uniform, timed))


def _budgets(plan: Plan, given: Iterable[float | Mapping[str, float]]) -> list[Budget]:
    return budgets(header(plan), given)


@dataclass
class Task:
    """What a search knows: the budgets, the uniform models, what widths cost, and the points so far."""

    evaluate: Evaluator
    budgets: Sequence[Budget]
    uniform: Sequence[Point]
    prices: Prices
    sizes: Tensor
    base: Point
    left: int
    points: list[Point] = field(default_factory=list)

    def add(self, rows: Iterable[Tensor | Row]) -> int:
        """Evaluate models that are new, as many as are left; how many they were."""
        known = {tuple(point.widths.values()) for point in self.points}
        asked = [row if isinstance(row, Row) else Row(self.prices.named(row)) for row in rows]
        new = list({key: row for row in asked if (key := tuple(row.widths.values())) not in known}.values())
        new = new[: self.left]
        self.left -= len(new)
        self.points += self.evaluate(new)
        return len(new)

    def candidates(self, number: int) -> list[Point]:
        """The points that a budget may choose: those that fit and are not worse than uniform, the best first."""
        budget, uniform = self.budgets[number], self.uniform[number]
        found = [p for p in self.points if p.score >= uniform.score and budget.fits(p) and p.widths != uniform.widths]
        return [uniform, *sorted(found, key=lambda p: (-p.score, p.params))[:KEPT]]

    def chain(self) -> list[Point]:
        return best_chain([self.candidates(number) for number in range(len(self.budgets))])


def _searched(
    evaluate: Evaluator, wanted: Sequence[Budget], evaluations: int, multiple: int
) -> tuple[list[Point], list[Point]]:
    """The chain and the uniform models, from large budgets to small ones."""
    plan, minimum = evaluate.plan, state_of(evaluate.wrapped).minimum
    priced, full = prices(plan), plan.full()
    grid = fractions(plan, 1e-9)

    widths = functools.partial(allowed, plan, multiple=multiple, minimum=minimum)
    pairs = [(largest(budget, grid, widths, priced, evaluate.seconds), budget) for budget in wanted]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [Row(full, 1.0), *(Row(widths(fraction), fraction) for fraction, _ in pairs)]
    base, *uniform = evaluate(rows)
    left = evaluations - len({tuple(row.widths.values()) for row in rows})
    task = Task(evaluate, [budget for _, budget in pairs], uniform, priced, priced.row(full), base, left)
    task.points += [base, *uniform]
    found = _alone(task, plan, multiple, minimum)
    if found:
        _knapsacks(task, found)
        _exchange(task, found)
    return task.chain(), uniform


def _alone(task: Task, plan: Plan, multiple: int, minimum: Mapping[str, int]) -> list[Ladder]:
    """Cut each axis alone, for at most half of the evaluations: what its widths are predicted to lose."""
    room = task.left // 2
    if not room:
        return []
    count = max(1, min(len(CUTS), room // len(plan.groups)))
    axes = bundles(plan, max(1, room // count))
    widths = functools.partial(allowed, plan, multiple=multiple, minimum=minimum)
    cuts = alone(plan, axes, CUTS[:count] if count > 1 else (0.25,), widths)
    task.add(row for rows in cuts.values() for row in rows)
    points = task.evaluate([row for rows in cuts.values() for row in rows])
    found: Sensitivity = collected(task.evaluate.ledger.curve([task.base, *points]), cuts)
    return ladders(plan, axes, multiple, minimum, found)


def _knapsacks(task: Task, axes: Sequence[Ladder]) -> None:
    """Evaluate the chains of small predicted loss: the smallest, and smaller ones nearer to uniform widths."""
    rows: list[Tensor] = []
    for near in NEAR:
        levels = [0] * len(axes)
        for budget, uniform in zip(task.budgets, task.uniform, strict=True):
            levels = knapsack(_losses(task, axes, uniform, near), _load(task, axes, budget, uniform), levels)
            row = _row(task, axes, torch.tensor([levels]))
            if float(budget.load(task.prices(row))[0]) <= 1:
                rows.append(row[0])
    task.add(rows[: max(1, task.left // 2)])


def _losses(task: Task, axes: Sequence[Ladder], uniform: Point, near: float) -> list[Tensor]:
    """The predicted losses, and how far widths are from uniform ones, squared in octaves."""
    row = task.prices.row(uniform.widths)
    shares = [axis.share(row, task.sizes) for axis in axes]
    usual = max(1e-6, sum(axis.loss(share) for axis, share in zip(axes, shares, strict=True)) / len(axes))
    return [a.losses + near * usual * (a.shares / share).log2().square() for a, share in zip(axes, shares, strict=True)]


def _row(task: Task, axes: Sequence[Ladder], levels: Tensor) -> Tensor:
    """(B, groups) the widths of (B, axes) levels."""
    rows = task.sizes.repeat(len(levels), 1)
    for number, axis in enumerate(axes):
        rows[:, axis.columns] = axis.rungs[levels[:, number]]
    return rows


def _load(task: Task, axes: Sequence[Ladder], budget: Budget, uniform: Point) -> Load:
    """What share of a budget levels take. Times are predicted as factors, and agree at the uniform model."""
    row = task.prices.row(uniform.widths)
    shares = [axis.share(row, task.sizes) for axis in axes]
    nearest = torch.tensor([int((a.shares - share).abs().argmin()) for a, share in zip(axes, shares, strict=True)])

    def factor(levels: Tensor) -> Tensor:
        return torch.stack([axis.times[levels[:, number]] for number, axis in enumerate(axes)]).prod(0)

    scale = (uniform.latency or 0.0) / factor(nearest[None])

    def load(levels: Tensor) -> Tensor:
        seconds = scale * factor(levels) if budget.timed else None
        return budget.load(task.prices(_row(task, axes, levels)), seconds)

    return load


def _exchange(task: Task, axes: Sequence[Ladder]) -> None:
    """Evaluate moves from the best chain, one for each budget at a time, until none makes it better."""
    waited = [0] * len(task.budgets)
    chain = task.chain()
    while task.left > 0 and min(waited) < PATIENCE:
        rows: list[Tensor] = []
        known = {tuple(point.widths.values()) for point in task.points}
        for number, budget in enumerate(task.budgets):
            if waited[number] < PATIENCE:
                found = _proposal(task, axes, chain, number, budget, known)
                waited[number] = waited[number] + 1 if found is not None else PATIENCE
                rows += [found] if found is not None else []
                known |= {tuple(found.tolist())} if found is not None else set()
        task.add(rows)
        after = task.chain()
        for number, (old, new) in enumerate(zip(chain, after, strict=True)):
            if new.widths != old.widths:
                waited = [0 if abs(number - other) <= 1 else turns for other, turns in enumerate(waited)]
        chain = after


def _proposal(
    task: Task,
    axes: Sequence[Ladder],
    chain: Sequence[Point],
    number: int,
    budget: Budget,
    known: set[tuple[int, ...]],
) -> Tensor | None:
    """The most promising new model of a budget: a slice of the chain's larger one, with its smaller one in it."""
    row = task.prices.row
    here = row(chain[number].widths)
    upper = row(chain[number - 1].widths) if number else task.sizes
    lower = row(chain[number + 1].widths) if number + 1 < len(chain) else torch.ones_like(here)
    trial = proposals(axes, here, lower, upper)
    best = task.candidates(number)[1:2]  # the best of all may not be nested: what of it is in the larger model is
    trial = torch.cat([trial, *(torch.minimum(row(point.widths), upper)[None] for point in best)])
    trial = trial[budget.load(task.prices(trial)) <= 1]
    new = [index for index, widths in enumerate(trial.tolist()) if tuple(widths) not in known]
    if not new:
        return None
    guess = Guess.from_points(axes, chain[number], here, [(row(p.widths), p.score) for p in task.points], task.sizes)
    return trial[new][int(guess(trial[new]).argmax())]


def _curve(evaluate: Evaluator, chain: Sequence[Point], uniform: Sequence[Point], timed: bool) -> Curve:
    """The result. Times that a budget limits stay those that were decided on."""
    asked = {tuple(point.widths.values()): point.fraction for point in uniform}
    named = [replace(point, fraction=asked.get(tuple(point.widths.values()))) for point in chain]
    count = len(evaluate.asked)
    evaluate.timings([*named, *uniform])
    note = f"Searched with {count} evaluations; `uniform` is the largest uniform model within the same budget."
    limited = [evaluate.ledger.curve(map(evaluate.point, points)) for points in (named, uniform)]
    curve, compared = limited if timed else map(evaluate.settled, (named, uniform))
    return replace(curve, uniform=compared.points, notes=(note,))
