"""Rewritten forwards, tried before they are believed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch

from surgery.errors import ProofError
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, runs, tensors
from surgery.modules.tensors import Parts
from surgery.modules.verify import difference, proving
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec
from surgery.twin.elastic import elastic_of
from surgery.twin.install import twin_of
from surgery.twin.setting import at_widths


def refused(parts: Parts, plan: Plan, examples: Examples, recorded: Sequence[Any]) -> dict[str, str]:
    """The paths of modules that cannot do with their new forward, and why.

    A twin must return what the model does at full width, and run at half and at the smallest widths. What was
    `recorded` of the model, for each of the examples, is held against it first. Where that fails, the model runs again
    beside its twin: what one run leaves behind for the next, a recording does not show.
    """
    try:
        _try(parts, plan, examples, recorded)
    except Exception:
        try:
            _try(parts, plan, examples, None)
        except Exception as error:
            paths = _rewritten(error.__traceback__) or list(plan.rewrites)
            return dict.fromkeys(paths, _reason(error))
    return {}


def _try(parts: Parts, plan: Plan, examples: Examples, recorded: Sequence[Any] | None) -> None:
    twin = twin_of(parts, plan, examples)
    model = twin if recorded else copy_of(parts, lambda _, tensor: tensor).model  # it may store things on itself
    smallest = {name: min(group.granularity, group.size) for name, group in plan.groups.items()}
    hollow = any(parameter.is_meta for parameter in parts.parameters.values())
    with proving(*dict.fromkeys((model, twin))) as output:
        for i, run in enumerate(runs(examples)):
            with at_widths(twin, 1.0):
                made = output(twin, run)
            if not hollow:
                difference(recorded[i] if recorded else output(model, run), made)
        specs: tuple[WidthSpec, ...] = (0.5, smallest)
        for widths, run in itertools.product(specs, runs(examples)):
            with at_widths(twin, widths):
                _finite(output(twin, run))


def _reason(error: Exception) -> str:
    if isinstance(error, ProofError):
        return f"cannot follow, as the model does not come out right with another forward ({error})"
    return f"cannot follow, as its forward does not run at other widths ({type(error).__name__}: {error})"


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
            elastic = elastic_of(rewritten.owner)
            paths = [] if elastic is None else [elastic.path]
        trace = trace.tb_next
    return paths
