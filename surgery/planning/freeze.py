"""From axes to the plain data of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from surgery.axes import layout
from surgery.axes.algebra import Axis, Dim, Sum, axes_of, extent, resolve
from surgery.axes.formulas import Agreed, Arithmetic, Attribute, Constant, Extent, LayoutSize, Origin, SizeOf, leaves
from surgery.axes.layout import Layout, Unit
from surgery.axes.sizes import Sign, Size
from surgery.capture.frames import info
from surgery.capture.record import Capture
from surgery.capture.recorder import call_name
from surgery.capture.trace import foreign
from surgery.modules.tensors import Parts
from surgery.modules.verify import TOLERANCES
from surgery.nested import fold, mapped
from surgery.plan.groups import EXPERTS, OTHER, Fixed, Group, Swap
from surgery.plan.plan import Plan, governed
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.kinds import axis_kinds
from surgery.planning.scaling import scaling
from surgery.planning.solving.expressions import Key
from surgery.planning.solving.solve import Solution
from surgery.rules.base import tensors_in


def coarser_dtypes(parts: Parts, captures: Sequence[Capture]) -> frozenset[torch.dtype]:
    """The float types in a run that are coarser than those of the parameters."""
    own = [TOLERANCES[p.dtype] for p in parts.parameters.values() if p.dtype in TOLERANCES]
    seen = {info(node).dtype for run in captures for node in run.graph.nodes}
    inside = {dtype for dtype in seen if dtype is not None} & set(TOLERANCES)
    return frozenset(dtype for dtype in inside if own and TOLERANCES[dtype] > max(own))


def freeze(dim: Dim, names: Mapping[Axis, str]) -> Layout:
    """A dimension with group names in place of axes, neighbouring fixed parts merged."""
    factors: list[Unit | layout.Sum | layout.Present] = []
    for factor in resolve(dim):
        made: Layout
        if isinstance(factor, Sum):
            terms = _merged([freeze(term, names) for term in factor.terms])
            made = terms[0] if len(terms) == 1 else (layout.Sum(tuple(terms)),)
        else:
            made = (Unit(factor.size, names.get(factor)),)
        for part in made:
            last = factors[-1] if factors else None
            if isinstance(part, Unit) and not part.group and isinstance(last, Unit) and not last.group:
                factors[-1] = Unit(last.size * part.size)
            else:
                factors.append(part)
    return tuple(factors)


def _merged(terms: list[Layout]) -> list[Layout]:
    """The terms of a sum, neighbouring fixed ones as one."""
    merged: list[Layout] = []
    for term in terms:
        if merged and not any(layout.groups(term)) and not any(layout.groups(merged[-1])):
            merged[-1] = (Unit(layout.width(merged[-1], {}) + layout.width(term, {})),)
        else:
            merged.append(term)
    return merged


@dataclass
class GroupUse:
    """What one group is used for: the dimensions that it cuts, the attributes that follow it, the work it scales."""

    cuts: list[tuple[str, int]] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    macs: list[Layout] = field(default_factory=list)


class Freezer:
    """Turns axes into the plain data of a `Plan`."""

    def __init__(
        self,
        analysis: Analysis,
        solution: Solution,
        names: Mapping[Axis, str],
        coarse: Mapping[Axis, int],
        notes: Sequence[str],
    ):
        self.analysis, self.solution, self.notes = analysis, solution, notes
        self.axes = group_axes(analysis)
        self.names = {axis: names[axis] for axis in self.axes}
        self.coarse = coarse

    def layout(self, dim: Dim) -> Layout:
        return freeze(dim, self.names)

    def formula(self, origin: Origin) -> Origin:
        """A formula over layouts; attributes without a formula are constants."""
        if isinstance(origin, Arithmetic):
            return Arithmetic(origin.sign, self.formula(origin.left), self.formula(origin.right))
        if isinstance(origin, Agreed):
            return Agreed(tuple(map(self.formula, origin.options)), origin.otherwise)
        if isinstance(origin, SizeOf):
            return LayoutSize(self.layout(origin.dim))
        if isinstance(origin, Attribute):
            known = self.solution.formulas.get((origin.module, origin.path))
            return Constant(origin.value) if known is None else self.formula(known)
        return origin

    def plan(self) -> Plan:
        model, analysis = self.analysis.model, self.analysis
        tensors = analysis.parts.tensors
        parameters = analysis.parameters
        layouts = {name: tuple(map(self.layout, dims)) for name, dims in analysis.tensors.items()}
        layouts = {name: layouts[name] for name in tensors if name in layouts}
        formulas = {key: self.formula(origin) for key, origin in self.solution.formulas.items()}
        formulas = {key: formula for key, formula in formulas.items() if _named(formula)}
        rewrites = {
            path: replace(rewrite, sizes={name: self.formula(size) for name, size in rewrite.sizes.items()})
            for path, rewrite in self.solution.rewrites.items()
        }
        macs = tuple(map(self.layout, analysis.macs))
        kinds = axis_kinds(analysis)
        uses = self._uses(layouts, formulas, macs)
        persistent = set(model.state_dict(keep_vars=True))
        states = tuple(dict.fromkeys(name for capture in analysis.captures for name in capture.root.states))
        return Plan(
            model=type(model).__name__,
            groups={
                name: self._group(axis, name, kinds.get(axis, OTHER), layouts, uses[name])
                for axis, name in self.names.items()
            },
            fixed=tuple(self._fixed(layouts, parameters)),
            layouts=layouts,
            parameters=parameters,
            stored_elements={n: (t.numel(), t.element_size()) for n, t in tensors.items() if n in persistent},
            formulas=tuple((*key, formula) for key, formula in formulas.items()),
            rewrites=rewrites,
            swaps=tuple(self._swaps()),
            macs=macs,
            aliases={a: name for a, name in analysis.canonical.items() if a != name},
            stored=self._stored(),
            viewed=frozenset(self._viewed()),
            states=states,
            outputs=next((capture.root.names for capture in analysis.captures if capture.root.names), ()),
            dtypes=coarser_dtypes(analysis.parts, analysis.captures),
            notes=tuple(dict.fromkeys((*self.notes, *self.solution.notes, *map(_state_note, states)))),
            **scaling(analysis, self.layout, frozenset(self.names.values())),
        )

    def _uses(
        self, layouts: Mapping[str, tuple[Layout, ...]], formulas: Mapping[Key, Origin], macs: Sequence[Layout]
    ) -> dict[str, GroupUse]:
        """What every group is used for."""
        uses = {name: GroupUse() for name in self.names.values()}
        for tensor, dims in layouts.items():
            for i, dim in enumerate(dims):
                for name, _ in layout.sizes(dim):
                    uses[name].cuts.append((tensor, i))
        for key, formula in formulas.items():
            for name in _named(formula):
                uses[name].sets.append(str(Attribute(key[0], key[1], 0)))
        for dim in macs:
            for name, _ in layout.sizes(dim):
                uses[name].macs.append(dim)
        return uses

    def _stored(self) -> tuple[tuple[str, str, bool], ...]:
        """The attributes that forwards set: module, name, and whether what is in them follows the widths.

        A flag goes with what its module keeps, and so does a number that code compares with zero: they may say that
        something is there.
        """
        found: dict[tuple[str, str], bool] = {}
        flags = set(self._counters())
        for frame in (frame for capture in self.analysis.captures for frame in capture.frames):
            for name, value in frame.stored.items():
                key = frame.path or "", name
                found[key] = found.get(key, False) or self._follows(value)
                flags |= {key} if isinstance(value, bool) else set()
        following = {path for (path, _), follows in found.items() if follows}
        return tuple((*key, follows or (key in flags and key[0] in following)) for key, follows in found.items())

    def _counters(self) -> Iterator[tuple[str, str]]:
        """The attributes that code has asked whether they are zero."""
        for decision in (branch.decision for capture in self.analysis.captures for branch in capture.branches):
            for one, other in ((decision.left, decision.right), (decision.right, decision.left)):
                if decision.sign is Sign.EQ and isinstance(one, Attribute) and other == Constant(0):
                    yield one.module, str(one.path[0])

    def _viewed(self) -> Iterator[str]:
        for capture in self.analysis.captures:
            for node in capture.graph.nodes:
                if node.op == "get_attr" and any(call_name(user.target) in ("view", "view_as") for user in node.users):
                    yield self.analysis.canonical.get(str(node.target), str(node.target))

    def _follows(self, value: Any) -> bool:
        """Whether a value holds something that has other sizes at other widths, or may have."""
        leaves_: list[Any] = []
        mapped(value, lambda leaf, _: leaves_.append(leaf))
        if any(leaf is foreign or (isinstance(leaf, Size) and self._is_width(leaf.origin)) for leaf in leaves_):
            return True
        dims = tensors_in([self.analysis.values.get(node) for node in fold(value, fx.Node)])
        return any(axis in self.names for dim in dims for part in dim for axis in axes_of(part))

    def _is_width(self, origin: Origin) -> bool:
        """Whether an integer that a forward has computed follows the widths."""
        for leaf in leaves(origin):
            dims = self.analysis.values.get(leaf.node) if isinstance(leaf, Extent) else None
            known = SizeOf(dims[leaf.dim]) if isinstance(leaf, Extent) and dims is not None else leaf
            if _named(self.formula(known)):
                return True
        return False

    def _group(
        self, axis: Axis, name: str, kind: str, layouts: Mapping[str, tuple[Layout, ...]], use: GroupUse
    ) -> Group:
        mine, experts = frozenset([name]), self.analysis.experts.get(axis)
        tensors = [tensor for tensor in dict.fromkeys(t for t, _ in use.cuts) if tensor in self.analysis.parameters]
        return Group(
            name=name,
            size=axis.size,
            granularity=self.coarse.get(axis, 1),
            cuts=tuple(use.cuts),
            sets=tuple(use.sets),
            parameters=sum(governed(layouts[t], self.analysis.shapes[t], mine) for t in tensors),
            macs=sum(layout.width(dim, {}) - layout.outside(dim, mine) for dim in use.macs),
            kind=EXPERTS if experts else kind,
            least=experts.least if experts else 1,
            lists=experts.lists if experts else (),
        )

    def _fixed(self, layouts: Mapping[str, tuple[Layout, ...]], parameters: Mapping[str, int]) -> Iterator[Fixed]:
        every = frozenset(self.names.values())
        for name, elements in parameters.items():
            if name not in layouts:
                yield Fixed(name, elements, "the example inputs do not reach it")
                continue
            rest = elements - governed(layouts[name], self.analysis.shapes[name], every)
            if rest:
                reasons = dict.fromkeys(r for dim in self.analysis.tensors[name] for r in _reasons(dim))
                yield Fixed(name, rest, "; ".join(reasons) or "a single value has no width")

    def _swaps(self) -> Iterator[Swap]:
        for path, layer in self.analysis.layers.items():
            replacement = layer.adapter.replacement
            if replacement is not None:
                axes = {axis: self.layout(dim) for axis, dim in layer.binding.dims.items()}
                yield Swap(path, replacement, axes)


def _reasons(dim: Dim) -> Iterator[str]:
    """Why a dimension is pinned. Where single positions are all that is left of it, there is no axis that could say."""
    axes = list(axes_of(dim))
    yield from (axis.pin for axis in axes if axis.pin)
    if not axes and extent(dim) > 1:
        yield "every position stands alone"


def _state_note(name: str) -> str:
    kind = name.rpartition(".")[2]
    return f"the {kind} that it returns is its state, not a result: it fits the model, at the widths, that made it"


def _named(formula: Origin) -> set[str]:
    return {name for leaf in leaves(formula) if isinstance(leaf, LayoutSize) for name in layout.groups(leaf.layout)}
