"""Layers with experts may be left out, though it depends on data which of these a token is sent to."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.planning.listed.decided import Decided
from surgery.twin.setting import plan_of
from tests.laws import laws
from tests.planning.experts import lists, mixtures
from tests.planning.experts.mixtures import C

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OTHER = torch.randn(17, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MIXTURES = (mixtures.Hit, mixtures.Grouped, lists.Masked, lists.HitAlone, lists.Named, lists.ByMask, lists.Weighed)


def stack(mixture: type[mixtures.Mixture], depth: int = 4) -> nn.Module:
    class Layer(mixture):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            del self.embed, self.out

        def forward(self, x: Tensor) -> Tensor:
            return x + self.mix(x)

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Linear(3, C), nn.Linear(C, 2)
            self.layers = nn.ModuleList(Layer() for _ in range(depth))

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            for layer in self.layers:
                x = layer(x)
            return self.out(x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Stack().double().eval()


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda cls: cls.__name__)
def test_depth_and_experts_together(mixture: type[mixtures.Mixture]) -> None:
    model = stack(mixture)
    wrapped = surgery.wrap(model, X, depth=True, experts=True)
    plan = plan_of(wrapped)
    depth = plan.groups["layers.depth"]
    experts = [name for name, group in plan.groups.items() if group.kind == "experts"]
    assert (depth.size, depth.least, depth.stays) == (4, 1, ()) and len(experts) == 4
    laws.everything_is_accounted_for(plan, model)
    laws.full_width_is_the_model(model, wrapped, (X,))
    for layers, width in itertools.product((1, 3), (2, 4)):
        widths = {**plan.full(), "layers.depth": layers, **dict.fromkeys(experts, width)}
        small = laws.shrunk_is_wrapped(wrapped, widths, (OTHER,))
        assert len(small.layers) == layers
        laws.gradients_stay_inside(wrapped, widths, (OTHER,))
        stacked = issubclass(mixture, mixtures.Stacked)  # how the work of these is counted depends on data
        laws.cost_is_counted(wrapped, small, widths, (X,), macs=not stacked)


def test_what_a_layer_hands_on_of_its_choice_keeps_it() -> None:
    """The last layer sends tokens where the first one has sent them."""

    class Following(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Sending() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            chosen = None
            for layer in self.layers:
                x, chosen = layer(x, chosen)
            return x

    class Sending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.up = nn.Linear(3, 4), nn.Linear(3, 3)

        def forward(self, x: Tensor, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
            chosen = self.router(x).argmax(-1) if chosen is None else chosen
            (token,) = torch.where(chosen == 0)
            return x.index_add(0, token, self.up(x[token])), chosen

    plan = surgery.inspect(Following().double().eval(), X, depth=True)
    assert all(0 in group.stays for group in plan.groups.values() if group.kind == "depth")


@pytest.mark.parametrize("choose", [lambda x: x.topk(2, -1)[1], lambda x: x.argmax(1), lambda x: x.max(-1)[1]])
def test_what_is_decided_depends_on_shapes_alone(choose) -> None:
    with Decided():
        one, other = choose(X.exp()), choose(-X)
    assert torch.equal(one, other) and set(one.flatten().tolist()) == {0, 1, 2}
    assert not torch.equal(choose(X), choose(-X))
    if one.dim() == 2:
        assert bool((one[:, 0] != one[:, 1]).all())
