"""What one module of a twin keeps: of reads, of one forward, and of what forwards have set."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


class Absent:
    """Stands for the value of an attribute that a module does not have."""


@dataclass(frozen=True)
class Stored:
    """An attribute that forwards set: what it held before any of them.

    One that `follows` the widths belongs to forwards at one width: before a forward at others, it is put back.
    """

    before: Any
    follows: bool


@dataclass
class Gathered:
    """A slice that is no view of its tensor, and may be written into."""

    value: Tensor
    version: int
    whole: Tensor


@dataclass
class Shown:
    """A container with slices in it, as one forward sees it, and what was in it when it was made."""

    moment: tuple[int, bool]
    source: object
    value: Any
    given: Any


@dataclass
class Memory:
    """What a module keeps of reads.

    Attributes:
        cache: what follows from the widths alone, with the version of the widths that it was made at.
        made: what forwards have set that is of the modules that are there, with the version of the widths.
        wholes: the full shapes of tensors, once they were needed.
        gathered, shown, assigned, lent: of one forward; `assigned` are new values of buffers, `lent` gathered slices
            of parameters that code may write into through `data`, which leaves no trace.
    """

    cache: dict[str, tuple[int, Any]] = field(default_factory=dict)
    made: dict[str, tuple[int, Any]] = field(default_factory=dict)
    wholes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gathered: dict[str, Gathered] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    assigned: dict[str, Tensor] = field(default_factory=dict)
    lent: dict[str, Gathered] = field(default_factory=dict)

    def made_at(self, name: str, version: int) -> Any:
        """What a forward has set at this version of the widths; `Absent` where there is nothing."""
        known, value = self.made.get(name, (-1, None))
        return value if known == version else Absent

    def forget(self) -> None:
        """Let go of what belongs to one forward."""
        for kept in (self.gathered, self.shown, self.assigned, self.lent):
            kept.clear()


def put_back(modules: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> None:
    """Give modules the attributes that they had before forwards set them. What modules share, they share again."""
    copies: dict[int, Any] = {}
    for module, before in modules:
        for name, value in before.items():
            if value is Absent:
                vars(module).pop(name, None)
            elif isinstance(value, Tensor):
                vars(module)[name] = value
            else:
                if id(value) not in copies:
                    copies[id(value)] = copy.copy(value)
                vars(module)[name] = copies[id(value)]


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed."""
    return -1 if tensor.is_inference() else tensor._version
