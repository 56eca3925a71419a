"""A model with the units of axes in another order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.errors import ProofError
from surgery.modules.copying import copy_of
from surgery.modules.tensors import Parts, aliases
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
    """A copy of a model with the units of axes in another order.

    Modules stay where they are, and get the tensors of others: numbers that they carry are those of their places.

    Raises ProofError where that cannot be, since they differ.
    """
    moves = dict(_moves(exchange, orders))
    named = {name: parts.tensors[first] for first, names in aliases(parts).items() for name in names} if moves else {}

    def take(name: str, tensor: Tensor) -> Tensor:
        source = source_of(name, moves)
        held = tensor if source == name else named.get(source)
        if held is None or held.shape != tensor.shape:
            raise ProofError(f"{name} cannot change places with {source}, which has another shape")
        value = held.detach()
        for dim, part in enumerate(exchange.layouts.get(name, ())):
            if set(orders) & set(layout.groups(part)):
                value = value.index_select(dim, layout.positions(part, orders).to(value.device))
        return like(tensor, value)

    return copy_of(parts, take).model


def _moves(exchange: Exchange, orders: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """For each module that is a unit, the one whose tensors come to its place."""
    for name, listed in ((name, listed) for name, all_ in exchange.lists.items() for listed in all_):
        for unit, source in enumerate(orders[name].tolist() if name in orders else ()):
            yield from zip(map(listed.child, listed.units[unit]), map(listed.child, listed.units[source]), strict=True)


def source_of(name: str, moves: Mapping[str, str]) -> str:
    """What a tensor is called in the module whose tensors come to its place."""
    found = next((path for path in moves if name.startswith(f"{path}.")), None)
    return name if found is None else moves[found] + name.removeprefix(found)


def like(tensor: Tensor, value: Tensor) -> Tensor:
    grows = value.is_floating_point()
    return nn.Parameter(value, requires_grad=grows) if isinstance(tensor, nn.Parameter) else value
