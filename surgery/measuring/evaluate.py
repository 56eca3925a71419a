"""Scores of a wrapped model at given widths: one after another here, or many at once elsewhere; each row is kept."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, TypeAlias

import torch
from torch import nn
from tqdm import tqdm

from surgery.curves.curve import Curve
from surgery.curves.inversions import latency_inversions
from surgery.curves.points import Point
from surgery.curves.score import Score, as_score
from surgery.errors import InputError, SurgeryError
from surgery.measuring.ledger import Ledger, digest, digest_of, header
from surgery.modules.batchnorm import calibration, recalibrate
from surgery.modules.inputs import Examples, runs
from surgery.modules.latency import side_by_side, timing, where
from surgery.modules.modes import evaluating
from surgery.plan.plan import Plan
from surgery.shrinking.shrink import shrink
from surgery.twin.elastic import state_of
from surgery.twin.setting import at_widths, plan_of

Validate: TypeAlias = "Callable[[nn.Module], Any]"


class SweepError(SurgeryError, RuntimeError):
    """A sweep ended early.

    Attributes:
        curve: the rows that were finished.
    """

    def __init__(self, message: str, curve: Curve):
        super().__init__(message)
        self.curve = curve


@dataclass(frozen=True)
class Row:
    """Widths to score, and the fraction that they were asked for as, if it was one."""

    widths: dict[str, int]
    fraction: float | None = None


@dataclass
class Evaluator:
    """Scores rows of one wrapped model. `opened` makes it, and puts the model back afterwards.

    Attributes:
        timed: the inputs that latency is measured on, or None to measure none.
        batches: what BatchNorm statistics are estimated on before each score; none where empty.
        executor: where scores are computed; None is here. Latencies are measured here, after all the scores.
        asked: the finished rows of this run, in the order in which they were asked for.
    """

    name: str
    wrapped: nn.Module
    plan: Plan
    validate: Validate
    ledger: Ledger
    bar: Any
    timed: Examples | None = None
    batches: Sequence[Examples] = ()
    executor: Executor | None = None
    asked: dict[tuple[int, ...], Row] = field(default_factory=dict)

    def __call__(self, rows: Iterable[Row]) -> list[Point]:
        """The points of these rows. What is known already is not computed again.

        Raises SweepError where one fails; its curve has the finished rows of this run.
        """
        rows = list(rows)
        new = {self.ledger.key(row.widths) for row in rows} - self.asked.keys()
        self.asked.update({self.ledger.key(row.widths): row for row in rows})
        missing = [row for row in rows if self.ledger.find(row.widths) is None]
        missing = list({self.ledger.key(row.widths): row for row in reversed(missing)}.values())[::-1]
        self.bar.update(len(new) - len(missing))  # those that an earlier run has finished
        (self._here if self.executor is None else self._elsewhere)(missing)
        for row in rows:
            self._attempt(row, self._time, row)
        return [self.point(row) for row in rows]

    def fractions(self, fractions: Iterable[float]) -> list[Point]:
        """The points of uniform models."""
        return self([Row(self.plan.widths(fraction), fraction) for fraction in fractions])

    def seconds(self, widths: dict[str, int]) -> float:
        """How long a model takes, which is not scored for that."""
        if self.ledger.find(widths) is None:
            assert self.timed is not None
            return timing(shrink(self.wrapped, widths), self.timed).seconds
        self._time(Row(widths))
        return self.point(Row(widths)).latency or 0.0

    def timings(self, rows: Iterable[Row | Point]) -> None:
        """Measure rows that are scored, and have no latency yet."""
        for row in rows:
            self._time(Row(row.widths))

    def settled(self, rows: Iterable[Row | Point]) -> Curve:
        """The curve of rows that are done. A row that looks slow for its MACs is timed again, beside the faster one."""
        rows = list(rows)
        curve = self.ledger.curve(self.point(row) for row in rows)
        for pair in latency_inversions(curve) if self.timed is not None else ():
            points = [curve[row] for row in pair]
            small, other = (shrink(self.wrapped, point) for point in points)
            for point, taken in zip(points, side_by_side(small, other, self.timed), strict=True):
                self.ledger.keep(replace(point, latency=taken.seconds, spread=taken.spread))
        return self.ledger.curve(self.point(row) for row in rows)

    def finished(self) -> Curve:
        """All rows of this run that are done."""
        return self.ledger.curve(
            self.point(row) for key, row in self.asked.items() if self.ledger.points.get(key) is not None
        )

    def _here(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._keep(row, self._attempt(row, scored, self.wrapped, row.widths, self.validate, self.batches))
            self._attempt(row, self._time, row)

    def _elsewhere(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        assert self.executor is not None
        packed = _packed(self.wrapped, self.batches)
        futures: dict[Future[Score], Row] = {}
        try:
            for row in rows:
                future = self._attempt(row, self.executor.submit, score_packed, packed, row.widths, self.validate)
                futures[future] = row
            done = as_completed(futures)
            for _ in rows:
                future = self._attempt(rows[0], next, done)
                self._keep(futures[future], self._attempt(futures[future], future.result))
        finally:
            for future in futures:
                future.cancel()

    def _keep(self, row: Row, score: Score) -> None:
        costs = self.plan.cost_model.at(row.widths)
        point = Point(row.widths, score.value, costs.params, costs.bytes, costs.macs, None, row.fraction, score.error)
        self.ledger.keep(point)
        self.bar.update()
        self.bar.set_postfix(score=f"{score.value:.4f}")

    def _time(self, row: Row) -> None:
        point = self.ledger.find(row.widths)
        assert point is not None
        if self.timed is not None and point.latency is None:
            taken = timing(shrink(self.wrapped, row.widths), self.timed)
            self.ledger.keep(replace(point, latency=taken.seconds, spread=taken.spread))

    def point(self, row: Row | Point) -> Point:
        """What is known of a row by now."""
        point = self.ledger.find(row.widths)
        assert point is not None
        return replace(point, fraction=row.fraction)

    def _attempt(self, row: Row, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns. What goes wrong with a row becomes a SweepError, which has all the others."""
        try:
            return function(*arguments)
        except (Exception, KeyboardInterrupt) as error:
            curve = self.finished()
            raise SweepError(self._stopped(row, error, len(curve)), curve) from error

    def _stopped(self, row: Row, error: BaseException, done: int) -> str:
        cause = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        total = f" of {len(self.asked)}" if self.name == "sweep" else ""
        where = row.fraction if row.fraction is not None else row.widths
        file = f", and in {self.ledger.path}" if self.ledger.path is not None else ""
        return (
            f"{self.name} stopped at widths {where} ({cause}). "
            f"{done}{total} rows are finished and kept: they are the `curve` of this error{file}.{_advice(error)}"
        )


def scored(wrapped: nn.Module, widths: Mapping[str, int], validate: Validate, batches: Sequence[Examples]) -> Score:
    """The score at these widths. The buffers of the model are as before afterwards, so the order of rows is free."""
    wrapped.eval()  # the last call of validate may have left another mode
    with buffers_kept(wrapped), at_widths(wrapped, widths):
        if batches:
            recalibrate(wrapped, batches)
        with torch.no_grad():
            return as_score(validate(wrapped))


def score_packed(packed: bytes, widths: Mapping[str, int], validate: Validate) -> Score:
    """The score of a model that came as bytes: a copy of its own, so that workers do not meet, threads included."""
    wrapped, batches = pickle.loads(packed)
    return scored(wrapped, widths, validate, batches)


def _packed(wrapped: nn.Module, batches: Sequence[Examples]) -> bytes:
    try:
        return pickle.dumps((wrapped, list(batches)))
    except Exception as error:
        raise InputError(
            f"{type(wrapped).__name__} cannot be sent to other processes ({type(error).__name__}: {error}). "
            "Define its classes at the top level of a module, or leave out executor="
        ) from error


def _advice(error: BaseException) -> str:
    if isinstance(error, pickle.PicklingError) or "pickle" in str(error):
        return (
            " What goes to other processes must be picklable: define validate at the top level of a module that they "
            "can import (functools.partial of such a function will do), or leave out executor=."
        )
    return ""


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Statistics that are estimated anew inside are put back."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextlib.contextmanager
def opened(
    name: str,
    wrapped: nn.Module,
    validate: Validate,
    *,
    examples: Examples | None,
    measure_latency: bool,
    recalibrate: Iterable[Examples] | None,
    executor: Executor | None,
    resume: str | PathLike[str] | None,
    progress: bool,
    total: int | None = None,
) -> Iterator[Evaluator]:
    """An evaluator for a wrapped model, which is put back as it was at the end."""
    plan, timed = captured(wrapped, examples), None
    if measure_latency:
        timed = examples if examples is not None else state_of(wrapped).examples
        if timed is None:
            raise InputError(f"{name} has no inputs to measure latency on: pass examples=, or measure_latency=False")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(f"executor is a concurrent.futures.Executor, got {executor!r}")
    batches = [] if recalibrate is None else calibration(recalibrate)
    hashes = {"weights": digest(wrapped), "statistics": digest_of(batches)} if resume is not None else {}
    first = header(plan, recalibrated=len(batches), **hashes)
    first = replace(first, timing=where(wrapped) if measure_latency else {})
    ledger = Ledger(plan, first, resume)
    with evaluating(wrapped), tqdm(desc=name, total=total, disable=not progress, unit="width") as bar:
        yield Evaluator(name, wrapped, plan, validate, ledger, bar, timed, batches, executor)


def captured(wrapped: nn.Module, examples: Examples | None) -> Plan:
    """The plan of a twin; one that was wrapped without inputs makes it at its first forward."""
    if state_of(wrapped).plan is None and examples is not None:
        run = runs(examples)[0]
        with evaluating(wrapped), torch.no_grad():
            wrapped(*run.args, **run.kwargs)
    return plan_of(wrapped)
