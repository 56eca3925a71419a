"""The modules of a model as a tree, in the order of registration, and blocks that are alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from surgery.axes.layout import groups
from surgery.plan.facts import Facts
from surgery.plan.folding import LEAST


@dataclass
class Node:
    """A module: its path, its name in the picture, the names of its own tensors, and the modules in it."""

    path: str
    name: str
    tensors: list[str] = field(default_factory=list)
    inside: dict[str, Node] = field(default_factory=dict)

    def all_tensors(self) -> Iterator[str]:
        """The names of its tensors and of those in it."""
        yield from self.tensors
        for node in self.inside.values():
            yield from node.all_tensors()


def tree(plan: Facts) -> Node:
    """The model. Tensors that are known by several names stand in all places, last where they are not themselves."""
    root = Node("", plan.model)
    for name in (*plan.parameters, *(alias for alias, name in plan.aliases.items() if name in plan.parameters)):
        node = root
        *parts, _ = name.split(".")
        for end, part in enumerate(parts, 1):
            node = node.inside.setdefault(part, Node(".".join(parts[:end]), part))
        node.tensors.append(name)
    return _shortened(root)


def _shortened(node: Node) -> Node:
    """Without the boxes that hold nothing but one other box: `model.layers`."""
    node.inside = {key: _shortened(inner) for key, inner in node.inside.items()}
    for key, inner in node.inside.items():
        if not inner.tensors and len(inner.inside) == 1 and not key.isdigit():
            (only,) = inner.inside.values()
            node.inside[key] = Node(only.path, f"{inner.name}.{only.name}", only.tensors, only.inside)
    return node


class Folding:
    """Which blocks of a plan are alike, but for the number in their names. Their widths may differ."""

    def __init__(self, plan: Facts):
        self.plan = plan
        self.reasons: dict[str, list[str]] = {}
        for item in plan.fixed:
            self.reasons.setdefault(item.tensor, []).append(f"{item.elements} {item.reason}")
        self._siblings: dict[tuple[str, str], frozenset[int]] = {}

    def runs(self, nodes: Iterable[Node]) -> Iterator[list[Node]]:
        """The nodes in order, those of one list that are alike and whose numbers count up."""
        run: list[Node] = []
        before: Hashable = None
        for node in nodes:
            sign = self._sign(node)
            if run and sign is not None and sign == before and int(node.name) == int(run[-1].name) + 1:
                run.append(node)
            else:
                yield from _whole(run)
                run, before = [node], sign
        yield from _whole(run)

    def own(self, node: Node) -> list[str]:
        """The groups that cut nothing outside of a block, if it is numbered."""
        return [name for name in self._groups(node) if self._within(name, node) == {int(node.name)}]

    def _groups(self, node: Node) -> dict[str, None]:
        found = (self.plan.layouts.get(self.plan.aliases.get(name, name), ()) for name in node.all_tensors())
        return dict.fromkeys(name for dims in found for dim in dims for name in groups(dim))

    def _sign(self, node: Node) -> Hashable:
        """What blocks have in common that are alike; None for what is not numbered."""
        if not node.name.isdigit():
            return None
        known = {name: self._told(name, node) for name in self._groups(node)}
        return tuple(self._described(name, node, known.__getitem__) for name in node.all_tensors())

    def _described(self, name: str, node: Node, told: Callable[[str], Hashable]) -> Hashable:
        real = self.plan.aliases.get(name, name)
        dims = tuple(re.sub(r"group='([^']*)'", lambda m: f"{told(m[1])}", repr(dim))
                     for dim in self.plan.layouts.get(real, ()))  # fmt: skip
        reasons = tuple(reason.replace(node.path, "") for reason in self.reasons.get(real, ()))
        return name.removeprefix(node.path), real == name or real, self.plan.parameters[real], dims, reasons

    def _told(self, group: str, node: Node) -> Hashable:
        """A group as seen from a block: one of its own by its name inside, one of a neighbour by how far that is."""
        kind, blocks = self.plan.groups[group].kind, self._within(group, node)
        number = re.match(rf"{re.escape(_parent(node))}(\d+)\.", group)
        if number is None or len(blocks - {-1}) > 2:  # one of all blocks, or of what is around them
            return kind, group
        return kind, int(number[1]) - int(node.name), group[number.end() :]

    def _within(self, group: str, node: Node) -> frozenset[int]:
        """The numbers of the blocks beside a node that a group cuts, its own too; -1 for what is outside of them."""
        key = (_parent(node), group)
        if key not in self._siblings:
            pattern = re.compile(rf"{re.escape(key[0])}(\d+)\.")
            found = (pattern.match(tensor) for tensor, _ in self.plan.groups[group].cuts)
            self._siblings[key] = frozenset(int(match[1]) if match else -1 for match in found)
        return self._siblings[key]


def _parent(node: Node) -> str:
    """What stands before the number in the path of a block."""
    return node.path[: len(node.path) - len(node.name)]


def _whole(run: list[Node]) -> Iterator[list[Node]]:
    """A run as it is where it is long enough, or its members one by one."""
    if len(run) >= LEAST:
        yield run
    else:
        yield from ([node] for node in run)


def counted(run: Sequence[Node]) -> str:
    """The name of a run: `layers.{0..31}` without what stands before."""
    return f"{{{run[0].name}..{run[-1].name}}}"
