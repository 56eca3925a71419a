"""What holds at full width only: an end of a slice that is the end, one copy, padding by nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT, order_is_free, random_widths, shrunk_is_wrapped, smallest
from tests.small_models import Given

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(5, 6, generator=GENERATOR, dtype=torch.float64)


class Parts(nn.Module):
    """Two parts of features by slices, of which the second ends where the features do: in some way of saying so."""

    def __init__(self, second: Callable[[Tensor, int], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.o1, self.o2 = nn.Linear(6, 32), nn.Linear(16, 3), nn.Linear(1, 3)
        self.n, self.second = 16, second

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.o1(h[:, : self.n]) + self.o2(self.second(h, self.n).sum(1, keepdim=True))


ENDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "twice the first": lambda h, n: h[:, n : 2 * n],
    "the first and as many": lambda h, n: h[:, n : n + n],
    "a literal": lambda h, n: h[:, n:32],
    "narrow": lambda h, n: h.narrow(1, n, n),
    "split": lambda h, n: h.split([n, n], 1)[1],
    "a slice object": lambda h, n: h[:, slice(n, 2 * n)],
    "beyond the end": lambda h, n: h[:, n:1000],
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_of_slices_that_name_the_end(name: str) -> None:
    """With fewer units of the first part, the second is still whole."""
    model = Parts(ENDS[name]).double()
    agrees(model)
    wrapped = surgery.wrap(model, X).eval()
    if "a.o.0" not in surgery.widths(wrapped):
        return  # one group for both parts
    with surgery.at_widths(wrapped, {**surgery.widths(wrapped), "a.o.0": 4}):
        made = wrapped(X)
    h = model.a(X)
    head = h[:, :4] @ model.o1.weight[:, :4].T + model.o1.bias
    assert (head + model.o2(h[:, 16:].sum(1, keepdim=True)) - made).abs().max() <= EXACT


ONCE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "repeat": lambda net, y: y.repeat(1, net.k),
    "tile": lambda net, y: y.tile((1, net.k)),
    "torch.tile": lambda net, y: torch.tile(y, (1, net.k)),
    "repeat_interleave": lambda net, y: y.repeat_interleave(net.k, dim=1),
    "expand": lambda net, y: y[:, None].expand(-1, net.k, -1).flatten(1),
    "cat of a list": lambda net, y: torch.cat([y] * net.k, 1),
}


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("name", ONCE)
def test_one_copy_is_one_of_many(name: str, k: int) -> None:
    """One key head for one query head is the common case of several."""
    model = Given(lambda net, x: net.o(ONCE[name](net, net.a(x)).relu()), k=k, o=nn.Linear(8 * k, 3)).double()
    agrees(model)


NOTHING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "F.pad": lambda net, y: F.pad(y, (0, net.k)),
    "in front": lambda net, y: F.pad(y, (net.k, 0)),
    "a module": lambda net, y: nn.functional.pad(y, [net.k, net.k], value=0.0),
    "what is missing": lambda net, y: F.pad(y, (0, 8 + 2 * net.k - y.shape[-1] - 2 * net.k)) if net.k == 0 else y,
    "zeros": lambda net, y: torch.cat([y, y.new_zeros(len(y), net.k)], 1),
}


@pytest.mark.parametrize("name", NOTHING)
def test_padding_by_nothing(name: str) -> None:
    agrees(Given(lambda net, x: net.b(NOTHING[name](net, net.a(x)).relu()), k=0).double())


def agrees(model: nn.Module) -> None:
    """Pinned or cut: every width of the plan runs and is what shrink gives, and no order matters."""
    plan = surgery.inspect(model, X)
    assert all(item.reason for item in plan.fixed)
    if not plan.groups:
        return
    wrapped = surgery.wrap(model, X).eval()
    order_is_free(model, plan, X, GENERATOR)
    for widths in (smallest(plan), *(random_widths(plan, GENERATOR) for _ in range(3))):
        shrunk_is_wrapped(wrapped, widths, X * 2)
