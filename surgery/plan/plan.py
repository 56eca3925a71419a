"""The finished plan of a model: its width groups, what is fixed and why, and everything needed to cut it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from surgery.axes import layout
from surgery.axes.formulas import AttributePath, Constant, LayoutSize, Origin, Rank, evaluate
from surgery.axes.layout import Layout
from surgery.errors import InputError
from surgery.plan.costs import CostModel, cost_model
from surgery.plan.groups import DEPTH, Fixed, Group, Rewrite, Swap
from surgery.plan.page.report import report
from surgery.plan.selecting import selected
from surgery.plan.table import notation, plan_table
from surgery.plan.ties import Tie
from surgery.plan.units import Units
from surgery.plan.widths import WidthSpec, check_multiple, width_entries, width_of


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
    outputs: tuple[str, ...] = ()  # the parts of what it returns that count; none where all do
    states: tuple[str, ...] = ()  # classes of objects in the output that are state, such as caches
    dtypes: frozenset[torch.dtype] = frozenset()  # float types in a run that are coarser than the parameters
    caches: tuple[tuple[str, str, bool], ...] = ()  # what a twin forgets: module, attribute, if that is absent then
    notes: tuple[str, ...] = ()
    ties: tuple[Tie, ...] = ()
    available: tuple[tuple[str, str, int], ...] = ()  # groups of modules that were not asked for: name, kind, size

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
        described: list[object] = [[name, [repr(dim) for dim in dims]] for name, dims in sorted(self.layouts.items())]
        described += [[name, repr(group.lists)] for name, group in sorted(self.units.groups.items())]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]

    @functools.cached_property
    def cut_tensors(self) -> frozenset[str]:
        """The names of the parameters and buffers that some group cuts."""
        return frozenset(tensor for group in self.groups.values() for tensor, _ in group.cuts)

    @functools.cached_property
    def cost_model(self) -> CostModel:
        """What the model costs by widths: exact for one model (`at`), and for many at once."""
        return cost_model(self.groups, self.layouts, self.parameters, self.stored_elements, self.macs, self.units)

    @functools.cached_property
    def units(self) -> Units:
        """The groups whose units are modules, and which of these are there at some widths."""
        others: dict[str, list[str]] = {}
        for alias, name in self.aliases.items():
            others.setdefault(name, []).append(alias)
        return Units({name: group for name, group in self.groups.items() if group.lists}, others)

    def canonical(self, name: str) -> str:
        """The name that the plan has for a tensor which is known by several."""
        return self.aliases.get(name, name)

    def full(self) -> dict[str, int]:
        """The width of every group in the whole model."""
        return {name: group.size for name, group in self.groups.items()}

    def find(self, pattern: str) -> list[str]:
        """The groups that a name, a glob, a module path or a kind selects; see `selected`.

        Raises WidthError where there are none, and where a word is a module path and a kind.
        """
        return selected(self.groups, pattern, self.model)

    def lists(self, pattern: str) -> list[str]:
        """The groups of modules that run one after another among those that a pattern selects; all, without such."""
        found = self.find(pattern)
        return [name for name in found if self.groups[name].kind == DEPTH] or found

    @functools.cached_property
    def free(self) -> tuple[str, ...]:
        """The groups that have widths of their own: not those that follow the first of a tie, or are always full."""
        led = {name for tie in self.ties for name in tie.groups[1:]}
        return tuple(name for name, g in self.groups.items() if name not in led and g.smallest < g.size)

    def tied(self, name: str) -> tuple[str, ...]:
        """A group, and those that move with it."""
        return next((tie.groups for tie in self.ties if name in tie.groups), (name,))

    def widths(self, spec: WidthSpec, multiple: int = 1) -> dict[str, int]:
        """The width of every group that `spec` asks for.

        Args:
            spec: a fraction in (0, 1]; a mapping of group names, globs, module paths or kinds to ints (widths) or
                floats (fractions), where later entries win and groups that are left out stay full; or a point of a
                curve. Groups that are tied follow those that are given.
            multiple: round all of them to multiples of this as well.

        Raises WidthError for a width that a group cannot have, for a name that no group has, and for widths that tied
        groups cannot have together; InputError for a multiple that is no positive int.
        """
        check_multiple(multiple)
        given: dict[str, int | float] = {}
        named: set[str] = set()
        for pattern, value in width_entries(spec).items():
            for name in self.find(str(pattern)) if pattern != "*" or self.groups else ():
                given.pop(name, None)
                given[name] = value
                named.discard(name)
            named |= {pattern} & self.groups.keys()
        result = self.full() | {name: width_of(self.groups[name], value, multiple) for name, value in given.items()}
        for tie in self.ties:
            result.update(tie.widths(self.groups, given, named, multiple))
        return result

    def ordered(self, orders: Mapping[str, Sequence[int] | Tensor]) -> Plan:
        """The plan with other orders of importance for groups of modules: permutations, by name, glob or kind.

        What must stay comes first in any case. Raises InputError for what is no order of such a group, WidthError for a
        name that no group has.
        """
        if not isinstance(orders, Mapping):
            raise InputError(f"orders is a mapping of groups to permutations of their units, got {orders!r}")
        found = {name: order for pattern, order in orders.items() for name in self.lists(pattern)}
        changed = {name: self.groups[name].ordered(order) for name, order in found.items()}
        return dataclasses.replace(self, groups={**self.groups, **changed})

    def value(self, formula: Origin, widths: Mapping[str, int]) -> int:
        """A formula at the given widths."""

        def leaf(origin: Origin) -> int:
            if isinstance(origin, Rank):
                kept = self.groups[origin.group].kept(widths[origin.group])
                return sum(unit < origin.unit for unit in kept) + origin.offset
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
                 "sets": list(g.sets), "parameters": g.parameters, "macs": g.macs, "kind": g.kind, "least": g.least,
                 "order": list(g.order),
                 "lists": [{"path": one.path, "units": [list(names) for names in one.units]} for one in g.lists]}
                for g in self.groups.values()
            ],
            "fixed": [{"tensor": f.tensor, "elements": f.elements, "reason": f.reason} for f in self.fixed],
            "layouts": {name: [notation(dim) for dim in dims] for name, dims in self.layouts.items()},
            "rewritten": sorted(self.rewrites),
            "notes": list(self.notes),
            "ties": [list(tie.groups) for tie in self.ties],
            "available": [{"name": name, "kind": kind, "size": size} for name, kind, size in self.available],
        }  # fmt: skip
        text = json.dumps(data, indent=1)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        return text

    def table(self, full: bool = False, only: str | None = None, columns: int | None = None) -> str:
        """What is printed: groups, what is fixed and why, totals. Blocks that repeat are one row, unless `full`.

        Args:
            full: a row for each block, also where blocks repeat.
            only: show what a pattern selects, as in `find`: groups, and what is fixed of the parameters that it names.
            columns: shorten what attributes follow, so that lines have no more characters than this.
        """
        return plan_table(self, full, only, columns)

    def report(self, path: str | Path, *, widths: WidthSpec | None = None, title: str | None = None) -> Path:
        """Write the plan as a page that draws the model: one HTML file, without a network. Returns its path.

        Args:
            path: where the page goes, such as `plan.html`.
            widths: what `Plan.widths` takes: show what is kept and what is cut away at these.
            title: the heading of the page.

        Raises InputError where it cannot be written, WidthError as `widths` does.
        """
        return report(self, path, widths, title)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return plan_table(self)


def per_group(plan: Plan, what: str, value: int | Mapping[str, int]) -> dict[str, int]:
    """A number for each group that it is given for: one for all, or a mapping of names and globs (later ones win).

    One for all, or for `*`, is one of features: modules and experts are asked for by their names, or their kind.
    """
    entries = value if isinstance(value, Mapping) else {"*": value}
    for number in entries.values():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{what} is a positive int or a mapping of groups to such, got {number!r}")
    features = [name for name, group in plan.groups.items() if not group.counted]
    return {name: n for p, n in entries.items() for name in (features if p == "*" else plan.find(p))}


def governed(layouts: Iterable[Layout], shape: Iterable[int], inside: frozenset[str]) -> int:
    """How many elements of a tensor lie in one of the groups."""
    return math.prod(shape) - math.prod(layout.outside(dim, inside) for dim in layouts)


Draw: TypeAlias = "Callable[[Plan, torch.Generator], Mapping[str, int | float]]"
