"""Tensors in plain attributes, lists and dicts: constants are cut like buffers, and caches are not read again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import all_laws, order_is_free, shrunk_is_wrapped, smallest
from tests.small_models import Given
from tests.unchanged import unchanged

X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def build(function: Callable[[Any, Tensor], Any], **held: Any) -> Given:
    return Given(function, **held).double().eval()


class Rope(nn.Module):
    """Holds tables, and has no forward."""

    def __init__(self, n: int, width: int):
        super().__init__()
        self.tables = {"sin": rand(n, width).sin(), "cos": rand(n, width).cos()}

    def turn(self, x: Tensor) -> Tensor:
        return x * self.tables["cos"] + x.flip(1) * self.tables["sin"]


def heads(x: Tensor) -> Tensor:
    return x.view(2, 5, 2, -1)


CONSTANTS: dict[str, Callable[[], Given]] = {
    "attribute": lambda: build(lambda s, x: s.b(s.a(x) + s.table), table=rand(1, 5, 8)),
    "list": lambda: build(lambda s, x: s.b(s.a(x) * s.scales[1] + s.scales[0]), scales=[rand(8), rand(5, 8)]),
    "nested": lambda: build(lambda s, x: s.b(s.a(x) * s.kept["x"][0]), kept={"x": (rand(8), None), "y": 3}),
    "other module": lambda: build(lambda s, x: s.b(s.rope.turn(s.a(x))), rope=Rope(5, 8)),
    "heads": lambda: build(lambda s, x: s.b((heads(s.a(x)) * s.table).flatten(2)), table=rand(2, 4)),
    "flat heads": lambda: build(lambda s, x: s.b((heads(s.a(x)) * heads(s.table)).flatten(2)), table=rand(2, 5, 8)),
    "beside a size": lambda: build(lambda s, x: s.b(s.a(x).view(-1, s.kept["n"]) * s.kept["t"]),
                                   kept={"n": 8, "t": rand(8)}),
    "index": lambda: build(lambda s, x: s.b(s.a(x)[:, s.order] + s.table[s.places]), order=torch.tensor([4, 2, 2]),
                           table=rand(7, 8), places=torch.tensor([6, 0, 1])),
    "mask": lambda: build(lambda s, x: s.b(s.a(x).masked_fill(s.mask, 0)), mask=rand(5, 1) > 0),
    "shared": lambda: build(lambda s, x: s.b(s.a(x) * s.one + s.two[0]), **(lambda t: {"one": t, "two": [t]})(rand(8))),
    "parameter in a list": lambda: build(lambda s, x: s.b(s.a(x) * s.free[0]), free=[nn.Parameter(rand(8))]),
}  # fmt: skip


@pytest.mark.parametrize("make", CONSTANTS.values(), ids=CONSTANTS.keys())
def test_constants_are_cut_like_buffers(make: Callable[[], Given]) -> None:
    model = make()
    plan = all_laws(model, (X,), (X * 2 + 1,), 0)
    assert plan.elastic_share > 0.8 and list(surgery.wrap(model, X).state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("make", CONSTANTS.values(), ids=CONSTANTS.keys())
def test_constants_are_saved(make: Callable[[], Given], tmp_path: Path) -> None:
    small = surgery.shrink(make(), 0.5, X)
    surgery.save(small, tmp_path / "small")
    fresh = make()
    with torch.no_grad():
        for place in ("table", "one"):
            if hasattr(fresh, place):
                getattr(fresh, place).add_(1)
    assert surgery.verify(surgery.load(tmp_path / "small", fresh, X), small, X) == 0


def test_constants_have_names() -> None:
    plan = surgery.inspect(CONSTANTS["list"](), X)
    assert {("scales[0]", 0), ("scales[1]", 1)} < set(plan.groups["a.o"].cuts)
    with pytest.warns(UserWarning, match=r"buffers that are not in the state_dict: scales\[0\], scales\[1\]"):
        surgery.reorder(CONSTANTS["list"](), {"a.o": list(range(8))[::-1]}, X)


def test_twins_share_constants_and_small_models_do_not() -> None:
    model = CONSTANTS["attribute"]()
    wrapped = surgery.wrap(model, X)
    small = surgery.shrink(wrapped, 0.5)
    surgery.set_widths(wrapped, 0.5)
    assert wrapped.table.shape == small.table.shape == (1, 5, 4)
    model.table[0, 0] = 7
    assert wrapped.table[0, 0].eq(7).all() and not small.table[0, 0].eq(7).any()
    assert surgery.unwrap(wrapped).table is model.table
    other = copy.deepcopy(wrapped)
    other.table.zero_()
    surgery.set_widths(other, 1.0)
    assert not other.table[..., :4].any() and other.table[..., 4:].all() and model.table.all()


@pytest.mark.parametrize("width", [3, 8])
def test_constants_that_a_forward_changes_in_place(width: int) -> None:
    """A view (the rows of `seen`) and a gathered slice (`top`, of which the width is no prefix)."""

    def run(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        net.seen += y.detach().mean((0, 1))
        net.top.copy_(torch.maximum(net.top, y.detach().amax(0).flatten()))
        return net.b(y + net.seen + net.top.view(5, -1))

    model = build(run, seen=torch.zeros(8).double(), top=torch.zeros(40).double())
    wrapped = surgery.wrap(model, X)
    with unchanged(model):
        small = surgery.shrink(wrapped, {"a.o": width})
    surgery.set_widths(wrapped, {"a.o": width})
    for i in range(3):
        assert torch.allclose(wrapped(X * i), small(X * i))
    assert torch.allclose(model.seen[:width], small.seen) and not model.seen[width:].any()
    assert torch.allclose(model.top.view(5, 8)[:, :width], small.top.view(5, -1)) and model.top.any()
    assert not model.top.view(5, 8)[:, width:].any()


# --- what an earlier run has left ---


class Cached(Given):
    """Keeps what it has computed for other runs; `train()` clears it, or does not."""

    def __init__(self, clears: bool, keys: Callable[[Tensor], Any] = lambda x: "w"):
        super().__init__(lambda s, x: None)
        self.w, self.cache, self.clears, self.keys = nn.Parameter(torch.randn(8)), {}, clears, keys
        self.last: Tensor | None = None

    def train(self, mode: bool = True) -> Cached:
        if mode and getattr(self, "clears", False):
            self.cache, self.last = {}, None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.b(self.a(x) * self.w * 2)
        key = self.keys(x)
        if key not in self.cache:
            self.cache[key] = self.w * 2
        if self.last is None:
            self.last = self.w.exp()
        return self.b(self.a(x) * self.cache[key] + 0 * self.last)


def used(model: nn.Module, gradients: bool) -> nn.Module:
    with torch.set_grad_enabled(gradients):
        model.eval()(X)
    return model


@pytest.mark.parametrize("gradients", [True, False])
def test_a_cache_is_cleared_as_the_model_clears_it(gradients: bool) -> None:
    fresh = surgery.inspect(Cached(True).double(), X)
    model = used(Cached(True).double(), gradients)
    before = dict(model.cache)
    plan = surgery.inspect(model, X)
    assert plan.groups.keys() == fresh.groups.keys() == {"w"} and plan.fingerprint == fresh.fingerprint
    wrapped = surgery.wrap(model, X).eval()
    with torch.no_grad():
        model.w.add_(1)
    expected = Cached(True).double().eval()
    expected.load_state_dict(model.state_dict())
    assert surgery.verify(expected, wrapped, X) < 1e-9, "the twin reads what the weights are now"
    for width in (3, 8, 5):
        shrunk_is_wrapped(wrapped, {"w": width}, (X,))
        small = surgery.shrink(wrapped, {"w": width})
        assert small.cache == {} and small.last is None
    assert list(model.cache) == list(before) and model.cache["w"] is before["w"]


def test_a_cache_that_nothing_clears_is_forgotten_or_kept_as_it_is() -> None:
    assert surgery.inspect(used(Cached(False).double(), True), X).groups.keys() == {"w"}
    model = used(Cached(False).double(), False)
    with torch.no_grad():
        model.w.add_(1)  # the model itself goes on with the old product, and so do its twin and small models
    plan = surgery.inspect(model, X)
    order_is_free(model, plan, (X,), torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(model, X).eval()
    surgery.verify(model, wrapped, X, tolerance=1e-9)
    for widths in (smallest(plan), {"w": 5}):
        shrunk_is_wrapped(wrapped, widths, (X,))


def test_entries_of_a_cache_that_were_not_read_are_dropped() -> None:
    model = Cached(False, keys=lambda x: x.shape[0]).double()
    with torch.no_grad():
        model.eval()(X[:1])
    model.last = None
    wrapped = surgery.wrap(model, X).eval()
    small = shrunk_is_wrapped(wrapped, {"w": 3}, (X,))
    with surgery.at_widths(wrapped, {"w": 3}):
        assert torch.allclose(wrapped(X[:1]), small(X[:1]))
    assert list(model.cache) == [1] and surgery.verify(model, wrapped, (X[:1],)) < 1e-9


def test_modes_stay_where_caches_are_cleared() -> None:
    model = nn.Sequential(Cached(True).double(), nn.BatchNorm1d(5).double())
    model.train()
    model[1].eval()
    wrapped = surgery.wrap(model, X)
    assert [m.training for m in wrapped.modules()] == [m.training for m in model.modules()]


@pytest.mark.parametrize("hold", [lambda t: {"deep": [t]}, lambda t: {t}, lambda t: type("Cache", (), {"t": t})()])
def test_a_model_that_keeps_gradients_is_copied(hold: Callable[[Tensor], Any]) -> None:
    model = build(lambda s, x: s.b(s.a(x)))
    model.kept = hold(model.a(X))
    assert set(surgery.inspect(model, X).groups) == {"a.o"}
    surgery.shrink(surgery.wrap(model, X), 0.5)
