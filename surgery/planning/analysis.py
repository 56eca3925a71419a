"""From recorded runs to axes: every node's rule or adapter is applied once, in order."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from surgery.adapters.base import Adapter, LayerCall, adapter_class, adapter_for, attribute_path
from surgery.axes import signature
from surgery.axes.algebra import Axis, Dim, Dims, axes_of, fresh, pin
from surgery.capture.callsites import line
from surgery.capture.frames import Frame, info
from surgery.capture.record import Capture
from surgery.capture.recorder import call_name
from surgery.capture.trace import foreign
from surgery.errors import AxisError
from surgery.modules.containers import unreachable
from surgery.modules.tensors import Parts, aliases
from surgery.planning.listed.found import Experts
from surgery.planning.values import check, fill, fixed, pin_all
from surgery.rules.base import Call, SizeConstraint, run, tensors_in
from surgery.rules.registry import find


@dataclass
class Layer:
    """A module with an adapter, and its axes by name."""

    path: str
    adapter: Adapter
    binding: signature.Binding


@dataclass
class Analysis:
    """What the runs of a model say about its axes. Mutable while it is filled; `surgery.plan` freezes it."""

    parts: Parts  # of the model
    captures: list[Capture] = field(default_factory=list)
    tensors: dict[str, Dims] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    transparent: dict[str, Layer] = field(default_factory=dict)  # layers whose inside was recorded
    attributes: list[tuple[str, tuple[Any, ...], Dim]] = field(default_factory=list)
    constraints: list[SizeConstraint] = field(default_factory=list)
    min_units: list[tuple[Dim, str]] = field(default_factory=list)
    macs: list[Dim] = field(default_factory=list)
    # The call of each of the `macs`; where that is of several layers, which of these.
    workers: list[tuple[fx.Node, int | None]] = field(default_factory=list)
    kinds: list[tuple[str, Dim]] = field(default_factory=list)
    least: list[tuple[Dim, int]] = field(default_factory=list)
    counted: list[tuple[str, Dim]] = field(default_factory=list)  # read unit by unit, in the forward of a module
    candidates: frozenset[int] = frozenset()  # sizes of dimensions that may turn out to be experts
    experts: dict[Axis, Experts] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    read: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)  # attributes that runs read without a trace
    tried: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)  # those for which that has been found out

    def __post_init__(self) -> None:
        self.model, self.modules = self.parts.model, self.parts.modules
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self.parts.tensors.items()}
        self.canonical = {alias: name for name, names in aliases(self.parts).items() for alias in names}
        self.parameters = {name: parameter.numel() for name, parameter in self.parts.parameters.items()}

    def add(self, capture: Capture) -> None:
        """Apply the rules to one recorded run; what goes in and what comes out is fixed."""
        self.run(capture, ())
        pin_all([self.values[node] for node in capture.root.counted], "it is an output of the model")

    def run(self, capture: Capture, inputs: Sequence[Dims]) -> list[Dims]:
        """Apply the rules to a recorded run with known dimensions of its input tensors; returns those that come out."""
        self.captures.append(capture)
        known = dict(zip((n for n in capture.graph.nodes if n.op == "placeholder"), inputs, strict=False))
        for node in capture.graph.nodes:
            self.values[node] = known[node] if node in known else self.value(node, capture)
            self.workers += [(node, None)] * (len(self.macs) - len(self.workers))
        for frame in capture.frames:
            self._declare_transparent(frame)
        return tensors_in(fill(capture.root.output, self.values.get))

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """What runs do inside is no work that counts."""
        counted = len(self.macs)
        yield
        del self.macs[counted:], self.workers[counted:]

    def tensor(self, name: str) -> Dims:
        """The dimensions of a parameter or buffer, shared by everything that is tied to it."""
        if name not in self.canonical:
            raise AxisError(f"{name} is no parameter or buffer of the model, but computed")
        name = self.canonical[name]
        if name not in self.tensors:
            self.tensors[name] = Dims(fresh(size) for size in self.shapes[name])
        return self.tensors[name]

    def value(self, node: fx.Node, capture: Capture) -> Any:
        """The dimensions of what a call makes, as its rule or adapter says. What they do not explain is pinned."""
        if node.op == "placeholder":
            return fixed(info(node).shape, "it is an input of the model")
        if node.op == "get_attr":
            return self.tensor(str(node.target))
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        where = f"{_describe(node)} ({line(info(node).where)})"
        args = tuple(fill(arg, self.values.get, node, (0, i)) for i, arg in enumerate(node.args))
        kwargs = {key: fill(arg, self.values.get, node, (1, key)) for key, arg in node.kwargs.items()}
        try:
            if node.op == "call_module":
                value = self._layer_call(node, args, kwargs, where, capture)
            else:
                value = self._rule_call(node, args, kwargs, where, capture)
            check(value, info(node).shape)
            return value
        except Unexplained as error:
            reason = f"{error} at {line(info(node).where)}"
        except Exception as error:
            # a rule that cannot read a call must not end the analysis: what it leaves unexplained is pinned
            kind = "adapter" if node.op == "call_module" else "rule"
            reason = f"the {kind} for {where} does not cover this call ({str(error) or type(error).__name__})"
        pin_all((args, kwargs), reason)
        if node.op == "call_module":
            self._pin_layer(str(node.target), reason)
        return fixed(info(node).shape, reason)

    def _rule_call(self, node: fx.Node, args: Any, kwargs: Any, where: str, capture: Capture) -> Any:
        function: Any = node.target
        if function is foreign:
            raise Unexplained("a tensor of unknown origin (register it as a buffer, or write a rule) is used")
        rule = find(function)
        if rule is None:
            raise Unexplained(f"no rule for {_describe(node)}")
        known, returned = info(node), capture.root.returned
        caller = capture.frames[known.frame or 0]
        call = Call(
            node, where, known.shape, caller, known.chain, known.order, lambda other: info(other).shape, returned,
            self.values, capture.training, lambda other: info(other).dtype, self.candidates,
        )  # fmt: skip
        value = run(call, rule, args, kwargs)
        self.constraints += call.constraints
        self.kinds += call.kinds
        self.least += call.least
        self.counted += [(caller.path or "", dim) for dim in call.counted]
        self.min_units += [(dim, where) for dim in call.min_units]
        if not capture.training:
            self.macs += call.macs
        return value

    def layer(self, path: str, adapter: Adapter) -> Layer:
        """Bind the axis names of a layer to the dimensions of its parameters; the first call decides."""
        if path not in self.layers:
            binding = signature.Binding(path or type(adapter.module).__name__, adapter.known_sizes())
            for name in adapter.tensors():
                ((*pattern,),) = signature.parse_tensors(adapter.params[name])
                full = f"{path}.{name}".lstrip(".")
                try:
                    binding.match(tuple(pattern), self.tensor(full))
                except AxisError as error:
                    shape = list(self.shapes[self.canonical[full]])
                    known = f"; sizes says {adapter.known_sizes()}" if adapter.sizes else ""
                    raise AxisError(
                        f"{name} {shape} does not fit its pattern {adapter.params[name]!r}{known}: {error}"
                    ) from error
            self.layers[path] = Layer(path, adapter, binding)
            self._state_sizes(path, adapter, binding)
        return self.layers[path]

    def _state_sizes(self, path: str, adapter: Adapter, binding: signature.Binding) -> None:
        for term, attribute in adapter.attributes():
            if binding.size(term) is None:
                continue
            owner, *keys = attribute_path(attribute)
            full, module = path, adapter.module
            while keys and isinstance(keys[0], str):
                full, module, owner = f"{full}.{owner}".lstrip("."), module.get_submodule(owner), keys.pop(0)
            if owner in vars(module):
                self.attributes.append((full, (owner, *keys), binding.dim(term)))

    def _layer_call(self, node: fx.Node, args: Any, kwargs: Any, where: str, capture: Capture) -> Any:
        path, shapes = str(node.target), info(node).shape
        module = self.modules[path]
        adapter = adapter_for(module)
        if adapter is None:
            raise Unexplained(f"no adapter for {type(module).__name__}")
        layer = self.layer(path, adapter)
        known = layer.binding
        binding = signature.Binding(where, dict(known.sizes), dict(known.dims))
        macs: list[tuple[Dim, ...]] = []
        call = LayerCall(list(args), kwargs, shapes, binding, macs)
        value = adapter.call(call)
        self.min_units += [(dim, where) for dim in call.min_units]
        for dims in tensors_in(args, kwargs):
            if dims.into is not None:
                pin(dims.into, f"places are read as numbers at {where}")
        known.dims.update({name: dim for name, dim in binding.dims.items() if name in known.dims})
        if not capture.training:
            self.macs += [tuple(factor for dim in dims for factor in dim) for dims in macs]
            self.workers += [(node, call.parts.get(i)) for i in range(len(macs))]
        return value

    def _declare_transparent(self, frame: Frame) -> None:
        """A layer whose inside was recorded (it has hooks, or computed weights) still states its sizes."""
        cls = adapter_class(type(frame.module))
        if cls is None or frame.path is None or frame.path in self.layers:
            return
        adapter = cls(frame.module)
        try:
            if adapter_for(frame.module) is not None:
                self.layer(frame.path, cls(self.modules[frame.path]))
                return
            binding = signature.Binding(frame.path, adapter.known_sizes())
            parsed = signature.parse(adapter.axes)
            given = [fill(value, self.values.get) for value in (*frame.args, *frame.kwargs.values())]
            output = fill(frame.output, self.values.get)
            for pattern, dims in zip(
                (*parsed.inputs, *parsed.outputs), (*tensors_in(given)[: len(parsed.inputs)], output), strict=True
            ):
                binding.match(pattern, dims)
            self._state_sizes(frame.path, cls(self.modules[frame.path]), binding)
            self.transparent[frame.path] = Layer(frame.path, adapter, self._named(frame.path, adapter))
        except (AxisError, ValueError, AttributeError, TypeError):
            return  # the layer computes something else than its base: its attributes stay as they are

    def _named(self, path: str, adapter: Adapter) -> signature.Binding:
        """The dimensions of a layer's tensors by the names of their axes. Nothing is said of them by that."""
        binding = signature.Binding(path, {})
        for name in adapter.tensors():
            full = self.canonical.get(f"{path}.{name}".lstrip("."))
            (pattern,) = signature.parse_tensors(adapter.params[name])
            dims = self.tensors.get(full, ()) if full is not None else ()
            for term, dim in zip(pattern, dims, strict=False):
                if isinstance(term, signature.Name):
                    binding.dims.setdefault(term.name, dim)
        return binding

    def _pin_layer(self, path: str, reason: str) -> None:
        layer = self.modules[path]
        for name, _ in (*layer.named_parameters(prefix=path), *layer.named_buffers(prefix=path)):
            pin_all(self.tensor(name), reason)


def group_axes(analysis: Analysis) -> list[Axis]:
    """The axes that may be cut: in some parameter, and not pinned. In order of first appearance."""
    found: dict[Axis, None] = {}
    for name in analysis.parameters:
        if name in analysis.tensors:
            for dim in analysis.tensors[name]:
                found.update(dict.fromkeys(axis for axis in axes_of(dim) if not axis.pin))
    return list(found)


class Unexplained(Exception):
    """Nothing says what an operation does to its axes."""


def _describe(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else call_name(node.target)


def pin_held(analysis: Analysis) -> None:
    """Pin what a forward could read whole: tensors in objects and functions that a twin does not cut."""
    names = {id(tensor): name for name, tensor in analysis.parts.tensors.items()}
    for tensor, where in unreachable(analysis.model):
        name = names.get(id(tensor))
        for dim in analysis.tensor(name) if name else ():
            pin(dim, f"{name} is also held in {where}, where it cannot be cut (hold it in a list or dict instead)")
