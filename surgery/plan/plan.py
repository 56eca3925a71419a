"""The finished plan of a model: its width groups, what is fixed and why, and everything needed to cut it."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch

from surgery.axes import layout
from surgery.axes.formulas import AttributePath, Constant, LayoutSize, Origin, evaluate
from surgery.axes.layout import Layout, Unit
from surgery.errors import InputError, WidthError
from surgery.plan.costs import CostModel, cost_model
from surgery.plan.groups import Fixed, Group, Rewrite, Swap
from surgery.plan.widths import WidthSpec, width_entries, width_of


@dataclass(frozen=True, repr=False)
class Plan:
    """What `inspect` finds. Printed, it is a table; it holds no tensors."""

    model: str
    groups: Mapping[str, Group]
    fixed: tuple[Fixed, ...]
    layouts: Mapping[str, tuple[Layout, ...]]
    parameters: Mapping[str, int]  # elements of every parameter; what else is in `layouts` is a buffer
    stored_elements: Mapping[str, tuple[int, int]]  # of every tensor in the state_dict: elements, bytes of one
    formulas: tuple[tuple[str, AttributePath, Origin], ...] = ()
    rewrites: Mapping[str, Rewrite] = field(default_factory=dict)
    swaps: tuple[Swap, ...] = ()
    macs: tuple[Layout, ...] = ()
    scales: Mapping[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    unscaled: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    stored: tuple[tuple[str, str, bool], ...] = ()  # attributes that forwards set: module, name, if it follows widths
    options: Mapping[str, object] = field(default_factory=lambda: {"fixed": [], "only": [], "granularity": 1})
    viewed: frozenset[str] = frozenset()  # tensors on which code calls `view`, which needs them without gaps
    states: tuple[str, ...] = ()  # classes of objects in the output that are state, such as caches
    dtypes: frozenset[torch.dtype] = frozenset()  # float types in a run that are coarser than the parameters
    caches: tuple[tuple[str, str, bool], ...] = ()  # what a twin forgets: module, attribute, if that is absent then
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

    @functools.cached_property
    def cost_model(self) -> CostModel:
        """What the model costs by widths: exact for one model (`at`), and for many at once."""
        return cost_model(self.groups, self.layouts, self.parameters, self.stored_elements, self.macs)

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
            multiple: round all of them to multiples of this as well.

        Raises WidthError for a width that a group cannot have, and for a name that no group has.
        """
        entries = width_entries(spec)
        result = self.full()
        for pattern, value in entries.items():
            for name in self.find(str(pattern)) if pattern != "*" or self.groups else ():
                result[name] = width_of(self.groups[name], value, multiple)
        return result

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


def governed(layouts: Iterable[Layout], shape: Iterable[int], inside: frozenset[str]) -> int:
    """How many elements of a tensor lie in one of the groups."""
    return math.prod(shape) - math.prod(layout.outside(dim, inside) for dim in layouts)


Draw: TypeAlias = "Callable[[Plan, torch.Generator], Mapping[str, int | float]]"


def plan_table(plan: Plan) -> str:
    """The groups, then everything that is fixed with its reason, then the totals."""
    lines = [f"{plan.model}: {plan.total:,} parameters, {plan.elastic_share:.1%} of them elastic", ""]
    rows = [("group", "size", "step", "tensors", "parameters", "MACs", "sets")]
    for g in plan.groups.values():
        tensors = len({tensor for tensor, _ in g.cuts})
        rows.append(
            (g.name, f"{g.size}", f"{g.granularity}", f"{tensors}", f"{g.parameters:,}", f"{g.macs:,}", _few(g.sets))
        )
    lines += _aligned(rows, left=(0, 6))
    elastic = plan.total - sum(item.elements for item in plan.fixed)
    lines += ["", f"fixed: {plan.total - elastic:,} parameters"]
    lines += _aligned([(f"  {f.tensor}", f"{f.elements:,}", f.reason) for f in plan.fixed], left=(0, 2))
    for path in sorted(plan.rewrites):
        lines.append(f"rewritten forward: {path or 'the model itself'} (its code holds sizes that must follow)")
    lines += [f"note: {note}" for note in plan.notes]
    lines += ["", f"total: {elastic:,} elastic + {plan.total - elastic:,} fixed = {plan.total:,} parameters"]
    lines.append("(groups overlap: a weight has rows and columns)")
    return "\n".join(lines)


def _few(names: Sequence[str], most: int = 2) -> str:
    return ", ".join(names[:most]) + (f", +{len(names) - most}" if len(names) > most else "")


def _aligned(rows: Sequence[Sequence[str]], left: Iterable[int]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = set(left)
    return [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
