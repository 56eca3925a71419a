"""Random routers: places are chosen, carried and read in many ways. Whatever is called experts can be permuted."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.plan.groups import EXPERTS
from surgery.twin.setting import plan_of

C, H, E, K, T = 5, 3, 4, 2, 20
X = torch.randn(T, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

Step = Callable[..., Any]
GATES: tuple[Step, ...] = (
    lambda logits: logits.softmax(-1),
    torch.sigmoid,
    lambda logits: F.softmax(logits, dim=1),
    lambda logits: logits,
)
# (T, E) gates to the values and places (T, K) of those that are chosen.
CHOOSE: tuple[Step, ...] = (
    lambda gates: torch.topk(gates, K, dim=-1),
    lambda gates: gates.topk(K, sorted=False),
    lambda gates: gates.max(-1, keepdim=True),
    lambda gates: (gates.gather(1, gates.argmax(1, keepdim=True)), gates.argmax(1, keepdim=True)),
    lambda gates: (gates.t().topk(K, 0)[0].t(), gates.t().topk(K, dim=0)[1].t()),
)
# Places stay what they are.
CARRY: tuple[Step, ...] = (
    lambda places: places.reshape(-1).view(places.shape),
    lambda places: places.t().t(),
    lambda places: places.unsqueeze(0).squeeze(0),
    lambda places: places.clone().contiguous(),
    lambda places: places.to(torch.int32).long(),
    lambda places: torch.stack(places.unbind(1), 1),
    lambda places: places[None].expand(2, -1, -1)[0],
)
# They do not: another order of the experts is another model.
BREAK: tuple[Step, ...] = (
    lambda places: (places + 1) % E,
    lambda places: E - 1 - places,
    lambda places: places.clamp(max=E - 2),
    lambda places: places // 2,
    lambda places: torch.where(places > 1, places, 0),
)
ALL = "tc,ech->teh"


def _indexed(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    hidden = torch.relu(torch.einsum("tc,tkch->tkh", x, net.up[places]))
    return torch.einsum("tkh,tkhc,tk->tc", hidden, net.down[places], value)


def _every(net: Any, x: Tensor) -> Tensor:
    return torch.einsum("teh,ehc->tec", torch.relu(torch.einsum(ALL, x, net.up)), net.down)


def _scattered(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    gates = torch.zeros_like(net.router(x)).scatter(1, places, value)
    return torch.einsum("te,tec->tc", gates, _every(net, x))


def _added(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    gates = x.new_zeros(T, net.experts).scatter_add(1, places, value)
    return torch.einsum("te,tec->tc", gates, _every(net, x))


def _one_hot(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    return torch.einsum("tke,tk,tec->tc", F.one_hot(places, net.experts).to(x), value, _every(net, x))


def _with_a_spare(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    mask = F.one_hot(places, net.experts + 1)[..., : net.experts].to(x)
    return torch.einsum("tke,tk,tec->tc", mask, value, _every(net, x))


def _compared(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    mask = places.unsqueeze(-1) == torch.arange(net.experts)
    return torch.einsum("tke,tk,tec->tc", mask.to(x), value, _every(net, x))


def _gathered(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    y = _every(net, x).gather(1, places.unsqueeze(-1).expand(-1, -1, C))
    return (y * value.unsqueeze(-1)).sum(1)


def _along(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    return (torch.take_along_dim(_every(net, x), places.unsqueeze(-1), 1) * value.unsqueeze(-1)).sum(1)


def _counted(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for i in range(net.experts):
        token, which = torch.where(places == i)
        made = torch.relu(x[token] @ net.up[i]) @ net.down[i]
        y = y.index_add(0, token, made * value[token, which, None])
    return y


def _balanced(net: Any, x: Tensor, value: Tensor, places: Tensor) -> Tensor:
    """More tokens make an expert weigh less."""
    load = 1 / (1 + torch.bincount(places.flatten(), minlength=net.experts).to(x))
    return _indexed(net, x, value * load[places], places)


USES = (
    _indexed, _scattered, _added, _one_hot, _with_a_spare, _compared, _gathered, _along, _counted, _balanced,
)  # fmt: skip


class Net(nn.Module):
    def __init__(self, random: Random, broken: bool):
        super().__init__()
        self.experts = E
        self.router = nn.Linear(C, E)
        self.up, self.down = nn.Parameter(torch.randn(E, C, H)), nn.Parameter(torch.randn(E, H, C))
        self.out = nn.Linear(C, 2)
        self.gate, self.choose, self.use = random.choice(GATES), random.choice(CHOOSE), random.choice(USES)
        self.steps = random.choices(CARRY, k=random.randint(0, 3))
        if broken:
            self.steps.insert(random.randint(0, len(self.steps)), random.choice(BREAK))

    def forward(self, x: Tensor) -> Tensor:
        value, places = self.choose(self.gate(self.router(x)))
        for step in self.steps:
            places = step(places)
        return self.out(x + self.use(self, x, value, places))


def permuted(net: Net, order: Tensor) -> Tensor:
    """What a net returns with its experts in another order, without the library."""
    tensors = {name: tensor.detach() for name, tensor in net.named_parameters()}
    for name in ("router.weight", "router.bias", "up", "down"):
        tensors[name] = tensors[name][order]
    return torch.func.functional_call(net, tensors, (X,))


@settings(max_examples=30)
@given(random=st.randoms(use_true_random=False), broken=st.booleans(), seed=st.integers(0, 2**16))
def test_what_is_called_experts_can_be_permuted(random: Random, broken: bool, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net(random, broken).double().eval()
    wrapped = surgery.wrap(net, X, experts=True)
    found = [name for name, group in plan_of(wrapped).groups.items() if group.kind == EXPERTS]
    assert len(found) == (not broken), [net.use, net.choose, *net.steps]
    with torch.no_grad():
        before = net(X)
        free = all(torch.allclose(before, permuted(net, torch.randperm(E))) for _ in range(3))
    assert free or not found
    for width in range(plan_of(wrapped).groups[found[0]].least, E) if found else ():
        small = surgery.shrink(wrapped, {found[0]: width})
        assert small.up.shape[0] == small.router.out_features == width
        with surgery.at_widths(wrapped, {found[0]: width}):
            surgery.verify(wrapped, small, X * 2)
