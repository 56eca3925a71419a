"""Copies of a module tree that share, or replace, its parameters and buffers."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from surgery.errors import CaptureError
from surgery.modules.engines import own_attributes, own_class
from surgery.modules.restoring import TorchFunction
from surgery.modules.tensors import Parts, parts_of
from surgery.modules.tree import named_modules

M = TypeVar("M", bound=nn.Module)


def copy_tree(
    model: M, replace: Callable[[str, torch.Tensor], torch.Tensor], shared: Mapping[int, object] | None = None
) -> M:
    """A new module tree in which each named tensor is what `replace(name, tensor)` gives.

    Everything else is copied deeply, apart from objects in `shared` (by id), for which their values stand. What engines
    of many ranks have put onto modules is left out. Tensors with a history, which a forward has stored on modules, are
    copied without it.
    Raises CaptureError where a module holds something that cannot be copied.
    """
    return cast(M, copy_of(parts_of(model), replace, shared).model)  # a copy has the class of what was copied


def unrun(model: M) -> M:
    """A copy to run in its place, over the same tensors: what forwards store on modules stays off `model`."""
    return copy_tree(model, lambda _, tensor: tensor)


def copy_of(
    parts: Parts, replace: Callable[[str, torch.Tensor], torch.Tensor], shared: Mapping[int, object] | None = None
) -> Parts:
    """`copy_tree`, of a model that was looked through already. The copy comes with its modules and those tensors."""
    model = parts.model
    tensors = {name: replace(name, tensor) for name, tensor in parts.tensors.items()}
    memo: dict[int, object] = {id(tensor): tensors[name] for name, tensor in parts.tensors.items()}
    memo.update(shared or {})
    # kept until the end: `memo` knows objects by their ids
    attributes = {id(module): own_attributes(module) for module in parts.modules.values()}
    plain = [module for module in parts.modules.values() if _plainly_copied(module, attributes[id(module)])]
    memo.update(_kept_views(parts, tensors))
    copies = {id(module): _new(own_class(module)) for module in plain}
    memo.update(copies)
    try:
        with _WithoutHistory():
            for module in reversed(plain):  # children first: what else holds a module may look into it
                vars(copies[id(module)]).update(_copied(attributes[id(module)], memo))
            result = copy.deepcopy(model, memo)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}). "
            "Keep what cannot be copied (locks, open files, generators) out of the module's attributes."
        ) from error
    if len(plain) == len(parts.modules):
        modules = {path: copies[id(module)] for path, module in parts.modules.items()}
    else:
        modules = dict(named_modules(result))
    return Parts(result, modules, tensors, {name: tensors[name] for name in parts.parameters})


def _kept_views(parts: Parts, tensors: Mapping[str, torch.Tensor]) -> dict[int, object]:
    """Views of named tensors that modules keep in attributes (`self.d = self.e.weight.t()`), as views of new ones."""
    names = {id(tensor): name for name, tensor in parts.tensors.items()}
    found: dict[int, object] = {}
    for module in parts.modules.values():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and value._is_view() and id(value._base) in names:
                old, new = value._base, tensors[names[id(value._base)]]
                assert old is not None
                if (old.shape, old.stride()) == (new.shape, new.stride()):
                    with torch.set_grad_enabled(value.requires_grad):
                        found[id(value)] = new.as_strided(value.shape, value.stride(), value.storage_offset())
    return found


class _WithoutHistory(TorchFunctionMode):
    """Copies tensors that autograd made, which torch refuses to copy, as plain ones."""

    def __torch_function__(
        self, func: TorchFunction, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        if func is torch.Tensor.__deepcopy__ and args[0].grad_fn is not None:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def _plainly_copied(module: nn.Module, attributes: Mapping[str, object]) -> bool:
    """Whether a copy is a class and a `__dict__`: of a plain module, and of one that an engine has changed."""
    own = own_class(module)
    return _plain(own) or own is not type(module) or attributes is not vars(module)  # type: ignore[arg-type]


def _new(cls: type[nn.Module]) -> nn.Module:
    return cls.__new__(cls)


@functools.cache
def _plain(cls: type) -> bool:
    """Whether an instance is its `__dict__` and nothing else, so that it can be copied without pickle's detours."""
    kept = all(getattr(cls, name, None) is getattr(nn.Module, name, None) for name in ("__reduce_ex__", "__getstate__"))
    return kept and not hasattr(cls, "__deepcopy__") and not hasattr(cls, "__slots__")


_ATOMS = frozenset((bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device))
_TABLES = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict | set))


def _copied(attributes: Mapping[str, object], memo: dict[int, object]) -> dict[str, object]:
    """A module's `__dict__` for its copy. Most of it is numbers, and tables of hooks, tensors and modules."""
    copied: dict[str, object] = {}
    for name, value in attributes.items():
        if type(value) in _ATOMS:
            copied[name] = value
        elif name in _TABLES and id(value) not in memo:
            copied[name] = _table(value, memo)
        elif name != "_compiled_call_impl":  # a compiled forward belongs to the module that it was compiled for
            copied[name] = copy.deepcopy(value, memo)
    return copied


def _table(table: object, memo: dict[int, object]) -> object:
    """One of a module's tables for its copy. Most are empty, or hold what has its copy already."""
    if not table and type(table) in (dict, set, OrderedDict):
        copied: object = type(table)()
    elif type(table) is dict and all(item is None or id(item) in memo for item in table.values()):
        copied = {name: None if item is None else memo[id(item)] for name, item in table.items()}
    else:
        return copy.deepcopy(table, memo)
    memo[id(table)] = copied  # other modules and attributes may hold the table as well
    return copied
