"""What outputs of sites are added to: found from one run, and made up for by a refit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.refitting.sites import Listener, Visit
from surgery.refitting.sums import Sums
from tests.refitting.test_refit import BATCHES, X


class Block(nn.Module):
    """Layers a, b and c, and a way to put them together."""

    def __init__(self, way: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.drop, self.way = nn.Dropout(0.5), way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def in_place(block: Block, x: Tensor) -> Tensor:
    y = block.a(x)
    y += block.b(y.relu())
    return y


def used_again(block: Block, x: Tensor) -> Tensor:
    y = block.b(x.relu())
    return x.sin() + y * (x.sin() + y)


def written(block: Block, x: Tensor) -> Tensor:
    """As an in-place LayerScale or a negation does."""
    y = block.b(x.relu())
    y.mul_(-2.0)
    return x.sin() + y


def written_in_part(block: Block, x: Tensor) -> Tensor:
    h = x.sin()
    y = block.b(x.relu())
    y[:, 0] = 0.0
    return h + y


def listed(block: Block, x: Tensor) -> Tensor:
    h = x.sin()
    y = block.b(x.relu())
    return torch.cat([h + y, y], 1)


def returned(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    h = x.sin()
    y = block.b(x.relu())
    return h + y, y


WAYS: dict[str, tuple[Callable[[Block, Tensor], Tensor], set[str]]] = {
    "after a norm": (lambda m, x: (y := m.a(x)) + m.b(F.layer_norm(y, (6,))), {"b.weight"}),
    "before a norm": (lambda m, x: F.layer_norm(m.drop(m.b((y := m.a(x)).relu())) + y, (6,)), {"b.weight"}),
    "in place": (in_place, {"b.weight"}),
    "parallel": (lambda m, x: (y := m.a(x)) + (m.b(y) + m.c(y)), {"c.weight"}),
    "one after the other": (lambda m, x: (y := m.a(x)) + m.b(y) + m.c(y), {"b.weight", "c.weight"}),
    "of an input": (lambda m, x: x + m.b(x.relu()), set()),  # no call has made it, and nothing is wrong with it
    "scaled": (lambda m, x: x.sin() + 0.5 * m.b(x), set()),
    "with a factor": (lambda m, x: torch.add(x.sin(), m.b(x), alpha=2), set()),
    "used again": (used_again, set()),
    "another shape": (lambda m, x: x.sin().sum(0) + m.b(x), set()),
    "written to": (written, set()),
    "written to in part": (written_in_part, set()),
    "in a list as well": (listed, set()),
    "returned as well": (returned, set()),
    "made later": (lambda m, x: m.b(x) + x.sin(), set()),
}


@pytest.mark.parametrize("name", WAYS)
def test_addends_are_found(name: str) -> None:
    way, expected = WAYS[name]
    model = Block(way).eval()
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    x = X.float()
    with Sums(names, lambda _: None) as sums, torch.no_grad():
        sums.returned(model(x))
    assert {site.weight for site in sums.addends} == expected


def test_what_is_added_to_is_not_held_longer_than_it_is_wanted() -> None:
    model = Block(WAYS["one after the other"][0]).eval()
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    seen: list[Visit] = []
    x = X.float()
    with torch.no_grad():
        with Sums(names, lambda _: None) as sums:
            sums.returned(model(x))
        with Listener(names, seen.append, sums.addends) as listener:
            model(x)
        first = model.a(x)
        streams = {"a.weight": None, "b.weight": first, "c.weight": first + model.b(first)}
    for visit in seen:
        expected = streams[visit.site.weight]
        assert visit.added is None if expected is None else torch.equal(visit.added, expected)
    assert len(seen) == 3 and not listener.kept


class Residual(nn.Module):
    """A stream that layers read and write. Each has the units of the first in another order, so cut ones are there."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(6, 24), nn.Linear(24, 3)
        first = nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 24))
        self.layers = nn.ModuleList(copy.deepcopy(first) for _ in range(4))
        for i, layer in enumerate(self.layers):
            order = torch.arange(32).roll(-8 * i)
            layer[0].weight.data, layer[0].bias.data = first[0].weight[order].detach(), first[0].bias[order].detach()
            layer[2].weight.data = 0.3 * first[2].weight[:, order].detach()
        self.norm = nn.LayerNorm(24) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for layer in self.layers:
            x = self.norm(x + layer(x))
        return self.out(x)


@pytest.mark.parametrize("norm", [False, True])
def test_later_layers_make_up_for_what_earlier_ones_lack(norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Residual(norm).double()
    widths = {"layers.*.0.o": 0.25}

    def error() -> float:
        small = surgery.shrink(model, widths, X, refit=BATCHES)
        with torch.no_grad():
            return F.mse_loss(small(X), model(X)).item()

    found = error()
    monkeypatch.setattr(Sums, "addends", {})
    assert found < 0.9 * error()


class Uneven(nn.Module):
    """More calls before the stream for batches of another size than the first."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra, self.e, self.a, self.b = extra, nn.Linear(6, 24), nn.Linear(24, 32), nn.Linear(32, 24)
        self.o = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != 128:
            x.sum(), x.unbind(0), x.max(0)
            for _ in range(self.extra):
                x = x * 1.0
        h = self.e(x)
        h = h + self.b(self.a(h).relu())
        return self.o(h)


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_batches_may_take_other_ways(extra: int) -> None:
    """What a call of another number has made is not taken for an addend."""
    torch.manual_seed(0)
    model = Uneven(extra).double()
    batches = [X[:128], *X[128:].split(96)]
    raw, fitted = (surgery.shrink(model, {"a.o": 16}, X, refit=b) for b in (None, batches))
    with torch.no_grad():
        errors = [F.mse_loss(one(X), model(X)).item() for one in (raw, fitted)]
    assert errors[1] < 0.5 * errors[0]
