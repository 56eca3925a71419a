"""Autograd functions, recorded by what their forward does.

Torch shows a `torch.autograd.Function` as one call. Its forward is run here as `apply` runs it without gradients, so
that each call inside is seen. A forward may also do what torch does not show: hand memory to a kernel of its own, or
go through numpy. So what was recorded is run once more, and must come out the same; else nothing is known.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import Function
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """What a forward is given to keep things in for the backward pass."""

    def __init__(self, args: Iterable[Any]):
        self.needs_input_grad = tuple(isinstance(arg, Tensor) and arg.requires_grad for arg in args)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return getattr(self, "to_save", ())


def run(cls: Any, args: Any, kwargs: Any, aside: Callable[[], Any]) -> Any:
    """What `cls.apply` gives without gradients. What is kept for the backward pass is made inside of `aside`."""
    if torch._C._are_functorch_transforms_active():
        raise NotImplementedError("under vmap and its kin a function is another one")
    if cls.setup_context is Function.setup_context:
        context = Context(args)
        result = cls.forward(context, *args, **kwargs)
    else:
        bound = inspect.signature(cls.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        args, context = bound.args, Context(bound.args)
        result = cls.forward(*args)
        with aside():
            cls.setup_context(context, args, result)
    dirty = getattr(context, "dirty_tensors", None) or ()
    given = {id(arg) for arg in args} - {id(tensor) for tensor in dirty}
    several = isinstance(result, tuple)
    outputs = [
        value.view_as(value) if isinstance(value, Tensor) and id(value) in given else value
        for value in (result if several else (result,))
    ]
    return tuple(outputs) if several else outputs[0]


# Their results hold whatever was in memory: a kernel that torch does not show may be about to fill them.
_UNFILLED = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"}


def repeated(nodes: Iterable[fx.Node], values: dict[fx.Node, Any], modules: Callable[[str], Any]) -> None:
    """Run recorded calls again. `values` holds those of earlier nodes, and gets those of `nodes`."""
    for node in nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda earlier: values[earlier])
        target: Any = modules(str(node.target)) if node.op == "call_module" else node.target
        values[node] = value = target(*args, **kwargs)
        if getattr(target, "__name__", "").partition(".")[0] in _UNFILLED:
            value.fill_(float("nan") if value.is_floating_point() or value.is_complex() else 1)


def alike(one: Tensor, other: Any) -> bool:
    """Whether two tensors hold the same values."""
    if not isinstance(other, Tensor) or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return one.is_meta or torch.allclose(one, other, equal_nan=True)
