"""Slices of frozen tensors, as attributes give them outside of forwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from surgery.errors import InputError

FLAG = (
    "below full width an attribute gives a slice, and to set its requires_grad would not reach the parameter: use "
    "requires_grad_() of the module, or the tensors of parameters()"
)


class Slice(Tensor):
    """A slice of a frozen tensor, outside of forwards: a tensor in all, but that its flag is not the parameter's."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def requires_grad(self) -> bool:
        return self.as_subclass(Tensor).requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        raise InputError(FLAG)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        raise InputError(FLAG)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)
