"""What a plan lists: groups, what is fixed, layers that change their class, forwards that are rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from surgery.axes.formulas import Origin
from surgery.axes.layout import Layout
from surgery.modules.code.rewritten import Routine


@dataclass(frozen=True)
class Group:
    """One irreducible axis of the model.

    Attributes:
        name: `<module path of the first producing parameter>.<axis>`.
        size: the number of units that can be permuted independently.
        granularity: widths are multiples of it (or full).
        cuts: (tensor, dimension) for every place that is cut with this group.
        sets: the attributes that follow the width.
        parameters: how many parameter elements the group cuts.
        macs: multiply-adds of the example runs that scale with the group.
    """

    name: str
    size: int
    granularity: int = 1
    cuts: tuple[tuple[str, int], ...] = ()
    sets: tuple[str, ...] = ()
    parameters: int = 0
    macs: int = 0

    @property
    def limits(self) -> str:
        """What an error about its widths begins with."""
        return f"group {self.name} (size {self.size}, granularity {self.granularity})"


@dataclass(frozen=True)
class Fixed:
    """Parameter elements of one tensor that no group cuts, and why."""

    tensor: str
    elements: int
    reason: str


@dataclass(frozen=True)
class Swap:
    """A layer whose class cannot express all widths, the plain class that can, and its axes by name."""

    path: str
    replacement: type
    axes: Mapping[str, Layout]


@dataclass(frozen=True)
class Rewrite:
    """A module's new forward, and a formula for each attribute that it reads.

    `methods` are those that it calls and that are rewritten with it: the path of their module, the name, the new code.
    """

    routine: Routine
    sizes: Mapping[str, Origin]
    methods: tuple[tuple[str, str, Routine], ...] = ()

    @property
    def source(self) -> str:
        """The new forward as Python code, and the functions that it calls where they are changed too."""
        return self.routine.source()
