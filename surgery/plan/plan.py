"""The finished plan of a model: its width groups, what is fixed and why, and everything needed to cut it."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from surgery.axes import layout
from surgery.axes.layout import Layout, Unit
from surgery.axes.sizes import Constant, Origin, evaluate
from surgery.errors import InputError, WidthError
from surgery.planning.solving.rewrites import Rewrite

WidthSpec: TypeAlias = "float | Mapping[str, int | float] | Any"


@dataclass(frozen=True, slots=True)
class LayoutSize(Origin):
    """The width of a layout: what formulas in a plan are made of."""

    layout: Layout


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


@dataclass(frozen=True, repr=False)
class Plan:
    """What `inspect` finds. Printed, it is a table; it holds no tensors."""

    model: str
    groups: Mapping[str, Group]
    fixed: tuple[Fixed, ...]
    layouts: Mapping[str, tuple[Layout, ...]]
    parameters: Mapping[str, int]  # elements of every parameter; what else is in `layouts` is a buffer
    stored_elements: Mapping[str, tuple[int, int]]  # of every tensor in the state_dict: elements, bytes of one
    formulas: tuple[tuple[str, tuple[Any, ...], Origin], ...] = ()
    rewrites: Mapping[str, Rewrite] = field(default_factory=dict)
    swaps: tuple[Swap, ...] = ()
    macs: tuple[Layout, ...] = ()
    scales: Mapping[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    unscaled: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    stored: tuple[tuple[str, str], ...] = ()  # attributes that forwards set: (module path, name)
    options: Mapping[str, Any] = field(default_factory=lambda: {"fixed": [], "only": [], "granularity": 1})
    states: tuple[str, ...] = ()  # classes of objects in the output that are state, such as caches
    dtypes: frozenset[Any] = frozenset()  # float types in a run that are coarser than the parameters
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All parameter elements, tied ones once."""
        return sum(self.parameters.values())

    @property
    def elastic_share(self) -> float:
        """The fraction of parameter elements that lie in some group."""
        return 1 - sum(item.elements for item in self.fixed) / self.total if self.total else 0.0

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the architecture: tensors, shapes, and how groups cut them."""
        described = [[name, [repr(dim) for dim in dims]] for name, dims in sorted(self.layouts.items())]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]

    @functools.cached_property
    def cut_tensors(self) -> frozenset[str]:
        """The names of the parameters and buffers that some group cuts."""
        return frozenset(tensor for group in self.groups.values() for tensor, _ in group.cuts)

    def canonical(self, name: str) -> str:
        """The name that the plan has for a tensor which is known by several."""
        return self.aliases.get(name, name)

    def full(self) -> dict[str, int]:
        """The width of every group in the whole model."""
        return {name: group.size for name, group in self.groups.items()}

    def find(self, pattern: str) -> list[str]:
        """The groups that a name, a glob, or a module path selects. Raises WidthError where there are none."""
        if pattern in self.groups:
            return [pattern]
        below = pattern.rstrip(".") + "."
        found = [
            name
            for name, group in self.groups.items()
            if fnmatch.fnmatchcase(name, pattern) or any(tensor.startswith(below) for tensor, _ in group.cuts)
        ]
        if not found:
            known = ", ".join(list(self.groups)[:6]) + (", ..." if len(self.groups) > 6 else "")
            raise WidthError(f"no group matches {pattern!r}. The groups of {self.model} are: {known or '(none)'}")
        return found

    def widths(self, spec: WidthSpec, multiple: int = 1) -> dict[str, int]:
        """The width of every group that `spec` asks for.

        Args:
            spec: a fraction in (0, 1]; a mapping of group names or globs to ints (widths) or floats (fractions),
                where later entries win and groups that are left out stay full; or a point of a curve.
            multiple: round fractions to multiples of this as well.

        Raises WidthError for a width that a group cannot have, and for a name that no group has.
        """
        spec = _plain(getattr(spec, "widths", spec))
        if isinstance(spec, bool) or not isinstance(spec, int | float | Mapping):
            raise WidthError(f"widths are a fraction, a mapping or a point of a curve, not {type(spec).__name__}")
        if isinstance(spec, int):
            raise WidthError(
                f"a bare int ({spec}) is no width for a whole model: write a fraction such as 0.5, "
                f"or a mapping such as {{'*': {spec}}}"
            )
        entries: Mapping[Any, Any] = {"*": spec} if isinstance(spec, float) else spec
        result = self.full()
        for pattern, value in entries.items():
            for name in self.find(str(pattern)) if pattern != "*" or self.groups else ():
                result[name] = self._width(self.groups[name], value, multiple)
        return result

    def _width(self, group: Group, value: Any, multiple: int) -> int:
        value = _plain(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WidthError(f"{group.limits}: a width is an int or a fraction, not {value!r}")
        if isinstance(value, float):
            if not 0 < value <= 1:
                raise WidthError(f"{group.limits}: a fraction lies in (0, 1], got {value}")
            step = math.lcm(group.granularity, multiple)
            if value == 1 or step > group.size:  # the full size is always valid
                return group.size
            return min(group.size, max(step, step * math.floor(value * group.size / step + 0.5)))
        if not 1 <= value <= group.size:
            raise WidthError(f"{group.limits}: the width {value} is not between 1 and {group.size}")
        if value % group.granularity and value != group.size:
            raise WidthError(f"{group.limits}: the width {value} is not a multiple of {group.granularity}")
        return int(value)

    def value(self, formula: Origin, widths: Mapping[str, int]) -> int:
        """A formula at the given widths."""

        def leaf(origin: Origin) -> int:
            assert isinstance(origin, LayoutSize)
            return layout.width(origin.layout, widths)

        return formula.value if isinstance(formula, Constant) else evaluate(formula, leaf)

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything that the table shows, and the layouts, as JSON; written to `path` if one is given."""
        data = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "parameters": self.total,
            "elastic_share": self.elastic_share,
            "groups": [
                {"name": g.name, "size": g.size, "granularity": g.granularity, "cuts": [list(cut) for cut in g.cuts],
                 "sets": list(g.sets), "parameters": g.parameters, "macs": g.macs}
                for g in self.groups.values()
            ],
            "fixed": [{"tensor": f.tensor, "elements": f.elements, "reason": f.reason} for f in self.fixed],
            "layouts": {name: [notation(dim) for dim in dims] for name, dims in self.layouts.items()},
            "rewritten": sorted(self.rewrites),
            "notes": list(self.notes),
        }  # fmt: skip
        text = json.dumps(data, indent=1)
        if path is not None:
            Path(path).write_text(text)
        return text

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        from surgery.plan.table import plan_table

        return plan_table(self)


def notation(dim: Layout) -> str:
    """A layout as einops would write it, group names as axes: `(3 qkv.o.0)`."""
    parts = []
    for factor in dim:
        if isinstance(factor, Unit):
            parts.append(factor.group or str(factor.size))
        else:
            parts.append("(" + " + ".join(notation(term) for term in factor.terms) + ")")
    return parts[0] if len(parts) == 1 else f"({' '.join(parts)})" if parts else "1"


def per_group(plan: Plan, what: str, value: int | Mapping[str, int]) -> dict[str, int]:
    """A number for each group that it is given for: one for all, or a mapping of names and globs (later ones win)."""
    entries = value if isinstance(value, Mapping) else {"*": value}
    for number in entries.values():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{what} is a positive int or a mapping of groups to such, got {number!r}")
    return {name: n for p, n in entries.items() for name in (plan.groups if p == "*" else plan.find(p))}


def _plain(value: Any) -> Any:
    """The numbers of numpy as Python's own."""
    if isinstance(value, bool | int | float) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def governed(layouts: Iterable[Layout], shape: Iterable[int], inside: frozenset[str]) -> int:
    """How many elements of a tensor lie in one of the groups."""
    return math.prod(shape) - math.prod(layout.outside(dim, inside) for dim in layouts)
