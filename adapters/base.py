"""What a layer declares about its axes, and the registry of such declarations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn

from surgery.adapters.stack import Stack
from surgery.axes import signature
from surgery.axes.algebra import Dim, Dims, pin
from surgery.errors import AxisError
from surgery.nested import Shapes

A = TypeVar("A", bound="type[Adapter]")
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
Argument: TypeAlias = Any  # of a call: `Dims` where a tensor was, in containers as they were; all else as it is
Made: TypeAlias = "Dims | Sequence[Made] | None"  # the dimensions of a result, nested as it is
Decider: TypeAlias = Callable[[Any], object]  # takes modules of the class that it is declared for
_REGISTRY: dict[type, type[Adapter]] = {}
_DECISIONS: dict[tuple[type[nn.Module], str], Decider] = {}


@dataclass
class LayerCall:
    """One call of a layer, for adapters that declare more than a signature can say."""

    inputs: list[Argument]
    keywords: dict[str, Argument]
    shapes: Shapes
    binding: signature.Binding
    macs: list[tuple[Dim, ...]]
    min_units: list[Dim] = field(default_factory=list)
    parts: dict[int, int] = field(default_factory=dict)  # of a stack: which of its layers each of the `macs` is of

    def at_least_two(self, *dims: Dim) -> None:
        """State that one unit, in the product of these dimensions, would be an error or another case."""
        self.min_units.append(tuple(factor for dim in dims for factor in dim))

    def multiply(self, *dims: Dim, layer: int | None = None) -> None:
        """State multiply-adds of the call: the product of these dimensions' widths. Of a stack, those of one layer."""
        if layer is not None:
            self.parts[len(self.macs)] = layer
        self.macs.append(dims)


class Adapter:
    """The declaration of one layer family. Subclass it, fill in the class attributes, decorate with `@adapter(type)`.

    Any of the attributes may be a property that reads `self.module` where layers of the family differ.

    Attributes:
        axes: the signature of the forward, tensors in and tensors out: `... i -> ... o`.
        params: the pattern of each parameter and buffer, by its name inside the layer: `{"weight": "o i"}`.
            Those that are None in a layer, and those without a pattern here that have one element, need nothing.
        sizes: for each axis name, or product of names, the attributes that hold its width: `{"i": "in_features"}`.
            `shape[0]` is an item of a tuple; `child.attribute` belongs to a child module.
        macs: (tensor, parameter): the multiply-adds are the elements of "input" or "output" times the axes of the
            parameter that the tensor does not have. A list of such pairs is their sum. None where the layer has none.
        scale: the names of the parameters that the output is linear in: scaling them scales the output.
        kinds: what axes are, where the calls around the layer do not tell: `{"h": "heads"}`; see `surgery.Group.kind`.
    """

    axes: str
    params: Mapping[str, str] = {}
    sizes: Mapping[str, str | Sequence[str]] = {}
    macs: tuple[str, str] | Sequence[tuple[str, str]] | None = None
    scale: Sequence[str] = ()
    kinds: Mapping[str, str] = {}

    def __init__(self, module: Any):  # a layer of a class that the adapter is for
        self.module = module

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.axes!r})"

    def tensors(self) -> dict[str, torch.Tensor]:
        """The layer's parameters and buffers that have a pattern, by name."""
        found = {}
        for name in self.params:
            owner, _, leaf = name.rpartition(".")
            value = getattr(self.module.get_submodule(owner) if owner else self.module, leaf, None)
            if isinstance(value, torch.Tensor):
                found[name] = value
        return found

    def attributes(self) -> list[tuple[signature.Term, str]]:
        """(axis or product of axes, attribute) for every attribute that holds a width."""
        listed = []
        for term, names in self.sizes.items():
            ((parsed,),) = signature.parse_tensors(term)
            listed += [(parsed, name) for name in ([names] if isinstance(names, str) else names)]
        return listed

    def value(self, attribute: str) -> int:
        """The present value of an attribute in the notation of `sizes`."""
        value = self.module
        for part in attribute_path(attribute):
            value = value[part] if isinstance(part, int) else getattr(value, part)
        return int(value)

    def known_sizes(self) -> dict[str, int]:
        """Sizes of the axes that an attribute states by itself."""
        stated = ((term, name) for term, name in self.attributes() if isinstance(term, signature.Name))
        return {term.name: self.value(name) for term, name in stated}

    def expresses(self, widths: Mapping[str, int]) -> bool:
        """Whether a plain layer of this class can have these widths, given by axis name."""
        return True

    @property
    def replacement(self) -> type[nn.Module] | None:
        """A plain class that can have the widths that this one cannot."""
        return None

    @property
    def stack(self) -> Stack | None:
        """The layers inside of this one of which any but the first may be left out; None where there are none."""
        return None

    def consumed(self) -> frozenset[str]:
        """The names of the axes that come in with the input; the layer itself makes the others."""
        return _consumed(self.axes)

    def call(self, call: LayerCall) -> Made:
        """The dimensions of the outputs, as one `Dims` or nested like the result. The default applies `axes`."""
        parsed = signature.parse(self.axes)
        given = [x for x in (*call.inputs, *call.keywords.values()) if isinstance(x, Dims)]
        if len(given) < len(parsed.inputs):
            raise AxisError(f"{call.binding.where}: {self.axes!r} takes {len(parsed.inputs)} tensors, got {len(given)}")
        for extra in given[len(parsed.inputs) :]:
            for dim in extra:
                pin(dim, f"{self.axes!r} says nothing of this input of {call.binding.where}")
        shapes = call.shapes if isinstance(call.shapes, list) else [call.shapes]
        outputs = signature.bind(parsed, given, shapes, call.binding)
        for tensor, parameter in self.products():
            pattern = (parsed.inputs if tensor == "input" else parsed.outputs)[0]
            (terms,) = signature.parse_tensors(self.params[parameter])
            weight = self.tensors()[parameter]
            call.multiply(
                *(given if tensor == "input" else outputs)[0],
                *(dim for term in terms for dim in _beyond(pattern, term, terms, weight, call.binding)),
            )
        return list(outputs) if isinstance(call.shapes, list) else outputs[0]

    def products(self) -> Sequence[tuple[str, str]]:
        """`macs` as a list of pairs."""
        if self.macs is None:
            return ()
        first = self.macs[0]
        return [(first, str(self.macs[1]))] if isinstance(first, str) else list(self.macs)  # type: ignore[arg-type]


def _beyond(
    pattern: Sequence[signature.Term],
    term: signature.Term,
    terms: Sequence[signature.Term],
    weight: torch.Tensor,
    binding: signature.Binding,
) -> list[Dim]:
    """The dimensions that a term of a weight adds to those of a tensor."""
    if isinstance(term, signature.Rest):  # the positions of a kernel
        return list(binding.build((term,), weight.shape[len(terms) - 1 :]))
    return [] if term in pattern else [binding.dim(term)]


@functools.cache
def _consumed(axes: str) -> frozenset[str]:
    return frozenset(name for pattern in signature.parse(axes).inputs for name in signature.names(pattern))


@functools.cache
def attribute_path(attribute: str) -> tuple[Any, ...]:
    """`child.shape[0]` as ("child", "shape", 0): names, then indices."""
    parts: list[str | int] = []
    for part in attribute.split("."):
        name, _, index = part.partition("[")
        parts.append(name)
        if index:
            parts.append(int(index.rstrip("]")))
    return tuple(parts)


def adapter(*layers: type[nn.Module], replace: bool = False) -> Callable[[A], A]:
    """Declare that a class describes these layers (exactly these: a subclass may compute something else).

    With `replace`, it takes the place of an earlier declaration: a cell of a notebook may run again. Plans that were
    made before stay what they are.

    Raises AxisError for what is no layer, a class that declares nothing, a pattern that cannot be read, or a layer
    declared twice.
    """
    for layer in layers or (None,):
        if not isinstance(layer, type) or not issubclass(layer, nn.Module):
            raise AxisError(
                f"an adapter is for classes of layers, as in @surgery.adapter(nn.Linear), not for {layer!r}"
            )

    def declare(cls: A) -> A:
        if not isinstance(cls, type) or not issubclass(cls, Adapter):
            raise AxisError(f"an adapter is a subclass of surgery.Adapter, got {cls!r}")
        axes = vars(cls).get("axes", getattr(cls, "axes", None))
        if axes is None:
            raise AxisError(f"{cls.__name__} declares no axes: write for example axes = '... i -> ... o'")
        if isinstance(axes, str):
            signature.parse(axes)
        elif not isinstance(axes, property):
            raise AxisError(f"{cls.__name__}: axes is a text such as '... i -> ... o', got {axes!r}")
        for pattern in cls.params.values() if isinstance(cls.params, Mapping) else ():
            signature.parse_tensors(pattern)
        for layer in layers:
            if layer in _REGISTRY and not replace:
                raise AxisError(
                    f"{layer.__name__} has an adapter already: {_REGISTRY[layer].__name__}. To put this one in its "
                    f"place, as where a cell of a notebook runs again: @adapter({layer.__name__}, replace=True)"
                )
        _REGISTRY.update(dict.fromkeys(layers, cls))
        return cls

    return declare


def adapter_for(module: nn.Module) -> Adapter | None:
    """The adapter of a layer, or None. A subclass has its base's adapter only if it kept the base's forward."""
    own: type = type(module)
    for base in own.__mro__:
        if base in _REGISTRY:
            adapter = _REGISTRY[base](module)
            return adapter if _same_layer(own, base) and _plain(adapter) else None
    return None


def adapter_class(layer: type[nn.Module]) -> type[Adapter] | None:
    """The adapter of a class or of the nearest of its bases that has one, whatever the class does of its own."""
    return next((_REGISTRY[base] for base in layer.__mro__ if base in _REGISTRY), None)


# What a subclass may do of its own without computing something else.
_HARMLESS = {
    "__init__", "__repr__", "extra_repr", "reset_parameters", "__setstate__", "__getstate__", "_load_from_state_dict",
}  # fmt: skip


@functools.cache
def _same_layer(cls: type, base: type) -> bool:
    """Whether a subclass computes what its base does: it overrides nothing that the base has."""
    between = cls.__mro__[: cls.__mro__.index(base)]
    names = {name for c in between for name, value in vars(c).items() if callable(value) or isinstance(value, property)}
    return not any(hasattr(base, name) for name in names - _HARMLESS if name != "__class__")


def _plain(adapter: Adapter) -> bool:
    """Whether the layer's weights are its own parameters, not computed from others by a parametrization or a hook."""
    held = vars(adapter.module)  # a hook puts what it computes here, beside the parameters
    computed = any(isinstance(held.get(name), torch.Tensor) for name in adapter.params)
    return not computed and "parametrizations" not in adapter.module._modules and "forward" not in held


def registered() -> dict[type, type[Adapter]]:
    """Every layer with an adapter."""
    return dict(_REGISTRY)


def decides(container: type[M], attribute: str) -> Callable[[Callable[[M], T]], Callable[[M], T]]:
    """Declare an attribute that a container's constructor decides by the layers in it.

    The function takes such a module and gives the attribute's value. It is asked again where layers have changed: of
    a twin, whose layers stand for all their widths, and of a shrunk model.
    """

    def declare(function: Callable[[M], T]) -> Callable[[M], T]:
        _DECISIONS[container, attribute] = function
        return function

    return declare


def decisions(module: nn.Module) -> dict[str, Decider]:
    """The attributes of a module that depend on its layers, and what decides them."""
    return {name: function for (cls, name), function in _DECISIONS.items() if isinstance(module, cls)}
