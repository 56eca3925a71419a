"""`sort`: the same model, its features in the order of their importance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.axes.layout import Sum, Unit, units
from surgery.errors import InputError
from surgery.modules.inputs import tensors
from tests.models import BY_NAME
from tests.unchanged import unchanged

NAMES = "mlp resnet_basic densenet vit_fused_qkv llama_gqa lstm_tagger tied_embeddings shufflenet_v2".split()
X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    """Six inputs, five hidden units: of sizes 3, 1, 5, 2, 4."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for unit, size in enumerate((3.0, 1.0, 5.0, 2.0, 4.0)):
            model[0].weight[unit] = size * F.normalize(model[0].weight[unit], dim=0)
            model[0].bias[unit] = size
            model[2].weight[:, unit] = size * F.normalize(model[2].weight[:, unit], dim=0)
    return model


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


CRITERIA = {
    "magnitude": lambda inputs: surgery.magnitude(),
    "absolute values": lambda inputs: surgery.magnitude(1),
    "taylor": lambda inputs: surgery.taylor([inputs], lambda model, batch: _scalar(model(*batch))),
}


def _scalar(output: Any) -> Tensor:
    return sum(t.square().mean() for t in tensors(output) if t.is_floating_point())


@pytest.mark.parametrize("by", CRITERIA)
@pytest.mark.parametrize("name", NAMES)
def test_sorting_changes_no_output_and_not_the_model(name: str, by: str) -> None:
    case = BY_NAME[name]
    model = case.build().double().eval()
    inputs = tuple(t.double() if t.is_floating_point() else t for t in case.inputs(0))
    with unchanged(model):
        found = surgery.sort(model, inputs, by=CRITERIA[by](inputs))
    assert surgery.verify(model, found, inputs) < 1e-9 and type(found) is type(model)


@pytest.mark.parametrize("by", [None, surgery.magnitude(1)])
def test_large_weights_come_first(by: Any) -> None:
    found = surgery.sort(net(), X.double(), by=by)
    assert [round(b) for b in found[0].bias.tolist()] == [5, 4, 3, 2, 1]


def test_where_batches_are_known_readers_are_asked() -> None:
    model, batches = net(), list(X.double().split(4))
    wrapped = surgery.wrap(model, X.double(), calibration=batches)
    expected = surgery.order(model, X.double(), by=surgery.absorbed(batches))
    assert torch.equal(surgery.order(wrapped)["0.o"], expected["0.o"])
    assert not torch.equal(surgery.order(model, X.double())["0.o"], expected["0.o"])


def test_each_tensor_counts_alike() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight *= 1e-3
        model[2].weight[:, 1] *= 100  # small in size, but by far the largest of its tensor
    assert round(surgery.sort(model, X.double())[0].bias[0].item()) == 1


def test_what_a_relu_cannot_tell_apart_counts_alike() -> None:
    model = net()
    scores = []
    for factor in (1.0, 100.0):
        with torch.no_grad():
            model[0].weight[1] *= factor
            model[2].weight[:, 1] /= factor
        wrapped = surgery.wrap(model, X.double())
        found = surgery.magnitude()(wrapped, surgery.inspect(wrapped))["0.o"]
        scores.append(found / found[0])
    assert torch.allclose(*scores)


class Gain(nn.Module):
    """RMSNorm, as models write it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * self.weight


class Scale(Gain):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize(
    "layer, left",
    [(nn.LayerNorm, True), (nn.RMSNorm, True), (Gain, True), (lambda n: nn.GroupNorm(1, n), True), (Scale, False),
     (nn.BatchNorm1d, False), (nn.PReLU, False), (lambda n: nn.BatchNorm1d(n, track_running_stats=False), False)],
)  # fmt: skip
def test_what_is_normalised_together_keeps_its_order(layer: Callable[[int], nn.Module], left: bool) -> None:
    """What a norm hands on has nothing to do with how large the weights before it are."""
    model = net()
    model.insert(1, layer(5).double())
    model.eval()
    wrapped = surgery.wrap(model, X.double())
    assert ("0.o" in surgery.magnitude()(wrapped, surgery.inspect(wrapped))) is not left


def test_a_unit_of_zeros_is_last() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[:, 2] = 0.0
    assert round(surgery.sort(model, X.double())[0].bias[-1].item()) == 5


def test_taylor_orders_by_what_the_loss_would_change_by() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[:, 2] = 0.0  # a large unit that nothing reads
    found = surgery.sort(model, X.double(), by=surgery.taylor(X.double().split(4), loss))
    assert round(found[0].bias[-1].item()) == 5


def test_the_score_of_taylor() -> None:
    model, batches = net(), X.double().split(4)
    expected = torch.zeros(5).double()
    for batch in batches:
        loss(model, batch).backward()
        (w, b), v = model[0].parameters(), model[2].weight
        expected += (w * w.grad).sum(1).square() + (b * b.grad).square() + (v * v.grad).sum(0).square()
        model.zero_grad()
    wrapped = surgery.wrap(model, X.double())
    assert torch.allclose(surgery.taylor(batches, loss)(wrapped, surgery.inspect(wrapped))["0.o"], expected)


def test_gradients_modes_and_widths_stay() -> None:
    wrapped = surgery.wrap(net(), X.double()).train()
    surgery.set_widths(wrapped, 0.5)
    wrapped(X.double()).sum().backward()
    with unchanged(wrapped):
        surgery.sort(wrapped, by=surgery.taylor([X.double()], loss))


def test_a_criterion_of_ones_own() -> None:
    found = surgery.sort(net(), X.double(), by=lambda wrapped, plan: {"0.o": [0, 3, 1, 4, 2]})
    assert [round(b) for b in found[0].bias.tolist()] == [2, 1, 4, 5, 3]


BAD = [
    (lambda: surgery.magnitude(0), "p is a positive number, got 0"),
    (lambda: surgery.taylor([], loss), "taylor was given no batches"),
    (lambda: lambda wrapped, plan: {"0.o": [1, 2]}, "group 0.o: scores are 5 finite numbers"),
    (lambda: lambda wrapped, plan: {"0.o": [1, 2, 3, 4, float("nan")]}, "group 0.o: scores are 5 finite numbers"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_criteria(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        surgery.sort(net(), X.double(), by=make())


def test_the_units_of_positions() -> None:
    h, d, fixed = Unit(2, "h"), Unit(3, "d"), Unit(2)
    assert units((fixed, h, d), "h").tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert units((fixed, h, d), "d").tolist() == [0, 1, 2] * 4
    assert units((Sum(((h,), (fixed,), (h, d))),), "h").tolist() == [0, 1, -1, -1, 0, 0, 0, 1, 1, 1]


def test_what_a_state_dict_does_not_hold_keeps_its_order() -> None:
    case = BY_NAME["llama_gqa"]
    model = case.build().eval()
    found = surgery.sort(model, case.inputs(0))  # no warning
    loaded = case.build().eval()
    loaded.load_state_dict(found.state_dict())
    assert surgery.verify(model, loaded, case.inputs(0)) < 1e-4


def test_tensors_in_containers_have_names_that_are_no_paths() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = {"a.b": torch.ones(5).double()}
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner[2](self.inner[1](self.inner[0](x)) * self.tables["a.b"])

    wrapped = surgery.wrap(Kept(), X.double())
    assert "inner.0.o" in surgery.magnitude()(wrapped, surgery.inspect(wrapped))
