"""Work that is done for each expert, whatever a router says: with fewer of them less is done.

Where every expert runs on all tokens, or on as many as it has room for, its calls come and go with it. Where tokens are
sent to experts, how much each has to do depends on data: fewer experts have more to do each, and the total stays.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import fx

from surgery.axes.algebra import Axis, Dims, axes_of, extent
from surgery.capture.frames import info
from surgery.capture.recorder import call_name
from surgery.nested import fold
from surgery.planning.analysis import Analysis
from surgery.planning.listed.calls import Run, inside
from surgery.rules.base import tensors_in

Owner: TypeAlias = tuple[Axis, int]  # an axis, and a unit of it
MIXED = -1  # of several units
# Calls that give as much as there is in their data; and those that take parts, by numbers that Python knows.
_BY_DATA = frozenset(("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"))
_PARTS = frozenset("getitem __getitem__ narrow split split_with_sizes tensor_split chunk unbind select".split())


def owned(analysis: Analysis) -> dict[fx.Node, frozenset[Owner]]:
    """The recorded calls that are not made without some experts, whatever the data: those of which they are."""
    found: dict[fx.Node, set[Owner]] = {}
    worked = Counter(node for node, _ in analysis.workers)
    for run in map(Run, (capture for capture in analysis.captures if not capture.training)):
        if worked.keys() & run.index.keys():
            for axis, known in analysis.experts.items():
                units = {
                    listed.child(n): i for listed in known.lists for i, all_ in enumerate(listed.units) for n in all_
                }
                for scope in _scopes(analysis, run, axis):
                    for node, unit in _Each(analysis, run, axis, scope, units).work():
                        found.setdefault(node, set()).add((axis, unit))
    return {node: frozenset(owners) for node, owners in found.items()}


def _scopes(analysis: Analysis, run: Run, axis: Axis) -> list[str]:
    """The modules whose code goes through experts: those around a list of them, and those that take parts by number."""
    lists = [listed.path.rpartition(".")[0] for listed in analysis.experts[axis].lists]
    parts = [run.path(node) for node in run.nodes if taken(analysis, node, axis) is not None]
    return list(dict.fromkeys((*lists, *parts)))


@dataclass
class _Each:
    """What one module does for each unit of an axis, in one run.

    Attributes:
        scope: the path of the module.
        units: of modules that are units, by their paths.
        labels: the unit that a call is for, as it is a part of it, or reads what is; `MIXED` where that are several.
        parts: the calls that are parts of units: in their modules, or such that take a unit out of a tensor.
    """

    analysis: Analysis
    run: Run
    axis: Axis
    scope: str
    units: Mapping[str, int]
    labels: dict[fx.Node, int] = field(default_factory=dict)
    parts: set[fx.Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.nodes = [node for node in self.run.nodes if inside(self.run.path(node), self.scope)]
        for node in self.nodes:
            unit = self._unit(node)
            given = {self.labels[value] for value in _given(node) if value in self.labels}
            if unit is not None:
                self.parts.add(node)
                self.labels[node] = unit
            elif given:
                self.labels[node] = given.pop() if len(given) == 1 else MIXED

    def _unit(self, node: fx.Node) -> int | None:
        """The unit that a call is a part of; None for any other."""
        own = self.run.within(node, self.units)
        if own is not None and inside(own, self.scope):
            return self.units[own]
        return taken(self.analysis, node, self.axis)

    def work(self) -> Iterator[tuple[fx.Node, int]]:
        """The calls that multiply and add for one unit, and for which; none where data says how much each has to do.

        Those that lead to a unit alone are of it where all others have such calls, too: what results are added to is
        none of the first one's.
        """
        own, before = self._amounts(self.labels), self._amounts(self._leading(self.labels))
        if not all(each and _sizes(each) == _sizes(own[0]) for each in own) or self._by_data():
            return
        common = functools.reduce(operator.and_, map(_sizes, before))
        inner = self._leading(self.parts)
        for unit, each in enumerate(own):
            yield from ((node, unit) for node, _ in each)
            left = common.copy()
            for node, size in sorted(before[unit], key=lambda one: one[0] not in inner):
                if left[size]:
                    left[size] -= 1
                    yield node, unit

    def _amounts(self, labels: Mapping[fx.Node, int]) -> list[list[tuple[fx.Node, int]]]:
        """For each unit, the calls with its label that multiply and add, and how much."""
        found: list[list[tuple[fx.Node, int]]] = [[] for _ in range(self.axis.size)]
        for (node, _), dim in zip(self.analysis.workers, self.analysis.macs, strict=True):
            label = labels.get(node, MIXED)
            if label != MIXED and self.axis not in axes_of(dim):
                found[label].append((node, extent(dim)))
        return found

    def _leading(self, to: Container[fx.Node]) -> dict[fx.Node, int]:
        """Calls for no unit of which what they make goes into one unit alone, at these calls for it, and which."""
        found: dict[fx.Node, set[int]] = {}
        for node in reversed(self.nodes):
            label = self.labels.get(node)
            mark = found.get(node, set()) if label is None else {label} if node in to else set()
            for value in _given(node):
                if value not in self.labels:
                    found.setdefault(value, set()).update(mark)
        return {node: next(iter(found[node])) for node in self.nodes if len(found.get(node, ())) == 1}

    def _by_data(self) -> bool:
        """Whether data says how much some unit has to do: in calls for it, or in those that lead to it alone."""
        before = self._leading(self.parts)
        if any(_sized_by_data(node) for node in (*self.labels, *before) if self.labels.get(node) != MIXED):
            return True
        asked = [Counter[str]() for _ in range(self.axis.size)]
        for node, unit in before.items():
            if call_name(node.target) in _PARTS:  # by numbers, which may have been data: not where they are the same
                asked[unit][str(node.args[1:])] += 1
        return any(each != asked[0] for each in asked)


def _given(node: fx.Node) -> Iterator[fx.Node]:
    return fold((node.args, node.kwargs), fx.Node)


def _sized_by_data(node: fx.Node) -> bool:
    name = call_name(node.target)
    if name == "where":
        return len(node.args) + len(node.kwargs) == 1
    masks = (info(value).dtype in (torch.bool, torch.uint8) for value in fold(node.args[1:], fx.Node))
    return name in _BY_DATA or (name == "__getitem__" and any(masks))


def _sizes(amounts: Iterable[tuple[fx.Node, int]]) -> Counter[int]:
    return Counter(size for _, size in amounts)


def taken(analysis: Analysis, node: fx.Node, axis: Axis) -> int | None:
    """The unit of an axis that a call takes out of a tensor that has it; None for any other call."""
    if call_name(node.target) not in _PARTS or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    given, made = (tensors_in(analysis.values.get(one)) for one in (node.args[0], node))
    if not isinstance(analysis.values.get(node), Dims) or any(axis in axes_of(dim) for dims in made for dim in dims):
        return None
    if node.target is operator.getitem:  # one of the parts that a call has made
        source = node.args[0].args[0] if call_name(node.args[0].target) in _PARTS else None
        dims = analysis.values.get(source) if isinstance(source, fx.Node) else None
        return _unit(axis, node.args[1]) if isinstance(dims, Dims) and _has(dims, axis) else None
    places = [i for i, dim in enumerate(given[0]) if axis in axes_of(dim)] if given else []
    return _unit(axis, _index(node, places[0], len(given[0]))) if len(places) == 1 else None


def _has(dims: Dims, axis: Axis) -> bool:
    return any(axis in axes_of(dim) for dim in dims)


def _index(node: fx.Node, place: int, rank: int) -> Any:
    """What a call says of one dimension of the tensor that it takes a part of."""
    name, rest = call_name(node.target), [*node.args[1:], *node.kwargs.values()]
    if name in ("select", "narrow"):
        return rest[1] if len(rest) > 1 and rest[0] in (place, place - rank) else None
    index: list[Any] = list(rest[0]) if isinstance(rest[0], tuple) else rest[:1]
    if any(one is None or isinstance(one, bool | fx.Node) for one in index):
        return None
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index[at : at + 1] = [slice(None)] * (rank - len(index) + 1)
    return index[place] if place < len(index) else None


def _unit(axis: Axis, index: Any) -> int | None:
    """The one unit that an index means."""
    first = index.start or 0 if isinstance(index, slice) and index.step in (None, 1) else index
    if not isinstance(first, int) or isinstance(first, bool) or not -axis.size <= first < axis.size:
        return None
    if isinstance(index, slice) and not (isinstance(index.stop, int) and index.stop - first == 1):
        return None
    return int(first) % axis.size
