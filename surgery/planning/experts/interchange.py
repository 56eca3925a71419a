"""Whether the units of axes are interchangeable, by experiment: they are permuted, and nothing may change."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from surgery.axes.layout import Layout
from surgery.errors import ProofError
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Inputs
from surgery.modules.outputs import picked
from surgery.modules.tensors import Parts
from surgery.modules.verify import Output, WithoutDropout, difference, proving
from surgery.nested import all_tensors
from surgery.planning.experts.exchange import ALLOWED, Exchange, like, permuted
from surgery.planning.experts.reaching import Reach

TRIALS, MOST = 3, 10  # with other weights each; more where not every unit was reached
SEED = 0


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
        doubled = copy_of(self.parts, lambda _, tensor: like(tensor, _precise(tensor, True))).model
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
        try:
            _try(experiment, exchange, trial, unreached)
        except ProofError as error:
            return f"its units are not interchangeable: with another order of them, {error}"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            return f"on other weights, with its units in another order, the model does not run ({told})"
        unreached = {name: units for name, units in unreached.items() if units}
        if trial + 1 >= TRIALS and not unreached:
            return None
    few = sorted(next(iter(unreached.values())))[:5]
    return (
        f"the example inputs do not reach every unit ({', '.join(map(str, few))}, ...), so that nothing tells whether "
        "they are interchangeable (give more inputs: surgery.batches([...]))"
    )


def _try(experiment: Experiment, exchange: Exchange, trial: int, unreached: dict[str, set[int]]) -> None:
    """One draw of weights, one order. What is reached goes from `unreached`. Raises ProofError where outputs differ."""
    generator = torch.Generator().manual_seed(SEED + trial)
    draw = _Drawn(generator, (1 + trial) / 2, exchange.layouts, experiment.double)
    orders = {name: _order(size, generator) for name, size in exchange.sizes.items()}
    drawn = copy_of(experiment.parts, draw)
    moved = permuted(drawn, exchange, orders)
    for training in experiment.modes:
        with proving(drawn.model, moved, training=training) as output:

            def given(model: nn.Module, run: Inputs, output: Output = output) -> object:
                return picked(output(model, run), experiment.names)

            for run in map(_doubled, experiment.runs) if experiment.double else experiment.runs:
                with WithoutDropout(), _Undrawn(), _Coarsest() as coarsest:
                    before = given(drawn.model, run)
                    _check_finite(before)
                    difference(before, given(moved, run), ALLOWED[coarsest.dtype])
                if any(unreached.values()) and not training:
                    Reach(drawn, exchange, orders, functools.partial(given, run=run)).strike(unreached)


def _order(size: int, generator: torch.Generator) -> Tensor:
    """A permutation that moves every unit."""
    order = torch.randperm(size, generator=generator)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def _precise(tensor: Tensor, double: bool) -> Tensor:
    value = tensor.detach().clone()
    return value.double() if double and tensor.is_floating_point() else value


@dataclass(frozen=True)
class _Drawn:
    """Weights around a model's own ones, so many times as far off as they lie apart; and other tensors that have the

    axes, a bit larger.
    """

    generator: torch.Generator
    far: float
    layouts: Mapping[str, tuple[Layout, ...]]
    double: bool

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        value = _precise(tensor, self.double)
        if not tensor.is_floating_point():
            return value
        if isinstance(tensor, nn.Parameter):
            spread = float(value.std()) if value.numel() > 1 else 0.0
            width = spread or (1 / math.sqrt(value.shape[-1]) if value.dim() > 1 else 0.2)
            noise = torch.randn(value.shape, generator=self.generator, dtype=torch.double) * width * self.far
            return like(tensor, value + noise.to(value))
        if name not in self.layouts:
            return value
        noise = torch.rand(value.shape, generator=self.generator, dtype=torch.double).to(value)
        return value + 0.1 * noise * (1 + value.abs())


def _check_finite(output: object) -> None:
    """Raises ArithmeticError where an output holds NaN or infinity, which are equal to themselves and show nothing."""
    for tensor in all_tensors(output, {}, {}):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArithmeticError("its output holds NaN or infinity")


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
