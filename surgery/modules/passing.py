"""What stands where a module was left out that its parent calls by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


class Passing(nn.Module):
    """Hands on one of its arguments: a position, or a keyword."""

    def __init__(self, place: int | str = 0):
        super().__init__()
        self.place = place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return passed_on(self.place, args, kwargs)

    def extra_repr(self) -> str:
        return f"{self.place!r}"


def passed_on(place: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The argument at a place."""
    return kwargs[place] if isinstance(place, str) else args[place]
