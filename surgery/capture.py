"""One eager run of a model, recorded as a `torch.fx.Graph`.

The model runs with Python's own control flow. Under a `TorchFunctionMode` every torch call becomes a node; a module
with an adapter becomes one `call_module` node and its inside is not recorded. Integers remember where they came from
(`surgery.sizes`). Capture works on a copy of the module tree, so the model comes out exactly as it went in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import einops.einops
import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from surgery import functions
from surgery.adapter import adapter_for
from surgery.copying import copy_of
from surgery.errors import CaptureError
from surgery.inputs import Inputs, tensors
from surgery.mentions import mentions
from surgery.records import ATOMS, LONGEST, Field, altered, is_record
from surgery.restoring import Watch
from surgery.rules.base import RULES
from surgery.sizes import Attribute, Decision, Extent, Size, observe_decisions
from surgery.source import Chain
from surgery.tensors import Parts, parts_of

Location = tuple[str, int]


@dataclass
class Frame:
    """One call of one module: what it was given, what it returned, and which nodes it ran itself."""

    index: int
    module: nn.Module
    path: str | None
    parent: int | None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    returned: list[fx.Node] = field(default_factory=list)  # of the root: every tensor in the output, also in objects
    states: list[str] = field(default_factory=list)  # classes of objects in the output that are state, not results
    nodes: list[fx.Node] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)  # attributes that the forward set


@dataclass
class Branch:
    """A decision that the forward of a frame took about sizes, and where."""

    decision: Decision
    where: Location
    chain: Chain
    frame: int


@dataclass
class Capture:
    """The record of one run. Values in trees are nodes where the run had tensors."""

    graph: fx.Graph
    frames: list[Frame]
    branches: list[Branch]
    training: bool

    @property
    def root(self) -> Frame:
        return self.frames[0]


def capture(
    model: nn.Module | Parts, run: Inputs, training: bool = False, prefix: str = "", records: bool | None = None
) -> Capture:
    """Record one run of a model in eval mode (or training mode), without gradients.

    `prefix` stands before the names of modules and tensors, where the model is a part of a larger one. `records` says
    whether modules get copies of plain data objects; by default they do, unless the run writes into one.

    Raises CaptureError where the model does not run on these inputs, Shared where `records` is True and a forward
    writes into an object. The model, its buffers and the global random
    state stay as they were.
    """
    parts = model if isinstance(model, Parts) else parts_of(model)
    with torch.random.fork_rng(devices=_devices(parts)):
        try:
            return _record(parts, run, training, prefix, records is not False)
        except Shared:
            if records is not None:
                raise
            # what one module writes into an object, another reads there: modules cannot have copies
            return _record(parts, run, training, prefix, records=False)


def _devices(parts: Parts) -> list[int]:
    devices = {parameter.device for parameter in parts.parameters.values()}
    indices = {device.index for device in devices if device.type == "cuda"}
    return sorted(index or 0 for index in indices)


class Shared(Exception):
    """A forward writes into a plain data object that a module holds."""


def _record(parts: Parts, run: Inputs, training: bool, prefix: str, records: bool) -> Capture:
    # buffers may change without saying so
    copied = copy_of(parts, lambda name, tensor: tensor if name in parts.parameters else _cloned(tensor))
    watch = Watch(copied.tensors.values())
    recorder = Recorder(copied, prefix, watch)
    args, kwargs = recorder.placeholders(run)
    twin: Any = copied.model
    before: list[_Contents] = []
    try:
        with watch:
            twin.train(not training).train(training)  # modules clear what they keep between runs
        before = [_Contents(copy) for copy in _remember_attributes(copied, prefix, records)]
        with torch.no_grad(), recorder.active():
            twin(*args, **kwargs)
    except Exception as error:
        if any(contents.changed() for contents in before):
            raise Shared from error
        shapes = ", ".join(_describe(value) for value in (*run.args, *run.kwargs.values()))
        mode = "training" if training else "eval"
        raise CaptureError(
            f"{type(parts.model).__name__} does not run in {mode} mode on the example inputs ({shapes}): "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        watch.put_back()
    if any(contents.changed() for contents in before):
        raise Shared
    return Capture(recorder.graph, recorder.frames, recorder.branches, training)


def _cloned(tensor: torch.Tensor) -> torch.Tensor:
    clone = tensor.detach().clone()
    return nn.Parameter(clone, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else clone


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} on {value.device}"
    return type(value).__name__


def _remember_attributes(parts: Parts, prefix: str, records: bool) -> list[Any]:
    """Replace the integers in modules' attributes, also nested in containers, by ones that know their place.

    With `records`, objects that are plain data are replaced too, by copies for each module whose code mentions them.
    Returns these copies.
    """
    copies: list[Any] = []
    known: dict[int, bool] = {}
    for inner, module in parts.modules.items():
        path = f"{prefix}.{inner}".strip(".")
        for name, value in vars(module).items():
            if type(value) not in _WITHOUT_SIZES and (not name.startswith("_") or name == "_axes_lengths"):
                wanted = records and type(value) is not int and mentions(type(module), {name})
                vars(module)[name] = _remember(value, path, (name,), copies if wanted else None, known)
    return copies


_WITHOUT_SIZES = frozenset(ATOMS) - {int}


def _remember(value: Any, module: str, path: tuple[Any, ...], copies: list[Any] | None, known: dict[int, bool]) -> Any:
    """A value with integers that know their place. Objects are followed where there is a list for their `copies`."""
    if type(value) is int:
        return Size(value, Attribute(module, path, value))
    inside = any(isinstance(step, Field) for step in path)
    if type(value) in (tuple, list, dict) and len(path) < 4 and not (inside and len(value) > LONGEST):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        new = {key: _remember(item, module, (*path, key), copies, known) for key, item in items}
        return new if isinstance(value, dict) else type(value)(new.values())
    if copies is None or type(value) in ATOMS or len(path) >= 4:
        return value
    if id(value) not in known:  # the model that is recorded keeps the object alive: modules share it
        known[id(value)] = is_record(value)
    if not known[id(value)]:
        return value
    own = vars(value).items()
    copies.append(altered(value, {key: _remember(v, module, (*path, Field(key)), copies, known) for key, v in own}))
    return copies[-1]


# Calls that only look at a tensor's description: their results are Python values without axes.
DESCRIPTIONS = frozenset(
    "ndim dtype device layout is_cuda is_cpu is_meta is_sparse is_quantized is_nested is_leaf requires_grad grad "
    "grad_fn is_mkldnn is_mps is_xpu names dim ndimension is_floating_point is_complex is_contiguous element_size "
    "is_signed is_inference get_device type_ is_same_size has_names data_ptr storage_offset is_conj is_neg "
    "_has_compatible_shallow_copy_type is_tensor is_grad_enabled _set_grad_enabled requires_grad_ retain_grad "
    "register_hook is_shared is_storage _version output_nr name".split()
)
_TORCH = os.path.dirname(torch.__file__)
_OURS = tuple(
    os.path.join(os.path.dirname(__file__), f"{name}.py") for name in ("capture", "functions", "sizes", "routine")
)
_SKIPPED = (  # files whose lines say nothing about the model
    *_OURS,
    os.path.join(os.path.dirname(__file__), "check.py"),
    os.path.dirname(einops.einops.__file__),
    *(os.path.join(_TORCH, part) for part in ("overrides.py", "functional.py", "_ops.py", "_tensor.py", "utils")),
    *(os.path.join(_TORCH, "nn", part) for part in ("functional.py", "modules/module.py")),
)


# Arguments without tensors, which are kept as they are.
_ATOMS = frozenset((Size, int, float, bool, str, type(None), torch.dtype, torch.device))
_MODULE = nn.Module._call_impl.__code__.co_filename
_PASSING = (*_OURS, *(os.path.join(_TORCH, part) for part in ("overrides.py", "_ops.py")))


@functools.lru_cache(maxsize=4096)
def _kind(file: str) -> tuple[bool, bool]:
    """Whether the lines of a file say nothing about the model, and whether they only pass calls to the recorder."""
    return file.startswith(_SKIPPED), file.startswith(_PASSING)


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


def _location(frame: FrameType) -> Location:
    """The source line of the model in or above a frame."""
    while frame.f_back is not None and _kind(frame.f_code.co_filename)[0]:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _chain(function: Any = None) -> tuple[Location, Chain]:
    """The line of the current call; the functions from the forward of the current module to it, and where each is."""
    where = _location(sys._getframe(2))
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and _kind(frame.f_code.co_filename)[1]:
        frame = frame.f_back
    if frame is not None and frame.f_code is getattr(function, "__code__", None):
        frame = frame.f_back  # a function of torch that is written in Python, and hands itself over
    steps = []
    while frame is not None and frame.f_code.co_filename != _MODULE:
        if frame.f_code is functions.run.__code__:
            return where, ()  # the code of an autograd function is no part of a forward
        steps.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return where, tuple(reversed(steps))


def line(where: tuple[str, int]) -> str:
    """A source line, short enough for a table."""
    return f"{os.path.basename(where[0])}:{where[1]}" if where[0] else "the call of the model"


@functools.lru_cache(maxsize=4096)
def call_name(function: Any) -> str:
    """The name of a torch function; properties go by the name of the property."""
    name = getattr(function, "__name__", str(function))
    return getattr(function.__self__, "__name__", name) if name == "__get__" else name


# While a model is recorded, a compiled module runs as it is written: what torch compiles calls no `_call_impl`.
_UNCOMPILED = property(lambda _: None, lambda module, value: vars(module).__setitem__("_compiled_call_impl", value))


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

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Record every torch call and every module call inside."""
        call, apply = nn.Module._call_impl, torch.autograd.Function.__dict__["apply"]
        uncached = einops.einops._reconstruct_from_shape
        recorder = self

        def module_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if recorder.muted:
                return call(module, *args, **kwargs)
            return recorder.module(call, module, args, kwargs)

        def function_apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            run = apply.__get__(None, cls)
            if cls is CheckpointFunction and not recorder.muted:  # it runs its first argument on those after the second
                return args[0](*args[2:])
            return run(*args, **kwargs) if recorder.muted else recorder.function(cls, run, args, kwargs)

        # setting `__call__` itself would make Python go through every subclass that there is
        nn.Module._call_impl = module_call  # type: ignore[method-assign, assignment]
        nn.Module._compiled_call_impl = _UNCOMPILED  # type: ignore[assignment]
        torch.autograd.Function.apply = classmethod(function_apply)
        # einops caches the shapes that it computes: a cached shape has forgotten where its integers came from
        shapes: Any = einops.einops
        shapes._reconstruct_from_shape = shapes._reconstruct_from_shape_uncached
        try:
            with self, observe_decisions(self.decide):
                yield
        finally:
            nn.Module._call_impl = call  # type: ignore[method-assign]
            nn.Module._compiled_call_impl = None
            torch.autograd.Function.apply = apply
            shapes._reconstruct_from_shape = uncached

    def placeholders(self, run: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies of the inputs, their tensors registered as placeholders of the graph."""
        seen: dict[int, torch.Tensor] = {}

        def enter(value: Any, name: str) -> Any:
            if isinstance(value, torch.Tensor):
                if id(value) not in seen:
                    seen[id(value)] = value.detach().clone()
                    self.register(seen[id(value)], self.node("placeholder", name, (), {}, seen[id(value)], ("", 0)))
                return seen[id(value)]
            return _rebuild(value, lambda key, item: enter(item, f"{name}_{key}"), types=True)

        args = tuple(enter(value, f"input_{i}") for i, value in enumerate(run.args))
        return args, {name: enter(value, name) for name, value in run.kwargs.items()}

    def decide(self, decision: Decision) -> None:
        if self.stack and not self.muted:
            self.branches.append(Branch(decision, *_chain(), self.stack[-1].index))

    def node(
        self, kind: str, target: Any, args: Any, kwargs: Any, result: Any, where: Location, chain: Chain = ()
    ) -> fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs)
        frame = self.stack[-1].index if self.stack else None
        with torch._C.DisableTorchFunction():
            node.meta.update(
                shape=_shapes(result), dtype=getattr(result, "dtype", None), where=where, chain=chain, frame=frame
            )
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
                    where = node.meta["where"]
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
        return _rebuild(value, lambda _, item: self.lift(item))

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
                node.meta.update(shape=_shapes(tensor), dtype=tensor.dtype, where=("", 0), chain=(), frame=None)
        return self.attributes[name]

    def foreign(self, tensor: torch.Tensor) -> fx.Node:
        """A node for a tensor that no recorded call produced.

        It may be a plain attribute of a module, or the result of code that torch does not show (a scripted function).
        What such code read is unknown, so everything that the current forward has made or been given counts as its
        input.
        """
        frame = self.stack[-1]
        before = frame.nodes.copy()
        before += nodes_in((frame.args, frame.kwargs))
        stored = any(
            tensor is item
            for module in self.model.modules()
            for value in vars(module).values()
            for item in (
                value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else (value,)
            )
        )
        where = _location(sys._getframe(1))
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
        node = self.node("call_function", func, *lifted, result, *_chain(func))
        node.meta["order"] = order
        self.register(result, node)
        return result

    def order(self, tensor: torch.Tensor) -> tuple[int, ...] | None:
        """The order in which the dimensions of a tensor lie in memory; None in that of a parameter or buffer."""
        kept = (*self.model.parameters(), *self.model.buffers())
        with torch._C.DisableTorchFunction():
            memory = tensor.untyped_storage().data_ptr()
            own = all(memory != other.untyped_storage().data_ptr() for other in kept)
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
        order = _order(tensor)
        if order is None:
            return plain
        found: list[int] = [math.prod(sizes[j] for j in order[order.index(i) + 1 :]) for i in range(len(order))]
        found = [step if n > 1 else given for n, step, given in zip(tensor.shape, found, tensor.stride(), strict=True)]
        return tuple(found) if dim is None else found[dim]

    def module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a module: as one node if it has an adapter, else as a frame around what it does."""
        path = self.paths.get(id(module))
        if path is not None and self.stack and adapter_for(module) is not None and not _hooked(module):
            lifted = self.lift(args), self.lift(kwargs)
            where = _location(sys._getframe(1))
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
        contents = _Contents(module)
        try:
            result = call(module, *args, **kwargs)
            frame.output = self.lift(result)
            if parent is None:
                objects: dict[int, Any] = {}
                frame.returned = [self.node_of(tensor) for tensor in _found(result, self.passed, objects)]
                frame.states = sorted({class_name(value) for key, value in objects.items() if key in self.passed})
        finally:
            self.stack.pop()
        frame.stored = [name for name in contents.changed() if name != "training"]
        return result

    def function(self, cls: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """An autograd function, as what its forward does. As one node if it has a rule, or does what nobody can see."""
        if cls in RULES or not self.stack:
            return self.opaque(cls, run, args, kwargs)
        lifted, where, record = (self.lift(args), self.lift(kwargs)), _location(sys._getframe(1)), self._mark()
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
        found = [*_found(result, {}, {}), *(tensor for tensor, _ in given.values())]
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
        where = _location(sys._getframe(1))
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


_FILLED = (dict, list, set)


class _Contents:
    """What a module or an object holds at a moment; of containers, which forwards may fill, the length as well."""

    def __init__(self, holder: Any):
        self.holder = holder
        self.before = dict(vars(holder))
        self.lengths = {name: len(value) for name, value in self.before.items() if isinstance(value, _FILLED)}

    def changed(self) -> list[str]:
        """The attributes that were set, filled or removed since then."""
        now, before = vars(self.holder), self.before
        changed = [name for name, value in now.items() if name not in before or before[name] is not value]
        changed += [
            name for name, length in self.lengths.items() if now.get(name) is before[name] and len(now[name]) != length
        ]
        return changed + [name for name in before if name not in now]


def _order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions of a tensor from the outermost in memory, those of one unit first; None if there are gaps."""
    strides, shape = tensor.stride(), tensor.shape
    order = sorted(range(tensor.dim()), key=lambda i: (shape[i] != 1, -strides[i], i))
    inside = [math.prod(shape[j] for j in order[place + 1 :]) for place in range(len(order))]
    whole = all(strides[i] == n for i, n in zip(order, inside, strict=True) if shape[i] != 1)
    return tuple(order) if whole else None


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _rebuild(value: Any, convert: Callable[[Any, Any], Any], types: bool = False) -> Any:
    """A container with its items converted, as a plain tuple, list or dict unless `types` are kept; else the value."""
    if isinstance(value, dict):
        new = {key: convert(key, item) for key, item in value.items()}
        return type(value)(**new) if types and type(value) is not dict else new
    if isinstance(value, tuple | list):
        items = [convert(i, item) for i, item in enumerate(value)]
        if types and hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {item.name: convert(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **named) if types else named
    return value


def is_object(value: Any) -> bool:
    """Whether a value is an object with attributes of its own, and neither a container nor a record of results."""
    if isinstance(value, torch.Tensor | nn.Module | type | Mapping | tuple | list | set):
        return False
    return hasattr(value, "__dict__") and not dataclasses.is_dataclass(value) and not callable(value)


def class_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _found(value: Any, skipped: Mapping[int, Any], seen: dict[int, Any]) -> Iterator[torch.Tensor]:
    """The tensors in a result, in containers and in the attributes of objects, but those that are `skipped`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif id(value) not in seen and not isinstance(value, type | nn.Module):
        seen[id(value)] = value
        if id(value) in skipped:
            return
        items = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list | set) else ()
        for item in (*items, *getattr(value, "__dict__", {}).values()):
            yield from _found(item, skipped, seen)


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """The nodes in nested arguments."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from nodes_in(item)


def _shapes(value: Any) -> Any:
    """A result with shapes in place of tensors and None in place of everything else."""
    if isinstance(value, torch.Tensor):
        return value.shape
    if isinstance(value, Mapping):
        return {key: _shapes(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_shapes(item) for item in value]
    return None
