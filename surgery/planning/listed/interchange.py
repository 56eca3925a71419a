"""Whether the units of axes are interchangeable, by experiment: they are permuted, and nothing may change."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.errors import ProofError
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Inputs
from surgery.modules.outputs import picked
from surgery.modules.tensors import Parts
from surgery.modules.verify import Output, WithoutDropout, difference, proving
from surgery.nested import all_tensors
from surgery.plan.groups import Listed

TRIALS, MOST = 3, 10  # with other weights each; more where not every unit was reached
SEED = 0
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


@dataclass(frozen=True)
class Experiment:
    """A model, and what it is run on.

    Attributes:
        names: the parts that count of what it returns; none where all do.
        modes: whether it runs in training mode, for each mode to try.
    """

    parts: Parts
    runs: Sequence[Inputs]
    names: Sequence[str] = ()
    modes: Sequence[bool] = (False,)

    @functools.cached_property
    def double(self) -> bool:
        """Whether it runs in double precision. Some kernels do not."""
        doubled = copy_of(self.parts, lambda _, tensor: _like(tensor, _precise(tensor, True))).model
        try:
            with proving(doubled) as output:
                for run in map(_doubled, self.runs):
                    output(doubled, run)
        except Exception:
            return False
        return True


def refused(experiment: Experiment, exchange: Exchange) -> str | None:
    """Why the units of axes are not interchangeable; None where they are.

    The model runs on weights that are drawn around its own ones, so that no two units are alike; then again with its
    units permuted. That must change nothing of what it returns. What no run reaches shows nothing, so each unit must
    have been reached.
    """
    if any(tensor.is_meta for tensor in experiment.parts.tensors.values()):
        return "its tensors hold no values, so that it cannot be tried"
    unreached = {name: set(range(size)) for name, size in exchange.sizes.items()}
    for trial in range(MOST):
        generator = torch.Generator().manual_seed(SEED + trial)
        try:
            _try(experiment, exchange, generator, unreached)
        except ProofError as error:
            return f"its units are not interchangeable: with another order of them, {error}"
        except Exception as error:
            return f"with another order of its units, the model does not run ({type(error).__name__}: {error})"
        unreached = {name: units for name, units in unreached.items() if units}
        if trial + 1 >= TRIALS and not unreached:
            return None
    few = sorted(next(iter(unreached.values())))[:5]
    return (
        f"the example inputs do not reach every unit ({', '.join(map(str, few))}, ...), so that nothing tells whether "
        "they are interchangeable (give more inputs: surgery.batches([...]))"
    )


def _try(
    experiment: Experiment, exchange: Exchange, generator: torch.Generator, unreached: dict[str, set[int]]
) -> None:
    """One draw of weights, one order. What is reached goes from `unreached`. Raises ProofError where outputs differ."""
    orders = {name: _order(size, generator) for name, size in exchange.sizes.items()}
    drawn = copy_of(experiment.parts, functools.partial(_drawn, generator, exchange.layouts, experiment.double))
    moved = permuted(drawn, exchange, orders)
    for training in experiment.modes:
        with proving(drawn.model, moved, training=training) as output:

            def given(model: nn.Module, run: Inputs, output: Output = output) -> object:
                return picked(output(model, run), experiment.names)

            for run in map(_doubled, experiment.runs) if experiment.double else experiment.runs:
                with WithoutDropout(), _Undrawn(), _Coarsest() as coarsest:
                    before = given(drawn.model, run)
                    difference(before, given(moved, run), ALLOWED[coarsest.dtype])
                if any(unreached.values()) and not training:
                    _Reach(drawn, exchange, orders, functools.partial(given, run=run)).strike(unreached)


def permuted(parts: Parts, exchange: Exchange, orders: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with the units of axes in another order."""

    def take(name: str, tensor: Tensor) -> Tensor:
        value = tensor.detach()
        for dim, part in enumerate(exchange.layouts.get(name, ())):
            if set(orders) & set(layout.groups(part)):
                value = value.index_select(dim, layout.positions(part, orders).to(value.device))
        return _like(tensor, value)

    made = copy_of(parts, take)
    for name, listed in ((name, listed) for name, all_ in exchange.lists.items() for listed in all_):
        children = made.modules[listed.path]._modules
        before = dict(children)
        for unit, source in enumerate(orders[name].tolist()):
            for one, other in zip(listed.units[unit], listed.units[source], strict=True):
                children[one] = before[other]
    return made.model


def _order(size: int, generator: torch.Generator) -> Tensor:
    """A permutation that moves every unit."""
    order = torch.randperm(size, generator=generator)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def _precise(tensor: Tensor, double: bool) -> Tensor:
    value = tensor.detach().clone()
    return value.double() if double and tensor.is_floating_point() else value


def _drawn(
    generator: torch.Generator, layouts: Mapping[str, tuple[Layout, ...]], double: bool, name: str, tensor: Tensor
) -> Tensor:
    """Weights around a model's own ones, and other tensors that have the axes, a bit larger."""
    value = _precise(tensor, double)
    if not tensor.is_floating_point():
        return value
    if isinstance(tensor, nn.Parameter):
        spread = float(value.std()) if value.numel() > 1 else 0.0
        width = 0.5 * spread if spread else 1 / math.sqrt(value.shape[-1]) if value.dim() > 1 else 0.1
        noise = torch.randn(value.shape, generator=generator, dtype=torch.double) * width
        return _like(tensor, value + noise.to(value))
    if name not in layouts:
        return value
    noise = torch.rand(value.shape, generator=generator, dtype=torch.double).to(value)
    return value + 0.1 * noise * (1 + value.abs())


def _like(tensor: Tensor, value: Tensor) -> Tensor:
    grows = value.is_floating_point()
    return nn.Parameter(value, requires_grad=grows) if isinstance(tensor, nn.Parameter) else value


def _doubled(run: Inputs) -> Inputs:
    def doubled(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else copy.copy(leaf)

    return Inputs(*pytree.tree_map(doubled, (run.args, run.kwargs)))


_DRAWS = frozenset("rand randn rand_like randn_like uniform_ normal_ exponential_ bernoulli bernoulli_".split())


class _Undrawn(TorchFunctionMode):
    """What is drawn is the same everywhere: draws by position would tell units apart."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.fill_(0.5) if getattr(func, "__name__", "") in _DRAWS else result


class _Coarsest(TorchFunctionMode):
    """The coarsest float type of what calls make inside: it bounds what can be told apart."""

    dtype = torch.float64

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and ALLOWED.get(result.dtype, 0.0) > ALLOWED[self.dtype]:
            self.dtype = result.dtype
        return result


@dataclass(frozen=True)
class _Reach:
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
    drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.double)
    return drawn.to(tensor.device)


def _inside(parts: Parts, lists: Sequence[Listed]) -> list[list[str]]:
    """For each unit, the parameters of the modules that it is made of."""
    count = len(lists[0].units) if lists else 0
    prefixes = [
        tuple(f"{listed.child(child)}." for listed in lists for child in listed.units[unit]) for unit in range(count)
    ]
    return [[name for name in parts.parameters if name.startswith(prefix)] for prefix in prefixes]
