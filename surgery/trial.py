"""Rewritten forwards, tried before they are believed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch

from surgery.elastic import KEY
from surgery.errors import ProofError
from surgery.inputs import Examples, runs, tensors
from surgery.plan import Plan
from surgery.routine import Rewritten
from surgery.setting import at_widths
from surgery.tensors import Parts
from surgery.twin import twin_of
from surgery.verify import difference, proving


def refused(parts: Parts, plan: Plan, examples: Examples, known: Sequence[Any]) -> dict[str, str]:
    """The paths of modules that cannot do with their new forward, and why.

    A twin must return what is `known` of the model, for each of the examples, at full width, and run at the smallest
    widths and at half.
    """
    twin = twin_of(parts, plan, examples)
    smallest = {name: min(group.granularity, group.size) for name, group in plan.groups.items()}
    hollow = any(parameter.is_meta for parameter in parts.parameters.values())
    try:
        with proving(twin) as output:
            for widths, (run, whole) in itertools.product(
                (1.0, 0.5, smallest), zip(runs(examples), known, strict=True)
            ):
                with at_widths(twin, widths):
                    made = output(twin, run)
                if widths == 1.0 and not hollow:
                    difference(whole, made)
                else:
                    _finite(made)
    except Exception as error:
        paths = _rewritten(error.__traceback__) or list(plan.rewrites)
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ProofError) else str(error)
        return dict.fromkeys(paths, f"cannot follow, as its forward does not run at other widths ({reason})")
    return {}


def _finite(output: Any) -> None:
    for tensor in tensors(output):
        if tensor.is_floating_point() and not tensor.is_meta and torch.isnan(tensor).any():
            raise ProofError("the output holds NaN")


def _rewritten(trace: TracebackType | None) -> list[str]:
    """The innermost module with a new forward in a traceback."""
    paths: list[str] = []
    while trace is not None:
        rewritten = trace.tb_frame.f_locals.get("self")
        if isinstance(rewritten, Rewritten):
            paths = [vars(rewritten.owner)[KEY].path]
        trace = trace.tb_next
    return paths
