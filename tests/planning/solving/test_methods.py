"""Methods that a rewritten forward calls have its sizes when users call them themselves."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import surgery


class Encoding(nn.Module):
    """Its own method holds the sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

    def encode(self, x: Tensor) -> Tensor:
        return self.a(x).view(x.shape[0], -1, 3, 4).softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.encode(x).flatten(2))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 12)

    def encode(self, x: Tensor) -> Tensor:
        return self.split(self.a(x))

    def split(self, y: Tensor) -> Tensor:
        return y.reshape(y.shape[0], -1, 3, 4).relu()


class Around(nn.Module):
    """A method of a part, which calls another one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.b = Encoder(), nn.Linear(12, 3)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder.encode(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.encoder.encode(x).flatten(2))


CASES = {"own": (Encoding, "a"), "part": (Around, "encoder.a")}
X = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_small_models_have_methods_that_fit(name: str) -> None:
    make, layer = CASES[name]
    small = surgery.shrink(make(), {f"{layer}.o.0": 1, f"{layer}.o.1": 2}, X)
    other = torch.randn(3, 4, 5)
    assert small.encode(other).shape == (3, 4, 1, 2)
    assert torch.equal(small.b(small.encode(X).flatten(2)), small(X))
    for again in (copy.deepcopy(small), pickled(small)):
        assert torch.equal(again.encode(X), small.encode(X))
        assert not any(p is q for p in again.parameters() for q in small.parameters())


@pytest.mark.parametrize("name", CASES)
def test_twins_have_methods_that_fit_and_unwrapped_models_their_own(name: str) -> None:
    make, layer = CASES[name]
    model = make()
    wrapped = surgery.wrap(model, X).eval()
    surgery.set_widths(wrapped, {f"{layer}.o.0": 1, f"{layer}.o.1": 2})
    assert wrapped.encode(X).shape == (2, 6, 1, 2)
    assert copy.deepcopy(wrapped).encode(X).shape == (2, 6, 1, 2)
    assert surgery.shrink(wrapped, 0.5).encode(X).shape[-2:] == (2, 2)
    plain = surgery.unwrap(wrapped)
    assert plain.encode.__func__ is type(plain).encode and plain.encode(X).shape == (2, 6, 3, 4)


def test_a_method_that_others_call_as_it_is_stays() -> None:
    class Both(Encoding):
        """The last lines call it on what is fixed: there it must do what it did."""

        def split(self, y: Tensor) -> Tensor:
            return y.view(y.shape[0], -1, 3, 4)

        def forward(self, x: Tensor) -> Tensor:
            fixed = self.split(torch.ones(x.shape[0], 2, 12, dtype=x.dtype)).sum()
            return self.b(self.split(self.a(x)).softmax(1).flatten(2)) + fixed

    small = surgery.shrink(Both(), 0.5, X)  # proven, whatever was found
    assert small(X).shape == (2, 6, 3)


def test_a_small_model_with_methods_is_wrapped_again() -> None:
    small = surgery.shrink(Encoding(), {"a.o.0": 1}, X)
    smaller = surgery.shrink(small, {"a.o": 2}, X)
    assert smaller.encode(X).shape == (2, 6, 1, 2)


def pickled(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    found: Callable[..., nn.Module] = torch.load
    return found(file, weights_only=False)


def test_static_methods_and_siblings_keep_their_own() -> None:
    class Block(nn.Module):
        def __init__(self, d: int):
            super().__init__()
            self.d, self.lin = d, nn.Linear(d, d)

        def split(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], 4, self.d // 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lin(x)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.i, self.a, self.b, self.o = nn.Linear(5, 64), Block(64), Block(64), nn.Linear(64, 3)

        @staticmethod
        def halves(x: Tensor) -> Tensor:
            return x.view(x.shape[0], 2, 32)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a.split(self.a(self.i(x))).softmax(-1).flatten(1)
            return self.o(self.halves(self.b(h)).softmax(1).flatten(1))

    model, x = Two(), torch.randn(3, 5)
    groups = surgery.inspect(model, x).groups
    assert {"a.lin.o.0", "a.lin.o.1", "b.lin.o.0", "b.lin.o.1"} <= groups.keys()
    small = surgery.shrink(model, {"a.lin.o.0": 2}, x)
    assert "split" not in vars(small.b) and "halves" not in vars(small)
