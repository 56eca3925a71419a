"""Copies of a module tree that share, or replace, its parameters and buffers."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from surgery.errors import CaptureError
from surgery.tensors import Parts, parts_of
from surgery.tree import named_modules


def copy_tree(
    model: nn.Module, replace: Callable[[str, torch.Tensor], torch.Tensor], shared: Mapping[int, Any] | None = None
) -> nn.Module:
    """A new module tree in which each named tensor is what `replace(name, tensor)` gives.

    Everything else is copied deeply, apart from objects in `shared` (by id), for which their values stand.
    Tensors with a history, which a forward has stored on modules, are copied without it.
    Raises CaptureError where a module holds something that cannot be copied.
    """
    return copy_of(parts_of(model), replace, shared).model


def copy_of(
    parts: Parts, replace: Callable[[str, torch.Tensor], torch.Tensor], shared: Mapping[int, Any] | None = None
) -> Parts:
    """`copy_tree`, of a model that was looked through already. The copy comes with its modules and those tensors."""
    model = parts.model
    tensors = {name: replace(name, tensor) for name, tensor in parts.tensors.items()}
    memo: dict[int, Any] = {id(tensor): tensors[name] for name, tensor in parts.tensors.items()}
    memo.update(shared or {})
    plain = [module for module in parts.modules.values() if _plain(type(module))]  # type: ignore[arg-type]
    for module in plain:
        memo[id(module)] = type(module).__new__(type(module))
    try:
        with _WithoutHistory():
            for module in plain:
                vars(memo[id(module)]).update(_copied(vars(module), memo))
            result = copy.deepcopy(model, memo)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}). "
            "Keep what cannot be copied (locks, open files, generators) out of the module's attributes."
        ) from error
    if len(plain) == len(parts.modules):
        modules = {path: memo[id(module)] for path, module in parts.modules.items()}
    else:
        modules = dict(named_modules(result))
    return Parts(result, modules, tensors, {name: tensors[name] for name in parts.parameters})


class _WithoutHistory(TorchFunctionMode):
    """Copies tensors that autograd made, which torch refuses to copy, as plain ones."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and args[0].grad_fn is not None:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


@functools.cache
def _plain(cls: Any) -> bool:
    """Whether an instance is its `__dict__` and nothing else, so that it can be copied without pickle's detours."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and getattr(cls, "__getstate__", None) is getattr(nn.Module, "__getstate__", None)
        and not hasattr(cls, "__deepcopy__")
        and not hasattr(cls, "__slots__")
    )


_ATOMS = frozenset((bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device))
# The tables that every module has to itself. Other containers may be shared between modules, and then stay so.
_KINDS = frozenset((dict, set, OrderedDict))
_TABLES = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict | set))


def _copied(attributes: Mapping[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A module's `__dict__` for its copy. Most of it is numbers, and tables of hooks, tensors and modules."""
    return {
        name: value
        if type(value) in _ATOMS
        else copy.deepcopy(value, memo)
        if name not in _TABLES or type(value) not in _KINDS
        else _table(value, memo)
        if value
        else type(value)()
        for name, value in attributes.items()
        if name != "_compiled_call_impl"  # a compiled forward belongs to the module that it was compiled for
    }


def _table(table: Any, memo: dict[int, Any]) -> Any:
    """One of a module's own tables for its copy; the copies of what it holds are known, most of the time."""
    if type(table) is not dict or not all(item is None or id(item) in memo for item in table.values()):
        return copy.deepcopy(table, memo)
    return {name: None if item is None else memo[id(item)] for name, item in table.items()}
