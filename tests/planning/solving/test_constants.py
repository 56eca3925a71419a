"""Integers that a constructor makes of a width, or that look like it, and that must stay what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery


class Hidden(nn.Module):
    """`other` is what only another method reads; it must stay."""

    other: int

    def __init__(self, dim: int = 16):
        super().__init__()
        self.i, self.o = nn.Linear(8, dim), nn.Linear(dim, 5)
        self.make(dim)

    def make(self, dim: int) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.i(x).relu())

    def told(self) -> int:
        return self.other


class Patches(Hidden):
    def make(self, dim: int) -> None:
        self.other = dim // 4


class Kernel(Hidden):
    def make(self, dim: int) -> None:
        self.other = dim - 1


class Default(Hidden):
    def __init__(self, dim: int = 16, n: int | None = None):
        super().__init__(dim)
        self.other = n or dim

    def make(self, dim: int) -> None:
        pass


class Pooled(Hidden):
    """A layer was given the number, and keeps it."""

    def __init__(self, dim: int = 16, size: int = 16):
        super().__init__(dim)
        self.other = size
        self.pool = nn.AdaptiveAvgPool1d(size)

    def make(self, dim: int) -> None:
        pass


class Drawn(Hidden):
    """An iterator gives another value each time."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        widths: Iterator[int] = iter([16, 16])
        hidden = next(widths)
        self.other = next(widths)
        self.i, self.o = nn.Linear(8, hidden), nn.Linear(hidden, 5)


class Inserted(Hidden):
    def __init__(self, hidden: int = 16, inputs: int = 16):
        nn.Module.__init__(self)
        sizes = [hidden]
        sizes.insert(0, inputs)
        self.other = sizes[0]
        self.i, self.o = nn.Linear(8, hidden), nn.Linear(hidden, 5)


class Replaced(Hidden):
    def __init__(self, hidden: int = 16, inputs: int = 16):
        nn.Module.__init__(self)
        sizes = [hidden, hidden]
        sizes[0] = inputs
        self.other = sizes[0]
        self.i, self.o = nn.Linear(8, hidden), nn.Linear(hidden, 5)


class Matched(Hidden):
    def __init__(self, hidden: int = 16, mode: str = "fixed"):
        nn.Module.__init__(self)
        self.other = hidden
        match mode:
            case "fixed":
                self.other = 16
        self.i, self.o = nn.Linear(8, hidden), nn.Linear(hidden, 5)


class Named(Hidden):
    def make(self, dim: int) -> None:
        self.other = dim
        for name, value in {"other": 16}.items():
            setattr(self, name, value)


class Later(Hidden):
    def make(self, dim: int) -> None:
        self.other = dim

    def told(self) -> int:
        self.other = 16
        return self.other


class Inside(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.other = dim
        self.i = nn.Linear(8, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.i(x)

    def told(self) -> int:
        return self.other


class Outside(nn.Module):
    """An attribute of a part is set from outside."""

    def __init__(self, dim: int = 16, classes: int = 16):
        super().__init__()
        self.body, self.o = Inside(dim), nn.Linear(dim, 5)
        self.body.other = classes

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.body(x))

    def told(self) -> int:
        return self.body.told()


STAY = [Patches, Kernel, Default, Pooled, Drawn, Inserted, Replaced, Matched, Named, Later, Outside]


class Popped(Hidden):
    def __init__(self, hidden: int = 16, inputs: int = 16):
        nn.Module.__init__(self)
        sizes = [hidden, inputs]
        width = sizes.pop(0)
        self.other = sizes.pop(0)
        self.i, self.o = nn.Linear(8, width), nn.Linear(width, 5)


STAY.append(Popped)


@pytest.mark.parametrize("cls", STAY, ids=lambda cls: cls.__name__)
def test_what_the_constructor_does_not_prove_stays(cls: Callable[[], Any]) -> None:
    model = cls()
    told = model.told()
    small = surgery.shrink(model, 0.5, torch.randn(4, 8))
    assert small.told() == told


READ: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "as a text": lambda m, x: x * len(f"{m.n}" * m.n),
    "as a key": lambda m, x: x * {16: 2.0, 8: 3.0}.get(m.n, 5.0),
    "as an index": lambda m, x: x * list(range(40))[m.n],
    "by a logarithm": lambda m, x: x * int(math.log2(m.n)),
    "compared with a number": lambda m, x: x * (2.0 if m.n > 10 else 1.0),
    "in a loop": lambda m, x: x * sum(1 for _ in range(m.n)),
}


@pytest.mark.parametrize("name", READ)
def test_what_a_run_reads_without_a_trace_stays(name: str) -> None:
    class Reads(nn.Module):
        def __init__(self, dim: int = 16):
            super().__init__()
            self.n, self.a, self.b = dim, nn.Linear(8, dim), nn.Linear(dim, 8)

        def forward(self, x: Tensor) -> Tensor:
            return READ[name](self, self.b(self.a(x)))

    model, x = Reads().double(), torch.randn(3, 8).double()
    small = surgery.shrink(model, 0.5, x)
    assert small.n == 16
    masked = Reads().double()
    masked.load_state_dict(model.state_dict())
    with torch.no_grad():
        masked.a.weight[8:], masked.a.bias[8:] = 0, 0
    assert torch.allclose(small(x), masked(x))
