"""The first tensor of a call by its name: what a rule knows is known of it as well."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.laws import laws


class Named(nn.Module):
    """A convolution as a user writes it, with all arguments by name."""

    def __init__(self, call):
        super().__init__()
        self.call = call
        self.stem, self.conv, self.head = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 8, 3), nn.Linear(8, 2)

    def forward(self, x):
        y = self.call(self.stem(x), self.conv)
        return self.head(y.mean(-1))


CALLS = {
    "conv": lambda y, conv: F.conv1d(input=y, weight=conv.weight, bias=conv.bias),
    "conv and softmax": lambda y, conv: conv(torch.softmax(input=y, dim=-1)),
    "conv and where": lambda y, conv: conv(torch.where(condition=y > 0, input=y, other=y.sin())),
    "conv and sum": lambda y, conv: conv(y) + torch.sum(input=y, dim=1, keepdim=True)[..., 2:],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_an_input_by_name_is_an_input(call) -> None:
    torch.manual_seed(0)
    model, x = Named(call).double(), torch.randn(2, 3, 9, dtype=torch.float64)
    plan = surgery.inspect(model, x)
    assert len(plan.groups) == 2 and plan.fixed[0].tensor == "head.bias"
    laws.shrunk_is_wrapped(surgery.wrap(model, x), plan.widths(0.5), x)


def test_an_input_that_is_no_first_argument() -> None:
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            places = torch.searchsorted(sorted_sequence=torch.linspace(-1, 1, 5).to(x), input=self.up(x))
            return self.down(places.to(x.dtype))

    model, x = Sorted().double(), torch.randn(4, 3, dtype=torch.float64)
    assert set(surgery.inspect(model, x).groups) == {"up.o"}
