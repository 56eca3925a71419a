"""Scoring a wrapped model at many widths."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from concurrent.futures import Executor

from torch import nn

from surgery.curves.curve import Curve
from surgery.curves.inversions import inversion_notes
from surgery.curves.points import AnyPath
from surgery.measuring.adaptive import Adaptive, explored
from surgery.measuring.evaluate import captured, opened
from surgery.measuring.options import Options
from surgery.measuring.ranks import Ranks
from surgery.measuring.rows import distinct
from surgery.measuring.scoring import Validate, check_validate
from surgery.measuring.stopped import SweepError
from surgery.modules.inputs import Examples
from surgery.modules.labelled import Batch
from surgery.plan.widths import WidthSpec, check_multiple
from surgery.twin.statistics import Recalibrate

__all__ = ["FRACTIONS", "SweepError", "sweep"]

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


def sweep(
    wrapped: nn.Module,
    validate: Validate,
    widths: Iterable[WidthSpec] | Adaptive = FRACTIONS,
    *,
    examples: Examples | None = None,
    measure_latency: bool = True,
    recalibrate: Recalibrate = None,
    executor: Executor | Ranks | None = None,
    resume: AnyPath | None = None,
    progress: bool = True,
    multiple: int = 1,
    refit: Iterable[Batch] | None = None,
) -> Curve:
    """Score, parameters, bytes, MACs and latency of `wrapped` at each of `widths`, in their order.

    Widths that round to the same model are one row. The widths that were set, train/eval modes and buffers of
    `wrapped` are restored, so `validate` may call `surgery.recalibrate`. Warns where a row has fewer MACs than another
    and takes longer.

    Args:
        validate: called with `wrapped` at each width, in eval mode and without gradients. It returns the score: a
            number; or a tensor of one score per sample, which gives error bars too; or a pair of a score and its
            standard error. Higher is better, so return a negated loss. Use validation data here, and keep the test
            data for the model that is chosen in the end.
        widths: fractions, mappings from groups to widths, or points, as `surgery.set_widths` takes them; or
            `surgery.adaptive(...)`, to have uniform ones chosen until the whole curve is known.
        examples: inputs to measure latency on; by default those that the model was wrapped with.
        measure_latency: time the shrunk model of each row.
        recalibrate: batches of training inputs to estimate BatchNorm statistics on before each score; labels that a
            DataLoader gives with them are left out. Default: those that `wrapped` was wrapped with; a warning tells
            where there are none and they are needed. False: the statistics stay as they are.
        executor: computes the scores: a `concurrent.futures.Executor`, a Dask client, or
            `surgery.integrations.ray.RayExecutor()`; its workers get copies of `wrapped`. Latencies are measured here,
            one after another, when all scores are there. Or `surgery.ranks()`: the ranks of torch.distributed share
            the rows. Without it all ranks, each of which must call this, score all rows together; all get one curve.
        resume: a file for finished rows. Each one is written at once; rows that the file has are not computed again.
            Several runs may have one file at the same time: they share its rows.
        progress: show a progress bar.
        multiple: round all widths to multiples of this, as `shrink(..., multiple=)` does, so that what is measured is
            what ships.
        refit: batches of inputs, without labels: `validate` is called with the small model that `shrink(..., refit=)`
            gives. Pass the same batches to `shrink` for the model that is chosen.

    Raises:
        WidthError: `widths` has an entry that the model cannot have; nothing was run.
        InputError: `wrapped` is not wrapped, there are no widths, or nothing is known to run it on.
        FileError: the file of `resume` is damaged, or of another model.
        SweepError: a row failed or was interrupted, or a score is not a finite number. Its `curve` keeps the rows
            that were finished.
    """
    options = Options(examples, measure_latency, recalibrate, executor, resume, progress, multiple, refit)
    check_validate("sweep", validate)
    check_multiple(multiple)
    plan = captured(wrapped, examples)
    if isinstance(widths, Adaptive):
        with opened("sweep", wrapped, validate, options, total=widths.most) as evaluate:
            return warned(explored(evaluate, plan, widths, multiple), evaluate.unrun)
    rows = distinct(plan, widths, multiple)
    if multiple > 1 and len(rows) == 1 and rows[0].widths == plan.full() and len(distinct(plan, widths)) > 1:
        warnings.warn(
            f"sweep: multiple={multiple} leaves all groups at their full width, since none has so many units: give a "
            "smaller one",
            stacklevel=2,
        )
    with opened("sweep", wrapped, validate, options, total=len(rows)) as evaluate:
        evaluate(rows)
        return warned(evaluate.settled(rows), evaluate.unrun)


def warned(curve: Curve, unrun: bool = False) -> Curve:
    """The curve, after a warning where fewer MACs did not mean less time, and where scores cannot be meant.

    `unrun` says that `validate` did not run the model that it was given.
    """
    same = unrun and len(curve) > 1 and len({point.score for point in curve}) == 1
    notes = [ELSEWHERE] if same else rising(curve)
    for note in (*inversion_notes(curve), *notes):
        warnings.warn(note, UserWarning, stacklevel=3)
    return curve


ELSEWHERE = (
    "all rows have the same score, and validate does not run the model that it is given: it is called as "
    "validate(model) at each width; score that model, and no other one that the script holds"
)


NOTABLE = 0.05  # of the full model's score: an accuracy rises less where a narrow model happens to be better


def rising(curve: Curve) -> list[str]:
    """What is said of scores that only rise as models get smaller: they look like losses."""
    rows = sorted(curve, key=lambda point: -point.macs)
    if len(rows) < 3 or not all(0 < a.score < b.score for a, b in itertools.pairwise(rows)):  # a loss is no negative
        return []
    first = next(iter(rows[0].metrics), "").lower()
    if rows[-1].score - rows[0].score <= NOTABLE * rows[0].score or "acc" in first:
        return []
    rise = f"from {rows[0].score:.4g} to {rows[-1].score:.4g}"
    return [
        f"the score rises as the model gets narrower, {rise}: higher is better, so return an accuracy, or the negative "
        "of a loss"
    ]
