"""What is recorded of a run: nodes of calls, the calls of modules around them, and decisions about sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from surgery.axes.sizes import Decision
from surgery.capture.callsites import Location
from surgery.modules.code.source import Chain


@dataclass(slots=True)
class NodeInfo:
    """What is known of a node of the recording.

    Attributes:
        shape: of the result, nested as that is.
        where: the line of the model that made the call.
        chain: the functions from the forward of the current module to the call.
        frame: the number of the call of a module that it was made in; None outside of all.
        order: of the dimensions of its first argument in memory, for calls that name places there.
        called: the functions from the forward of the current module to the call of a layer.
        data: the values of a tensor that no call made.
    """

    shape: Any
    dtype: torch.dtype | None
    where: Location
    chain: Chain
    frame: int | None
    order: tuple[int, ...] | None = None
    called: Chain = ()
    data: torch.Tensor | None = field(default=None, compare=False)

    @property
    def described(self) -> tuple[Any, ...]:
        """What two runs must have in common."""
        return self.shape, self.dtype, self.frame


INFO = "surgery"


def info(node: fx.Node) -> NodeInfo:
    """What is known of a node."""
    found: NodeInfo = node.meta[INFO]
    return found


@dataclass
class Frame:
    """One call of one module: what it was given, what it returned, and which nodes it ran itself."""

    index: int
    module: nn.Module
    path: str | None
    parent: int | None
    called: Chain = ()  # the functions from the forward of the caller to the call
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    returned: list[fx.Node] = field(default_factory=list)  # of the root: every tensor in the output, also in objects
    counted: list[fx.Node] = field(default_factory=list)  # of these, the parts that are results
    names: tuple[str, ...] = ()  # of the root: those of these parts; none where all count
    states: list[str] = field(default_factory=list)  # classes of objects in the output that are state, not results
    nodes: list[fx.Node] = field(default_factory=list)
    stored: dict[str, Any] = field(
        default_factory=dict
    )  # attributes that the forward set, with nodes where they hold tensors
    assigned: dict[str, Any] = field(default_factory=dict)  # buffers that the forward set


@dataclass
class Branch:
    """A decision that the forward of a frame took about sizes, and where."""

    decision: Decision
    where: Location
    chain: Chain
    frame: int


class Graph(fx.Graph):
    """An `fx.Graph` whose nodes are quick to make: names are numbers, and arguments are not searched for SymInts.

    `fx.Graph.create_node` would take as long as all the rest of recording a call.
    """

    def create_node(
        self, op: str, target: Any, args: Any = None, kwargs: Any = None, name: Any = None, type_expr: Any = None
    ) -> fx.Node:
        node = fx.Node(self, name or f"n{self._len}", op, target, args or (), kwargs or {}, type_expr)
        self._insert(node)
        self._find_nodes_lookup_table.insert(node)
        self._len += 1
        return node
