"""Numbers that a forward computes from sizes: they follow the widths, or what they are computed from is fixed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import compare

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Halves(nn.Module):
    """The first half of eight features goes one way, the rest another; `half` says where the border is."""

    def __init__(self, half: Callable[[int], int]):
        super().__init__()
        self.a, self.b, self.half = nn.Linear(4, 8), nn.Linear(8, 3), half

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        h = self.half(y.shape[1])
        return self.b(torch.cat([y[:, :h].relu(), y[:, h:].tanh()], 1))


def made(half: Callable[[int], int]) -> Halves:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Halves(half).double()


@functools.lru_cache(None)
def kept(n: int) -> int:
    return n // 2


FOLLOW: dict[str, Callable[[int], int]] = {
    "n // 2": lambda n: n // 2,
    "n >> 1": lambda n: n >> 1,
    "divmod": lambda n: divmod(n, 2)[0],
    "abs": lambda n: abs(n) // 2,
    "floor": lambda n: math.floor(n) // 2,
    "round": lambda n: round(n) // 2,
    "ceil": lambda n: n - math.ceil(n) // 2,
    "square": lambda n: n**2 // 16,
    "a number": lambda n: 4,
}
LOST: dict[str, Callable[[int], int]] = {
    "int(n * 0.5)": lambda n: int(n * 0.5),
    "int(0.5 * n)": lambda n: int(0.5 * n),
    "int(n / 2)": lambda n: int(n / 2),
    "round(n / 2)": lambda n: round(n / 2),
    "floor(n / 2)": lambda n: math.floor(n / 2),
    "ceil(n / 2)": lambda n: math.ceil(n / 2),
    "trunc(n / 2)": lambda n: math.trunc(n / 2),
    "int(n // 2.0)": lambda n: int(n // 2.0),
    "int(1 + n / 4 + 1)": lambda n: int(1 + n / 4 + 1),
    "int(n ** 0.5)": lambda n: int(2 * n**0.5 - 1.6),
    "int(2 ** (n / 4))": lambda n: int(2 ** (n / 4)),
    "int(str(n))": lambda n: int(str(n)) // 2,
    "len": lambda n: len([0] * n) // 2,
    "item": lambda n: torch.tensor(n).item() // 2,
}


@pytest.mark.parametrize("half", FOLLOW.values(), ids=FOLLOW.keys())
def test_what_keeps_its_origin_leaves_both_parts_free(half: Callable[[int], int]) -> None:
    model = made(half)
    plan = surgery.inspect(model, X)
    assert {name: group.size for name, group in plan.groups.items()} == {"a.o.0": 4, "a.o.1": 4}


@pytest.mark.parametrize("half", (FOLLOW | LOST).values(), ids=(FOLLOW | LOST).keys())
def test_a_part_that_is_cut_is_a_part_without_weights(half: Callable[[int], int]) -> None:
    """What is free, cut alone, leaves what the model computes where those features count nothing."""
    model = made(half)
    plan = surgery.inspect(model, X)
    for name in plan.groups:
        masked = made(half)
        start = 0 if name == "a.o.0" else 4
        with torch.no_grad():
            masked.b.weight[:, start + 1 : start + 4] = 0
        compare(masked, surgery.shrink(model, {name: 1}, X), X, 1e-9, ("the masked model", "the cut one"))


def test_sizes_and_their_floats_compute_with_tensors() -> None:
    class Scaled(Halves):
        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            n, steps = y.shape[1], torch.arange(3.0)
            powers = n**steps + steps**n + (n / 2) ** steps + n * 0.5 * steps + steps / (n / 2) + (steps - n / 3)
            return self.b(y) * (powers + (n << 1) + (steps.int() << n) + (n >> 1)).sum() / n**0.5

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Scaled(lambda n: n).double()
    plain = model(X)
    assert torch.equal(surgery.wrap(model, X).eval()(X), plain)


def test_a_cache_of_sizes_is_no_trap() -> None:
    first, second = (surgery.inspect(made(kept), X) for _ in range(2))
    assert {name: group.size for name, group in first.groups.items()} == {"a.o.0": 4, "a.o.1": 4}
    assert not second.groups  # the cache has kept what the first run computed, and nobody knows of what
    assert "a cache has kept" in " ".join(item.reason for item in second.fixed)
