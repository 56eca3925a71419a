"""Orders of importance of modules in a list."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import InputError, WidthError


class Block(nn.Module):
    """Adds a share of what it makes: blocks with a larger share matter more."""

    def __init__(self, width: int, share: float):
        super().__init__()
        self.share, self.up, self.down = share, nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.share * self.down(self.up(x).relu())


SHARES = (0.3, 0.001, 1.0, 0.01, 0.1)


def wrapped(granularity: int = 1, shares: tuple[float, ...] = SHARES) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Sequential(*(Block(8, share) for share in shares)), nn.Linear(8, 2))
    return surgery.wrap(model, torch.randn(16, 3), depth=["1"], granularity={"depth": granularity})


@pytest.mark.parametrize("by", ["iterative", "influence"])
def test_what_matters_more_stays_longer(by):
    assert surgery.depth_order(wrapped(), by=by) == {"1.depth": [2, 0, 4, 3, 1]}


def test_a_score_of_ones_own_decides():
    twin = wrapped()
    inputs = torch.randn(8, 3)
    with torch.no_grad():
        aim = inputs @ twin[0].weight.T + twin[0].bias
        aim = twin[2](twin[1][1](aim))  # as if that block alone were right

    order = surgery.depth_order(twin, validate=lambda model: -(model(inputs) - aim).square().mean())
    assert order["1.depth"][0] == 1
    assert surgery.widths(twin) == surgery.inspect(twin).full()


def test_even_orders_are_spread():
    assert surgery.depth_order(wrapped(shares=(1.0,) * 9), by="even") == {"1.depth": [0, 8, 4, 2, 6, 1, 3, 5, 7]}
    assert surgery.depth_order(wrapped(), by="last") == {"1.depth": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("by", ["iterative", "influence", "even", "last"])
@pytest.mark.parametrize("count", [4, 5])
def test_neighbours_of_one_step_go_together(by, count):
    twin = wrapped(granularity=2, shares=SHARES[:count])
    (order,) = surgery.depth_order(twin, by=by).values()
    assert sorted(order) == list(range(count))
    assert {tuple(sorted(order[i : i + 2])) for i in (0, 2)} == {(0, 1), (2, 3)}
    surgery.set_depth_order(twin, {"depth": order})
    small = surgery.shrink(twin, {"depth": 2})
    assert len(small[1]) == 2


def test_an_order_decides_what_stays():
    twin = wrapped()
    surgery.set_depth_order(twin, {"1.depth": [4, 2, 0, 1, 3]})
    small = surgery.shrink(twin, {"depth": 2})
    assert torch.equal(small[1][0].up.weight, twin[1][2].up.weight)
    assert torch.equal(small[1][1].up.weight, twin[1][4].up.weight)


def test_bad_input_changes_nothing():
    twin = wrapped()
    before = surgery.inspect(twin).groups
    for orders in ({"depth": [0, 1]}, {"depth": [0, 1, 2, 3, 3]}, {"0.o": [0, 1, 2, 3, 4, 5, 6, 7]}):
        with pytest.raises(InputError):
            surgery.set_depth_order(twin, orders)
    with pytest.raises(WidthError):
        surgery.set_depth_order(twin, {"layers.depth": [0, 1, 2, 3, 4]})
    with pytest.raises(InputError, match="iterative"):
        surgery.depth_order(twin, by="random")
    with pytest.raises(InputError, match="depth=True"):
        surgery.depth_order(surgery.wrap(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(2, 3)))
    assert surgery.inspect(twin).groups == before
