"""The record of one run while it is made: nodes, frames, decisions, and which node each tensor came from."""

from __future__ import annotations

import itertools
import operator
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from surgery.axes.sizes import Size
from surgery.capture.callsites import Location, location
from surgery.capture.constants import Constants
from surgery.capture.frames import INFO, Branch, Frame, Graph, NodeInfo, info
from surgery.modules.code.source import Chain
from surgery.modules.inputs import Inputs
from surgery.modules.plain_data import ATOMS
from surgery.modules.tensors import Parts
from surgery.nested import fold, is_object, mapped, rebuild, shapes

# Arguments without tensors, which are kept as they are.
_ATOMS = frozenset((Size, int, float, bool, str, type(None), torch.dtype, torch.device))


def foreign(*_: Any) -> None:
    """Stands in graphs for a tensor that no recorded call produced."""


@dataclass
class Checkpoint:
    """How far a record has come."""

    last: fx.Node | None
    tensors: dict[int, tuple[weakref.ref[torch.Tensor], fx.Node]]
    frames: int
    branches: int
    nodes: int


class Trace:
    """Nodes and frames of one run, and the tensors that are known.

    Attributes:
        names, paths: of the tensors of the model by name, and of its modules by identity.
        tensors: the node that each tensor came from, by identity.
        stack: the calls of modules under way.
        passed: objects that modules inside the model were given, such as caches.
        unknown: tensors that no recorded call made and no module holds.
    """

    def __init__(self, parts: Parts, prefix: str, constants: Constants | None = None):
        self.model = parts.model
        self.graph = Graph()
        self.frames: list[Frame] = []
        self.stack: list[Frame] = []
        self.branches: list[Branch] = []
        self.names = {f"{prefix}.{name}".lstrip("."): tensor for name, tensor in parts.tensors.items()}
        self.paths = {id(module): f"{prefix}.{path}".strip(".") for path, module in parts.modules.items()}
        self.parameters = {id(tensor): name for name, tensor in self.names.items()}
        self.tensors: dict[int, tuple[weakref.ref[torch.Tensor], fx.Node]] = {}
        self.attributes: dict[str, fx.Node] = {}
        self.passed: dict[int, Any] = {}
        self.constants = constants
        self.unknown: list[torch.Tensor] = []

    def placeholders(self, run: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies of the inputs, their tensors registered as placeholders of the graph."""
        seen: dict[int, torch.Tensor] = {}

        def enter(value: Any, name: str) -> Any:
            if isinstance(value, torch.Tensor):
                if id(value) not in seen:
                    seen[id(value)] = value.detach().clone()
                    self.register(seen[id(value)], self.node("placeholder", name, (), {}, seen[id(value)], ("", 0)))
                return seen[id(value)]
            return rebuild(value, lambda key, item: enter(item, f"{name}_{key}"), types=True)

        args = tuple(enter(value, f"input_{i}") for i, value in enumerate(run.args))
        return args, {name: enter(value, name) for name, value in run.kwargs.items()}

    def node(
        self, kind: str, target: Any, args: Any, kwargs: Any, result: Any, where: Location, chain: Chain = ()
    ) -> fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs)
        frame = self.stack[-1].index if self.stack else None
        with torch._C.DisableTorchFunction():
            node.meta[INFO] = NodeInfo(shapes(result), getattr(result, "dtype", None), where, chain, frame)
        if self.stack:
            self.stack[-1].nodes.append(node)
        return node

    def register(self, value: Any, node: fx.Node) -> None:
        """Remember which node produced each tensor of a result."""
        if isinstance(value, torch.Tensor):
            self.tensors[id(value)] = (weakref.ref(value), node)
        elif isinstance(value, tuple | list | Mapping):
            for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
                if isinstance(item, torch.Tensor | tuple | list | Mapping):
                    where = info(node).where
                    self.register(item, self.node("call_function", operator.getitem, (node, key), {}, item, where))

    def lift(self, value: Any) -> Any:
        """The arguments of a call, with nodes in place of tensors."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is tuple:
            return tuple([self.lift(item) for item in value])
        if isinstance(value, torch.Tensor):
            return self.node_of(value)
        if kind is dict:
            return {key: self.lift(item) for key, item in value.items()}
        if kind is slice:
            return slice(self.lift(value.start), self.lift(value.stop), self.lift(value.step))
        return rebuild(value, lambda _, item: self.lift(item))

    def left(self, value: Any) -> Any:
        """What a forward has left on a module, with nodes in place of tensors; `foreign` stands for what is unknown."""

        def known(leaf: Any, _: tuple[Any, ...]) -> Any:
            if isinstance(leaf, torch.Tensor):
                reference, node = self.tensors.get(id(leaf), (None, None))
                return node if reference is not None and reference() is leaf else foreign
            return leaf if isinstance(leaf, ATOMS) or not is_object(leaf) else foreign

        return mapped(value, known)

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        reference, node = self.tensors.get(id(tensor), (None, None))
        if reference is not None and node is not None and reference() is tensor:
            return node
        name = self.parameters.get(id(tensor))
        if name is None:
            return self.foreign(tensor)
        if name not in self.attributes:
            self.attributes[name] = node = self.graph.create_node("get_attr", name)
            with torch._C.DisableTorchFunction():
                node.meta[INFO] = NodeInfo(tensor.shape, tensor.dtype, ("", 0), (), None)
        return self.attributes[name]

    def foreign(self, tensor: torch.Tensor) -> fx.Node:
        """A node for a tensor that no recorded call produced.

        It may be a plain attribute of a module, or the result of code that torch does not show (a scripted function).
        What such code read is unknown, so everything that the current forward has made or been given counts as its
        input.
        """
        frame = self.stack[-1]
        before = frame.nodes.copy()
        before += fold((frame.args, frame.kwargs), fx.Node)
        stored = any(
            tensor is item
            for module in self.model.modules()
            for value in vars(module).values()
            for item in (
                value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else (value,)
            )
        )
        where = location(sys._getframe(1))
        if not stored and self.constants is not None and tensor in self.constants:
            node = self.node("call_function", torch.tensor, ([],), {}, tensor, where)  # it would be the same
        else:
            node = self.node("call_function", foreign, () if stored else tuple(before), {}, tensor, where)
            self.unknown += [] if stored else [tensor]
        if stored or node.target is torch.tensor:
            with torch._C.DisableTorchFunction():
                node.meta[INFO] = replace(info(node), data=tensor.detach().clone())
        self.register(tensor, node)
        return node

    def checkpoint(self) -> Checkpoint:
        """How far the record has come."""
        last = next(iter(reversed(self.graph.nodes)), None)
        return Checkpoint(last, dict(self.tensors), len(self.frames), len(self.branches), len(self.stack[-1].nodes))

    def since(self, mark: Checkpoint) -> list[fx.Node]:
        """The calls that were recorded since then."""
        new = itertools.takewhile(lambda node: node is not mark.last, reversed(self.graph.nodes))
        return [node for node in new if node.op != "get_attr"][::-1]

    def forget(self, mark: Checkpoint) -> None:
        """Strike from the record what came after a mark."""
        for node in reversed(self.since(mark)):
            self.graph.erase_node(node)
        self.tensors = mark.tensors
        del self.frames[mark.frames :], self.branches[mark.branches :], self.stack[-1].nodes[mark.nodes :]
