"""Rewritten forwards, tried before they are believed."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any

import torch

from surgery.copying import copy_of
from surgery.elastic import KEY
from surgery.errors import ProofError
from surgery.inputs import Examples, runs, tensors
from surgery.plan import Plan
from surgery.routine import Rewritten
from surgery.setting import at_widths
from surgery.tensors import Parts
from surgery.twin import twin_of
from surgery.verify import difference, proving


def refused(parts: Parts, plan: Plan, examples: Examples) -> dict[str, str]:
    """The paths of modules that cannot do with their new forward, and why.

    A twin must be the model at full width, and run at the smallest widths and at half.
    """
    twin = twin_of(parts, plan, examples)
    model = copy_of(parts, lambda _, tensor: tensor).model  # what its forward stores stays off the model
    smallest = {name: min(group.granularity, group.size) for name, group in plan.groups.items()}
    try:
        with proving(model, twin) as output:
            for widths, run in itertools.product((1.0, 0.5, smallest), runs(examples)):
                with at_widths(twin, widths):
                    made = output(twin, run)
                if widths == 1.0 and not any(parameter.is_meta for parameter in parts.parameters.values()):
                    difference(output(model, run), made)
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
