"""What real architectures asked for, each in the smallest model that asks for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws import laws


class Pooled(nn.Module):
    """It pools positions in a picture of positions and features (Funnel)."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)[:, None]
        y = F.avg_pool2d(y, (2, 1), stride=(2, 1), ceil_mode=True) + F.max_pool2d(y, [2, 1], ceil_mode=True)
        return self.down(y[:, 0])


class Mixture(nn.Module):
    """Two sorts of heads, two of each; the code takes the numbers of both for one (ConvBERT)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 2, 3
        self.one, self.other, self.out = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x).view(len(x), -1, self.width)
        other = self.other(x).view(len(x), self.heads, self.width).tanh()
        return self.out(torch.cat([one, other], 1).view(len(x), self.heads * self.width * 2))


class Outer(nn.Module):
    """Products in which nothing is summed, or a single term: torch does no matmul for them (XLNet, Longformer)."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        outer = torch.einsum("bi,bd->bid", x, y).sum(1)
        single = torch.einsum("bik,bdk->bid", x[..., None], y[..., None]).mean(1)
        return self.down(torch.einsum("bd,bd->bd", outer, single)) + torch.einsum("b...,...b->b...", x, x.mT)[:, :2]


CASES = {
    "products without a sum": (Outer, (4, 3), {"up.o": 6}),
    "pooled in one direction": (Pooled, (2, 5, 3), {"up.o": 6}),
    "sizes that agree by chance": (
        lambda: nn.Sequential(*(Mixture() for _ in range(6))),
        (4, 5),
        {"0.one.o.0": 2, "0.one.o.1": 3, "0.other.o.0": 2, "3.other.o.0": 2, "5.one.o.1": 3},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_is_elastic_and_exact(case: tuple) -> None:
    make, shape, groups = case
    torch.manual_seed(0)
    model = make().double().eval()
    plan = laws.all_laws(model, (torch.randn(shape).double(),), (torch.randn(shape).double(),), seed=0)
    assert {name: plan.groups[name].size for name in groups} == groups


def test_every_axis_may_have_another_width() -> None:
    """Sizes are compared at widths at which no two axes are alike: of two units each, half of the draws are."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Mixture() for _ in range(12))).double()
    x = torch.randn(4, 5).double()
    wrapped = surgery.wrap(model, x)
    plan = surgery.inspect(wrapped)
    assert sorted(plan.rewrites, key=int) == [str(i) for i in range(12)]
    for i in range(12):
        laws.shrunk_is_wrapped(wrapped, {**plan.full(), f"{i}.other.o.0": 1}, x)
