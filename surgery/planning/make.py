"""From a model and example inputs to a finished plan: capture, analyse, solve, name, freeze."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from surgery.axes import layout
from surgery.axes.algebra import Axis, Dim, Sum, axes_of, extent, pin, resolve
from surgery.axes.layout import Layout, Unit
from surgery.axes.sizes import Arithmetic, Attribute, Constant, Origin, leaves
from surgery.capture.record import Capture, Shared, capture
from surgery.errors import CaptureError, InputError
from surgery.modules.code.bytecode import mentions
from surgery.modules.inputs import Examples, check_device, runs
from surgery.modules.tensors import Parts, parts_of
from surgery.modules.verify import TOLERANCES
from surgery.plan.plan import Fixed, Group, LayoutSize, Plan, Swap, governed, per_group
from surgery.planning import trial
from surgery.planning.analysis import Analysis, group_axes, pin_held
from surgery.planning.collecting import seldom
from surgery.planning.repeats import repeats
from surgery.planning.scaling import scaling
from surgery.planning.solving.rewrites import Rewrite
from surgery.planning.solving.solve import Solution, solve
from surgery.planning.unreached import reach
from surgery.rules.base import SizeOf
from surgery.twin.elastic import is_wrapped


@seldom()
def make_plan(
    model: nn.Module,
    examples: Examples,
    fixed: Iterable[str] = (),
    only: Iterable[str] = (),
    granularity: int | Mapping[str, int] = 1,
) -> Plan:
    """Find the width groups of a model. The arguments are those of `surgery.wrap`.

    Raises InputError for something that is no plain model, CaptureError where the model does not run on the inputs.
    """
    parts = check_model(model)
    captures, notes = record(parts, examples)
    analysis = analyse(parts, captures)
    reach(analysis)
    solution = solve(analysis)
    notes += _precision(parts, captures)
    names = axis_names(analysis)
    coarse = _coarse(analysis)
    plan = _Freezer(analysis, solution, names, coarse, notes).plan()
    known = [record.output for record in captures if not record.training]
    while plan.rewrites and (refused := trial.refused(parts, plan, examples, known)):
        plan = _Freezer(analysis, solve(analysis, refused), names, coarse, notes).plan()
    fixed, only = _listed(fixed, "fixed"), _listed(only, "only")
    if fixed or only:
        plan = _restricted(analysis, plan, names, coarse, notes, fixed, only)
    options = {"fixed": fixed, "only": only, "granularity": granularity}
    return replace(_with_granularity(plan, granularity), options=options)


def _listed(patterns: str | Iterable[str], what: str) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str):
            raise InputError(f"{what} takes globs over group names, or module paths, got {pattern!r}")
    return listed


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module is what `torch.compile` gives. Importing what it needs would take seconds."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def check_model(model: Any) -> Parts:
    """The parts of a model. Raises InputError for what cannot be analysed."""
    if not isinstance(model, nn.Module):
        raise InputError(f"a model is an nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("the model is a TorchScript module: wrap the plain one, and script or trace what comes out")
    parts = parts_of(model)
    for name, tensor in parts.tensors.items():
        if is_lazy(tensor):
            raise InputError(
                f"{name} has no shape yet, since {type(model).__name__} has lazy layers that have not run: run the "
                "model once on example inputs, then inspect or wrap it"
            )
    for path, module in parts.modules.items():
        if _is_compiled(module):
            raise InputError(
                f"{path or 'the model'} is compiled: wrap the plain model (its `_orig_mod`), and compile what comes out"
            )
        if isinstance(module, DataParallel | DistributedDataParallel):
            raise InputError(
                f"{path or 'the model'} is inside {type(module).__name__}: wrap the model itself first, "
                "then parallelise it"
            )
        if is_wrapped(module) and not is_wrapped(model):
            raise InputError(f"{path} is wrapped already: surgery.unwrap it, then wrap the whole model")
    return parts


def record(parts: Parts, examples: Examples) -> tuple[list[Capture], tuple[str, ...]]:
    """Record every run in eval mode, and in training mode too where some forward reads `training`."""
    try:
        return _recorded(parts, examples, records=True)
    except Shared:  # in one run is enough: plain data objects are shared in all
        return _recorded(parts, examples, records=False)


def _recorded(parts: Parts, examples: Examples, records: bool) -> tuple[list[Capture], tuple[str, ...]]:
    captures = []
    notes: list[str] = []
    for run in runs(examples):
        check_device(parts.parameters.values(), run)
        captures.append(capture(parts, run, records=records))
        if not any(_reads_mode(type(frame.module)) for frame in captures[-1].frames):
            continue
        try:
            captures.append(capture(parts, run, training=True, records=records))
        except CaptureError as error:
            notes.append(f"only the eval forward was analysed: {error}")
    return captures, tuple(dict.fromkeys(notes))


def analyse(parts: Parts, captures: Sequence[Capture]) -> Analysis:
    """Apply the rules to the recorded runs of a model, once where a training run repeats the eval run before it."""
    analysis = Analysis(parts)
    for i, record in enumerate(captures):
        if record.training and repeats(analysis, captures[i - 1], record):
            analysis.captures.append(record)
        else:
            analysis.add(record)
    pin_held(analysis)
    return analysis


def _coarser(parts: Parts, captures: Sequence[Capture]) -> frozenset[torch.dtype]:
    """The float types in a run that are coarser than those of the parameters."""
    own = [TOLERANCES[p.dtype] for p in parts.parameters.values() if p.dtype in TOLERANCES]
    inside = {node.meta["dtype"] for record in captures for node in record.graph.nodes} & set(TOLERANCES)
    return frozenset(dtype for dtype in inside if own and TOLERANCES[dtype] > max(own))


def _precision(parts: Parts, captures: Sequence[Capture]) -> tuple[str, ...]:
    """A note where the model computes in a coarser float type than that of its parameters, which bounds any proof."""
    coarse = _coarser(parts, captures)
    if not coarse:
        return ()
    allowed = max(TOLERANCES[dtype] for dtype in coarse)
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in coarse))
    return (f"it computes partly in {names}: proofs allow a difference of {allowed:.0e} of the output's scale",)


def _reads_mode(cls: type) -> bool:
    """Whether a forward may take another way in training. Torch's own layers compute on the same axes in both modes."""
    return not cls.__module__.startswith("torch.nn.") and mentions(cls, {"training"})


def axis_names(analysis: Analysis) -> dict[Axis, str]:
    """A unique name for every axis of a parameter: `<module path>.<axis>` of the first that makes it."""
    names: dict[Axis, str] = {}
    taken: set[str] = set()

    def name(dim: Dim, label: str) -> None:
        axes = list(dict.fromkeys(axes_of(dim)))
        for i, axis in enumerate(axes):
            if axis not in names:
                wanted = label if len(axes) == 1 else f"{label}.{i}"
                while wanted in taken:
                    wanted += "'"
                taken.add(wanted)
                names[axis] = wanted

    declared = {
        f"{layer.path}.{tensor}".lstrip("."): layer
        for layer in analysis.layers.values()
        for tensor in layer.adapter.params
    }
    for making in (True, False):
        for tensor in analysis.shapes:
            layer = declared.get(tensor)
            if layer is None:
                for i, dim in enumerate(analysis.tensors.get(tensor, ()) if making else ()):
                    name(dim, tensor if len(analysis.shapes[tensor]) == 1 else f"{tensor}.{i}")
                continue
            consumed = layer.adapter.consumed()
            for axis, dim in layer.binding.dims.items():
                if (axis not in consumed) == making:
                    name(dim, f"{layer.path}.{axis}".lstrip("."))
    return names


def _coarse(analysis: Analysis) -> dict[Axis, int]:
    """Axes that must keep at least two units, because some call treats a width of 1 differently."""
    coarse: dict[Axis, int] = {}
    for dim, where in analysis.pairs:
        axes = [axis for axis in axes_of(dim) if not axis.pin]
        several = any(isinstance(factor, Sum) for factor in resolve(dim))  # parts side by side are two at least
        if not axes or several or any(axis.pin for axis in axes_of(dim)):
            continue
        even = [axis for axis in axes if axis.size % 2 == 0 and axis.size > 2]
        if even:
            coarse[even[-1]] = 2
        else:
            pin(dim, f"a width of 1 would be another case at {where}")
    return coarse


def _restricted(
    analysis: Analysis,
    plan: Plan,
    names: dict[Axis, str],
    coarse: dict[Axis, int],
    notes: tuple[str, ...],
    fixed: Sequence[str],
    only: Sequence[str],
) -> Plan:
    """The plan when the caller keeps some groups fixed."""
    kept = {name for pattern in fixed for name in plan.find(pattern)}
    if only:
        kept |= set(plan.groups) - {name for pattern in only for name in plan.find(pattern)}
    for axis in group_axes(analysis):
        if names[axis] in kept:
            pin((axis,), "kept fixed by the caller")
    return _Freezer(analysis, solve(analysis), names, coarse, notes).plan()


def _with_granularity(plan: Plan, granularity: int | Mapping[str, int]) -> Plan:
    groups = dict(plan.groups)
    for name, value in per_group(plan, "granularity", granularity).items():
        groups[name] = replace(groups[name], granularity=math.lcm(groups[name].granularity, value))
    return replace(plan, groups=groups)


def freeze(dim: Dim, names: Mapping[Axis, str]) -> Layout:
    """A dimension with group names in place of axes, neighbouring fixed parts merged."""
    factors: list[Unit | layout.Sum] = []
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


class _Freezer:
    """Turns axes into the plain data of a `Plan`."""

    def __init__(
        self, analysis: Analysis, solution: Solution, names: dict[Axis, str], coarse: dict[Axis, int], notes: Any
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
            path: Rewrite(rewrite.routine, {name: self.formula(size) for name, size in rewrite.sizes.items()})
            for path, rewrite in self.solution.rewrites.items()
        }
        macs = tuple(map(self.layout, analysis.macs))
        uses = self._uses(layouts, formulas, macs)
        persistent = set(model.state_dict(keep_vars=True))
        states = tuple(dict.fromkeys(name for capture in analysis.captures for name in capture.root.states))
        return Plan(
            model=type(model).__name__,
            groups={name: self._group(axis, name, layouts, uses[name]) for axis, name in self.names.items()},
            fixed=tuple(self._fixed(layouts, parameters)),
            layouts=layouts,
            parameters=parameters,
            stored_elements={n: (t.numel(), t.element_size()) for n, t in tensors.items() if n in persistent},
            formulas=tuple((*key, formula) for key, formula in formulas.items()),
            rewrites=rewrites,
            swaps=tuple(self._swaps()),
            macs=macs,
            aliases={a: name for a, name in analysis.canonical.items() if a != name},
            stored=tuple(
                dict.fromkeys((f.path or "", name) for c in analysis.captures for f in c.frames for name in f.stored)
            ),
            states=states,
            dtypes=_coarser(analysis.parts, analysis.captures),
            notes=tuple(dict.fromkeys((*self.notes, *self.solution.notes, *map(_state_note, states)))),
            **scaling(analysis, self.layout, frozenset(self.names.values())),
        )

    def _uses(
        self, layouts: Mapping[str, tuple[Layout, ...]], formulas: Mapping[Any, Origin], macs: Sequence[Layout]
    ) -> dict[str, tuple[list[tuple[str, int]], list[str], list[Layout]]]:
        """For every group: the dimensions that it cuts, the attributes that follow it, and the work that it scales."""
        uses: dict[str, Any] = {name: ([], [], []) for name in self.names.values()}
        for tensor, dims in layouts.items():
            for i, dim in enumerate(dims):
                for name, _ in layout.sizes(dim):
                    uses[name][0].append((tensor, i))
        for key, formula in formulas.items():
            for name in _named(formula):
                uses[name][1].append(str(Attribute(key[0], key[1], 0)))
        for dim in macs:
            for name, _ in layout.sizes(dim):
                uses[name][2].append(dim)
        return uses

    def _group(self, axis: Axis, name: str, layouts: Mapping[str, tuple[Layout, ...]], uses: Any) -> Group:
        mine, (cuts, sets, macs) = frozenset([name]), uses
        tensors = [tensor for tensor in dict.fromkeys(t for t, _ in cuts) if tensor in self.analysis.parameters]
        return Group(
            name=name,
            size=axis.size,
            granularity=self.coarse.get(axis, 1),
            cuts=tuple(cuts),
            sets=tuple(sets),
            parameters=sum(governed(layouts[t], self.analysis.shapes[t], mine) for t in tensors),
            macs=sum(layout.width(dim, {}) - layout.outside(dim, mine) for dim in macs),
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
