"""Where the calls of modules stand in recorded runs: what goes into each, what comes out, and what depends on what."""

from __future__ import annotations

import functools
import operator
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import fx

from surgery.adapters.base import Adapter, adapter_for
from surgery.capture.frames import Frame, info
from surgery.capture.record import Capture
from surgery.capture.recorder import call_name
from surgery.modules.tensors import Parts
from surgery.nested import fold

# Torch calls that multiply and add; on parameters of modules that have no adapter.
_WORK = frozenset(
    "linear bilinear matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm addbmm mv einsum tensordot conv1d conv2d "
    "conv3d conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention lstm gru rnn_tanh rnn_relu "
    "multi_head_attention_forward _grouped_mm".split()
)


Offsets: TypeAlias = "tuple[int, ...]"  # the instructions of the functions that lead to a call


def inside(path: str | None, root: str) -> bool:
    """Whether a module or tensor is the module at `root`, or lies in it."""
    return path is not None and (not root or path == root or path.startswith(f"{root}."))


def above(path: str) -> Iterator[str]:
    """The paths of the modules that something lies in, the outermost (the model) first."""
    if path:
        yield ""
    parts = path.split(".")
    yield from (".".join(parts[: i + 1]) for i in range(len(parts) - 1))


@dataclass(frozen=True)
class Call:
    """One call of a module: where it begins in its run, and the first tensors that go in and come out.

    Attributes:
        place: where the first tensor stands among its arguments, a position or a keyword.
        single: whether it returns one tensor and nothing else.
    """

    path: str
    begin: int
    parent: int | None
    given: fx.Node | None
    made: fx.Node | None
    place: int | str | None
    single: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A call, where the code of a module was when it was made, and by which call in that code."""

    node: fx.Node
    offsets: Offsets
    inner: int


def alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether two values have the same shape and type."""
    first, second = info(one), info(other)
    return bool(first.shape == second.shape and first.dtype == second.dtype)


def same_data(a: fx.Node, b: fx.Node) -> bool:
    """Whether tensors that no call made hold the same."""
    first, second = info(a).data, info(b).data
    return (first is None and second is None) or (first is not None and second is not None and first.equal(second))


class Run:
    """A recorded run, with the calls of its modules in order."""

    def __init__(self, capture: Capture):
        self.capture, self.frames = capture, capture.frames
        self.nodes = [node for node in capture.graph.nodes if node.op != "get_attr"]
        self.index = {node: i for i, node in enumerate(self.nodes)}

    def path(self, node: fx.Node) -> str:
        """The path of the innermost module of the model that a call was made in."""
        frame = info(node).frame
        while frame is not None and self.frames[frame].path is None:
            frame = self.frames[frame].parent
        return "" if frame is None else self.frames[frame].path or ""

    def homes(self, node: fx.Node) -> Iterator[str]:
        """The paths of all that a call is a part of: the module that it is, that makes it, whose tensors it reads."""
        if node.op == "call_module":
            yield str(node.target)
        yield self.path(node)
        for value in fold((node.args, node.kwargs), fx.Node):
            if value.op == "get_attr":
                yield str(value.target)

    def within(self, node: fx.Node, modules: Container[str]) -> str | None:
        """The outermost of these modules that a call is a part of; None for any other."""
        return next((path for path in self._lying[node] if path in modules), None)

    @functools.cached_property
    def _lying(self) -> dict[fx.Node, list[str]]:
        return {node: [path for home in self.homes(node) for path in (*above(home), home)] for node in self.nodes}

    @functools.cached_property
    def steps(self) -> dict[int, list[Step]]:
        """For each call of a module: all calls in it, and where its own code was at each."""
        found: dict[int, list[Step]] = {}
        for node in self.nodes:
            chain, frame, inner = info(node).called or info(node).chain, info(node).frame, -1 - self.index[node]
            while frame is not None:
                if chain:
                    found.setdefault(frame, []).append(Step(node, tuple(offset for _, offset in chain), inner))
                chain, inner, frame = self.frames[frame].called, frame, self.frames[frame].parent
        return found

    @functools.cached_property
    def begins(self) -> dict[int, int]:
        """Where each frame begins."""
        found: dict[int, int] = {}
        for i, node in enumerate(self.nodes):
            frame = info(node).frame
            while frame is not None and frame not in found:
                found[frame] = i
                frame = self.frames[frame].parent
        return found

    @functools.cached_property
    def calls(self) -> list[Call]:
        """The calls of modules, in the order in which they begin."""
        found = [
            self._frame(frame) for frame in self.frames[1:] if frame.path is not None and frame.index in self.begins
        ]
        for node in self.nodes:
            if node.op == "call_module":
                found.append(self._layer(node))
        return sorted(found, key=lambda call: call.begin)

    def _frame(self, frame: Frame) -> Call:
        given, place = _first(frame.args, frame.kwargs)
        single = isinstance(frame.output, fx.Node)
        made = next(fold(frame.output, fx.Node), None)
        return Call(frame.path or "", self.begins[frame.index], frame.parent, given, made, place, single)

    def _layer(self, node: fx.Node) -> Call:
        given, place = _first(node.args, node.kwargs)
        made = next((user for user in node.users if call_name(user.target) == "getitem"), None)
        single = not isinstance(info(node).shape, list | dict)
        return Call(
            str(node.target), self.index[node], info(node).frame, given, node if single else made, place, single
        )

    @functools.cached_property
    def _tops(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            caller = self.caller(call)
            for path in (*above(call.path), call.path):
                if not inside(caller, path):
                    found.setdefault(path, []).append(call)
        return found

    def top(self, child: str) -> list[Call]:
        """The calls of a module, or of modules in it where it is not called itself: the outermost ones, in order."""
        return self._tops.get(child, [])

    def caller(self, call: Call) -> str | None:
        """The path of the module whose forward makes a call."""
        return None if call.parent is None else self.frames[call.parent].path

    def needs(self, marks: Mapping[str, int]) -> dict[str, int]:
        """For modules, each with a bit of its own: the bits of those that what it computes depends on."""
        seen: dict[fx.Node, int] = {}
        needs = dict.fromkeys(marks, 0)
        for node in self.nodes:
            before = 0
            for value in fold((node.args, node.kwargs), fx.Node):
                before |= seen.get(value, 0)
            own = {path for home in self.homes(node) for path in (*above(home), home) if path in marks}
            for path in own:
                needs[path] |= before
            seen[node] = functools.reduce(operator.or_, (marks[path] for path in own), before)
        return needs


def _first(args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[fx.Node | None, int | str | None]:
    """The first tensor among arguments, and where it stands."""
    places: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
    for place, value in places:
        node = next(fold(value, fx.Node), None)
        if node is not None:
            return node, place if isinstance(value, fx.Node) else None
    return None, None


def working(runs: Iterable[Run], parts: Parts) -> frozenset[str]:
    """The paths of all modules in which a run multiplies and adds."""
    found: set[str] = set()
    for run in runs:
        for node in run.nodes:
            if _works(node, parts):
                found.update(path for home in run.homes(node) for path in (*above(home), home))
    return frozenset(found)


def _works(node: fx.Node, parts: Parts) -> bool:
    if node.op != "call_module":
        return node.op == "call_function" and call_name(node.target) in _WORK
    module = parts.modules[str(node.target)]
    adapter = adapter_for(module)
    counts = adapter is not None and (adapter.macs is not None or type(adapter).call is not Adapter.call)
    return counts and any(p.dim() > 1 for p in module.parameters())
