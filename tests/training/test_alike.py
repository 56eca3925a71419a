"""Losses that compare value by value: narrow widths learn from the full one what the loss means by "the same"."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery import InputError
from surgery.training.alike import Alike
from surgery.twin.elastic import state_of
from tests.small_models import X, mlp

G = torch.Generator().manual_seed(0)
TARGET, SIGNS = torch.randn(5, 3, generator=G), torch.randint(0, 2, (5, 3), generator=G).float()
WEIGHTS = torch.tensor([1.0, 5.0, 9.0])
SOFT = torch.rand(5, 3, generator=G)
Loss = Callable[[Tensor], Tensor]


def rowwise(values: Tensor) -> Tensor:
    return values.sum(1).mean()


FOUND: dict[str, tuple[Loss, Alike]] = {
    "mse": (lambda o: F.mse_loss(o, TARGET), Alike("squared", "mean")),
    "mse, summed": (lambda o: F.mse_loss(o, TARGET, reduction="sum"), Alike("squared", "sum")),
    "mse, summed in a row": (lambda o: rowwise((o - TARGET) ** 2), Alike("squared", "mean of sums")),
    "half of it": (lambda o: 0.5 * (o - TARGET).square().mean(), Alike("half squared", "mean")),
    "huber, near": (lambda o: F.huber_loss(o, TARGET, delta=100), Alike("half squared", "mean")),
    "smooth l1, near": (lambda o: F.smooth_l1_loss(o, TARGET, beta=100) * 100, Alike("half squared", "mean")),
    "l1": (lambda o: F.l1_loss(o, TARGET), Alike("absolute", "mean")),
    "l1, summed": (lambda o: F.l1_loss(o, TARGET, reduction="sum"), Alike("absolute", "sum")),
    "bce": (lambda o: F.binary_cross_entropy_with_logits(o, SIGNS), Alike("logits", "mean")),
    "bce, soft labels": (lambda o: F.binary_cross_entropy_with_logits(o, SOFT), Alike("logits", "mean")),
    "bce, summed": (lambda o: F.binary_cross_entropy_with_logits(o, SIGNS, reduction="sum"), Alike("logits", "sum")),
    "bce by hand": (lambda o: (F.softplus(o) - o * SIGNS).mean(), Alike("logits", "mean")),
    "multilabel": (lambda o: F.multilabel_soft_margin_loss(o, SIGNS), Alike("logits", "mean")),
}
EXPLICIT: dict[Alike, Callable[[Tensor, Tensor], Tensor]] = {
    Alike("squared", "mean"): F.mse_loss,
    Alike("squared", "sum"): lambda a, b: F.mse_loss(a, b, reduction="sum"),
    Alike("squared", "mean of sums"): lambda a, b: rowwise((a - b) ** 2),
    Alike("half squared", "mean"): lambda a, b: F.mse_loss(a, b) / 2,
    Alike("absolute", "mean"): F.l1_loss,
    Alike("absolute", "sum"): lambda a, b: F.l1_loss(a, b, reduction="sum"),
    Alike("logits", "mean"): lambda a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid()),
    Alike("logits", "sum"): lambda a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid(), reduction="sum"),
    Alike("probabilities", "mean"): F.binary_cross_entropy,
}


def gradients(model: nn.Module, loss: Any, **options: Any) -> list[Tensor]:
    surgery.train_step(model, X.to(next(model.parameters()).dtype), loss, narrow=[0.5], **options)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FOUND)
def test_the_kind_is_found_and_taught(name: str, dtype: torch.dtype) -> None:
    loss, kind = FOUND[name]
    model = surgery.wrap(mlp(6, 16, 8, 3).to(dtype), X.to(dtype)).train()
    typed = lambda output: loss(output.float()).to(dtype)  # noqa: E731
    found = gradients(model, loss if dtype is torch.float32 else typed)
    assert list(state_of(model).class_dims.values()) == [(kind.kind, kind.count)]
    told = gradients(model, loss if dtype is torch.float32 else typed, distil=EXPLICIT[kind])
    for a, b in zip(found, told, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


class Chances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(6, 16, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).sigmoid()


def test_probabilities() -> None:
    model = surgery.wrap(Chances(), X).train()
    found = gradients(model, lambda o: F.binary_cross_entropy(o, SIGNS))
    assert list(state_of(model).class_dims.values()) == [("probabilities", "mean")]
    told = gradients(model, lambda o: F.binary_cross_entropy(o, SIGNS), distil=F.binary_cross_entropy)
    assert all(torch.allclose(a, b) for a, b in zip(found, told, strict=True))


class Row(nn.Module):
    """One number for each row; in an object that calls it logits, or as it is."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.net, self.named = mlp(6, 16, 8, 1), named

    def forward(self, x: Tensor) -> Any:
        y = self.net(x).squeeze(-1)
        return SimpleNamespace(logits=y) if self.named else y


@pytest.mark.parametrize("named", [False, True])
def test_numbers_of_rows_and_objects(named: bool) -> None:
    model = surgery.wrap(Row(named), X).train()
    gradients(model, lambda o: F.mse_loss(o.logits if named else o, TARGET[:, 0]))
    assert list(state_of(model).class_dims.values()) == [("squared", "mean")]


def test_batches_of_another_size_keep_the_kind() -> None:
    model = surgery.wrap(mlp(6, 16, 8, 3), X).train()
    loss = lambda o: F.mse_loss(o, TARGET[: len(o)])  # noqa: E731
    surgery.train_step(model, X, loss)
    surgery.train_step(model, X[:1], loss)
    assert list(state_of(model).class_dims.values()) == [("squared", "mean")]


def test_half_precision() -> None:
    model = surgery.wrap(mlp(6, 16, 8, 3), X).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        surgery.train_step(model, X, lambda o: F.binary_cross_entropy_with_logits(o.float(), SIGNS))
        surgery.train_step(model, X, lambda o: F.mse_loss(o.float(), TARGET))
    assert list(state_of(model).class_dims.values()) == [("logits", "mean"), ("squared", "mean")]


class Once(torch.autograd.Function):
    """A loss of somebody's own, whose backward cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square().mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * 2 * x / x.numel()


UNCLEAR: dict[str, Loss] = {
    "weights of values": lambda o: F.binary_cross_entropy_with_logits(o, SIGNS, pos_weight=WEIGHTS),
    "weights of columns": lambda o: ((o - TARGET).square() * torch.tensor([1.0, 2.0, 3.0])).mean(),
    "any factor": lambda o: 0.7 * F.mse_loss(o, TARGET),
    "counts": lambda o: F.poisson_nll_loss(o, SOFT),
    "huber, far": lambda o: F.huber_loss(o, TARGET * 3, delta=0.5),
    "a fourth power": lambda o: (o - TARGET).pow(4).mean(),
    "a mean to be raised": lambda o: -o.mean(),
    "log-probabilities": lambda o: F.nll_loss(o.unsqueeze(0).flatten(0, 1), torch.tensor([0, 1, 2, 0, 1])),
    "angles": lambda o: 1 - F.cosine_similarity(o, TARGET).mean(),
    "triplets": lambda o: F.triplet_margin_loss(o[:1], o[1:2], o[2:3], margin=9),
    "differentiable once": Once.apply,
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_where_it_is_unclear_the_user_is_asked(name: str) -> None:
    model = surgery.wrap(mlp(6, 16, 8, 3), X).train()
    with pytest.raises(InputError, match=r"nor is it a squared or absolute error .* Pass distil="):
        surgery.train_step(model, X, UNCLEAR[name])
    assert not state_of(model).class_dims


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_of_one_value_nothing_tells_how_many_would_count(reduction: str) -> None:
    model = surgery.wrap(Row(), X).train()
    with pytest.raises(InputError, match="Pass distil="):
        surgery.train_step(model, X[:1], lambda o: F.mse_loss(o, TARGET[:1, 0], reduction=reduction))
    wide = surgery.wrap(mlp(6, 16, 8, 3), X).train()
    one = lambda o: F.mse_loss(o, TARGET[:1], reduction=reduction)  # noqa: E731
    if reduction == "sum":
        with pytest.raises(InputError, match="Pass distil="):
            surgery.train_step(wide, X[:1], one)
    else:
        surgery.train_step(wide, X[:1], one)


def test_the_kind_goes_on_after_a_break(tmp_path: Any) -> None:
    first, again = (surgery.wrap(mlp(6, 16, 8, 3), X).train() for _ in range(2))
    surgery.train_step(first, X, lambda o: F.mse_loss(o, TARGET))
    torch.save(surgery.training_state(first), tmp_path / "state.pt")
    surgery.load_training_state(again, torch.load(tmp_path / "state.pt", weights_only=True))
    assert state_of(again).class_dims == state_of(first).class_dims
