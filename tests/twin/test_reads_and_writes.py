"""A forward reads and writes tensors in many ways: containers, `parameters()`, assignment. All see the slice."""

from __future__ import annotations

import copy
import re
import types
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgery
from tests.copies import pickled
from tests.laws.laws import all_laws
from tests.unchanged import unchanged

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Pair = namedtuple("Pair", "weight scale")


class Net(nn.Module):
    """Linear layers a (6 to 8), b (8 to 8) and o (8 to 3); `hold` puts their tensors elsewhere, `forward` is given."""

    def __init__(self, hold: Callable[[Any], None], function: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.o = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("mean", torch.linspace(0, 1, 8))
        hold(self)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def build(hold: Callable[[Any], None], function: Callable[[Any, Tensor], Tensor]) -> Net:
    return Net(hold, function).double().eval()


def put(**held: Callable[[Net], Any]) -> Callable[[Net], None]:
    """Sets plain attributes, without registering them."""

    def hold(net: Net) -> None:
        for name, make in held.items():
            object.__setattr__(net, name, make(net))

    return hold


class Tied(nn.Module):
    """Multiplies by the weight of a layer that it is no parent of."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.tied = [layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.tied[0]


def refilled(net: Any, x: Tensor) -> Tensor:
    net.held["bias"] = net.b.bias
    y = F.linear(net.a(x), net.held["weight"], net.held["bias"])
    net.held = {"weight": net.b.weight}
    return net.o(y * net.held["weight"].mean())


def linear(net: Any, x: Tensor, weight: Tensor) -> Tensor:
    return net.o(F.linear(net.a(x), weight).relu() + net.mean)


OPEN: dict[str, tuple[Callable, Callable]] = {
    "attribute": (put(held=lambda s: s.b.weight), lambda s, x: linear(s, x, s.held)),
    "list": (put(held=lambda s: [s.b.weight]), lambda s, x: linear(s, x, s.held[0])),
    "dict": (put(held=lambda s: {"w": s.b.weight}), lambda s, x: linear(s, x, s.held["w"])),
    "ordered dict": (put(held=lambda s: OrderedDict(w=s.b.weight)), lambda s, x: linear(s, x, *s.held.values())),
    "nested": (put(held=lambda s: {"w": [0, (s.b.weight, None)]}), lambda s, x: linear(s, x, s.held["w"][1][0])),
    "named tuple": (put(held=lambda s: Pair(s.b.weight, 2)),
                    lambda s, x: linear(s, x, s.held.weight) * s.held.scale),
    "deque": (put(held=lambda s: deque([s.b.weight], 3)), lambda s, x: linear(s, x, s.held[-1])),
    "buffer": (put(held=lambda s: [s.mean]), lambda s, x: s.o(s.b(s.a(x)).relu() * s.held[0])),
    "another module's list": (lambda s: setattr(s, "t", Tied(s.a)), lambda s, x: s.t(s.b(s.a(x)).relu())),
    "refilled by the forward": (put(held=lambda s: {"weight": s.b.weight}), refilled),
}  # fmt: skip


@pytest.mark.parametrize(("hold", "function"), OPEN.values(), ids=OPEN.keys())
def test_tensors_in_containers_are_read_cut(hold: Callable, function: Callable) -> None:
    model = build(hold, function)
    plan = all_laws(model, (X,), (X * 2 + 1,), 0)
    assert plan.groups and any("b.weight" in t or "a.weight" in t for g in plan.groups.values() for t, _ in g.cuts)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_containers_of_a_copy_hold_its_own_tensors(duplicate: Callable) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8)).double()
    model.append(Tied(model[0]))
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, 0.5)
    wrapped.train()(X)
    other = duplicate(wrapped)
    with torch.no_grad():
        other[0].weight.zero_()
    assert not other[2].tied[0].any() and wrapped[2].tied[0].all()
    surgery.set_widths(other, 1.0)
    assert other[2].tied[0] is other[0].weight
    small = surgery.shrink(other, 0.5)
    assert small[2].tied[0] is small[0].weight and surgery.unwrap(wrapped)[2].tied[0] is model[0].weight


def test_assigning_a_container_below_full_width_keeps_whole_tensors() -> None:
    model = build(put(held=lambda s: [s.b.weight]), OPEN["list"][1])
    wrapped = surgery.wrap(model, X).eval()
    surgery.set_widths(wrapped, 0.5)
    wrapped.held = [wrapped.b.weight, "kept"]
    assert wrapped.held[0].shape == (4, 4) and wrapped.held[1] == "kept"
    surgery.set_widths(wrapped, 1.0)
    assert wrapped.held[0] is model.b.weight and model.held == [model.b.weight]


def relative(layer: nn.Linear) -> nn.Linear:
    """A layer that is no part of the model, with a weight of the model."""
    other = nn.Linear(8, 8)
    other.weight = layer.weight
    return other


class Holder:
    __slots__ = ("weight",)


def slotted(net: Net) -> Holder:
    holder = Holder()
    holder.weight = net.b.weight
    return holder


SHUT: dict[str, tuple[Callable, Callable, str]] = {
    "object": (put(held=lambda s: types.SimpleNamespace(w=[s.b.weight])), lambda s, x: linear(s, x, s.held.w[0]),
               r"held\.w\[0\]"),
    "slots": (put(held=slotted), lambda s, x: linear(s, x, s.held.weight), r"held\.weight"),
    "function": (put(held=lambda s: (lambda w: lambda: w)(s.b.weight)), lambda s, x: linear(s, x, s.held()),
                 r"held \(a function\)"),
    "function of the model": (put(held=lambda s: lambda: s.b.weight), lambda s, x: linear(s, x, s.held()),
                              r"held \(a function that reads b\.weight\)"),
    "key": (put(held=lambda s: {s.b.weight: 2}), lambda s, x: linear(s, x, s.b.weight) * s.held[s.b.weight],
            "the keys of held"),
    "module": (put(held=lambda s: [relative(s.b)]), lambda s, x: linear(s, x, s.held[0].weight), r"held\[0\]\.weight"),
    "set": (put(held=lambda s: {s.b.weight}), lambda s, x: linear(s, x, next(iter(s.held))), r"held\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize(("hold", "function", "place"), SHUT.values(), ids=SHUT.keys())
def test_tensors_that_cannot_be_cut_where_they_are_held_are_pinned(
    hold: Callable, function: Callable, place: str
) -> None:
    plan = surgery.inspect(build(hold, function), X)
    (fixed,) = [item for item in plan.fixed if item.tensor == "b.weight"]
    assert fixed.elements == 64 and re.search(f"b.weight is also held in {place}", fixed.reason)


def test_an_optimizer_on_a_module_pins_nothing() -> None:
    model = build(put(optimizer=lambda s: torch.optim.Adam(s.parameters())), lambda s, x: linear(s, x, s.b.weight))
    assert {"a.o"} < set(surgery.inspect(model, X).groups)


# --- parameters() ---


def penalised(net: Any, x: Tensor) -> Tensor:
    norms = [p.square().sum() for p in net.b.parameters()] + [p.abs().sum() for _, p in net.a.named_parameters()]
    return net.o(net.b(net.a(x)).relu()) + sum(norms) * sum(b.sum() for b in net.buffers())


def listed(net: Any, x: Tensor) -> Tensor:
    """Through a container that is never called, and with a layer run by `functional_call`."""
    y = torch.func.functional_call(net.b, dict(net.b.named_parameters()), net.a(x))
    return net.o(y.relu()) * sum(p.square().mean() for p in net.layers.parameters())


READERS: dict[str, tuple[Callable, Callable]] = {
    "penalty": (lambda s: None, penalised),
    "by name": (lambda s: None, lambda s, x: linear(s, x, s.get_parameter("b.weight")) * s.get_buffer("mean").sum()),
    "list of modules": (lambda s: setattr(s, "layers", nn.ModuleList([s.a, s.b])), listed),
}


@pytest.mark.parametrize(("hold", "function"), READERS.values(), ids=READERS.keys())
def test_a_forward_that_asks_for_parameters_is_given_slices(hold: Callable, function: Callable) -> None:
    plan = all_laws(build(hold, function), (X,), (X * 2 + 1,), 0)
    assert "a.o" in plan.groups


def test_what_parameters_gives_depends_on_who_asks() -> None:
    seen: list[Any] = []

    def look(net: Any, x: Tensor) -> Tensor:
        seen.append({name: tuple(p.shape) for name, p in net.named_parameters()})
        seen.append({name: tuple(t.shape) for name, t in net.state_dict().items()})
        net.b.requires_grad_(True)
        return linear(net, x, net.b.weight)

    model = build(lambda s: None, look)
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, {"a.o": 2})
    seen.clear()
    wrapped.eval()(X)
    assert seen[0]["b.weight"] == (8, 2) and seen[0]["a.bias"] == (2,) and seen[1]["b.weight"] == (8, 8)
    assert [id(p) for p in wrapped.parameters()] == [id(p) for p in model.parameters()]
    assert wrapped.get_parameter("b.weight").shape == wrapped.b.get_parameter("weight").shape == (8, 2)
    assert torch.equal(wrapped.get_buffer("mean"), wrapped.mean)
    with pytest.raises(AttributeError, match="gain"):
        wrapped.get_parameter("b.gain")
    surgery.set_widths(wrapped, 1.0)
    assert wrapped.get_parameter("b.weight") is model.b.weight


def test_recomputation_asks_for_the_same_slices() -> None:
    def run(net: Any, x: Tensor, way: Any) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return net.b(y) * sum(p.square().sum() for p in net.a.parameters())

        y = net.a(x)
        return net.o(inner(y) if way is None or not net.training else checkpoint(inner, y, use_reentrant=way))

    found = []
    for way in (None, True, False):
        wrapped = surgery.wrap(build(lambda s: None, lambda s, x, way=way: run(s, x, way)), X, draw=surgery.paper(1.0))
        losses = [wrapped.train()(X * (i + 1)).square().sum() for i in range(3)]
        sum(losses).backward()
        found.append([p.grad for p in wrapped.parameters() if p.grad is not None])
    for plain, *others in zip(*found, strict=True):
        assert all(torch.allclose(plain, other, rtol=1e-9) for other in others)


@pytest.mark.parametrize("width", [3, 8])
def test_parameters_that_a_forward_changes_are_written_back(width: int) -> None:
    """A gathered slice (the width is no prefix of `(p c)`) as well as a view."""

    class Decayed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv1d(2, 8, 1), nn.Linear(40, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).transpose(1, 2).flatten(1)
            with torch.no_grad():
                for p in self.fc.parameters():
                    p.mul_(0.5)
            return self.fc(y)

    model = Decayed().double()
    wrapped = surgery.wrap(model, torch.randn(4, 2, 5, dtype=torch.float64)).eval()
    before = model.fc.weight.detach().clone().view(3, 5, 8)
    surgery.set_widths(wrapped, {"conv.o": width})
    wrapped(torch.randn(4, 2, 5, dtype=torch.float64))
    after = model.fc.weight.detach().view(3, 5, 8)
    assert torch.equal(after[..., :width], before[..., :width] / 2)
    assert torch.equal(after[..., width:], before[..., width:])


# --- buffers that are assigned ---


class Running(nn.Module):
    """Buffers that are replaced, not changed in place: one is cut, one is not, one in another module."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.o, self.way = nn.Linear(6, 8), nn.Linear(8, 3), way
        self.register_buffer("mean", torch.ones(8))
        self.register_buffer("steps", torch.ones(()))
        self.register_buffer("seen", torch.ones(6))
        self.meter = nn.Module()
        self.meter.register_buffer("peak", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        out = y * self.mean * self.meter.peak * self.seen.sum()  # saves the old values for the gradient
        mean = self.mean * 0.9 + y.mean(0) * 0.1
        if self.way == "statement":
            self.mean = mean
        elif self.way == "function":
            setattr(self, "mean", mean)  # noqa: B010
        else:
            self.register_buffer("mean", mean)
        self.steps = self.steps + 1
        self.seen = self.seen + x.sum(0)
        self.meter.peak = torch.maximum(self.meter.peak, y.detach().amax(0))
        return self.o(out - self.mean)


@pytest.mark.parametrize("way", ["statement", "function", "registration"])
@pytest.mark.parametrize("width", [3, 8])
def test_assigned_buffers_stay_those_of_the_model(way: str, width: int) -> None:
    model = Running(way).double()
    buffers = dict(model.named_buffers())
    wrapped = surgery.wrap(model, X)
    assert all(buffer.eq(1).all() for buffer in buffers.values()), "wrapping changes nothing"
    surgery.set_widths(wrapped, {"a.o": width})
    small = surgery.shrink(wrapped, {"a.o": width})
    for i in range(3):
        for net in (wrapped.eval(), small.eval()):
            net.zero_grad()
            net(X * (i + 1)).square().sum().backward()
        if i == 0:  # later, the small model's gradients run into those of the step before, as a plain model's do
            for p, q in zip(wrapped.parameters(), small.parameters(), strict=True):
                kept = p.grad[tuple(slice(n) for n in q.shape)]
                assert torch.allclose(kept, q.grad) and torch.isclose(p.grad.abs().sum(), q.grad.abs().sum())
        for name, buffer in small.named_buffers():
            model_name, _, leaf = name.rpartition(".")
            small.get_submodule(model_name)._buffers[leaf] = buffer.detach()
    for name, buffer in wrapped.named_buffers():
        assert buffer is buffers[name] and model.get_buffer(name) is buffer and not buffer.requires_grad
        mine = small.get_buffer(name)
        part = buffer[: mine.shape[0]] if buffer.dim() else buffer
        assert torch.allclose(part, mine), name
        assert mine.shape == buffer.shape or buffer[mine.shape[0] :].eq(1).all()
    assert buffers["mean"].ne(1).any() and buffers["steps"] == 4


def test_buffers_assigned_from_outside() -> None:
    model = Running("statement").double()
    wrapped = surgery.wrap(model, X)
    wrapped.mean, wrapped.seen = torch.full((8,), 3.0).double(), torch.zeros(6).double()
    assert wrapped.get_buffer("mean") is model.mean and model.mean.eq(3).all() and model.seen.eq(0).all()
    surgery.set_widths(wrapped, {"a.o": 3})
    wrapped.mean = torch.full((3,), 2.0).double()
    assert model.mean.tolist() == [2, 2, 2, 3, 3, 3, 3, 3]
    with unchanged(model), pytest.raises(surgery.InputError, match=r"mean is assigned .*\[5\] .*\[3\]"):
        wrapped.mean = torch.ones(5).double()


def test_buffers_of_another_type_or_shape_become_the_twins_own() -> None:
    model = Running("statement").double()
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, {"a.o": 3})
    wrapped.mean, wrapped.seen = torch.full((3,), 2.0), torch.ones(2).double()
    assert wrapped.mean.dtype == torch.float32 and wrapped.mean.tolist() == [2, 2, 2]
    surgery.set_widths(wrapped, 1.0)
    assert wrapped.mean.tolist() == [2, 2, 2, 1, 1, 1, 1, 1] and wrapped.seen.shape == (2,)
    assert model.mean.dtype == torch.float64 and model.mean.eq(1).all() and model.seen.shape == (6,)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_assigned_and_gathered_buffers_without_gradients(context: Callable) -> None:
    class Positions(nn.Module):
        """The norm's features are `(p c)`, so that 3 of 4 channels are gathered."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv1d(2, 4, 1), nn.Linear(20, 3)
            self.register_buffer("top", torch.zeros(20))
            self.register_buffer("last", torch.zeros(20))

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).transpose(1, 2).flatten(1)
            self.top = torch.maximum(self.top, y.amax(0))
            self.last += y.amax(0).abs()
            return self.fc(y - self.top + self.last)

    model, x = Positions().eval(), torch.randn(6, 2, 5)
    buffers = dict(model.named_buffers())
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, {"conv.o": 3})
    surgery.set_widths(wrapped, {"conv.o": 3})
    with context():
        for i in range(2):
            assert torch.allclose(wrapped(x + i), small(x + i), atol=1e-6)
    for name, buffer in buffers.items():
        assert wrapped.get_submodule("")._buffers[name] is buffer
        assert torch.allclose(buffer.view(5, 4)[:, :3].flatten(), small.get_buffer(name))
        assert not buffer.view(5, 4)[:, 3].any()
