"""What people write for widths, as a width for a group."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Protocol, TypeAlias

from surgery.errors import InputError, WidthError
from surgery.plan.groups import Group


class HasWidths(Protocol):
    """A point of a curve, or anything else that knows the width of each group."""

    @property
    def widths(self) -> Mapping[str, int]: ...


WidthSpec: TypeAlias = "float | Mapping[str, int | float] | HasWidths"


def check_multiple(multiple: int) -> None:
    """Raises InputError for what widths cannot be rounded to multiples of."""
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise InputError(f"multiple is a positive int, got {multiple!r}")


def width_entries(spec: WidthSpec) -> Mapping[str, float]:
    """Group names or globs, and what each asks for. Raises WidthError for what says nothing of widths."""
    plain = _plain(getattr(spec, "widths", spec))
    if isinstance(plain, bool) or not isinstance(plain, int | float | Mapping):
        seen = f" {plain!r}: 50 % is 0.5" if isinstance(plain, str) else ""
        raise WidthError(f"widths are a fraction, a mapping or a point of a curve, not {type(plain).__name__}{seen}")
    if isinstance(plain, int):
        mapping = f", or a mapping such as {{'*': {plain}}}" if plain > 0 else ""
        raise WidthError(f"a bare int ({plain}) is no width for a whole model: write a fraction such as 0.5{mapping}")
    return {"*": plain} if isinstance(plain, float) else plain


def width_of(group: Group, value: object, multiple: int = 1) -> int:
    """The width of one group: a fraction rounded, an int as it is unless a `multiple` rounds that as well.

    Multiples are of features, and not of modules or experts. Raises WidthError for one that it cannot have.
    """
    value, multiple = _plain(value), 1 if group.counted else multiple
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WidthError(f"{group.limits}: a width is an int or a fraction, not {value!r}")
    if isinstance(value, float):
        return _rounded(group, value, math.lcm(group.granularity, multiple))
    if not group.least <= value <= group.size:
        raise WidthError(f"{group.limits}: the width {value} is not between {group.least} and {group.size}")
    if multiple > 1:
        return _rounded(group, value / group.size, math.lcm(group.granularity, multiple))
    if value % group.granularity and value != group.size:
        raise WidthError(f"{group.limits}: the width {value} is not a multiple of {group.granularity}")
    return int(value)


def _rounded(group: Group, fraction: float, step: int) -> int:
    """The multiple of `step` that is nearest to a fraction of a group, at least one step and at most all."""
    if not 0 < fraction <= 1:
        raise WidthError(f"{group.limits}: a fraction lies in (0, 1], got {fraction}")
    if fraction == 1 or step > group.size:  # the full size is always valid
        return group.size
    least = step * math.ceil(group.least / step)
    return min(group.size, max(least, step, step * math.floor(fraction * group.size / step + 0.5)))


def _plain(value: object) -> object:
    """The numbers of numpy as Python's own."""
    if isinstance(value, bool | int | float) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)
