"""The proof of a small model: it runs beside the wrapped one at the same widths, and must say the same."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from surgery.errors import ProofError
from surgery.modules.copying import copy_tree, unrun
from surgery.modules.engines import computed_in
from surgery.modules.inputs import Examples
from surgery.modules.verify import TOLERANCES, compare
from surgery.plan.plan import Plan
from surgery.twin.setting import own_precision, proven_at


def prove(wrapped: nn.Module, small: nn.Module, plan: Plan, widths: dict[str, int], examples: Examples) -> float:
    """The difference between a wrapped model at `widths` and a small one. Raises ProofError where it is too large."""
    other, tolerance, (dtype, given) = unrun(small), tolerance_of(plan, wrapped), computed_in(wrapped)
    if dtype is not None:  # FSDP2 computes in another type than it keeps parameters in
        other, tolerance = _InType(other, dtype, given), TOLERANCES[dtype]
    try:
        with own_precision(wrapped), proven_at(wrapped, widths):
            return compare(
                wrapped, other, examples, tolerance, ("the wrapped model at these widths", "the shrunk model")
            )
    except ProofError as error:
        cause = error.__cause__ or error
        raise ProofError(f"the shrunk {plan.model} does not equal the wrapped one at these widths: {error}") from cause


def tolerance_of(plan: Plan, model: nn.Module) -> float | None:
    """The tolerance of the coarsest float type that the model computes in; None leaves it to the outputs' type."""
    dtypes = plan.dtypes | {parameter.dtype for parameter in model.parameters()}
    return max((TOLERANCES[dtype] for dtype in dtypes if dtype in TOLERANCES), default=None)


class _InType(nn.Module):
    """A model that computes in another float type, takes inputs of any, and may give outputs of a third one."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, given: torch.dtype | None):
        super().__init__()
        self.dtype, self.given = dtype, given
        self.model = copy_tree(model, lambda _, tensor: _cast(dtype, tensor.detach()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _all_cast(self.dtype, (args, kwargs))
        output = self.model(*args, **kwargs)
        return output if self.given is None else _all_cast(self.given, output)


def _all_cast(dtype: torch.dtype, value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, functools.partial(_cast, dtype), value)


def _cast(dtype: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
