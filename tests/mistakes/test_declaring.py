"""Declaring layers and operations: patterns, parts that are missing, what is no layer and no operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery import Adapter, AxisError, InputError, adapter, check_adapter
from surgery.rules.registry import RULES
from tests.mistakes.models import ROWS, net
from tests.mistakes.table import refused, works


class Layer(nn.Module):
    """A linear layer that stores its weight input-first."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.in_features, self.out_features = i, o
        self.weight, self.bias = nn.Parameter(torch.randn(i, o)), nn.Parameter(torch.zeros(o))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


RIGHT: dict[str, Any] = {
    "axes": "... i -> ... o",
    "params": {"weight": "i o", "bias": "o"},
    "sizes": {"i": "in_features", "o": "out_features"},
}


def declared(base: type = Adapter, **changes: Any) -> type:
    """A new layer class with such a declaration. What is None is left out."""
    layer = type("MyLayer", (Layer,), {"forward": lambda self, x: Layer.forward(self, x)})
    content = {name: value for name, value in {**RIGHT, **changes}.items() if value is not None}
    adapter(layer)(type("Declared", (base,), content))
    return layer


def checked(**changes: Any) -> Callable[[], list[str]]:
    return lambda: check_adapter(declared(**changes)(6, 8), ROWS)


def twice() -> None:
    layer = declared()
    adapter(layer)(type("Again", (Adapter,), RIGHT))


def cut() -> tuple[int, list[int]]:
    layer = declared()
    small = surgery.shrink(nn.Sequential(layer(6, 8), nn.ReLU(), layer(8, 3)), 0.5, ROWS)[0]
    return small.out_features, list(small.weight.shape)


class Undeclared(nn.Module):
    """A gain that no adapter describes."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class OfNumpy(nn.Module):
    """Leaves torch within its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.from_numpy(self.a(x).detach().numpy()))


class Written(nn.Module):
    """A width that is written into the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(-1, 16))


ADAPTERS = [
    works("as the docs say", cut, (4, [6, 4])),
    works("axes of two dimensions alone", checked(axes="b i -> b o"), ["i", "o"]),
    refused("no arrow", checked(axes="... i, ... o"), AxisError, r"exactly one '->', as in '\.\.\. i -> \.\.\. o'"),
    refused("another arrow", checked(axes="... i => ... o"), AxisError, "exactly one '->'"),
    refused("a bracket that is never closed", checked(axes="... i -> ... (o"), AxisError, r"never closed:.*\^"),
    refused("two ellipses", checked(axes="... i ... -> ... o"), AxisError, r"'\.\.\.' stands more than once.*\^"),
    refused("no axes", checked(axes=None), AxisError, r"declares no axes: write for example axes = '\.\.\. i"),
    refused("axes in a list", checked(axes=["i", "o"]), AxisError, r"axes.*(str|text|->)"),
    refused("a pattern the other way round", checked(params={"weight": "o i", "bias": "o"}), AxisError,
            r"weight \[6, 8\] does not fit its pattern 'o i'.*'o' is 8, but the tensor has 6"),
    refused("a parameter is missing", checked(params={"weight": "i o"}), AxisError,
            r"'bias' \[8\] has no pattern in par"),
    refused("a parameter that is not there", checked(params={**RIGHT["params"], "scale": "o"}), AxisError,
            "params has a pattern for 'scale', which the layer does not have"),
    refused("params in a text", checked(params="i o"), AxisError, r"'weight' \[6, 8\] has no pattern in params"),
    refused("sizes the other way round", checked(sizes={"in_features": "i"}), AxisError,
            "sizes says that i holds in_features, which is no axis"),
    refused("an attribute that is not there", checked(sizes={"i": "in_feats"}), AxisError,
            "'in_feats', which cannot be"),
    refused("an axis that is not there", checked(sizes={"i": "in_features", "z": "out_features"}), AxisError, "'?z'?"),
    refused("no subclass of Adapter", checked(base=object), AxisError, r"surgery\.Adapter|subclass"),
    refused("twice", twice, AxisError, "MyLayer has an adapter already: Again|Declared"),
    refused("of a layer that has one", lambda: adapter(nn.Linear)(type("Mine", (Adapter,), RIGHT)), AxisError,
            "Linear has an adapter already: LinearAdapter"),
    refused("for an instance", lambda: adapter(nn.Linear(2, 2)), AxisError,
            r"for classes of layers, as in @surgery\.ad"),
    refused("for a name", lambda: adapter("MyLayer"), AxisError, "for classes of layers.*not for 'MyLayer'"),
    refused("for a function", lambda: adapter(F.relu), AxisError, "for classes of layers.*not for <function relu"),
    refused("without brackets", lambda: adapter(type("Mine", (Adapter,), RIGHT)), AxisError, "for classes of layers"),
    refused("check without an adapter", lambda: check_adapter(net(), ROWS), AxisError,
            r"Sequential has no adapter: decorate one with @surgery\.adapter\(Sequential\)"),
    refused("check of the class", lambda: check_adapter(declared(), ROWS), AxisError, "takes a layer, then"),
    refused("check with inputs first", lambda: check_adapter(ROWS, declared()(6, 8)), AxisError, "takes a layer, then"),
]  # fmt: skip


def ruled(operation: Any, rule: Any = lambda x: x) -> Callable[[], None]:
    """Declare a rule, and forget it again."""

    def act() -> None:
        before = dict(RULES)
        try:
            surgery.rule(operation)(rule)
        finally:
            RULES.clear()
            RULES.update(before)

    return act


OPERATIONS = [
    refused("a misspelt name", ruled("relux"), AxisError,
            "torch has no operation 'relux': check the name, or pass the"),
    refused("a name with its module", ruled("torch.relu"), AxisError, "no operation 'torch.relu': check the name"),
    refused("a number", ruled(5), AxisError, "a rule is for callables and names of operations, not for 5"),
    refused("a list", ruled([torch.relu]), AxisError, "a rule is for callables and names of operations, not for "),
    refused("none", lambda: surgery.rule(), AxisError, r"name them, as in surgery\.rule\(torch\.relu\)"),
    refused("one that has a rule", ruled(torch.relu), AxisError, "a rule for .*relu.* is declared already"),
    refused("a text as the rule", ruled(lambda x: x, "i -> o"), AxisError, "function"),
    refused("a class of layers", ruled(nn.Hardshrink), AxisError, "adapter"),
    refused("a layer", ruled(nn.GELU()), AxisError, "adapter|operation"),
]  # fmt: skip

UNDECLARED = [
    works("a layer without an adapter", lambda: surgery.shrink(
        nn.Sequential(nn.Linear(6, 16), Undeclared(), nn.Linear(16, 3)), 0.5, ROWS)[1].gain.shape, (8,)),
    works("a width in the code", lambda: surgery.shrink(Written(), 0.5, ROWS)(ROWS).shape, (8, 3)),
    refused("a forward that leaves torch", lambda: surgery.wrap(OfNumpy(), ROWS), InputError,
            r"no axis that can change its width \(no rule for numpy at .*test_declaring\.py:\d+.*surgery\.inspect"),
]  # fmt: skip


@pytest.mark.parametrize("check", ADAPTERS)
def test_adapters(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", OPERATIONS)
def test_rules(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", UNDECLARED)
def test_layers_that_are_not_declared(check: Any) -> None:
    check()
