"""Code that takes gradients by hand, with respect to parameters that it asks the module for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgery
from tests.small_models import X, mlp


class Recompute(torch.autograd.Function):
    """A checkpoint that is given the parameters of what it runs, as diffusion code bases write it."""

    @staticmethod
    def forward(ctx: Any, run: Callable, n: int, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        ctx.run, ctx.inputs, ctx.parameters = run, list(tensors[:n]), list(tensors[n:])
        with torch.no_grad():
            return run(*ctx.inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inputs = [t.detach().requires_grad_() for t in ctx.inputs]
        with torch.enable_grad():
            y = ctx.run(*inputs)
        return None, None, *torch.autograd.grad(y, inputs + ctx.parameters, grads, allow_unused=True)


class Reverse(torch.autograd.Function):
    """A reversible block: its backward asks for gradients with respect to `f.parameters()`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: nn.Module, *_: Tensor) -> Tensor:  # type: ignore[override]
        ctx.f = f
        ctx.save_for_backward(x)
        with torch.no_grad():
            return x + f(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = x + ctx.f(x)
        grads = torch.autograd.grad(y, (x, *ctx.f.parameters()), grad)
        return grads[0], None, *grads[1:]


class ByBackward(Reverse):
    """Recomputes, and lets `backward` put the gradients of the parameters where they belong."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(x + ctx.f(x), grad)
        return x.grad, None


def filtered(f: nn.Module) -> list[Tensor]:
    return [p for p in f.parameters() if p.requires_grad]


def by_name(f: nn.Module) -> list[Tensor]:
    return list(dict(f.named_parameters()).values())


def by_hand(f: Any) -> list[Tensor]:
    return [f[0].weight, f[0].bias, f[2].weight, f[2].bias]


WAYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "checkpoint given parameters()": lambda f, x: x + Recompute.apply(f, 1, x, *f.parameters()),
    "checkpoint given those with gradients": lambda f, x: x + Recompute.apply(f, 1, x, *filtered(f)),
    "checkpoint given named_parameters()": lambda f, x: x + Recompute.apply(f, 1, x, *by_name(f)),
    "checkpoint given attributes": lambda f, x: x + Recompute.apply(f, 1, x, *by_hand(f)),
    "reversible block": lambda f, x: Reverse.apply(x, f, *f.parameters()),
    "reversible block, twice": lambda f, x: Reverse.apply(Reverse.apply(x, f, *f.parameters()), f, *f.parameters()),
    "backward inside of backward": lambda f, x: ByBackward.apply(x, f),
    "torch's checkpoint, reentrant": lambda f, x: x + checkpoint(f, x, use_reentrant=True),
    "torch's checkpoint": lambda f, x: x + checkpoint(f, x, use_reentrant=False),
}


class Blocks(nn.Module):
    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.i, self.f, self.o, self.way = nn.Linear(6, 8), mlp(8, 16, 8), nn.Linear(8, 3), way

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.way(self.f, self.i(x)))


# torch, where a checkpoint runs without gradients, as it does in proofs
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_gradients_are_those_of_the_small_model(way: Callable, share: float) -> None:
    wrapped, x = surgery.wrap(Blocks(way).double(), X.double()).train(), X.double() + 1
    small = surgery.shrink(wrapped, share).train()
    assert share == 1 or small.f[0].out_features == 16 * share
    with surgery.at_widths(wrapped, share):
        wrapped(x).square().sum().backward()
    small(x).square().sum().backward()
    for (name, p), q in zip(wrapped.named_parameters(), small.parameters(), strict=True):
        assert p.grad is not None, name
        inside = p.grad[tuple(slice(n) for n in q.shape)]
        torch.testing.assert_close(inside, q.grad, msg=name)
        torch.testing.assert_close(p.grad.abs().sum(), inside.abs().sum())  # and none beyond the width


ASKS: dict[str, Callable[[Any], list[Tensor]]] = {
    "parameters()": lambda f: [f[0].weight, next(iter(f.parameters())), f[0].weight],
    "named_parameters()": lambda f: [dict(f.named_parameters())["0.weight"], f[0].weight, by_name(f)[0]],
    "get_parameter()": lambda f: [f.get_parameter("0.weight"), f.get_submodule("0").weight, filtered(f)[0]],
}

SEEN: list[list[Tensor]] = []  # not in the closure, where the model would hold tensors


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
def test_one_slice_for_a_parameter_and_a_pass(ask: Callable) -> None:
    wrapped = surgery.wrap(Blocks(lambda f, x: (SEEN.append(ask(f)), f(x))[1]), X).train()
    with surgery.at_widths(wrapped, 0.5):
        SEEN.clear()
        wrapped(X)
        wrapped(X)
    assert len(SEEN) == 2
    for first, *others in SEEN:
        assert first.shape == (8, 4) and all(other is first for other in others)
