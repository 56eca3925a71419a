"""Models on which a refit could go wrong: state between lines, layers that are called twice, dead inputs, casts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.refitting.test_refit import BATCHES, X
from tests.small_models import mlp


class Stash(nn.Module):
    """What one line leaves on the module, another reads; and a counter, and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 32), nn.Linear(32, 16), nn.Linear(48, 3)
        self.register_buffer("mean", torch.zeros(6))
        self.calls = 0

    def encode(self, x: Tensor) -> Tensor:
        self.skip = self.a(x).relu()
        return self.b(self.skip).relu()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean.mul_(0.5).add_(x.mean(0), alpha=0.5)
        return self.c(torch.cat([self.encode(x), self.skip], -1))


class Twice(nn.Module):
    """One layer at two places, of which one says other things."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.h, self.c = nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(32, 16), nn.Linear(16, 3)

    def head(self, x: Tensor) -> Tensor:
        return self.c(self.h(x.relu()).relu())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.head(self.a(x) * 0.1), self.head(3 * self.b(x.flip(-1)) + 1)])


def error(small: nn.Module, model: nn.Module) -> float:
    with torch.no_grad():
        return F.mse_loss(small(X), model(X)).item()


def test_batches_of_all_sizes_do_not_mix_on_a_model_that_keeps_things() -> None:
    torch.manual_seed(0)
    model = Stash().double().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    uneven = [X[:100], X[100:140], X[140:]]
    sorted_ = surgery.sort(model, X, by=surgery.absorbed(uneven))
    fitted = surgery.shrink(sorted_, 0.5, X, refit=uneven)
    one = surgery.shrink(sorted_, 0.5, X, refit=[X])
    assert error(fitted, model) < 1.2 * error(one, model) < 0.5 * error(surgery.shrink(sorted_, 0.5, X), model)
    surgery.nest(model, uneven, X)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items() if n != "mean")


def test_a_run_leaves_nothing_on_the_model_or_the_result() -> None:
    model = Stash().double().eval()
    fitted = surgery.shrink(model, 0.5, X, refit=BATCHES)
    surgery.order(model, X, by=surgery.absorbed(BATCHES))
    surgery.nest(model, BATCHES, X)
    for one in (model, fitted):
        assert one.calls == 0 and not one.mean.any()


def test_a_layer_that_is_called_twice_stays_a_slice() -> None:
    torch.manual_seed(0)
    model = Twice().double()
    plain, fitted = (surgery.shrink(model, {"*": 0.5}, X, refit=refit) for refit in (None, BATCHES))
    assert torch.equal(plain.h.weight, fitted.h.weight) and torch.equal(plain.c.weight, fitted.c.weight)


def test_a_bias_of_two_layers_stays() -> None:
    model = mlp(6, 16, 16, 3).double()
    model[2].bias = model[0].bias
    plain, fitted = (surgery.shrink(model, 0.5, X, refit=refit) for refit in (None, BATCHES))
    assert torch.equal(plain[0].bias, fitted[0].bias) and torch.equal(plain[2].weight, fitted[2].weight)
    assert not torch.equal(plain[4].weight, fitted[4].weight)


def test_inputs_that_are_all_zero_or_no_numbers() -> None:
    model = mlp(6, 16, 8, 3).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1.0)
    surgery.sort(model, X, by=surgery.absorbed(BATCHES))
    surgery.shrink(model, 0.5, X, refit=BATCHES)
    broken = [X.clone() for _ in range(2)]
    broken[1][0, 0] = torch.nan
    whole = mlp(6, 16, 8, 3).double()
    with pytest.raises(surgery.InputError, match="is given NaN or infinity on these batches"):
        surgery.shrink(whole, 0.5, X, refit=broken)
    with pytest.raises(surgery.InputError, match="is given NaN or infinity on these batches"):
        surgery.order(whole, X, by=surgery.absorbed(broken))


def test_a_draw_that_scales_weights_and_a_refit_exclude_each_other() -> None:
    wrapped = surgery.wrap(mlp(6, 16, 3).double(), X, draw=surgery.paper(rescale=True))
    for call in (lambda: surgery.shrink(wrapped, 0.5, refit=BATCHES), lambda: surgery.nest(wrapped, BATCHES)):
        with pytest.raises(surgery.InputError, match="rescale=True"):
            call()


def test_casts_hold_in_every_run() -> None:
    model = mlp(6, 16, 3)
    model[0].bfloat16()
    x = X[:64].float()
    with torch.autocast("cpu", torch.bfloat16):
        surgery.shrink(model, 0.5, x, refit=[x, x])


class Shared(nn.Module):
    """A weight that is a layer's, and is used by other calls, in one of the ways of Python."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.k = nn.Linear(6, 32), nn.Linear(32, 16, bias=False), nn.Linear(6, 16)
        self.o, self.way = nn.Linear(48, 3), way

    def forward(self, x: Tensor) -> Tensor:
        z = self.b(self.a(x).relu())
        return self.o(torch.cat([F.linear(self.k(x), self.way(self.b.weight)), z], -1))


@pytest.mark.parametrize(
    "way",
    [lambda w: w.T, lambda w: w.mT, lambda w: w.t(), lambda w: w.data.t(), lambda w: torch.cat([w, w])[:16].t(),
     lambda w: torch.stack([w, w]).mean(0).t()],
)  # fmt: skip
def test_a_weight_that_is_used_again_stays_a_slice(way: Callable[[Tensor], Tensor]) -> None:
    model = Shared(way).double()
    plain, fitted = (surgery.shrink(model, {"a.o": 16}, X, refit=refit) for refit in (None, BATCHES))
    assert torch.equal(plain.b.weight, fitted.b.weight)


def test_a_bias_of_an_odd_shape_is_no_site() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.w, self.b = nn.Linear(6, 16), nn.Parameter(torch.randn(16, 3)), nn.Parameter(torch.zeros(1, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.b, self.a(x).relu(), self.w)

    model = Odd().double()
    surgery.shrink(model, 0.5, X, refit=BATCHES)
