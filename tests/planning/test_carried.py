"""What a forward assigns in the place of a tensor has the dimensions of that: the next forward reads it there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).double()


class Recurrent(nn.Module):
    """Starts from a table of zeros; each forward puts its own state there."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.i, self.h, self.out = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 8)
        start: Any = {"h": torch.zeros(6).double()} if way == "dict" else torch.zeros(6).double()
        self.way = way
        if way == "buffer":
            self.register_buffer("state", start)
        else:
            self.state = start

    def forward(self, x: Tensor) -> Tensor:
        h = self.i(x) + self.h(self.state["h"] if self.way == "dict" else self.state)
        new = h.tanh().mean(0).detach()
        if self.way == "dict":
            self.state["h"] = new
        else:
            self.state = new
        return x + self.out(h.relu())


@pytest.mark.parametrize("way", ["buffer", "attribute", "dict"])
def test_a_state_that_starts_as_a_table_is_as_wide_as_what_follows_it(way: str) -> None:
    model = Recurrent(way).double()
    wrapped = surgery.wrap(model, X).eval()
    for width in (1, 3):
        with surgery.at_widths(wrapped, 1.0):
            wrapped.load_state_dict(model.state_dict())
        small = surgery.shrink(wrapped, dict.fromkeys(surgery.inspect(model, X).groups, width))
        with surgery.at_widths(wrapped, dict.fromkeys(surgery.inspect(model, X).groups, width)):
            for i in range(3):
                assert (wrapped(X + i) - small(X + i)).abs().max() <= EXACT * 10
