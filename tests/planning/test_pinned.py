"""What the analysis cannot follow is pinned, and said so; the rest is still exact."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.small_models import X
from tests.unchanged import unchanged


class Unruled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.trapezoid(torch.stack([x, x * 2]), dim=0)  # the line that the plan must name
        return self.fc3(torch.relu(self.fc2(x)))


class Twice(torch.autograd.Function):
    """Computes where torch does not see it."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() * 2)


class Custom(Unruled):
    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(Twice.apply(self.fc1(x)))))


class SharedTwoWays(nn.Module):
    """One tensor is (out, in) in one place, and its transpose, cut in other rows, in another."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8))
        self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(F.linear(self.first(x), self.weight))
        other = F.linear(x, self.weight.t().reshape(12, 8).t())
        return self.last(torch.relu(self.middle(F.pad(other, (0, 4)))))


class SharedLayouts(nn.Module):
    """One weight reads 3 + 5 features in one place and 2 x 4 in another."""

    def __init__(self):
        super().__init__()
        self.three, self.five, self.eight, self.inner = (
            nn.Linear(6, 3),
            nn.Linear(6, 5),
            nn.Linear(6, 8),
            nn.Linear(4, 4),
        )
        self.weight, self.middle, self.last = nn.Parameter(torch.randn(3, 8)), nn.Linear(3, 10), nn.Linear(10, 3)

    def forward(self, x):
        a = F.linear(torch.cat([self.three(x), self.five(x)], dim=1), self.weight)
        b = F.linear(self.inner(self.eight(x).view(-1, 2, 4)).flatten(1), self.weight)
        return self.last(torch.relu(self.middle((a * b).softmax(dim=1))))


@pytest.mark.parametrize(
    ("make", "reason", "elastic"),
    [
        (Unruled, r"no rule for trapezoid at test_pinned\.py:\d+", "fc2.o"),
        (Custom, r"no rule for Twice at test_pinned\.py:\d+", "fc2.o"),
        (SharedTwoWays, r"regrouped across units at reshape \(test_pinned\.py:\d+\)", "middle.o"),
        (
            SharedLayouts,
            r"two layouts of 8 features that have no common refinement meet at linear \(test_pinned",
            "middle.o",
        ),
    ],
)
def test_what_is_not_understood_is_pinned(make: Callable, reason: str, elastic: str) -> None:
    torch.manual_seed(0)
    model = make().double()
    plan = surgery.inspect(model, X.double())
    assert elastic in plan.groups
    assert any(re.search(reason, item.reason) for item in plan.fixed), plan
    with unchanged(model):
        small = surgery.shrink(model, 0.5, X.double())
        wrapped = surgery.wrap(model, X.double())
    surgery.set_widths(wrapped, 0.5)
    assert surgery.verify(wrapped, small, X.double() * 3, tolerance=1e-9) <= 1e-9
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
