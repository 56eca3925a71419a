"""How much each axis matters: the score when it alone is narrower."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from torch import nn

from surgery.curves.curve import Curve
from surgery.curves.points import AnyPath, Point
from surgery.errors import InputError
from surgery.measuring.evaluate import captured, opened
from surgery.measuring.options import Options
from surgery.measuring.ranks import Ranks
from surgery.measuring.rows import Row, listed
from surgery.measuring.scoring import Validate, check_validate
from surgery.modules.inputs import Examples
from surgery.modules.labelled import Batch
from surgery.plan.plan import Plan
from surgery.plan.widths import check_multiple
from surgery.twin.statistics import Recalibrate

CUTS = (0.5, 0.25, 0.125)


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """What a model loses when one axis alone is cut. Printed, a table.

    Attributes:
        curve: every row, the full model first: to keep (`to_json`), to plot.
        axes: the rows of each axis in the curve, by its name, widest first.
    """

    curve: Curve
    axes: Mapping[str, tuple[int, ...]]

    def points(self, axis: str) -> list[Point]:
        """The models in which this axis alone is cut, widest first."""
        return [self.curve[row] for row in self.axes[axis]]

    def lost(self, axis: str) -> list[float]:
        """What each of them loses against the full model, in the unit of the scores."""
        return [self.curve[0].score - point.score for point in self.points(axis)]

    def table(self) -> list[list[str]]:
        """The printed table's cells, the header first. Costs are in percent of the full model's."""
        timed, sure = self.curve[0].latency is not None, self.curve[0].error is not None
        header = ["axis", "width", "score", "lost", *["±"] * sure, "parameters", "MACs", *["time"] * timed]
        return [header] + [self._cells(axis, self.curve[row]) for axis, rows in self.axes.items() for row in rows]

    def _cells(self, axis: str, point: Point) -> list[str]:
        base, size = self.curve[0], self.curve.sizes[axis]
        cells = [axis, f"{point.widths[axis]} of {size}", f"{point.score:.4f}", f"{base.score - point.score:+.4f}"]
        if base.error is not None:
            cells.append(f"{math.hypot(base.error, point.error or 0.0):.4f}")
        pairs: list[tuple[float, float]] = [(point.params, base.params), (point.macs, base.macs)]
        if base.latency is not None:
            pairs.append((point.latency or 0.0, base.latency))
        return cells + [f"{100 * part / whole:.1f} %" if whole else "" for part, whole in pairs]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
        return "\n".join("  ".join(line) for line in lines)

    __repr__ = __str__


def sensitivity(
    wrapped: nn.Module,
    validate: Validate,
    fractions: Iterable[float] = CUTS,
    *,
    groups: str | Iterable[str] = "*",
    examples: Examples | None = None,
    measure_latency: bool = True,
    recalibrate: Recalibrate = None,
    executor: Executor | Ranks | None = None,
    resume: AnyPath | None = None,
    progress: bool = True,
    multiple: int = 1,
    refit: Iterable[Batch] | None = None,
) -> Sensitivity:
    """The score and the costs of `wrapped` with each axis alone at each of `fractions`, all others full.

    Args:
        fractions: of the one axis that is cut.
        groups: globs or module paths of the axes to cut; by default all of them.
        validate, examples, measure_latency, recalibrate, executor, resume, progress, multiple, refit: as for
            `surgery.sweep`.

    Raises:
        as `surgery.sweep` does.
    """
    check_validate("sensitivity", validate)
    check_multiple(multiple)
    wanted = listed("sensitivity", "fractions", fractions, "(0.5, 0.25)")
    plan = captured(wrapped, examples)
    patterns = [groups] if isinstance(groups, str) else listed("sensitivity", "groups", groups, "['*.mlp']")
    names = plan.free if patterns == ["*"] else [plan.tied(name)[0] for p in patterns for name in plan.find(p)]
    cuts = alone(plan, {name: (name,) for name in names}, wanted, functools.partial(plan.widths, multiple=multiple))
    rows = [Row(plan.full(), 1.0), *(row for found in cuts.values() for row in found)]
    options = Options(examples, measure_latency, recalibrate, executor, resume, progress, multiple, refit)
    with opened("sensitivity", wrapped, validate, options, total=len(rows)) as evaluate:
        return collected(evaluate.ledger.curve(evaluate(rows)), cuts)


def alone(
    plan: Plan,
    axes: Mapping[str, Sequence[str]],
    fractions: Sequence[float],
    widths: Callable[[Mapping[str, float]], dict[str, int]],
) -> dict[str, list[Row]]:
    """For each axis, rows in which its groups alone are narrower than full, widest first; `widths` rounds them."""
    if not fractions or any(not isinstance(fraction, float) for fraction in fractions):
        raise InputError(f"sensitivity: fractions are floats such as 0.5, at least one, got {list(fractions)}")
    full = plan.full()
    found: dict[str, list[Row]] = {}
    for axis, names in axes.items():
        specs = [widths(dict.fromkeys(names, fraction)) for fraction in sorted(fractions, reverse=True)]
        distinct = {tuple(spec.values()): Row(spec) for spec in specs if spec != full}
        found[axis] = list(distinct.values())
    return found


def collected(curve: Curve, cuts: Mapping[str, Sequence[Row]]) -> Sensitivity:
    """The table of a curve whose rows are the full model's, and then those of each axis."""
    start, axes = 1, {}
    for axis, rows in cuts.items():
        axes[axis] = tuple(range(start, start + len(rows)))
        start += len(rows)
    return Sensitivity(curve, axes)
