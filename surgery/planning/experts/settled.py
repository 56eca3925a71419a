"""Experts: axes along which a router chooses, whose units are interchangeable though code reads their numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from surgery.axes.algebra import Axis, Dim, axes_of, extent, pin, resolve, unify
from surgery.axes.formulas import Attribute
from surgery.axes.sizes import Sign
from surgery.errors import WidthError
from surgery.modules.inputs import Examples, runs
from surgery.plan.groups import EXPERTS, Listed
from surgery.plan.selecting import covers
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.experts.exchange import Exchange
from surgery.planning.experts.interchange import Experiment, refused
from surgery.planning.experts.routers import CONTAINERS, routed
from surgery.planning.freeze import freeze
from surgery.planning.listed.found import Experts
from surgery.planning.names import axis_names
from surgery.rules.base import tensors_in


def settle(
    analysis: Analysis, examples: Examples, wanted: Sequence[str] | None, others: Collection[str] = ()
) -> tuple[str, ...]:
    """Decide which axes are experts; a note for each that is none. All that were left open and are none are pinned.

    Axes that are read unit by unit in one forward, of one size, are one. Each axis that code chooses from is tried:
    its units are permuted, with the modules of a list if there are as many. `wanted` are globs over their names;
    None: all. The `others` among them are for lists of modules that no router chooses from.

    Raises WidthError for a glob that fits none.
    """
    chosen, names = routed(analysis), axis_names(analysis)
    open_ = [axis for axis in group_axes(analysis) if axis.held]
    worth = {axis: names[axis] for axis in open_ if axis in chosen}
    for pattern in wanted or ():
        if pattern not in others and not any(covers(pattern, name) for name in worth.values()):
            raise WidthError(f"experts: {pattern!r} fits none of {', '.join(worth.values()) or '(none)'}")
    tried = [axis for axis, name in worth.items() if wanted is None or any(covers(pattern, name) for pattern in wanted)]
    for axis in open_:
        if axis not in tried:
            pin((axis,), "its name was not asked for" if axis in worth else str(axis.held))
    _Trial(analysis, examples).decide(tried)
    _require(analysis)
    _follow_loops(analysis)
    none = {axis: name for axis, name in {**_pinned(analysis, chosen), **names}.items() if axis in chosen and axis.pin}
    return tuple(f"{name} ({axis.size}) is chosen from, and no group: {axis.pin}" for axis, name in none.items())


def _pinned(analysis: Analysis, chosen: Collection[Axis]) -> dict[Axis, str]:
    """Axes that could be experts, but for what pinned them before; each by the first parameter that has it."""
    found: dict[Axis, str] = {}
    for name in analysis.parameters:
        for i, dim in enumerate(analysis.tensors.get(name, ())):
            for axis in axes_of(dim):
                if axis in chosen and axis.pin and axis.size in analysis.candidates:
                    found.setdefault(axis, f"{name}.{i}")
    return found


def join(analysis: Analysis) -> None:
    """Dimensions of one size that one forward reads unit by unit are one: it counts their units by one number."""
    chosen = routed(analysis)
    found: dict[tuple[str, int], list[Dim]] = {}
    for path, dim in analysis.counted:
        if extent(dim) > 1:
            found.setdefault((path, extent(dim)), []).append(dim)
    for (path, _), dims in found.items():
        if any(axis in chosen for dim in dims for axis in axes_of(dim)):
            for dim in dims[1:]:
                unify(dims[0], dim, f"the forward of {path or 'the model'}, which counts both")


class _Trial:
    """Axes that are tried: all at once, and where that fails each on its own, with the lists that could be theirs."""

    def __init__(self, analysis: Analysis, examples: Examples):
        self.analysis = analysis
        names = next((run.root.names for run in analysis.captures if run.root.names), ())
        modes = sorted({run.training for run in analysis.captures})
        self.experiment = Experiment(analysis.parts, runs(examples), names, modes)

    def decide(self, axes: Sequence[Axis]) -> None:
        if not axes:
            return
        found = {axis: list(_lists(self.analysis, axis)) for axis in axes}
        first = {axis: tuple(lists) for axis, lists in found.items()}
        if len(axes) > 1 and self.refused(first) is None:
            self.accept(first)
            return
        for axis in axes:
            several = [tuple(found[axis]), *((one,) for one in found[axis] if len(found[axis]) > 1), ()]
            reasons = []
            for lists in dict.fromkeys(several):
                reasons.append(self.refused({axis: lists}))
                if reasons[-1] is None:
                    self.accept({axis: lists})
                    break
            else:
                pin((axis,), f"{axis.held}; {reasons[0]}")

    def refused(self, lists: dict[Axis, tuple[Listed, ...]]) -> str | None:
        """Why these axes are no experts, each with its lists."""
        names = {axis: f"{i}" for i, axis in enumerate(lists)}
        layouts = {
            tensor: tuple(freeze(dim, names) for dim in dims)
            for tensor, dims in self.analysis.tensors.items()
            if any(axis in names for dim in dims for axis in axes_of(dim))
        }
        sizes = {name: axis.size for axis, name in names.items()}
        exchange = Exchange(sizes, layouts, {names[axis]: each for axis, each in lists.items()})
        return refused(self.experiment, exchange)

    def accept(self, lists: dict[Axis, tuple[Listed, ...]]) -> None:
        for axis, each in lists.items():
            self.analysis.experts[axis] = Experts(1, each)


def _require(analysis: Analysis) -> None:
    """Routers need as many units as they choose. Where they choose from several axes at once, the last one has enough

    for whatever the others are.
    """
    least = dict.fromkeys(analysis.experts, 1)
    asked = [([axis for axis in axes_of(dim)], count) for dim, count in analysis.least]
    for axes, count in sorted(asked, key=lambda one: len(one[0])):
        if axes and axes[-1] in least:
            others = math.prod(least.get(axis, axis.size) for axis in axes[:-1])
            least[axes[-1]] = min(axes[-1].size, max(least[axes[-1]], -(-count // others)))
    for axis, count in least.items():
        analysis.experts[axis] = replace(analysis.experts[axis], least=count)


def _lists(analysis: Analysis, axis: Axis) -> Iterator[Listed]:
    """Lists of as many modules as an axis has units, in forwards that know the axis."""
    paths = {
        frame.path
        for capture in analysis.captures
        for frame in capture.frames
        for node in frame.nodes
        for value in (node, *node.all_input_nodes)
        if any(axis in axes_of(dim) for dims in tensors_in(analysis.values.get(value)) for dim in dims)
    }
    for path, module in analysis.modules.items():
        if not isinstance(module, CONTAINERS) or len(module) != axis.size:
            continue
        if path in paths or path.rpartition(".")[0] in paths:
            names = list(module._modules)
            numbered = names == [str(i) for i in range(len(names))]
            yield Listed(path, tuple((name,) for name in names), renumbered=numbered)


def _follow_loops(analysis: Analysis) -> None:
    """Attributes that bound a loop over experts follow their number."""
    counted = [(path, dim) for path, dim in analysis.counted if any(axis in analysis.experts for axis in axes_of(dim))]
    for capture in analysis.captures:
        for branch in capture.branches:
            bound, path = branch.decision.left, capture.frames[branch.frame].path
            if branch.decision.sign is not Sign.VALUE or not isinstance(bound, Attribute):
                continue
            for other, dim in counted:
                if other == path and extent(dim) == bound.value:
                    analysis.attributes.append((bound.module, bound.path, resolve(dim)))
                    break


def available(analysis: Analysis) -> Iterator[tuple[str, str, int]]:
    """What may be experts, where that was not asked for: name, kind and size of axes that a router chooses from."""
    chosen, names = routed(analysis), axis_names(analysis)
    for axis, name in names.items():
        if axis in chosen and axis.pin and "positions are read" in axis.pin:
            yield name, EXPERTS, axis.size
