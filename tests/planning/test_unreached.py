"""Parameters and buffers that the example inputs do not read pin what they fit, if the code could read them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.steps import Lambda
from tests.small_models import weights

X = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))


class Gated(nn.Module):
    """Reads a parameter only if it is asked to."""

    def __init__(self, size: int = 8):
        super().__init__()
        self.a, self.body, self.b = nn.Linear(5, 8), Lambda(torch.relu), nn.Linear(8, 3)
        self.gate, self.dead = weights(size), weights(8)
        self.register_buffer("shift", torch.randn(size))

    def forward(self, x: Tensor, gated: bool = False, shifted: bool = False) -> Tensor:
        x = self.body(self.a(x))
        if gated:
            x = x * self.gate
        return self.b(x + self.shift if shifted else x)


def test_a_parameter_that_another_input_reads_pins_what_fits_it() -> None:
    plan = surgery.inspect(Gated(), X)
    reasons = {item.tensor: item.reason for item in plan.fixed}
    assert not plan.groups
    assert reasons["a.bias"].startswith("gate, which the example inputs do not read, could be combined with it")
    assert "surgery.batches" in reasons["a.bias"]
    assert reasons["dead"] == reasons["gate"] == "the example inputs do not reach it"


def test_a_buffer_that_another_input_reads_pins_what_fits_it() -> None:
    gated = surgery.inputs(X, gated=True)
    assert not surgery.inspect(Gated(), gated).groups
    assert "shift, which" in str(surgery.inspect(Gated(), gated))


def test_with_inputs_that_read_it_a_parameter_is_cut_with_the_rest() -> None:
    every = surgery.batches([X, surgery.inputs(X, gated=True, shifted=True)])
    assert sum(group.size for group in surgery.inspect(Gated(), every).groups.values()) == 8
    small = surgery.shrink(Gated(), 0.5, every)
    assert small(X, gated=True, shifted=True).shape == (2, 4, 3) and small.gate.shape == small.shift.shape == (4,)


def test_what_does_not_fit_an_unread_parameter_stays_free() -> None:
    assert list(surgery.inspect(Gated(7), X).groups) == ["a.o"]


class Scaled(nn.Module):
    """Keeps a copy of its scale, as rotary embeddings keep their first frequencies, to go back to it."""

    def __init__(self, scale: Tensor, first: Tensor):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.register_buffer("scale", scale)
        self.register_buffer("first", first, persistent=False)

    def forward(self, x: Tensor, again: bool = False) -> Tensor:
        return self.b(self.a(x) * (self.first if again else self.scale))


@pytest.mark.parametrize("first", [torch.arange(6.0), torch.ones(6)], ids=["equal values", "other values"])
def test_an_unread_tensor_pins_what_fits_it_whatever_its_values(first: Tensor) -> None:
    """That it equals one that is read says nothing of where another input would use it."""
    assert not surgery.inspect(Scaled(torch.arange(6.0), first), X).groups


class Named(nn.Module):
    """A gate that a forward does not read: what its code says of names decides whether it could."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.gate = nn.Parameter(torch.ones(8))
        self.which, self.scale = "gate", 1.0

    def forward(self, x: Tensor, gated: bool = False) -> Tensor:
        return self.b(self.gated(self.a(x)) if gated else self.a(x)) * getattr(self, "scale", 1.0)

    def gated(self, x: Tensor) -> Tensor:
        return x


class Computed(Named):
    def gated(self, x: Tensor) -> Tensor:
        return x * getattr(self, self.which)


class Formatted(Named):
    def gated(self, x: Tensor) -> Tensor:
        return x * getattr(self, f"{self.which}")


class Constant(Named):
    def gated(self, x: Tensor) -> Tensor:
        return x * getattr(self, "gate")  # noqa: B009


@pytest.mark.parametrize(("cls", "free"), [(Named, True), (Computed, False), (Formatted, False), (Constant, False)])
def test_a_name_that_is_computed_could_be_any(cls: type[Named], free: bool) -> None:
    assert ("a.o" in surgery.inspect(cls(), X).groups) is free


def test_a_part_beside_siblings_of_several_roles_is_like_none_of_them() -> None:
    class Roles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.i, self.f, self.g, self.extra, self.o = (
                nn.Linear(a, b) for a, b in ((5, 6), (6, 6), (6, 6), (6, 6), (6, 3))
            )

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            x = self.i(x)
            h = self.f(x)
            return self.o(x + (self.g(h.relu()) if mask is None else self.extra(h)))

    x, mask = torch.randn(4, 5), torch.ones(4)
    pinned = surgery.inspect(Roles(), x)
    assert not pinned.groups and any("extra, which the example inputs do not reach" in f.reason for f in pinned.fixed)
    wrapped = surgery.wrap(Roles(), surgery.batches([x, (x, mask)]))
    for name in surgery.inspect(wrapped).groups:
        small = surgery.shrink(wrapped, {name: 1})
        assert small(x).shape == small(x, mask).shape
