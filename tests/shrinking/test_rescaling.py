"""The paper's factor, size over width: the twin applies it, a small model has it in its weights, or it is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.models import BY_NAME
from tests.small_models import X
from tests.unchanged import unchanged


@pytest.mark.parametrize("norm", [False, True])
def test_rescaling_is_size_over_width_before_the_activation(norm: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16) if norm else nn.Identity(), nn.ReLU(), nn.Linear(16, 3)
    ).double()
    if norm:
        model[1].weight.data.uniform_(0.5, 2), model[1].bias.data.normal_(), model[1].running_mean.normal_()
    x = X.double()
    wrapped = surgery.wrap(model.eval(), x, draw=surgery.paper(p=1.0, rescale=True))
    (group,) = surgery.widths(wrapped)
    for width in (1, 5, 16):
        surgery.set_widths(wrapped, {group: width})
        features = model[1](model[0](x))[:, :width] * (16 / width)
        expected = F.linear(torch.relu(features), model[3].weight[:, :width], model[3].bias)
        assert torch.allclose(wrapped(x), expected, rtol=1e-12)
        small = surgery.shrink(wrapped, {group: width})
        assert torch.allclose(small(x), expected, rtol=1e-12) and small[0].out_features == width


@pytest.mark.parametrize("name", ["mlp", "resnet_basic", "vgg", "lenet", "unet"])
def test_rescaling_survives_shrinking(name: str) -> None:
    case = BY_NAME[name]
    inputs = tuple(t.double() for t in case.inputs(0))
    wrapped = surgery.wrap(case.build().double(), inputs, draw=surgery.paper(p=1.0, rescale=True))
    plain = surgery.wrap(case.build().double(), inputs)
    for fraction in (0.25, 0.6):
        small = surgery.shrink(wrapped, fraction)
        with surgery.at_widths(wrapped, fraction):
            assert surgery.verify(wrapped, small, tuple(t.double() for t in case.inputs(1)), tolerance=1e-9) <= 1e-9
        with pytest.raises(surgery.ProofError):
            surgery.verify(small, surgery.shrink(plain, fraction), inputs)


def test_rescaling_that_cannot_be_folded_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(6, 16)), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(torch.relu(x @ self.weight))

    model, draw = Bare(), surgery.paper(rescale=True)
    with unchanged(model), pytest.raises(surgery.InputError, match=r"rescale=True cannot be folded .*.*group weight"):
        surgery.wrap(model, X, draw=draw)
