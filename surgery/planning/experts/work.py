"""Work that is done for each expert, whatever a router says: with fewer of them less is done.

Where every expert runs on all tokens, or on as many as it has room for, its calls come and go with it. Where tokens are
sent to experts, how much each has to do depends on data: fewer experts have more to do each, and the total stays.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
                units = {listed.child(n): i for listed in known.lists for i, all_ in enumerate(listed.units) for n in all_}
                for scope in _scopes(analysis, run, axis):
                    each = _Each(analysis, run, axis, scope, units)
                    for node, unit in each.work() if each.alike() else ():
                        found.setdefault(node, set()).add((axis, unit))
    return {node: frozenset(owners) for node, owners in found.items()}


def _scopes(analysis: Analysis, run: Run, axis: Axis) -> list[str]:
    """The modules whose code goes through experts: those around a list of them, and those that take parts by number."""
    lists = [listed.path.rpartition(".")[0] for listed in analysis.experts[axis].lists]
    taken = [run.path(node) for node in run.nodes if _part(analysis, node, axis) is not None]
    return list(dict.fromkeys((*lists, *taken)))


@dataclass
class _Each:
    """What one module does for each unit of an axis, in one run.

    Attributes:
        scope: the path of the module.
        units: of modules that are units, by their paths.
    """

    analysis: Analysis
    run: Run
    axis: Axis
    scope: str
    units: Mapping[str, int]

    def __post_init__(self) -> None:
        self.labels: dict[fx.Node, int] = {}
        for node in self.run.nodes:
            label = self._label(node)
            if label is not None:
                self.labels[node] = label

    def _label(self, node: fx.Node) -> int | None:
        """The unit that a call is for; None where it is for none of them, or not known."""
        own = self.run.within(node, self.units)
        if own is not None and inside(own, self.scope):
            return self.units[own]
        if inside(self.run.path(node), self.scope):
            taken = _part(self.analysis, node, self.axis)
            if taken is not None:
                return taken
        given = {self.labels[value] for value in _given(node) if value in self.labels}
        return None if not given else given.pop() if len(given) == 1 else MIXED

    def work(self) -> Iterator[tuple[fx.Node, int]]:
        """The calls that multiply and add for one unit, and for which."""
        for (node, _), dim in zip(self.analysis.workers, self.analysis.macs, strict=True):
            if self.labels.get(node, MIXED) != MIXED and self.axis not in axes_of(dim):
                yield node, self.labels[node]

    def alike(self) -> bool:
        """Whether each unit has the same to do, and nothing in data says how much."""
        amounts: list[Counter[int]] = [Counter() for _ in range(self.axis.size)]
        for (node, _), dim in zip(self.analysis.workers, self.analysis.macs, strict=True):
            if self.labels.get(node, MIXED) != MIXED:
                amounts[self.labels[node]][extent(dim)] += 1
        return all(amounts) and all(amount == amounts[0] for amount in amounts) and not self._by_data()

    def _by_data(self) -> bool:
        """Whether data says how much some unit has to do: in calls for it, or in those that lead to these alone."""
        every, leads = (1 << self.axis.size) - 1, dict.fromkeys(self.run.nodes, 0)
        for node in reversed(self.run.nodes):
            label = self.labels.get(node)
            if label is not None and label != MIXED and _sized_by_data(node):
                return True
            if label is None and leads[node] not in (0, every) and (_sized_by_data(node) or _takes(node)):
                return True
            mark = leads[node] if label is None else 0 if label == MIXED else 1 << label
            for value in _given(node):
                if value in leads:
                    leads[value] |= mark
        return False


def _given(node: fx.Node) -> Iterator[fx.Node]:
    return fold((node.args, node.kwargs), fx.Node)


def _sized_by_data(node: fx.Node) -> bool:
    name = call_name(node.target)
    if name == "where":
        return len(node.args) + len(node.kwargs) == 1
    masks = (info(value).dtype in (torch.bool, torch.uint8) for value in fold(node.args[1:], fx.Node))
    return name in _BY_DATA or (name == "__getitem__" and any(masks))


def _takes(node: fx.Node) -> bool:
    """Whether a call takes a part of a tensor, by numbers."""
    return call_name(node.target) in _PARTS and not any(True for _ in fold(node.args[1:], fx.Node))


def _part(analysis: Analysis, node: fx.Node, axis: Axis) -> int | None:
    """The unit of an axis that a call takes out of a tensor that has it; None for any other call."""
    if call_name(node.target) not in _PARTS or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    given, made = (tensors_in(analysis.values.get(one)) for one in (node.args[0], node))
    if not isinstance(analysis.values.get(node), Dims) or any(axis in axes_of(dim) for dims in made for dim in dims):
        return None
    if node.target is operator.getitem:  # one of the parts that a call has made
        source = node.args[0].args[0] if node.args[0].args else None
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
    index = list(rest[0]) if isinstance(rest[0], tuple) else rest[:1]
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
