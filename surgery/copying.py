"""Copies of a module tree that share, or replace, its parameters and buffers."""

from __future__ import annotations

import copy
import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from surgery.errors import CaptureError
from surgery.held import loose


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer (persistent or not), then every tensor in a plain attribute or container.

    Each tensor is there once, under its first name.
    """
    seen: set[int] = set()
    for name, tensor in (*model.named_parameters(), *model.named_buffers(), *_named_loose(model)):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _named_loose(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((f"{path}.{place}".lstrip("."), tensor) for path, place, tensor in loose(model))


def unlearned(model: nn.Module) -> list[torch.Tensor]:
    """Every named tensor that is no parameter."""
    parameters = {id(parameter) for parameter in model.parameters()}
    return [tensor for _, tensor in named_tensors(model) if id(tensor) not in parameters]


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """All the names of every tensor, keyed by the first one."""
    first: dict[int, str] = {id(tensor): name for name, tensor in named_tensors(model)}
    names: dict[str, list[str]] = {name: [] for name in first.values()}
    every = model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    for name, tensor in itertools.chain(*every, _named_loose(model)):
        names[first[id(tensor)]].append(name)
    return names


def copy_tree(
    model: nn.Module, replace: Callable[[str, torch.Tensor], torch.Tensor], shared: Mapping[int, Any] | None = None
) -> nn.Module:
    """A new module tree in which each named tensor is what `replace(name, tensor)` gives.

    Everything else is copied deeply, apart from objects in `shared` (by id), for which their values stand.
    Tensors with a history, which a forward has stored on modules, are copied without it.
    Raises CaptureError where a module holds something that cannot be copied.
    """
    memo: dict[int, Any] = {id(tensor): replace(name, tensor) for name, tensor in named_tensors(model)}
    memo.update(shared or {})
    kept = list(memo.values())  # deepcopy looks objects up by id: they must stay alive
    plain = [module for module in model.modules() if _plain(type(module))]  # type: ignore[arg-type]
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
    del kept
    return result


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


_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def _copied(attributes: Mapping[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A module's `__dict__` for its copy. Most of it is numbers, and empty tables of hooks."""
    return {
        name: value
        if type(value) in _ATOMS
        else type(value)()
        if type(value) in (dict, set, OrderedDict) and not value
        else copy.deepcopy(value, memo)
        for name, value in attributes.items()
        if name != "_compiled_call_impl"  # a compiled forward belongs to the module that it was compiled for
    }
