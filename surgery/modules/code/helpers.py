"""What rewritten code calls for its sizes: the one that fits the widths, or word that the code computed another one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from surgery.errors import InputError
from surgery.nested import Nested


def sized(value: int, seen: int, now: int) -> int:
    """`now`, where the code computes the `seen` size. Raises InputError where it computes another one."""
    if value == seen:
        return now
    raise InputError(_other(value, seen))


def scaled(value: int, seen: int, now: int) -> int:
    """`value` changed in proportion, as `now` is to `seen`. Raises InputError where that is no whole number."""
    if value == seen:
        return now
    if not seen or value * now % seen:
        raise InputError(_other(value, seen))
    return value * now // seen


def _other(value: int, seen: int) -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return (
        f"the code at {frame.f_code.co_filename}:{frame.f_lineno} computes the size {value}, and {seen} is what it "
        "computes for the example inputs at these widths. Wrap the model with example inputs of this kind, or "
        "surgery.batches([...]) of both"
    )


def inside(value: Nested, keys: Sequence[Any], how: Callable[[int, int, int], int], seen: int, now: int) -> Nested:
    """A tuple, list, dict or slice with the size in it that `keys` lead to replaced."""
    if not keys:
        return how(value, seen, now)
    if isinstance(value, slice):
        ends = {end: getattr(value, end) for end in ("start", "stop", "step")}
        return slice(*inside(ends, keys, how, seen, now).values())
    if isinstance(value, dict):
        return {**value, keys[0]: inside(value[keys[0]], keys[1:], how, seen, now)}
    items = list(value)
    items[keys[0]] = inside(items[keys[0]], keys[1:], how, seen, now)
    return items if isinstance(value, list) else tuple(items)


def agree(left: object, right: object, left_seen: int, right_seen: int) -> bool:
    """Whether two sizes are equal, or are what two equal sizes of the full model are at these widths."""
    _two_sizes(left, right)
    return left == right or (left, right) == (left_seen, right_seen) or (right, left) == (left_seen, right_seen)


def meet(left: object, right: object, left_seen: int, right_seen: int) -> bool:
    """Whether two sizes are equal, and not what two different sizes of the full model are at these widths."""
    _two_sizes(left, right)
    return left == right and (left, right) != (left_seen, right_seen)


def _two_sizes(left: object, right: object) -> None:
    """Raises InputError where a comparison is of more than two numbers: it was recorded as one of two sizes in them."""
    if not isinstance(left, int) or not isinstance(right, int):
        kinds = f"{type(left).__name__} and {type(right).__name__}"
        raise InputError(f"the code compares {kinds}, and sizes in them must follow the widths: compare one by one")


HELPERS: Mapping[str, Callable[..., object]] = {
    "surgery_sized": sized, "surgery_scaled": scaled, "surgery_inside": inside, "surgery_agree": agree,
    "surgery_meet": meet,
}  # fmt: skip
