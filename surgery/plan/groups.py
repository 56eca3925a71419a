"""What a plan lists: groups, what is fixed, layers that change their class, forwards that are rewritten."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from torch import Tensor

from surgery.axes.formulas import Origin
from surgery.axes.layout import Layout
from surgery.errors import InputError
from surgery.modules.code.rewritten import Routine
from surgery.plan.runs import in_runs

OTHER = "hidden"
DEPTH, EXPERTS = "depth", "experts"  # groups whose units are modules
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
    DEPTH: "modules that run one after another, and may be left out",
    EXPERTS: "modules or parts of tensors side by side, whose results are added up, averaged or routed to",
    OTHER: "any other features: those of a multilayer perceptron, of a recurrence",
}


@dataclass(frozen=True)
class Listed:
    """Children of one module that are units of a group.

    Attributes:
        path: of the module that holds them: a ModuleList, Sequential or ModuleDict, or any that calls them by name.
        units: for each unit of the group, the names of the children that come and go with it.
        renumbered: whether the children are named 0, 1, 2, ... so that names move up where others go.
        passing: for children that leave a stand-in behind, which hands on one of its arguments: which one that is (a
            position or a keyword). None: nothing is left behind.
        own: whether the units are no modules, but tensors of this one. Those that stay take over the names of the first
            units.
    """

    path: str
    units: tuple[tuple[str, ...], ...]
    renumbered: bool = True
    passing: int | str | None = None
    own: bool = False

    def child(self, name: str) -> str:
        """The path of one of the children."""
        return f"{self.path}.{name}" if self.path else name


@dataclass(frozen=True)
class Group:
    """One irreducible axis of the model: units that are cut from tensors, or modules that are left out, or both.

    Attributes:
        name: `<module path of the first producing parameter>.<axis>`.
        size: the number of units that can be permuted independently.
        granularity: widths are multiples of it (or full); modules that run one after another go in such runs.
        cuts: (tensor, dimension) for every place that is cut with this group.
        sets: the attributes that follow the width.
        parameters: how many parameter elements the group cuts.
        macs: multiply-adds of the example runs that scale with the group.
        kind: what its units are, one of `KINDS`. It is found from what the model computes, not from names.
        least: the smallest width.
        lists: where modules are its units.
        order: the units by importance, where that is not how they are counted: a width keeps the first of these, and
            they run in their own order. The units that must stay come first.
        stays: the units that must stay.
    """

    name: str
    size: int
    granularity: int = 1
    cuts: tuple[tuple[str, int], ...] = ()
    sets: tuple[str, ...] = ()
    parameters: int = 0
    macs: int = 0
    kind: str = OTHER
    least: int = 1
    lists: tuple[Listed, ...] = ()
    order: tuple[int, ...] = ()
    stays: tuple[int, ...] = ()

    @property
    def limits(self) -> str:
        """What an error about its widths begins with."""
        least = f", at least {self.least}" if self.least > 1 else ""
        return f"group {self.name} (size {self.size}, granularity {self.granularity}{least})"

    @property
    def counted(self) -> bool:
        """Whether it has few units that are large: nothing is gained by multiples of 8, and a step of 8 is none."""
        return self.kind in (DEPTH, EXPERTS)

    @property
    def smallest(self) -> int:
        """The smallest width that it can have."""
        return self.at_least(1)

    def at_least(self, width: int | Fraction) -> int:
        """The smallest width that it can have, not below this."""
        steps = -(-max(width, self.least) // self.granularity)
        return min(self.size, int(steps) * self.granularity)

    def ordered(self, order: Sequence[int] | Tensor) -> Group:
        """The group with another order of importance. Raises InputError for what is none."""
        if self.kind != DEPTH:
            raise InputError(
                f"group {self.name} (kind {self.kind}) has its units in the order of its weights: sort or reorder the "
                "model. An order of importance is one of modules that run one after another, kind depth"
            )
        found = order.tolist() if isinstance(order, Tensor) else order
        if (
            isinstance(found, str)
            or not isinstance(found, Iterable)
            or sorted(found := list(found)) != list(range(self.size))
        ):
            raise InputError(f"group {self.name}: an order is a permutation of range({self.size}), got {order!r}")
        return self._ranked([int(unit) for unit in found])

    def stepped(self, granularity: int) -> Group:
        """The group with larger steps. Of modules that run one after another, neighbours then go together."""
        group = replace(self, granularity=math.lcm(self.granularity, granularity))
        return group._ranked(group.order) if group.order else group

    def _ranked(self, order: Sequence[int]) -> Group:
        ranked, least = in_runs(order, self.stays, self.granularity)
        return replace(self, order=ranked, least=max(self.least, least))

    def kept(self, width: int) -> tuple[int, ...]:
        """The units that are there at a width, in the order in which they run."""
        return tuple(sorted(self.order[:width])) if self.order else tuple(range(width))

    def rank(self, unit: int) -> int:
        """How many units are more important than this one: it is there at all larger widths."""
        return self.order.index(unit) if self.order else unit


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
