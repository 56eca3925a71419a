"""What is asked for: widths to score, each model once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from surgery.errors import InputError
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec


@dataclass(frozen=True)
class Row:
    """Widths to score, and the fraction that they were asked for as, if it was one."""

    widths: dict[str, int]
    fraction: float | None = None


def listed(who: str, name: str, given: object, example: str) -> list[Any]:
    """The entries of an argument that is a list of them. Raises InputError for one that stands alone."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        seen = repr(given) if isinstance(given, str | int | float | Mapping) else type(given).__name__
        if getattr(given, "__name__", "") == "adaptive":
            raise InputError(f"{who}: call it, {name}=surgery.adaptive()")
        raise InputError(f"{who}: {name} is a list of entries, got {seen}: pass for example {name}={example}")
    return list(given)


def distinct(plan: Plan, widths: Iterable[WidthSpec], multiple: int = 1) -> list[Row]:
    """A row for each entry, the first of equal ones only."""
    found: dict[tuple[int, ...], Row] = {}
    for spec in listed("sweep", "widths", widths, "(1.0, 0.5, 0.25)"):
        resolved = plan.widths(spec, multiple)
        fraction = spec if isinstance(spec, float) else getattr(spec, "fraction", None)
        found.setdefault(tuple(resolved.values()), Row(resolved, fraction))
    if not found:
        raise InputError("sweep was given no widths: pass for example widths=(1.0, 0.5, 0.25)")
    return list(found.values())
