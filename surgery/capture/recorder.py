"""Turns the torch calls and module calls of one run into nodes and frames."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from surgery.adapters.base import adapter_for
from surgery.axes.formulas import Extent
from surgery.axes.sizes import Decision, Size
from surgery.capture import autograd as functions
from surgery.capture.attributes import Contents
from surgery.capture.callsites import Location, chain_to, location
from surgery.capture.frames import INFO, Branch, Frame, Graph, NodeInfo, info
from surgery.capture.process import recording
from surgery.errors import CaptureError
from surgery.modules.code.source import Chain
from surgery.modules.inputs import Inputs, tensors
from surgery.modules.plain_data import ATOMS
from surgery.modules.restoring import Watch
from surgery.modules.tensors import Parts
from surgery.nested import all_tensors, class_name, fold, is_object, mapped, rebuild, shapes
from surgery.rules.registry import RULES

# Calls that only look at a tensor's description: their results are Python values without axes.
DESCRIPTIONS = frozenset(
    "ndim dtype device layout is_cuda is_cpu is_meta is_sparse is_quantized is_nested is_leaf requires_grad grad "
    "grad_fn is_mkldnn is_mps is_xpu names dim ndimension is_floating_point is_complex is_contiguous element_size "
    "is_signed is_inference get_device type_ is_same_size has_names data_ptr storage_offset is_conj is_neg "
    "_has_compatible_shallow_copy_type is_tensor is_grad_enabled _set_grad_enabled requires_grad_ retain_grad "
    "register_hook is_shared is_storage _version output_nr name".split()
)

# Arguments without tensors, which are kept as they are.
_ATOMS = frozenset((Size, int, float, bool, str, type(None), torch.dtype, torch.device))


@functools.lru_cache(maxsize=4096)
def call_name(function: Any) -> str:
    """The name of a torch function; properties go by the name of the property."""
    name = getattr(function, "__name__", str(function))
    return getattr(function.__self__, "__name__", name) if name == "__get__" else name


class Recorder(TorchFunctionMode):
    """Turns the torch calls and module calls of one run into nodes and frames."""

    def __init__(self, parts: Parts, prefix: str, watch: Watch):
        super().__init__()
        self.model = parts.model
        self.watch = watch
        self.graph = Graph()
        self.frames: list[Frame] = []
        self.stack: list[Frame] = []
        self.branches: list[Branch] = []
        self.names = {f"{prefix}.{name}".lstrip("."): tensor for name, tensor in parts.tensors.items()}
        self.paths = {id(module): f"{prefix}.{path}".strip(".") for path, module in parts.modules.items()}
        self.parameters = {id(tensor): name for name, tensor in self.names.items()}
        self.nodes: dict[int, tuple[weakref.ref[torch.Tensor], fx.Node]] = {}
        self.attributes: dict[str, fx.Node] = {}
        self.passed: dict[int, Any] = {}  # objects that modules inside the model were given, such as caches
        self.muted = 0
        self.disturbed = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Record every torch call and every module call inside."""
        with recording(self), self:
            yield

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

    def decide(self, decision: Decision) -> None:
        if self.stack and not self.muted:
            self.branches.append(Branch(decision, *chain_to(), self.stack[-1].index))

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
            self.nodes[id(value)] = (weakref.ref(value), node)
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
                reference, node = self.nodes.get(id(leaf), (None, None))
                return node if reference is not None and reference() is leaf else foreign
            return leaf if isinstance(leaf, ATOMS) or not is_object(leaf) else foreign

        return mapped(value, known)

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        reference, node = self.nodes.get(id(tensor), (None, None))
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
        node = self.node("call_function", foreign, () if stored else tuple(before), {}, tensor, where)
        self.register(tensor, node)
        return node

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.watch.note(func, args, kwargs)
        if self.muted or not self.stack:
            return func(*args, **kwargs)
        name = call_name(func)
        if name in DESCRIPTIONS:
            return func(*args, **kwargs)
        if name in ("shape", "size", "numel", "nelement", "__len__", "stride"):
            return self.extent(name, func(*args, **kwargs), *args, **kwargs)
        lifted = self.lift(args), self.lift(kwargs)
        order = self.order(args[0]) if name == "as_strided" else None
        result = self.quietly(func, *args, **kwargs)
        node = self.node("call_function", func, *lifted, result, *chain_to(func))
        info(node).order = order
        self.register(result, node)
        return result

    def order(self, tensor: torch.Tensor) -> tuple[int, ...] | None:
        """The order in which the dimensions of a tensor lie in memory; None in that of a parameter or buffer."""
        kept = [other for other in self.names.values() if other.layout is torch.strided]
        with torch._C.DisableTorchFunction():
            memory = tensor.untyped_storage().data_ptr()
            # what is made of a parameter that lies otherwise may lie otherwise where that is gathered
            own = all(other.is_contiguous() and memory != other.untyped_storage().data_ptr() for other in kept)
            return _order(tensor) if own else None

    def extent(self, name: str, result: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """A shape whose integers remember the tensor and the dimension."""
        node = self.node_of(tensor)
        sizes = [Size(n, Extent(node, i, n)) for i, n in enumerate(tensor.shape)]
        dim = args[0] if args else kwargs.get("dim")
        if name == "size" and dim is not None:
            return sizes[dim]
        if name in ("shape", "size"):
            return torch.Size(sizes)
        if name == "__len__":
            return sizes[0]
        if name == "stride":
            return self.strides(result, tensor, sizes, dim)
        total = sizes[0] if sizes else 1
        for size in sizes[1:]:
            total = total * size
        return total

    def strides(self, plain: Any, tensor: torch.Tensor, sizes: list[Size], dim: Any) -> Any:
        """The strides of a tensor without gaps are products of the sizes of what lies inside each dimension."""
        order = self.order(tensor)
        if order is None:  # those of a slice of a parameter are the whole one's
            return plain
        found: list[int] = [math.prod(sizes[j] for j in order[order.index(i) + 1 :]) for i in range(len(order))]
        found = [step if n > 1 else given for n, step, given in zip(tensor.shape, found, tensor.stride(), strict=True)]
        return tuple(found) if dim is None else found[dim]

    def module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a module: as one node if it has an adapter, else as a frame around what it does."""
        path = self.paths.get(id(module))
        if path is not None and self.stack and adapter_for(module) is not None and not _hooked(module):
            lifted = self.lift(args), self.lift(kwargs)
            where = location(sys._getframe(1))
            result = self.quietly(call, module, *args, **kwargs)
            self.register(result, self.node("call_module", path, *lifted, result, where))
            return result
        if isinstance(module, torch.jit.ScriptModule):
            return self.opaque(type(module), lambda *a, **k: call(module, *a, **k), args, kwargs)
        if path is None and any(id(parameter) in self.parameters for parameter in module.parameters()):
            raise CaptureError(
                f"a forward calls a {type(module).__name__} that holds parameters of the model but is no part of it: "
                "it belongs to another copy, to which a function or a lambda of the model is bound"
            )
        parent = self.stack[-1].index if self.stack else None
        frame = Frame(len(self.frames), module, path, parent)
        self.frames.append(frame)
        self.stack.append(frame)
        if parent is not None:
            self.passed.update({id(v): v for v in (*args, *kwargs.values()) if is_object(v)})
        frame.args, frame.kwargs = self.lift(args), self.lift(kwargs)
        contents = Contents(module)
        try:
            result = call(module, *args, **kwargs)
            frame.output = self.lift(result)
            if parent is None:
                objects: dict[int, Any] = {}
                frame.returned = [self.node_of(tensor) for tensor in all_tensors(result, self.passed, objects)]
                frame.states = sorted({class_name(value) for key, value in objects.items() if key in self.passed})
        finally:
            self.stack.pop()
        stored = [name for name in contents.changed() if name != "training"]
        frame.stored = {name: self.left(vars(module).get(name)) for name in stored}
        return result

    def apply(self, run: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """An autograd function, as what its forward does. As one node if it has a rule, or does what nobody can see."""
        if cls is CheckpointFunction:  # it runs its first argument on those after the second
            return args[0](*args[2:])
        if cls in RULES or not self.stack:
            return self.opaque(cls, run, args, kwargs)
        lifted, where, record = (self.lift(args), self.lift(kwargs)), location(sys._getframe(1)), self._mark()
        with self.mute():
            given = {self.node_of(tensor): (tensor, tensor.clone()) for tensor in tensors((args, kwargs))}
            random = torch.get_rng_state()
        try:
            result = functions.run(cls, args, kwargs, self.mute)
        except Exception:  # it needs more than it was given here: it is run as it is, on what it was given
            with self.mute():
                for tensor, before in given.values():
                    if not functions.alike(tensor, before):
                        tensor.copy_(before)
                torch.set_rng_state(random)
            self._forget(record)
            return self.opaque(cls, run, args, kwargs)
        with self.mute():
            if not self._is_all(record, given, random, result):
                self._forget(record)
                self.register(result, self.node("call_function", cls, *lifted, result, where))
        return result

    def _mark(self) -> tuple[Any, ...]:
        """How far the record has come."""
        last = next(iter(reversed(self.graph.nodes)), None)
        return last, dict(self.nodes), len(self.frames), len(self.branches), len(self.stack[-1].nodes)

    def _since(self, last: fx.Node | None) -> list[fx.Node]:
        new = itertools.takewhile(lambda node: node is not last, reversed(self.graph.nodes))
        return [node for node in new if node.op != "get_attr"][::-1]

    def _forget(self, mark: tuple[Any, ...]) -> None:
        """Strike from the record what came after a mark."""
        last, self.nodes, frames, branches, nodes = mark
        for node in reversed(self._since(last)):
            self.graph.erase_node(node)
        del self.frames[frames:], self.branches[branches:], self.stack[-1].nodes[nodes:]

    def _is_all(self, mark: tuple[Any, ...], given: dict[fx.Node, Any], random: torch.Tensor, result: Any) -> bool:
        """Whether what was recorded since a mark is all that was done to the tensors `given` and in the result."""
        made = self._since(mark[0])
        found = [*all_tensors(result, {}, {}), *(tensor for tensor, _ in given.values())]
        if any(node.target is foreign for node in made) or any(
            id(tensor) not in self.nodes and id(tensor) not in self.parameters for tensor in found
        ):
            return False
        modules = {path: module for module in self.model.modules() if (path := self.paths.get(id(module)))}
        values: dict[fx.Node, Any] = {node: self.names[name] for name, node in self.attributes.items()}
        values |= {node: before for node, (_, before) in given.items()}
        try:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(random)
                functions.repeated(made, values, modules.__getitem__)
            return all(functions.alike(tensor, values[self.node_of(tensor)]) for tensor in found)
        except Exception:
            return False  # it used what was not given to it

    def opaque(self, target: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call whose inside torch does not show: one node, for a rule to explain or to be pinned."""
        lifted = self.lift(args), self.lift(kwargs)
        where = location(sys._getframe(1))
        result = self.quietly(run, *args, **kwargs)
        self.register(result, self.node("call_function", target, *lifted, result, where))
        return result

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Record nothing inside."""
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1

    def quietly(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A call whose inside is not recorded."""
        self.muted += 1
        try:
            return function(*args, **kwargs)
        finally:
            self.muted -= 1


def foreign(*_: Any) -> None:
    """Stands in graphs for a tensor that no recorded call produced."""


def _order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions of a tensor from the outermost in memory, those of one unit first; None if there are gaps."""
    strides, shape = tensor.stride(), tensor.shape
    order = sorted(range(tensor.dim()), key=lambda i: (shape[i] != 1, -strides[i], i))
    inside = [math.prod(shape[j] for j in order[place + 1 :]) for place in range(len(order))]
    whole = all(strides[i] == n for i, n in zip(order, inside, strict=True) if shape[i] != 1)
    return tuple(order) if whole else None


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
