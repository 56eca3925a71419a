"""A model with the units of axes in another order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.modules.copying import copy_of
from surgery.modules.tensors import Parts
from surgery.plan.groups import Listed

# Differences allowed, by the coarsest float type that took part: nothing but the order of sums may differ.
ALLOWED = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-2, torch.bfloat16: 8e-2}


@dataclass(frozen=True)
class Exchange:
    """Axes whose units are permuted, each on its own; and what moves with them.

    Attributes:
        sizes: how many units each has.
        layouts: the dimensions of the tensors that have some of the axes.
        lists: the modules that are units of them.
    """

    sizes: Mapping[str, int]
    layouts: Mapping[str, tuple[Layout, ...]]
    lists: Mapping[str, tuple[Listed, ...]] = field(default_factory=dict)

    def cuts(self, name: str) -> Iterator[tuple[str, int]]:
        """The tensors that have an axis, and in which dimension."""
        for tensor, dims in self.layouts.items():
            yield from ((tensor, i) for i, dim in enumerate(dims) if name in layout.groups(dim))


def permuted(parts: Parts, exchange: Exchange, orders: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with the units of axes in another order."""

    def take(name: str, tensor: Tensor) -> Tensor:
        value = tensor.detach()
        for dim, part in enumerate(exchange.layouts.get(name, ())):
            if set(orders) & set(layout.groups(part)):
                value = value.index_select(dim, layout.positions(part, orders).to(value.device))
        return like(tensor, value)

    made = copy_of(parts, take)
    for name, listed in ((name, listed) for name, all_ in exchange.lists.items() for listed in all_):
        children = made.modules[listed.path]._modules
        before = dict(children)
        for unit, source in enumerate(orders[name].tolist()):
            for one, other in zip(listed.units[unit], listed.units[source], strict=True):
                children[one] = before[other]
    return made.model


def like(tensor: Tensor, value: Tensor) -> Tensor:
    grows = value.is_floating_point()
    return nn.Parameter(value, requires_grad=grows) if isinstance(tensor, nn.Parameter) else value
