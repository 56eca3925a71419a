"""Layers whose weights are computed by `torch.nn.utils.parametrize`: torch lets them be copied, but not pickled."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import surgery
from tests.laws import laws

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Unit(nn.Module):
    """Rows of length 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.normalize(weight, dim=-1)


def by_hand(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Unit())
    return layer


def net(norm) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(5, 8)), nn.ReLU(), norm(nn.Linear(8, 6)), nn.ReLU(), nn.Linear(6, 2))
    return model.double().eval()


NORMS = {"weight norm": parametrizations.weight_norm, "by hand": by_hand}


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_parametrized_layers_are_cut(norm) -> None:
    model = net(norm)
    plan = surgery.inspect(model, X)
    assert len(plan.groups) == 2
    wrapped = surgery.wrap(model, X)
    laws.full_width_is_the_model(model, wrapped, X)
    laws.order_is_free(model, plan, (X,), torch.Generator().manual_seed(0))
    small = laws.shrunk_is_wrapped(wrapped, plan.widths(0.5), X)
    assert type(small[0]) is type(model[0]) and parametrize.is_parametrized(small[2], "weight")


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_a_convolution_whose_channels_follow(norm) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Conv1d(3, 8, 1)), nn.ReLU(), norm(nn.Conv1d(8, 8, 3, groups=8)), nn.Conv1d(8, 2, 1))
    x = torch.randn(2, 3, 9, dtype=torch.float64)
    model = model.double().eval()
    plan = surgery.inspect(model, x)
    small = laws.shrunk_is_wrapped(surgery.wrap(model, x), plan.widths(0.5), x)
    assert len(plan.groups) == 1 and small[2].groups == 4


def test_a_twin_of_parametrized_layers_is_copied_and_not_pickled() -> None:
    wrapped = surgery.wrap(net(by_hand), X).eval()
    other = copy.deepcopy(wrapped)
    surgery.set_widths(other, 0.5)
    assert surgery.widths(other) != surgery.widths(wrapped)
    assert torch.equal(other(X), surgery.shrink(wrapped, 0.5)(X))
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(wrapped)
