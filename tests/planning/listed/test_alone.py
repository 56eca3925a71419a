"""Code in which the place of a module matters: what is right without half of them may be wrong without one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.models.init import randomise
from tests.planning.listed.search import searched
from tests.planning.listed.test_chains import Block, D, N, Residual

SCALES = np.linspace(0.5, 2.0, N)
TABLE = [torch.tensor(scale) for scale in SCALES]
X = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(0))


class Flipped(Residual):
    """A call that only some turns make."""

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i % 2:
                x = x.flip(-1)
        return self.head(x)


class Between(Residual):
    """An activation between blocks: none after the last."""

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = x.tanh()
        return self.head(x)


class LastApart(Residual):
    """An activation after all but the last, which is called behind the loop."""

    def forward(self, x: Tensor) -> Tensor:
        *body, last = self.layers
        for layer in body:
            x = layer(x).tanh()
        return self.head(last(x))


class Middle(Residual):
    """Something in the middle."""

    def forward(self, x: Tensor) -> Tensor:
        half = len(self.layers) // 2
        for layer in self.layers[:half]:
            x = layer(x)
        x = x.tanh()
        for layer in self.layers[half:]:
            x = layer(x)
        return self.head(x)


class EveryOther(Residual):
    """First every other one, then the others."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.layers[::2], *self.layers[1::2]):
            x = layer(x)
        return self.head(x)


class Swapped(Residual):
    """The first and the last change places."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self.layers)
        layers[0], layers[-1] = layers[-1], layers[0]
        for layer in layers:
            x = layer(x)
        return self.head(x)


class SecondHalfFirst(Residual):
    def forward(self, x: Tensor) -> Tensor:
        half = len(self.layers) // 2
        for layer in (*self.layers[half:], *self.layers[:half]):
            x = layer(x)
        return self.head(x)


class Picked(Residual):
    """States of some places are results."""

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        states = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in (1, 3):
                states.append(x)
        return self.head(x), states


class HalfWay(Residual):
    """The state in the middle is read again."""

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return self.head(states[-1] + states[len(states) // 2])


class FromArray(Residual):
    """A constant for each place, made by what torch does not show."""

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x) * torch.from_numpy(SCALES[i : i + 1]).to(x)
        return self.head(x)


class FromFile(Residual):
    """A constant for each place, in the file beside the model."""

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x) * TABLE[i].to(x)
        return self.head(x)


REQUIRED = {
    Flipped: {0, 1, 2}, Between: {3}, LastApart: {3}, Middle: {0, 2, 3}, EveryOther: {0, 1, 2}, Swapped: {0, 3},
    SecondHalfFirst: {0, 2, 3}, Picked: {0, 1}, HalfWay: {0, 1, 2}, FromArray: {0, 1, 2}, FromFile: {0, 1, 2},
}  # fmt: skip


@pytest.mark.parametrize("model", REQUIRED)
def test_modules_whose_place_matters_stay(model: type[Residual]) -> None:
    found, _ = searched(model(), X)
    assert set(found["layers.depth"].required) == REQUIRED[model]


class Gone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("model", [Middle, Swapped, SecondHalfFirst, HalfWay])
def test_without_those_that_may_go_it_is_the_model_in_which_they_hand_on(model: type[Residual]) -> None:
    """Any of them, alone and together."""
    net = randomise(model()).double().eval()
    x = X.double()
    wrapped = surgery.wrap(net, x, depth=True).eval()
    free = sorted(set(range(N)) - REQUIRED[model])
    for count in range(1, len(free) + 1):
        for gone in itertools.combinations(free, count):
            handing = randomise(model()).double().eval()
            for i in gone:
                handing.layers[i] = Gone()
            surgery.set_depth_order(wrapped, {"layers.depth": [i for i in range(N) if i not in gone] + list(gone)})
            small = surgery.shrink(wrapped, {"layers.depth": N - count}, recalibrate=False)
            assert all(isinstance(layer, Block) for layer in small.layers)
            torch.testing.assert_close(small(x), handing(x), rtol=0, atol=1e-9)
