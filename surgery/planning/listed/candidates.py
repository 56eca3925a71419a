"""Lists of modules of which some could be left out, by what a recorded run shows: nothing is run for it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from surgery.adapters.base import adapter_for
from surgery.capture.record import Capture
from surgery.modules.tensors import Parts
from surgery.nested import fold
from surgery.plan.groups import DEPTH, EXPERTS, Listed
from surgery.planning.listed.calls import Call, Run, alike, inside, working

ROOT = "self"  # the model itself, in names of groups: as its code calls it
_LISTS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(frozen=True)
class Candidate:
    """Lists whose units may be left out: whether they may is not known yet.

    Attributes:
        name, kind, lists: of the group that it may become.
        held: units that must stay, since what comes out has not the shape of what goes in.
        unlike: units that stay, since no other is of their class; single layers, since no other of their class may go.
            A list of such units has a role for each. And stages: what may go of them are their own units.
        place: the argument that a stand-in for a unit would hand on; None where there can be none.
    """

    name: str
    kind: str
    lists: tuple[Listed, ...]
    held: frozenset[int] = frozenset()
    unlike: frozenset[int] = frozenset()
    place: int | str | None = None

    @property
    def path(self) -> str:
        """Of the module that holds the units, or the first of these."""
        return self.lists[0].path

    @property
    def size(self) -> int:
        """The number of units."""
        return len(self.lists[0].units)

    def children(self, unit: int) -> list[str]:
        """The paths of all modules that are a unit."""
        return [listed.child(name) for listed in self.lists for name in listed.units[unit]]


def candidates(captures: Sequence[Capture], parts: Parts) -> list[Candidate]:
    """The lists of modules with at least two units that work, of which one could be left out. Nothing is run for it."""
    runs = [Run(capture) for capture in captures if not capture.training]
    busy = working(runs, parts)
    groups = list(_zipped([*_containers(parts, busy)], runs, busy))
    groups += [(listed,) for listed in _by_name(parts, runs, busy)]
    judged = list(_judged(groups, runs))
    kinds = (_of_a_kind(one, judged, parts, busy) for one in judged)
    return _named(one for one in kinds if len(one.held | one.unlike) < one.size)


def _of_a_kind(one: Candidate, judged: Sequence[Candidate], parts: Parts, busy: frozenset[str]) -> Candidate:
    """A candidate that knows which of its units are unlike all others, or stages: lists of blocks themselves."""
    if one.kind == EXPERTS:
        return one
    classes = [type(parts.modules[one.children(unit)[0]]) for unit in range(one.size)]
    layers = [_layers(one.children(unit), busy) for unit in range(one.size)]
    free = [unit for unit in range(one.size) if unit not in one.held]
    blocks = [child for other in judged if other is not one for child in _blocks(other, busy)]

    def likes(unit: int) -> int:
        single = len(layers[unit]) < 2
        if single and not isinstance(parts.modules[one.path], _LISTS):
            return 0  # what stands in a block under a name of its own has a role there
        others = free if single else range(one.size)
        return sum(classes[other] is classes[unit] for other in others if other != unit)

    def is_stage(unit: int) -> bool:
        inner = [child for child in blocks if any(inside(child, own) for own in one.children(unit))]
        return 2 * sum(any(inside(layer, child) for child in inner) for layer in layers[unit]) > len(layers[unit])

    return replace(one, unlike=frozenset(unit for unit in free if not likes(unit) or is_stage(unit)))


def _layers(paths: Sequence[str], busy: frozenset[str]) -> list[str]:
    """The layers that work in some modules: nothing else that works is inside of them."""
    found = [path for path in busy if any(inside(path, one) for one in paths)]
    return [path for path in found if not any(inside(other, path) for other in found if other != path)]


def _blocks(one: Candidate, busy: frozenset[str]) -> list[str]:
    """The units of a list of which some may go, where they are more than single layers."""
    units = [one.children(unit) for unit in range(one.size)] if one.kind == DEPTH else []
    return [child for children in units for child in children if len(_layers(children, busy)) > 1]


def _containers(parts: Parts, busy: frozenset[str]) -> Iterator[Listed]:
    """The units of each container: every child that works, with those after it that do not."""
    for path, module in parts.modules.items():
        if not isinstance(module, _LISTS):
            continue
        listed = Listed(path, (), all(name == str(i) for i, name in enumerate(module._modules)))
        units: list[tuple[str, ...]] = []
        for name in module._modules:
            if listed.child(name) in busy:
                units.append((name,))
            elif units:
                units[-1] += (name,)
        if not units and isinstance(module, nn.ModuleList):  # it may go along with one that works
            units = [(name,) for name in module._modules]
        if len(units) > 1 and (isinstance(module, nn.Sequential) or _some_alike(listed, units, parts)):
            yield replace(listed, units=tuple(units))


def _some_alike(listed: Listed, units: Sequence[tuple[str, ...]], parts: Parts) -> bool:
    """Whether two units are of one class. A list of which no two are is a record: each item has a role in it."""
    classes = [type(parts.modules.get(listed.child(unit[0]))) for unit in units]
    return len(set(classes)) < len(classes)


def _zipped(lists: Sequence[Listed], runs: Sequence[Run], busy: frozenset[str]) -> Iterator[tuple[Listed, ...]]:
    """Lists, those together whose children are called in turns: `for conv, norm in zip(convs, norms)`."""
    todo = list(lists)
    while todo:
        group = [todo.pop(0)]
        for other in list(todo):
            if other.path.rpartition(".")[0] == group[0].path.rpartition(".")[0] and _in_turns([*group, other], runs):
                group.append(other)
                todo.remove(other)
        if any(listed.child(unit[0]) in busy for listed in group for unit in listed.units):
            yield tuple(group)


def _in_turns(group: Sequence[Listed], runs: Sequence[Run]) -> bool:
    """Whether the first units of all lists are called, then the second ones, and so on."""
    if "" in (listed.path for listed in group) or any(len(unit) > 1 for listed in group for unit in listed.units):
        return False
    if len({len(listed.units) for listed in group}) > 1:
        return False
    for run in runs:
        turns = [[run.top(listed.child(listed.units[i][0])) for listed in group] for i in range(len(group[0].units))]
        if all(calls for turn in turns for calls in turn):
            ends = [max(calls[-1].begin for calls in turn) for turn in turns]
            begins = [min(calls[0].begin for calls in turn) for turn in turns]
            return all(end < begin for end, begin in zip(ends, begins[1:], strict=False))
    return False


def _by_name(parts: Parts, runs: Sequence[Run], busy: frozenset[str]) -> Iterator[Listed]:
    """Attributes of one class that a forward calls one after another: `self.block2(self.block1(x))`.

    Not single layers: what stands in a block under a name of its own has a role there (`fc1`, `conv2`, `v_proj`).
    """
    seen: set[str] = set()
    for run in runs:
        callers: dict[int, list[Call]] = {}
        for call in run.calls:
            if call.parent is not None and call.path in busy and adapter_for(parts.modules[call.path]) is None:
                callers.setdefault(call.parent, []).append(call)
        for frame, calls in callers.items():
            path = run.frames[frame].path
            if path is None or path in seen or isinstance(parts.modules[path], _LISTS):
                continue
            seen.add(path)
            for chain in _chains([call for call in calls if call.path.rpartition(".")[0] == path], parts, run):
                units = tuple((call.path.rpartition(".")[2],) for call in chain)
                yield Listed(path, units, renumbered=False, passing=chain[0].place)


def _chains(calls: Sequence[Call], parts: Parts, run: Run) -> Iterator[list[Call]]:
    """Runs of calls of one class, each of which gets what the one before has made."""
    chain: list[Call] = []
    for call in calls:
        if not (chain and type(parts.modules[call.path]) is type(parts.modules[chain[-1].path]) and _next(chain, call)):
            if len(chain) > 1:
                yield chain
            chain = []
        if call.place is not None and call.single and call.path not in [other.path for other in chain]:
            chain.append(call)
    if len(chain) > 1:
        yield chain


def _next(chain: Sequence[Call], call: Call) -> bool:
    """Whether a call gets what the one before has made, with nothing but functions of that alone on the way."""
    node, before = call.given, chain[-1]
    while node is not None and node is not before.made and call.place == before.place:
        given = {value for value in fold((node.args, node.kwargs), fx.Node) if value.op != "get_attr"}
        node = given.pop() if len(given) == 1 else None
    return node is not None and node is before.made


def _judged(groups: Sequence[tuple[Listed, ...]], runs: Sequence[Run]) -> Iterator[Candidate]:
    """What lists may become, where a unit could go: it makes what it gets, or all make the same of one value."""
    children = dict.fromkeys(listed.child(name) for lists in groups for one in lists for listed, name in _members(one))
    bits = {child: 1 << i for i, child in enumerate(children)}
    needs = [run.needs(bits) for run in runs]
    for lists in groups:
        found = Candidate("", DEPTH, lists)
        own = [_any(bits[child] for child in found.children(unit)) for unit in range(found.size)]
        needed = [_any(run[child] for run in needs for child in found.children(unit)) for unit in range(found.size)]
        ends = [_ends(found.children(unit), runs) for unit in range(found.size)]
        if not any(needed[i] & bit for i in range(found.size) for j, bit in enumerate(own) if i != j):
            if _side_by_side(ends):
                yield replace(found, kind=EXPERTS)
            continue
        held = frozenset(unit for unit, end in enumerate(ends) if end is not None and not _keeps(*end))
        if len(held) < found.size:
            yield replace(found, held=held, place=ends[0][0].place if ends[0] is not None else None)


def _members(listed: Listed) -> Iterator[tuple[Listed, str]]:
    return ((listed, name) for unit in listed.units for name in unit)


def _any(bits: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bits, 0)


def _ends(children: Sequence[str], runs: Sequence[Run]) -> tuple[Call, Call] | None:
    """The first and the last call of a unit, in the first run that calls it."""
    for run in runs:
        calls = sorted((call for child in children for call in run.top(child)), key=lambda call: call.begin)
        if calls:
            return calls[0], calls[-1]
    return None


def _keeps(first: Call, last: Call) -> bool:
    """Whether what comes out of a unit has the shape of what goes in, as far as it is known."""
    return first.given is None or last.made is None or alike(first.given, last.made)


def _side_by_side(ends: Sequence[tuple[Call, Call] | None]) -> bool:
    """Whether units get one value, and what they make is alike."""
    known = [end for end in ends if end is not None]
    (first, last), *others = known
    return len(known) == len(ends) and all(
        one.given is first.given and other.made is not None and last.made is not None and alike(other.made, last.made)
        for one, other in others
    )


def _named(found: Iterable[Candidate]) -> list[Candidate]:
    """Candidates by the paths of their lists; by their first units too, where one module holds several."""
    named: dict[str, Candidate] = {}
    for one in found:
        name = f"{one.path or ROOT}.{one.kind}"
        if name in named:
            name = f"{one.children(0)[0]}.{one.kind}"
        named[name] = replace(one, name=name)
    return list(named.values())
