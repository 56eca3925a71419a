"""Which units of axes a run reaches, told by what its outputs depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.errors import ProofError
from surgery.modules.tensors import Parts
from surgery.modules.verify import difference, proving
from surgery.nested import all_tensors
from surgery.plan.groups import Listed
from surgery.planning.experts.exchange import ALLOWED, Exchange, permuted


@dataclass(frozen=True)
class Reach:
    """What of axes a run of a model reaches, told by what its outputs depend on."""

    parts: Parts
    exchange: Exchange
    orders: Mapping[str, Tensor]
    output: Callable[[nn.Module], object]

    def strike(self, unreached: dict[str, set[int]]) -> None:
        """Strike from `unreached` the units whose every tensor the outputs depend on."""
        names = [name for name, units in unreached.items() if units]
        inside = {name: _inside(self.parts, self.exchange.lists.get(name, ())) for name in names}
        wanted = {tensor for name in names for tensor, _ in self.exchange.cuts(name)} & set(self.parts.parameters)
        gradients = self.gradients(wanted.union(*(tensors for units in inside.values() for tensors in units)))
        for name in names:
            reached = set(unreached[name])
            for tensor, dim in self.exchange.cuts(name):
                if tensor in gradients:
                    reached &= self.units(name, tensor, dim, gradients[tensor])
            for unit, tensors in enumerate(inside[name]):
                found = [gradients[one] for one in tensors]
                if not any(gradient is not None and bool(gradient.any()) for gradient in found):
                    reached.discard(unit)
            unreached[name] -= reached

    def gradients(self, names: Set[str]) -> dict[str, Tensor | None]:
        """The gradients of parameters, of a sum of what the model returns."""
        ordered = sorted(names)
        with torch.enable_grad():
            made = [t for t in all_tensors(self.output(self.parts.model), {}, {}) if t.is_floating_point()]
            total = sum((t.double() * _weights(t)).sum() for t in made if t.requires_grad)
            if not isinstance(total, Tensor):
                raise ProofError("nothing that it returns has a gradient, which would tell what is reached")
            found = torch.autograd.grad(total, [self.parts.parameters[name] for name in ordered], allow_unused=True)
        return dict(zip(ordered, found, strict=True))

    def units(self, name: str, tensor: str, dim: int, gradient: Tensor | None) -> set[int]:
        """The units of a tensor that are reached; where it has no gradient, all or none."""
        if gradient is None:
            alone = Exchange(self.exchange.sizes, {tensor: self.exchange.layouts[tensor]})
            moved = permuted(self.parts, alone, {name: self.orders[name]})
            with proving(moved):
                return set(range(self.exchange.sizes[name])) if self.differ(moved) else set()
        others = [i for i in range(gradient.dim()) if i != dim]
        there = (gradient != 0).sum(others) > 0 if others else gradient != 0
        return set(layout.units(self.exchange.layouts[tensor][dim], name)[there.cpu()].tolist())

    def differ(self, moved: nn.Module) -> bool:
        try:
            difference(self.output(self.parts.model), self.output(moved), ALLOWED[torch.float32])
        except ProofError:
            return True
        return False


def _weights(tensor: Tensor) -> Tensor:
    drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return drawn.to(tensor.device)


def _inside(parts: Parts, lists: Sequence[Listed]) -> list[list[str]]:
    """For each unit, the parameters of the modules that it is made of."""
    count = len(lists[0].units) if lists else 0
    prefixes = [
        tuple(f"{listed.child(child)}." for listed in lists for child in listed.units[unit]) for unit in range(count)
    ]
    return [[name for name in parts.parameters if name.startswith(prefix)] for prefix in prefixes]
