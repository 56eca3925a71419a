"""What no call on the examples reads is pinned, and so is what only constants make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT, random_widths, shrunk_is_wrapped
from tests.small_models import Given, Heads, weights

GENERATOR = torch.Generator().manual_seed(0)
SHORT, LONG = (torch.randn(2, n, 6, generator=GENERATOR, dtype=torch.float64) for n in (6, 40))


def a_slice(net: Any, x: Tensor) -> Tensor:
    return net.b((net.a(x) + net.pos[:, : x.shape[1]]).relu())


def an_embedding(net: Any, x: Tensor) -> Tensor:
    return net.b((net.a(x) + net.pos(torch.arange(x.shape[1]))).relu())


def narrowed(net: Any, x: Tensor) -> Tensor:
    return net.b((net.a(x) + net.pos.narrow(1, 0, x.shape[1])).relu())


def by_positions(net: Any, x: Tensor) -> Tensor:
    return net.b((net.a(x) + net.pos[torch.arange(x.shape[1])]).relu())


def relative(net: Any, x: Tensor) -> Tensor:
    """A bias by the distance of two positions, as in Transformer-XL."""
    n, y = x.shape[1], net.a(x)
    places = torch.arange(n)
    table = net.pos[(places[:, None] - places[None]) + 63]
    return net.b(torch.einsum("bnd,nmd->bmd", y, table).relu())


def middle(net: Any, x: Tensor) -> Tensor:
    """The rows in the middle of a table of distances, as relative attention reads it."""
    n = x.shape[1]
    return net.b((net.a(x) + net.pos[64 - n : 64].flip(0)).relu())


def long_kernel(net: Any, x: Tensor) -> Tensor:
    """A convolution as long as its input, of a kernel that is longer."""
    n, y = x.shape[1], net.a(x).transpose(1, 2)
    kernel = net.pos[:, :n]
    y = torch.fft.irfft(torch.fft.rfft(y, 2 * n) * torch.fft.rfft(kernel, 2 * n), 2 * n)[..., :n]
    return net.b(y.transpose(1, 2))


def direct_kernel(net: Any, x: Tensor) -> Tensor:
    n, y = x.shape[1], net.a(x).transpose(1, 2)
    kernel = net.pos[:, None, :n].flip(-1)
    return net.b(F.conv1d(F.pad(y, (n - 1, 0)), kernel, groups=y.shape[1]).transpose(1, 2))


TABLES: dict[
    str, tuple[Callable, tuple[int, ...] | Callable[[], nn.Module], int]
] = {  # forward, table, positions' axis
    "positions by a slice": (a_slice, (1, 64, 8), 1),
    "positions by an embedding": (an_embedding, lambda: nn.Embedding(64, 8), 0),
    "positions by narrow": (narrowed, (1, 64, 8), 1),
    "positions by indices": (by_positions, (64, 8), 0),
    "distances": (relative, (127, 8), 0),
    "the middle of a table": (middle, (64, 8), 0),
    "a long kernel by its spectrum": (long_kernel, (8, 64), 1),
    "a long kernel": (direct_kernel, (8, 64), 1),
}


def with_table(name: str) -> Given:
    function, table, _ = TABLES[name]
    torch.manual_seed(0)
    return Given(function, pos=table() if callable(table) else weights(*table)).double()


@pytest.mark.parametrize("name", TABLES)
def test_rows_that_no_call_read_stay_for_longer_inputs(name: str) -> None:
    """The model with a longer input than it was shown is the same when it is sorted, and runs when it is shrunk."""
    model, axis = with_table(name), TABLES[name][2]
    right = model(LONG)
    wrapped = surgery.wrap(model, SHORT).eval()
    ((group, size),) = surgery.widths(wrapped).items()  # the features; the positions are no group
    assert size == 8
    assert (surgery.sort(model, SHORT)(LONG) - right).abs().max() <= EXACT * right.abs().max()
    small = shrunk_is_wrapped(wrapped, {group: 3}, LONG)
    table = small.pos.weight if isinstance(small.pos, nn.Module) else small.pos
    assert (
        table.shape[axis] == (127 if name == "distances" else 64)
        and table.shape[1 - axis if table.dim() == 2 else 2] == 3
    )


def coordinates(net: Any, x: Tensor) -> Tensor:
    return x + net.b(net.a(net.xy).relu())


def directions(net: Any, x: Tensor) -> Tensor:
    """Fourier features of fixed frequencies."""
    angles = net.points @ net.xy
    return x + net.b(net.a(torch.cat([angles.sin(), angles.cos()], -1)).relu())


def made_in_the_forward(net: Any, x: Tensor) -> Tensor:
    places = torch.linspace(-1, 1, x.shape[0], dtype=x.dtype)
    return x + net.b(net.a(torch.stack([places, places**2], -1)).relu())


CONSTANTS: dict[str, tuple[Callable, int, dict[str, Any]]] = {
    "coordinates": (coordinates, 2, {"xy": torch.randn(9, 2, generator=GENERATOR)}),
    "frequencies": (directions, 8, {"xy": torch.randn(2, 4, generator=GENERATOR), "points": torch.ones(9, 2)}),
    "places of the forward": (made_in_the_forward, 2, {}),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_axes_of_constants_are_no_groups(name: str) -> None:
    function, inputs, tables = CONSTANTS[name]
    model = Given(function, inputs)
    for key, table in tables.items():
        model.register_buffer(key, table)
    plan = surgery.inspect(model.double(), torch.randn(9, 3, generator=GENERATOR, dtype=torch.float64))
    assert set(plan.groups) == {"a.o"}


def test_every_width_of_a_table_runs_on_other_lengths() -> None:
    wrapped = surgery.wrap(with_table("positions by a slice"), SHORT).eval()
    for _ in range(4):
        shrunk_is_wrapped(wrapped, random_widths(surgery.inspect(wrapped), GENERATOR), LONG)


def test_indices_that_only_other_methods_read_are_named() -> None:
    class Aligned(Heads):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("chosen", torch.tensor([0, 2]), persistent=False)
            self.register_buffer("never", torch.tensor([0, 2]), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attend(self.embed(x)))

        def aligned(self, weights: Tensor) -> Tensor:
            return weights[:, self.chosen]

    notes = surgery.inspect(Aligned(), torch.randn(2, 4, 5)).notes
    assert [note.partition(",")[0] for note in notes if "places of units" in note] == ["chosen"]
