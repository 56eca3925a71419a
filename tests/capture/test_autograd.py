"""Autograd functions are recorded by what their forward does, as far as torch shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

import surgery
from surgery.capture.record import capture
from surgery.modules.inputs import Inputs, tensors
from surgery.rules.registry import RULES
from tests.laws.laws import all_laws, order_is_free
from tests.small_models import Given, weights

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(function: Callable[[Any, Tensor], Any]) -> Given:
    torch.manual_seed(0)
    return Given(function, w=weights(8), heads=2).double().eval()


class Swish(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        assert len(ctx.needs_input_grad) == 1
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


class Norm(Function):
    """New style, with sizes from shapes, and a second output that is not differentiable."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, int]:
        scale = (x.square().sum(-1, keepdim=True) / x.shape[-1] + eps).rsqrt()
        return x * scale * weight, scale, x.shape[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, _ = inputs
        _, scale, _ = output
        ctx.mark_non_differentiable(scale)
        ctx.save_for_backward(x, weight, scale)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        xn, gw = x * scale, g * weight
        return scale * (gw - xn * (gw * xn).mean(-1, keepdim=True)), (g * xn).sum(0), None


class Doubled(Function):
    """In place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 2


class Turned(Function):
    """Gives its input back, as a gradient reversal does, and something that is no tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * g, None


class Heads(Function):
    """Sizes from an attribute and from a shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: int) -> Tensor:
        ctx.n = heads
        return x.view(x.shape[0], heads, -1).softmax(1).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(g), None


class Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return g @ weight, g.t() @ x


class Filled(Function):
    """Its result is allocated first, and filled by calls that are seen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        torch.mul(x, 3, out=y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3


class Reversible(Function):
    """Runs modules inside, as reversible layers and home-made checkpoints do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module) -> Tensor:
        ctx.module = module
        ctx.save_for_backward(x)
        return x + module(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = x + ctx.module(x)
        y.backward(g)
        return x.grad, None


OPEN: dict[str, Callable[[Any, Tensor], Any]] = {
    "activation": lambda s, x: s.b(Swish.apply(s.a(x))),
    "norm": lambda s, x: s.b(Norm.apply(s.a(x), s.w)[0]),
    "in place": lambda s, x: s.b(Doubled.apply(s.a(x) + 0)),
    "in place, read before": lambda s, x: (lambda y: s.b(Doubled.apply(y) * y))(s.a(x) + 0),
    "identity": lambda s, x: s.b(Turned.apply(s.a(x), 0.5).relu()),
    "attribute": lambda s, x: s.b(Heads.apply(s.a(x), s.heads)),
    "layer": lambda s, x: Linear.apply(s.a(x).relu(), s.b.weight),
    "filled": lambda s, x: s.b(Filled.apply(s.a(x))),
}


@pytest.mark.parametrize("function", OPEN.values(), ids=OPEN.keys())
def test_what_a_function_does_is_followed(function: Callable[[Any, Tensor], Any]) -> None:
    plan = all_laws(build(function), (X,), (X * 2 + 1,), 0)
    assert plan.elastic_share > 0.8


def test_a_custom_operation_without_a_rule_is_named_with_the_line_of_the_model() -> None:
    @torch.library.custom_op("surgery_tests::twisted", mutates_args=())
    def twisted(x: torch.Tensor) -> torch.Tensor:
        return x.flip(-1) + 1

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)

        def forward(self, x):
            return self.b(twisted(self.a(x)))

    reasons = {item.reason for item in surgery.inspect(Net(), torch.randn(2, 6)).fixed}
    assert any("no rule for twisted" in reason and "test_autograd.py:" in reason for reason in reasons)


def test_a_rule_for_a_custom_operation_is_for_all_ways_to_call_it() -> None:
    @torch.library.custom_op("surgery_tests::scaled", mutates_args=())
    def scaled(x: Tensor, factor: Tensor) -> Tensor:
        return x * factor

    surgery.pointwise(scaled)
    for call in (scaled, torch.ops.surgery_tests.scaled, torch.ops.surgery_tests.scaled.default):
        model = build(lambda s, x, call=call: s.b(call(s.a(x), torch.ones(1))))
        assert list(surgery.inspect(model, X).groups) == ["a.o"]


def test_modules_inside_of_a_function() -> None:
    model = build(lambda s, x: s.b(Reversible.apply(s.a(x), s.inner)))
    model.inner = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 8)).double().eval()
    plan = surgery.inspect(model, X)
    assert set(plan.groups) == {"a.o", "inner.0.o"}
    order_is_free(model, plan, (X,), torch.Generator().manual_seed(0))


class Hidden(Function):
    """A kernel of its own fills the result: through memory that torch does not watch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        y = make(x)
        memory = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(y)).numpy()
        memory[...] = x.detach().numpy().cumsum(-1)
        return y


class InNumpy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy().cumsum(-1))


class Spoilt(Function):
    """Changes its input, then needs what only autograd itself gives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.add_(torch.rand_like(x))
        return x + len(ctx.next_functions)


class Literal(Function):
    """A size in its code that would have to change."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view(-1, 2, 4).softmax(1).view(-1, 8)


class Sums(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.cumsum(-1)


SHUT: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "kernel, on new memory": (lambda s, x: s.b(Hidden.apply(s.a(x), torch.empty_like)), "no rule for Hidden"),
    "kernel, on zeros": (lambda s, x: s.b(Hidden.apply(s.a(x), torch.zeros_like)), "no rule for Hidden"),
    "kernel, on a copy": (lambda s, x: s.b(Hidden.apply(s.a(x), torch.clone)), "no rule for Hidden"),
    "numpy": (lambda s, x: s.b(InNumpy.apply(s.a(x))), "no rule for InNumpy"),
    "fails": (lambda s, x: s.b(Spoilt.apply(s.a(x) + 0)), "no rule for Spoilt"),
    "order": (lambda s, x: s.b(Sums.apply(s.a(x))), "the order along this dimension matters at cumsum"),
    "a size inside": (lambda s, x: s.b(Literal.apply(s.a(x))), "cannot follow: it is computed outside a forward"),
}


@pytest.mark.parametrize(("function", "reason"), SHUT.values(), ids=SHUT.keys())
def test_what_cannot_be_followed_is_pinned(function: Callable[[Any, Tensor], Any], reason: str) -> None:
    model = build(function)
    plan = surgery.inspect(model, X)
    assert not plan.groups and any(reason in item.reason for item in plan.fixed), plan


@pytest.mark.parametrize("function", [*OPEN.values(), *(f for f, _ in SHUT.values())], ids=[*OPEN, *SHUT])
def test_the_recording_computes_what_the_model_does(
    function: Callable[[Any, Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    model = build(lambda s, x: seen.append(function(s, x)) or seen[-1])
    for _ in range(2):
        capture(model, Inputs((X,)))
    torch.manual_seed(0)  # a run is recorded with this seed
    with torch.no_grad():
        model(X)
    for recorded, known in zip(tensors(seen[0]), tensors(seen[2]), strict=True):
        assert torch.equal(recorded, known)


def test_a_rule_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, InNumpy, lambda x: x)
    assert set(surgery.inspect(build(SHUT["numpy"][0]), X).groups) == {"a.o"}
    monkeypatch.setitem(RULES, Sums, lambda x: x)
    assert set(surgery.inspect(build(SHUT["order"][0]), X).groups) == {"a.o"}


def test_multiply_adds_inside_are_counted() -> None:
    model = build(OPEN["layer"])
    plain = build(lambda s, x: F.linear(s.a(x).relu(), s.b.weight))
    assert surgery.cost(model, 1.0, X).macs == surgery.cost(plain, 1.0, X).macs > 0
    assert dataclasses.asdict(surgery.cost(model, 0.5, X)) == dataclasses.asdict(surgery.cost(plain, 0.5, X))
