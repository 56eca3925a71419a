"""Scoring a wrapped model at many widths."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from surgery.cost import cost
from surgery.curve import MEASURES, Curve, Point
from surgery.elastic import state_of
from surgery.errors import InputError, SurgeryError
from surgery.inputs import Examples, runs
from surgery.latency import latency
from surgery.modes import evaluating
from surgery.plan import Plan, WidthSpec
from surgery.setting import at_widths, plan_of
from surgery.shrink import shrink
from surgery.state import State

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


class SweepError(SurgeryError, RuntimeError):
    """A sweep ended early.

    Attributes:
        curve: the rows that were finished.
    """

    def __init__(self, message: str, curve: Curve):
        super().__init__(message)
        self.curve = curve


def sweep(
    wrapped: nn.Module,
    validate: Callable[[nn.Module], Any],
    widths: Iterable[WidthSpec] = FRACTIONS,
    *,
    examples: Examples | None = None,
    measure_latency: bool = True,
    progress: bool = True,
) -> Curve:
    """Score, parameters, bytes, MACs and latency of `wrapped` at each of `widths`, in their order.

    Widths that round to the same model are one row. The widths that were set, train/eval modes and buffers of
    `wrapped` are restored, so `validate` may call `surgery.recalibrate`.

    Args:
        validate: called with `wrapped` at each width, in eval mode and without gradients. It returns the score, a
            number or a tensor of one element; higher is better, so return a negated loss. Use validation data here,
            and keep the test data for the model that is chosen in the end.
        widths: fractions, mappings from groups to widths, or points, as `surgery.set_widths` takes them.
        examples: inputs to measure latency on; by default those that the model was wrapped with.
        measure_latency: time the shrunk model of each row.
        progress: show a progress bar.

    Raises:
        WidthError: `widths` has an entry that the model cannot have; nothing was run.
        InputError: `wrapped` is not wrapped, there are no widths, or nothing is known to run it on.
        SweepError: a row failed or was interrupted, or a score is not a finite number. Its `curve` keeps the rows
            that were finished.
    """
    state = state_of(wrapped)
    plan = _captured(wrapped, state, examples)
    timed = examples if examples is not None else state.examples
    if measure_latency and timed is None:
        raise InputError("sweep has no inputs to measure latency on: pass examples=, or measure_latency=False")
    entries = _distinct(plan, widths)
    points: list[Point] = []
    with evaluating(wrapped), _buffers_kept(wrapped), tqdm(entries, "sweep", disable=not progress, unit="width") as bar:
        for spec, resolved in bar:
            try:
                points.append(_row(wrapped, plan, validate, spec, resolved, timed if measure_latency else None))
            except (Exception, KeyboardInterrupt) as error:
                raise SweepError(_stopped(spec, error, len(points), len(entries)), _curve(plan, points)) from error
            bar.set_postfix(score=f"{points[-1].score:.4f}")
    return _curve(plan, points)


def _curve(plan: Plan, points: Iterable[Point]) -> Curve:
    full = cost(plan)
    measures = {name: getattr(full, name) for name in MEASURES}
    return Curve(tuple(points), measures, plan_fingerprint=plan.fingerprint, sizes=plan.full())


def _captured(wrapped: nn.Module, state: State, examples: Examples | None) -> Plan:
    """The plan of a twin; one that was wrapped without inputs makes it at its first forward."""
    if state.plan is None and examples is not None:
        run = runs(examples)[0]
        with evaluating(wrapped), torch.no_grad():
            wrapped(*run.args, **run.kwargs)
    return plan_of(wrapped)


def _distinct(plan: Plan, widths: Iterable[WidthSpec]) -> list[tuple[WidthSpec, dict[str, int]]]:
    """Each entry with the widths that it stands for, the first of equal ones only."""
    found: dict[tuple[int, ...], tuple[WidthSpec, dict[str, int]]] = {}
    for spec in widths:
        resolved = plan.widths(spec)
        found.setdefault(tuple(resolved.values()), (spec, resolved))
    if not found:
        raise InputError("sweep was given no widths: pass for example widths=(1.0, 0.5, 0.25)")
    return list(found.values())


def _row(
    wrapped: nn.Module,
    plan: Plan,
    validate: Callable[[nn.Module], Any],
    spec: WidthSpec,
    widths: dict[str, int],
    examples: Examples | None,
) -> Point:
    wrapped.eval()  # the last call of validate may have left another mode
    with at_widths(wrapped, widths):
        with torch.no_grad():
            score = float(validate(wrapped))
        if not math.isfinite(score):
            raise InputError(f"validate returned {score}: return a finite number")
    found = cost(plan, widths)
    seconds = None if examples is None else latency(shrink(wrapped, widths), examples)
    fraction = spec if isinstance(spec, float) else getattr(spec, "fraction", None)
    return Point(widths, score, found.params, found.bytes, found.macs, seconds, fraction)


@contextlib.contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Statistics that are estimated anew inside are put back."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _stopped(spec: WidthSpec, error: BaseException, done: int, total: int) -> str:
    widths = spec if isinstance(spec, float) else getattr(spec, "widths", spec)
    cause = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    return (
        f"sweep stopped at widths {widths} ({cause}). "
        f"{done} of {total} rows are finished and kept: they are the `curve` of this error."
    )
