"""One place in the code that runs for several layers has one size in it, however the code comes to run there again."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT, order_is_free, random_widths, shrunk_is_wrapped, smallest
from tests.small_models import mlp

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 5, 3, generator=GENERATOR, dtype=torch.float64)
Split = Callable[[Any, Tensor], Any]


def by_def(net: Any, x: Tensor) -> Any:
    b, n, per = len(x), x.shape[1], net.dim // net.heads

    def split(t: Tensor) -> Tensor:
        return t.view(b, n, net.heads, per).transpose(1, 2)

    return split(net.q(x)), split(net.k(x)), split(net.v(x))


def by_lambda(net: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    split = lambda t: t.view(b, n, net.heads, c // net.heads).transpose(1, 2)  # noqa: E731
    return split(net.q(x)), split(net.k(x)), split(net.v(x))


def by_loop(net: Any, x: Tensor) -> Any:
    parts = []
    for layer in (net.q, net.k, net.v):
        parts.append(layer(x).view(len(x), -1, net.heads, net.dim // net.heads).transpose(1, 2))
    return parts


def by_comprehension(net: Any, x: Tensor) -> Any:
    return [m(x).reshape(*x.shape[:2], net.heads, net.dim // net.heads).transpose(1, 2) for m in (net.q, net.k, net.v)]


def by_yield(net: Any, x: Tensor) -> Iterator[Tensor]:
    for layer in (net.q, net.k, net.v):
        yield layer(x).view(*x.shape[:2], net.heads, net.dim // net.heads).transpose(1, 2)


def by_map(net: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    return tuple(map(lambda t: t.view(b, n, net.heads, c // net.heads).transpose(1, 2), (net.q(x), net.k(x), net.v(x))))


def by_tuple(net: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    return tuple(m(x).view(b, n, net.heads, c // net.heads).transpose(1, 2) for m in (net.q, net.k, net.v))


def by_helper(net: Any, x: Tensor) -> Any:
    return three(net.q(x), net.k(x), net.v(x), net.heads, net.dim // net.heads)


def three(q: Tensor, k: Tensor, v: Tensor, heads: int, per: int) -> tuple[Tensor, ...]:
    return tuple(t.view(*t.shape[:2], heads, per).transpose(1, 2) for t in (q, k, v))


def by_method(net: Any, x: Tensor) -> Any:
    return net.split(net.q(x)), net.split(net.k(x)), net.split(net.v(x))


def by_partial(net: Any, x: Tensor) -> Any:
    split = functools.partial(one, heads=net.heads, per=net.dim // net.heads)
    return split(net.q(x)), split(net.k(x)), split(net.v(x))


def one(t: Tensor, heads: int, per: int) -> Tensor:
    return t.view(*t.shape[:2], heads, per).transpose(1, 2)


def by_recursion(net: Any, x: Tensor) -> Any:
    def split(layers: list[nn.Module]) -> list[Tensor]:
        if not layers:
            return []
        first = layers[0](x).view(*x.shape[:2], net.heads, net.dim // net.heads).transpose(1, 2)
        return [first, *split(layers[1:])]

    return split([net.q, net.k, net.v])


def by_one_shape(net: Any, x: Tensor) -> Any:
    shape = torch.Size((*x.shape[:2], net.heads, net.dim // net.heads))
    return [layer(x).view(shape).transpose(1, 2) for layer in (net.q, net.k, net.v)]


SPLITS: dict[str, Split] = {
    "a local function": by_def,
    "a lambda": by_lambda,
    "a loop": by_loop,
    "a comprehension": by_comprehension,
    "a tuple of a generator": by_tuple,
    "yield": by_yield,
    "map": by_map,
    "a helper for all": by_helper,
    "a method": by_method,
    "functools.partial": by_partial,
    "recursion": by_recursion,
    "one shape for all": by_one_shape,
}


class Attention(nn.Module):
    """Heads are split in one place of the code, which runs for q, k and v."""

    def __init__(self, how: Split):
        super().__init__()
        self.heads, self.dim, self.how = 2, 8, how
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def split(self, t: Tensor) -> Tensor:
        return t.view(t.shape[0], t.shape[1], self.heads, self.dim // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.how(self, x)
        y = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(*x.shape[:2], self.dim))


def in_net(block: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), block, nn.Linear(width, 2))


def every_width(model: nn.Module, x: Tensor, share: float = 0.9) -> nn.Module:
    """The plan is worth something, no order matters, and mixtures of its widths are what shrink gives."""
    model = model.eval().double()
    plan = surgery.inspect(model, x)
    assert plan.elastic_share >= share
    order_is_free(model, plan, x, GENERATOR)
    wrapped = surgery.wrap(model, x).eval()
    full, least = plan.full(), smallest(plan)
    alone = [{**full, name: least[name]} for name in full]
    for widths in (least, *alone, *(random_widths(plan, GENERATOR) for _ in range(6))):
        shrunk_is_wrapped(wrapped, widths, x * 2)
    return surgery.shrink(wrapped, least).eval()


class Generator(Attention):
    """A generator that is unpacked where it is made."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = (m(x).view(b, n, self.heads, c // self.heads).transpose(1, 2) for m in (self.q, self.k, self.v))
        return self.o(((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class Map(Attention):
    """`map` with a lambda, unpacked where it is made."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        parts = (self.q(x), self.k(x), self.v(x))
        q, k, v = map(lambda t: t.view(b, n, self.heads, c // self.heads).transpose(1, 2), parts)
        return self.o(((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class MapOfMethod(Attention):
    """`map` with a method of the module."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = map(self.split, (self.q(x), self.k(x), self.v(x)))
        return self.o(((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("build", [Generator, Map, MapOfMethod])
def test_heads_that_are_split_where_they_are_unpacked(build: type[Attention]) -> None:
    torch.manual_seed(0)
    every_width(in_net(build(by_def)), X)


@pytest.mark.parametrize("name", SPLITS)
def test_heads_that_are_split_in_one_place(name: str) -> None:
    torch.manual_seed(0)
    every_width(in_net(Attention(SPLITS[name])), X)


class Shared(nn.Module):
    """Layers of einops that q, k and v share."""

    def __init__(self, how: str):
        super().__init__()
        layers = pytest.importorskip("einops.layers.torch")
        self.how = how
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        lengths = {"h": 4} if how == "heads" else {"d": 4} if how == "features" else {"h": 4, "d": 4}
        self.split = layers.Rearrange("b n (h d) -> b h n d", **lengths)
        self.merge = layers.Rearrange("b h n d -> b n (h d)")

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "both":
            q, k, v = map(self.split, (self.q(x), self.k(x), self.v(x)))
        else:
            q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        return self.o(self.merge((q @ k.transpose(-1, -2)).softmax(-1) @ v))


@pytest.mark.parametrize("how", ["heads", "features", "both"])
def test_layers_of_einops_that_layers_share(how: str) -> None:
    torch.manual_seed(0)
    small = every_width(in_net(Shared(how), 16), X)
    right = small(X)
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), copy.deepcopy(copy.deepcopy(small))):
        assert torch.equal(again(X), right)
        assert again[1].split is not small[1].split


class Gate(nn.Module):
    """A layer of einops that is told the length of an axis which it only compares."""

    def __init__(self, pattern: str):
        super().__init__()
        layers = pytest.importorskip("einops.layers.torch")
        self.a, self.move, self.b = nn.Linear(16, 4), layers.Rearrange(pattern, h=4), nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.move(self.a(x)).flatten(2).transpose(1, 2))


@pytest.mark.parametrize("pattern", ["b n h -> b h n", "b n h -> b h n 1"])
def test_layers_of_einops_that_compare_a_length(pattern: str) -> None:
    torch.manual_seed(0)
    small = every_width(in_net(Gate(pattern), 16), X)
    assert torch.equal(copy.deepcopy(small)(X), small(X))


class Norm(nn.Module):
    def __init__(self, size: Callable[[Tensor], int]):
        super().__init__()
        self.size = size

    def forward(self, y: Tensor) -> Tensor:
        return F.layer_norm(y, [self.size(y)])


class Twice(nn.Module):
    """One layer for features of two widths."""

    def __init__(self, size: Callable[[Tensor], int]):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.norm = mlp(5, 16, 24, 3), Norm(size)

    def forward(self, x: Tensor) -> Tensor:
        a, _, b, _, c = self.net
        return c(self.norm(b(self.norm(a(x)).relu())))


SIZES: dict[str, Callable[[Tensor], int]] = {
    "int(shape)": lambda y: int(y.shape[1]),
    "int(size())": lambda y: int(y.size(-1)),
    "max": lambda y: max(1, y.shape[1]),
    "abs": lambda y: abs(y.shape[-1]),
    "numel": lambda y: y.numel() // len(y),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_through_functions_of_python(name: str) -> None:
    x = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
    small = every_width(Twice(SIZES[name]), x)
    assert (copy.deepcopy(small)(x) - small(x)).abs().max() <= EXACT
