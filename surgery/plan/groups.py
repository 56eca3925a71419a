"""What a plan lists: groups, what is fixed, layers that change their class, forwards that are rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from surgery.axes.formulas import Origin
from surgery.axes.layout import Layout
from surgery.modules.code.rewritten import Routine

OTHER = "hidden"
# What the axes of a model are, told by what calls do with them; where several hold, the first.
KINDS = {
    "heads": "heads of attention; where several queries share a key, queries for each of the key's heads",
    "kv_heads": "heads of keys and values that several heads of queries share",
    "residual": "features to which layers add",
    "head_width": "features of one head: those that queries and keys are compared by, and those of values",
    "embedding": "features of a table that is read by indices, where nothing is added to them",
    "channels": "channels of convolutions",
    "inner": "features inside of another layer that multiplies activations: state spaces, linear attention",
    "ffn": "features between two linear maps that lead from a residual width and back to one",
    OTHER: "any other features: those of a multilayer perceptron, of a recurrence",
}


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
        kind: what its units are, one of `KINDS`. It is found from what the model computes, not from names.
    """

    name: str
    size: int
    granularity: int = 1
    cuts: tuple[tuple[str, int], ...] = ()
    sets: tuple[str, ...] = ()
    parameters: int = 0
    macs: int = 0
    kind: str = OTHER

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
