"""What is asked for: widths to score, each model once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from surgery.errors import InputError
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec


@dataclass(frozen=True)
class Row:
    """Widths to score, and the fraction that they were asked for as, if it was one."""

    widths: dict[str, int]
    fraction: float | None = None


def distinct(plan: Plan, widths: Iterable[WidthSpec]) -> list[Row]:
    """A row for each entry, the first of equal ones only."""
    found: dict[tuple[int, ...], Row] = {}
    for spec in widths:
        resolved = plan.widths(spec)
        fraction = spec if isinstance(spec, float) else getattr(spec, "fraction", None)
        found.setdefault(tuple(resolved.values()), Row(resolved, fraction))
    if not found:
        raise InputError("sweep was given no widths: pass for example widths=(1.0, 0.5, 0.25)")
    return list(found.values())
