"""What a forward does to its own parameters is undone when the library ran it, also where something failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.modules.restoring import restored
from tests.unchanged import unchanged

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers a and b, and a `w` that some function of the module changes before it is used."""

    def __init__(self, change: Callable[[Any], None]):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(6, 8)
        self.w, self.change = nn.Parameter(torch.randn(8)), change
        self.table = nn.Embedding(10, 8, max_norm=0.1)
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.change(self)
        return self.b(self.a(x) * self.w + self.c(x) + self.seen)


def without_gradients(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def run(net: Any) -> None:
        with torch.no_grad():
            change(net)

    return run


def momentum(net: Any) -> None:
    for p, q in zip(net.a.parameters(), net.c.parameters(), strict=True):
        q.data = q.data * 0.9 + p.data * 0.1


def item(net: Any) -> None:
    net.w[2:] = 7


def plus(net: Any) -> None:
    net.w += 1


def set_rows(net: Any) -> None:
    net.a.weight.t()[1].zero_()
    net.a.weight.view(-1)[5:9].detach().copy_(torch.ones(4))


CHANGES: dict[str, Callable[[Any], None]] = {
    "add_": without_gradients(lambda s: s.w.add_(1)),
    "data": lambda s: s.w.data.clamp_(-0.1, 0.1),
    "assigned data": momentum,
    "item": without_gradients(item),
    "plus": without_gradients(plus),
    "out": without_gradients(lambda s: torch.mul(s.w, 2, out=s.w)),
    "views": without_gradients(set_rows),
    "inplace=True": without_gradients(lambda s: F.relu(s.w, inplace=True)),
    "several at once": without_gradients(lambda s: torch._foreach_mul_(list(s.parameters()), 0.5)),
    "operator": without_gradients(lambda s: torch.ops.aten.mul_(s.w, 2)),
    "initialised": lambda s: nn.init.normal_(s.a.weight),
    "rows of a table": lambda s: s.table(torch.arange(4)),
    "rows of a table, by function": lambda s: F.embedding(torch.arange(4), s.table.weight, None, 0.01),
    "statistics": lambda s: F.batch_norm(torch.randn(4, 8), s.seen, s.w.data, training=True),
    "under vmap": lambda s: torch.vmap(lambda row, x: row.add_(x))(s.a.weight.data, torch.ones(8)),
    "flag": lambda s: s.w.requires_grad_(False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_parameters_that_a_forward_changes_are_put_back(change: Callable[[Any], None]) -> None:
    model = Net(change)
    with unchanged(model):
        plan = surgery.inspect(model, X)
        surgery.verify(model, model, X)
        if plan.groups:
            surgery.shrink(surgery.wrap(model, X), 0.5)
            surgery.shrink(model, 0.5, X)
    with torch.random.fork_rng(devices=[]):
        model(X)
        changed = any(not torch.equal(p, q) for p, q in zip(model.parameters(), Net(change).parameters(), strict=True))
        assert changed or not model.w.requires_grad, "the model itself does change them"


def test_a_run_that_fails_leaves_parameters_as_they_were() -> None:
    def fail(net: Any) -> None:
        net.w.data.zero_()
        net.c.weight.data = torch.zeros(8, 6)
        raise ValueError("no")

    model = Net(fail)
    with unchanged(model):
        with pytest.raises(surgery.CaptureError, match="no"):
            surgery.inspect(model, X)
        with pytest.raises(surgery.ProofError, match="no"):
            surgery.verify(model, model, X)


class Merged(nn.Module):
    """As low-rank adapters do it: in eval mode the product is part of the weight, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.down, self.up, self.o = (nn.Linear(*n) for n in ((6, 8), (6, 2), (2, 8), (8, 3)))
        self.merged = False

    def train(self, mode: bool = True) -> Merged:
        super().train(mode)
        if self.merged == mode:
            self.a.weight.data += (1 if self.merged is False else -1) * self.up.weight.data @ self.down.weight.data
            self.merged = not self.merged
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(F.linear(x, self.down.weight), self.up.weight)
        return self.o(self.a(x) + y if self.training else self.a(x))


@pytest.mark.parametrize("training", [True, False])
def test_weights_that_the_mode_changes(training: bool) -> None:
    model = Merged().double().train(training)
    x = X.double()
    with unchanged(model):
        wrapped = surgery.wrap(model, x)
        surgery.verify(model, wrapped, x)
    with torch.no_grad():
        surgery.verify(model, model, x)
        assert torch.allclose(model.train()(x), model.eval()(x))


def test_tensors_are_put_back() -> None:
    tensors = [torch.zeros(10), torch.zeros(10), torch.zeros(10, device="meta"), torch.zeros(10).to_sparse()]
    memory = tensors[0].data_ptr()
    with restored(tensors):
        tensors[0].set_(torch.ones(3))
        tensors[1].add_(tensors[0].sum())
        tensors[2].add_(1)
        tensors[3].coalesce()
    assert not tensors[0].any() and not tensors[1].any() and tensors[0].data_ptr() == memory


def test_twins_add_to_their_parameters_in_place() -> None:
    model = Net(CHANGES["plus"])
    wrapped = surgery.wrap(model, X).eval()
    surgery.set_widths(wrapped, 0.5)
    before = model.w.detach().clone()
    wrapped(X)
    assert torch.equal(model.w - before, torch.tensor([1.0] * 4 + [0] * 4))
