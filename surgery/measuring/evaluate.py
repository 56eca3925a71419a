"""Rows of a twin: each one scored, timed and kept once, whoever asks for it and however often."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import nn
from tqdm import tqdm

from surgery.curves.curve import Curve
from surgery.curves.inversions import latency_inversions
from surgery.curves.points import Point
from surgery.curves.score import Score
from surgery.measuring.ledger import Ledger, digest, digest_of, header
from surgery.measuring.options import Options
from surgery.measuring.rank_scoring import check_alike, check_weights, rank_scorer
from surgery.measuring.ranks import LONE, Link, linked
from surgery.measuring.rows import Row
from surgery.measuring.scoring import Found, Here, Refitted, Scorer, Validate
from surgery.measuring.stopped import Guard, stopped, told_by
from surgery.measuring.timer import Timer
from surgery.measuring.workers import Workers
from surgery.modules.inputs import Examples, runs
from surgery.modules.latency import where
from surgery.modules.modes import evaluating
from surgery.plan.plan import Plan
from surgery.twin.elastic import state_of
from surgery.twin.setting import plan_of
from surgery.twin.statistics import warn_stale


class Bar(Protocol):
    """A progress bar, as tqdm's."""

    def update(self, n: int = 1) -> object: ...

    def set_postfix(self, *, score: str) -> object: ...


@dataclass
class Evaluator:
    """Scores rows of one wrapped model. `opened` makes it, and puts the model back afterwards.

    Attributes:
        scorer: computes the scores, here or elsewhere.
        timer: measures latencies, always here; None where none are asked for.
        each: every row is timed, not only those of `timings`. Those of an executor are, when all scores are there.
        multiple: what widths of fractions are rounded to multiples of.
        link: to other ranks that call the same: the rows that rank 0 keeps are those of all.
        told: nothing more is to be said of BatchNorm's statistics.
        unrun: `validate` has run something else than the model that it was given, each time.
        asked: the finished rows of this run, in the order in which they were asked for.
    """

    name: str
    wrapped: nn.Module
    plan: Plan
    scorer: Scorer
    ledger: Ledger
    bar: Bar
    timer: Timer | None = None
    each: bool = True
    link: Link = LONE
    told: bool = False
    unrun: bool = True
    multiple: int = 1
    asked: dict[tuple[int, ...], Row] = field(default_factory=dict)

    def __call__(self, rows: Iterable[Row]) -> list[Point]:
        """The points of these rows. What is known already is not computed again.

        Raises SweepError where one fails; its curve has the finished rows of this run.
        """
        rows = list(rows)
        check_alike(self.link, "widths to score", [row.widths for row in rows])
        new = {self.ledger.key(row.widths) for row in rows} - self.asked.keys()
        self.asked.update({self.ledger.key(row.widths): row for row in rows})
        missing = [row for row in rows if self.ledger.find(row.widths) is None]
        missing = list({self.ledger.key(row.widths): row for row in reversed(missing)}.values())[::-1]
        self.bar.update(len(new) - len(missing))  # those that an earlier run has finished
        with (
            contextlib.closing(self._left(missing)) as left,
            contextlib.closing(self.scorer.scores(left, self._guard)) as scores,
        ):
            for row, found in scores:
                with self._guard(row):
                    self._keep(row, found.score)
                self._tell(found)
                if self.scorer.here:
                    self._time_each([row])
        for row in rows:
            self._agree(row)
        self._time_each(rows)
        return [self.point(row) for row in rows]

    def fractions(self, fractions: Iterable[float]) -> list[Point]:
        """The points of uniform models."""
        return self([Row(self.plan.widths(fraction, self.multiple), fraction) for fraction in fractions])

    def seconds(self, widths: dict[str, int]) -> float:
        """How long a model takes, which is not scored for that."""
        if self.link.first(lambda: self.ledger.find(widths)) is None:
            assert self.timer is not None
            return self.timer.timing(widths).seconds
        self._time(Row(widths))
        return self.point(Row(widths)).latency or 0.0

    def timings(self, rows: Iterable[Row | Point]) -> None:
        """Measure rows that are scored, and have no latency yet."""
        for row in rows:
            self._time(Row(row.widths))

    def settled(self, rows: Iterable[Row | Point]) -> Curve:
        """The curve of rows that are done. A row that looks slow for its MACs is timed again, beside the faster one."""
        rows = list(rows)
        if self.timer is not None:
            curve = self.ledger.curve(self.point(row) for row in rows)
            for pair in self.link.first(lambda: latency_inversions(curve)):
                points = [curve[row] for row in pair]
                for point, taken in zip(points, self.timer.in_turns(*points), strict=True):
                    self.ledger.keep(replace(point, latency=taken.seconds, spread=taken.spread))
        return self.ledger.curve(self.point(row) for row in rows)

    def finished(self) -> Curve:
        """All rows of this run that are done."""
        return self.ledger.curve(
            self.point(row) for key, row in self.asked.items() if self.ledger.points.get(key) is not None
        )

    def point(self, row: Row | Point) -> Point:
        """What is known of a row by now."""
        point = self.ledger.find(row.widths)
        assert point is not None
        return replace(point, fraction=row.fraction)

    def _left(self, rows: Iterable[Row]) -> Generator[Row, None, None]:
        """The rows that no other run has finished by now; at last those that one works on, should it not finish them.

        A row is this run's own until the next one is asked for. An executor asks for all of them at once.
        """
        later: list[Row] = []
        for waiting in (False, True):
            rows, later = (later if waiting else rows), []
            for row in rows:
                with contextlib.ExitStack() as held:
                    with self._guard(row):
                        own = not self.scorer.here or held.enter_context(self.ledger.claimed(row.widths, waiting))
                        self.ledger.refresh()
                    if self.ledger.find(row.widths) is not None:
                        self.bar.update()
                    elif own:
                        yield row
                    else:
                        later.append(row)

    def _keep(self, row: Row, score: Score) -> None:
        costs = self.plan.cost_model.at(row.widths)
        point = Point(
            row.widths, score.value, costs.params, costs.bytes, costs.macs, None, row.fraction, score.error,
            metrics=dict(score.metrics),
        )  # fmt: skip
        self.ledger.keep(point)
        self.bar.update()
        self.bar.set_postfix(score=f"{score.value:.4f}")

    def _tell(self, found: Found) -> None:
        """Warn once that BatchNorm was run with the statistics of other widths; note whether the model was run."""
        self.unrun = self.unrun and found.unrun
        if found.stale and not self.told:
            self.told = True
            warn_stale(self.name, self.wrapped, stacklevel=4)

    def _time_each(self, rows: Iterable[Row]) -> None:
        for row in rows if self.each else ():
            with self._guard(row):
                self._time(row)

    def _time(self, row: Row) -> None:
        if self.timer is None:
            return
        point = self._agree(row)
        if point.latency is None:
            taken = self.timer.timing(row.widths)
            self.ledger.keep(replace(point, latency=taken.seconds, spread=taken.spread))

    def _agree(self, row: Row) -> Point:
        """What rank 0 knows of a row, which all ranks then know."""
        point = self.link.first(lambda: self.ledger.find(row.widths))
        assert point is not None
        self.ledger.points[self.ledger.key(row.widths)] = point
        return point

    def _guard(self, row: Row) -> Guard:
        """What goes wrong with a row inside becomes a SweepError, which has all the others."""
        return Guard(lambda error: stopped(self.name, row, error, self.finished(), len(self.asked), self.ledger.path))


@contextlib.contextmanager
def opened(
    name: str, wrapped: nn.Module, validate: Validate, options: Options, *, total: int, each: bool = True
) -> Iterator[Evaluator]:
    """An evaluator for a wrapped model, which is put back as it was at the end.

    Args:
        name: the function that asks, for messages.
        total: how many rows there are at most, for the progress bar.
        each: time every row, where latency is measured at all.
    """
    plan = captured(wrapped, options.examples)
    timed, engine, batches = options.timed(name, wrapped), options.workers(), options.batches(wrapped)
    fitted_on = options.fitted_on(wrapped)
    here = Refitted(wrapped, validate, fitted_on, batches) if fitted_on else Here(wrapped, validate, batches)
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(linked(name, options.ranks.mode))
        split = options.ranks.mode == "split"
        asked = (plan.fingerprint, timed is not None, each, options.multiple, len(batches), len(fitted_on), split)
        check_alike(link, "models, or keywords,", (*asked, plan.units.orders))
        check_weights(link, wrapped, buffers=split and not batches)  # statistics may be those of each rank's own data
        kept = link.first(lambda: options.resume is not None)
        hashes = {"weights": digest(wrapped), "statistics": digest_of([*batches, *fitted_on])} if kept else {}
        first = header(plan, recalibrated=len(batches), refitted=len(fitted_on), **hashes)
        first = replace(first, timing={} if timed is None else where(wrapped, timed), multiple=options.multiple)
        ledger = Ledger(plan, first, options.resume if link.rank == 0 else None)
        ledger.header = link.first(lambda: ledger.header)
        workers = None if engine is None else Workers(engine, wrapped, validate, batches)
        scorer = rank_scorer(link, wrapped, here, workers, split)
        timer = None if timed is None else Timer(wrapped, timed, link)
        stack.enter_context(evaluating(wrapped))
        hidden, silent = not options.progress or link.rank > 0, options.recalibrate is False
        bar = stack.enter_context(tqdm(desc=name, total=total, disable=hidden, unit="width"))
        found = Evaluator(
            name, wrapped, plan, scorer, ledger, bar, timer, each, link, told=silent, multiple=options.multiple
        )
        with told_by(link, found.finished):
            yield found


def captured(wrapped: nn.Module, examples: Examples | None) -> Plan:
    """The plan of a twin; one that was wrapped without inputs makes it at its first forward."""
    if state_of(wrapped).plan is None and examples is not None:
        run = runs(examples)[0]
        with evaluating(wrapped), torch.no_grad():
            wrapped(*run.args, **run.kwargs)
    return plan_of(wrapped)
