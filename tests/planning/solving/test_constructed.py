"""Integers that no run reads follow the widths as the constructor says: for other branches, methods and exports."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import surgery


def divisible(value: float, by: int = 4) -> int:
    return max(by, int(value + by / 2) // by * by)


def repeated(x: Tensor, module: nn.Module) -> Tensor:
    return x.repeat_interleave(module.groups, 1)


class Fused(nn.Module):
    """Two convolutions that another method merges into one."""

    def __init__(self, c: int):
        super().__init__()
        self.c = c
        self.a, self.b = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)

    def other(self, _: Tensor) -> Tensor:
        return torch.zeros(self.c, self.c, 1, 1) + self.a.weight + self.b.weight


class Bottleneck(nn.Module):
    """A hidden width that a helper computes from a float."""

    def __init__(self, c: int, ratio: float = 0.5):
        super().__init__()
        hidden = divisible(c * ratio)
        self.squeeze, self.expand = nn.Linear(c, hidden), nn.Linear(hidden, c)
        self.sizes = (c, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(self.squeeze(x).relu())

    def other(self, _: Tensor) -> Tensor:
        return torch.zeros(self.sizes[1], self.sizes[0]) + self.squeeze.weight


class Grouped(nn.Module):
    """Queries in groups: one branch asks torch to repeat the keys, which only a mask avoids."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.groups = config.heads // config.kv_heads
        self.width = getattr(config, "width", None) or config.c // config.heads
        self.inner = config.heads * self.width
        self.q = nn.Linear(config.c, config.heads * self.width)
        self.k = nn.Linear(config.c, config.kv_heads * self.width)
        self.o = nn.Linear(config.heads * self.width, config.c)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, _ = x.shape
        q, k = (f(x).view(b, n, -1, self.width).transpose(1, 2) for f in (self.q, self.k))
        if mask is None:
            y = nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)
        else:
            k = repeated(k, self)
            y = nn.functional.scaled_dot_product_attention(q, k, k, mask)
        return self.o(y.transpose(1, 2).reshape(b, n, -1))

    def other(self, x: Tensor) -> Tensor:
        return self(x, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)).new_zeros(self.inner) + self.q.bias


class Base(nn.Module):
    def __init__(self, width: int, *, hidden: int | None = None):
        super().__init__()
        self.width = width
        self.hidden = width if hidden is None else hidden
        self.build(self.hidden)

    def build(self, hidden: int) -> None:
        self.up = nn.Linear(self.width, hidden)
        self.down = nn.Linear(hidden, self.width)
        self.twice = 2 * hidden


class Derived(Base):
    """What a base class and a method of it compute."""

    def __init__(self, c: int):
        super().__init__(c, hidden=3 * c)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())

    def other(self, _: Tensor) -> Tensor:
        return torch.zeros(self.twice, self.width) + torch.cat([self.up.weight, self.up.weight])


class Counter(nn.Module):
    """It has no layer of its own: the module around it says what it counts."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x

    def zeros(self) -> Tensor:
        return torch.zeros(self.channels)


class Holder(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(c, c) for _ in range(2)])
        self.tail = nn.Sequential(nn.Linear(c, 2 * c), Counter(2 * c), nn.Linear(2 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = x + step(x)
        return self.tail(x)

    def other(self, _: Tensor) -> Tensor:
        return self.tail[1].zeros() + self.tail[0].bias


CASES: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "fused": (functools.partial(Fused, 8), True),
    "helper": (functools.partial(Bottleneck, 8), False),
    "config": (lambda: Grouped(SimpleNamespace(c=16, heads=4, kv_heads=2)), False),
    "told": (lambda: Grouped(SimpleNamespace(c=16, heads=4, kv_heads=2, width=6)), False),
    "base": (functools.partial(Derived, 8), False),
    "around": (functools.partial(Holder, 8), False),
}


def model_of(name: str) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    make, images = CASES[name]
    inner = make()
    c = 16 if isinstance(inner, Grouped) else 8
    if images:
        return nn.Sequential(nn.Conv2d(3, c, 1), inner, nn.Conv2d(c, 2, 1)), torch.randn(2, 3, 4, 4)
    return nn.Sequential(nn.Linear(3, c), inner, nn.Linear(c, 2)), torch.randn(2, 5, 3)


@pytest.mark.parametrize("share", [0.5, 0.25])
@pytest.mark.parametrize("name", CASES)
def test_other_methods_and_branches_run_at_the_widths(name: str, share: float) -> None:
    model, x = model_of(name)
    small = surgery.shrink(model.eval(), share, x)
    small[1].other(small[0](x))


@pytest.mark.parametrize("name", ["helper", "config", "told", "base", "around"])
def test_one_group_alone(name: str) -> None:
    model, x = model_of(name)
    wrapped = surgery.wrap(model.eval(), x)
    for group in surgery.inspect(wrapped).groups:
        small = surgery.shrink(wrapped, {group: 1})
        small[1].other(small[0](x))


def test_a_number_that_stands_for_two_widths_says_so() -> None:
    model, x = model_of("fused")
    (note,) = [note for note in surgery.inspect(model, x).notes if "Fused.c" in note]
    assert "test_constructed.py" in note and "8 elsewhere" in note
    groups = list(surgery.inspect(model, x).groups)
    assert surgery.shrink(model, {groups[0]: 4}, x)[1].c == 8
    assert surgery.shrink(model, 0.5, x)[1].c == 4


def test_a_number_that_nothing_explains_says_so() -> None:
    class Odd(nn.Module):
        def __init__(self, c: int):
            super().__init__()
            self.a = nn.Linear(c, c)
            self.odd = int(c * 0.75)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x)

        def other(self) -> Tensor:
            return torch.zeros(self.odd)

    model, x = nn.Sequential(nn.Linear(3, 8), Odd(8), nn.Linear(8, 2)), torch.randn(2, 3)
    (note,) = [note for note in surgery.inspect(model, x).notes if "Odd.odd" in note]
    assert "stays 6" in note and "test_constructed.py" in note


@functools.wraps(math.floor)
def floored(value: float) -> int:
    return int(value // 1)


def test_a_function_that_says_it_is_one_of_c_is_not_followed() -> None:
    class Half(nn.Module):
        def __init__(self, c: int):
            super().__init__()
            self.half = floored(c / 2)
            self.a, self.b = nn.Linear(c, self.half), nn.Linear(self.half, c)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

        def other(self) -> Tensor:
            return torch.zeros(self.half)

    model, x = nn.Sequential(nn.Linear(3, 8), Half(8), nn.Linear(8, 2)), torch.randn(2, 3)
    assert surgery.shrink(model, 0.5, x)[1].a.out_features == 2


def test_numbers_that_a_run_has_read_stay_what_they_are() -> None:
    class Scaled(nn.Module):
        def __init__(self, c: int):
            super().__init__()
            self.a, self.c = nn.Linear(c, c), c

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) / self.c

    model, x = nn.Sequential(nn.Linear(3, 8), Scaled(8), nn.Linear(8, 2)), torch.randn(2, 3)
    assert surgery.shrink(model, 0.5, x)[1].c == 8


class Normed(nn.Module):
    """Layers that hold the same number in other forms: a tuple, a table of which only the weight is read."""

    def __init__(self, dim: int = 16):
        super().__init__()
        self.dim, self.count = dim, 6
        self.i, self.norm, self.o = nn.Linear(3, dim), nn.LayerNorm(dim), nn.Linear(dim, 2)
        self.queries = nn.Embedding(6, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.norm(self.i(x) + self.queries.weight[: x.shape[1]]))


def test_layers_that_hold_the_number_in_another_form_agree() -> None:
    model, x = Normed(), torch.randn(2, 5, 3)
    assert not [note for note in surgery.inspect(model, x).notes if "Normed.dim" in note]
    small = surgery.shrink(model, 0.5, x)
    assert (small.dim, small.count, small.queries.embedding_dim) == (8, 6, 8)


def test_layers_in_lists_that_grow() -> None:
    class Listed(nn.Module):
        def __init__(self, inp: int = 3, out: int = 16):
            super().__init__()
            layers: list[nn.Module] = [nn.Linear(inp, 8)]
            layers.extend([nn.ReLU(), nn.Linear(8, out)])
            layers += [nn.ReLU()]
            layers.append(nn.Linear(out, 2))
            self.out, self.net = out, nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    assert surgery.shrink(Listed(), 0.5, torch.randn(2, 3)).out == 8
