"""What a wrapped model tells of its training, kept until a trainer logs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import nn

import surgery
from surgery.errors import InputError
from surgery.training.step import twins_in

Widths: TypeAlias = "Iterable[float] | Mapping[str, Any]"  # fractions; or names, and what `set_widths` takes
ANEW = (
    "the checkpoint was written without a SurgeryCallback, so that the draws of the wrapped model start anew: what "
    "follows is not what an uninterrupted training would have drawn"
)


def only_twin(model: nn.Module) -> nn.Module:
    """The wrapped model that a module is, or is built around. Raises InputError where there is none, or several."""
    found = twins_in(model)
    if len(found) != 1:
        names = ", ".join(type(twin).__name__ for twin in found)
        raise InputError(
            f"{type(model).__name__} holds {len(found)} wrapped models ({names}), and a callback is for one: keep what "
            "surgery.training_state gives of each in the checkpoint yourself"
        )
    return found[0]


def named(widths: Widths) -> dict[str, Any]:
    """Widths by name: of a fraction that is how it is written."""
    if isinstance(widths, Mapping):
        return dict(widths)
    if isinstance(widths, str) or not isinstance(widths, Iterable):
        raise InputError(f"widths are fractions such as (0.5, 0.25), or a mapping of names to widths, got {widths!r}")
    return {str(width): width for width in widths}


class Told:
    """Numbers by name, as `surgery.log_to` hands them over."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.deaf = False

    def listen(self, twin: nn.Module, step: int) -> None:
        """From here on; it takes the place of what `surgery.log_to` was given before."""
        self.values.clear()
        surgery.log_to(twin, self.add, step=step)

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in () if self.deaf else values.items():
            self.values.setdefault(name, []).append(value)

    @contextlib.contextmanager
    def not_listening(self) -> Iterator[None]:
        """Around what a callback scores itself, and logs by other names."""
        self.deaf = True
        try:
            yield
        finally:
            self.deaf = False

    def means(self) -> dict[str, float]:
        """The mean of each since the last call."""
        found = {name: sum(values) / len(values) for name, values in self.values.items()}
        self.values.clear()
        return found
