"""Tensors that modules hold outside of their tables of parameters and buffers: in attributes, lists, dicts, objects."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

from surgery.errors import CaptureError
from surgery.modules.tree import named_modules

Held: TypeAlias = Any  # what an attribute of a module holds
Followed: TypeAlias = "dict[Held, Held] | list[Held] | tuple[Held, ...] | deque[Held]"
_TABLES = ("_parameters", "_buffers", "_modules")
_DICTS = (dict, OrderedDict, defaultdict)
_EMPTY = frozenset((dict, OrderedDict, list, tuple, set))
_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Generator)
_NO_HOLDERS = frozenset(_ATOMS)
_NO_TENSORS = _NO_HOLDERS | {set}
# What holds whole tensors on purpose and takes no part in a forward, or holds none.
_APART = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, type, types.ModuleType, weakref.ref)


def swapped(value: Held, swap: Callable[[Tensor], Tensor], around: tuple[int, ...] = ()) -> Held:
    """A container with what `swap` gives for each of its tensors; the same object where nothing changes.

    Lists, tuples, dicts, named tuples and deques are followed, nested as they may be; `unreachable` finds all other
    holders.
    """
    if isinstance(value, Tensor):
        return swap(value)
    if not _followed(value) or id(value) in around:
        return value
    around = (*around, id(value))
    if isinstance(value, dict):
        changed = {key: new for key, item in value.items() if (new := swapped(item, swap, around)) is not item}
        if not changed:
            return value
        result = copy.copy(value)
        result.update(changed)
        return result
    items = [swapped(item, swap, around) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if _named(value):
        return type(value)._make(items)
    return deque(items, value.maxlen) if isinstance(value, deque) else type(value)(items)


def containers(value: Held) -> Held:
    """The same items in dicts and lists of their own, nested as they are."""
    if type(value) in _DICTS:
        return {key: containers(item) for key, item in value.items()}
    return [containers(item) for item in value] if type(value) is list else value


def open_tensors(value: object) -> list[Tensor]:
    """The tensors that `swapped` would reach."""
    found: list[Tensor] = []

    def see(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    swapped(value, see)
    return found


def located(name: str, value: object, around: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """The tensors that `swapped` would reach, and where each is: `table`, `cache['w'][0]`."""
    if isinstance(value, Tensor):
        yield name, value
    elif _followed(value) and value and id(value) not in around:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for number, (key, item) in enumerate(items):
            if type(item) not in _NO_TENSORS:
                mark = repr(key) if isinstance(key, _ATOMS) else f"#{number}"
                yield from located(f"{name}[{mark}]", item, (*around, id(value)))


def unregistered(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Tensors in plain attributes and containers that are no parameters and no buffers: a module's path, where, what.

    They count as buffers that are not saved. One with a history was made by a forward, and belongs to that.
    """
    modules = named_modules(model)
    known = {
        id(tensor)
        for _, module in modules
        for table in (module._parameters, module._buffers)
        for tensor in table.values()
    }
    for path, module in modules:
        for name, value in vars(module).items():
            kind = type(value)
            if kind in _NO_TENSORS or name in _TABLES or (kind in _DICTS and not value):
                continue  # nearly all of them: numbers, and empty tables of hooks
            for place, tensor in located(name, value):
                if id(tensor) not in known and tensor.grad_fn is None:
                    yield path, place, tensor


def holders(module: nn.Module) -> Iterator[tuple[str, Held]]:
    """The attributes of a module that may hold something, apart from its tables."""
    for name, value in vars(module).items():
        kind = type(value)
        if kind in _NO_HOLDERS or name in _TABLES:
            continue
        if kind not in _EMPTY or value or (kind is OrderedDict and vars(value)):  # most are empty tables of hooks
            yield name, value


def unreachable(model: nn.Module) -> Iterator[tuple[Tensor, str]]:
    """Tensors that modules hold where they cannot be swapped (objects, sets, keys, functions), and where that is.

    Raises CaptureError where a function, which is not copied with its module, has closed over a method of the model.
    """
    modules = named_modules(model)
    own = {id(module) for _, module in modules}
    # a value, where it is held, and whether every holder on the way there is one that `swapped` follows
    todo = [(value, f"{path}.{name}".lstrip("."), True) for path, module in modules for name, value in holders(module)]
    seen: set[tuple[int, bool]] = set()
    while todo:
        value, where, reached = todo.pop()
        if isinstance(value, Tensor):
            if not reached:
                yield value, where
        elif isinstance(value, nn.Module):
            if id(value) not in own:
                yield from ((tensor, f"{where}.{name}") for name, tensor in value.named_parameters())
        elif type(value) not in _ATOMS and not isinstance(value, _APART):
            reached = reached and _followed(value)
            if (id(value), reached) not in seen:
                seen.add((id(value), reached))
                items = list(_items(value))
                if isinstance(value, types.FunctionType):
                    _check_closed_over(items, where, own)
                todo += [(item, where + key, reached) for key, item in items]
                todo += [(key, f"the keys of {where}", False) for key in value] if isinstance(value, dict) else []


def _check_closed_over(items: Iterable[tuple[str, Held]], where: str, own: Container[int]) -> None:
    for _, value in items:
        if isinstance(value, types.MethodType) and id(value.__self__) in own:
            method = f"{type(value.__self__).__name__}.{value.__name__}"
            raise CaptureError(
                f"{where} is a function that has closed over {method} of the model. It is not copied with its module, "
                "so every copy of the model would run on the weights of this one. Hold the method where it is copied: "
                "functools.partial(f, old), or an attribute of the module"
            )


def _items(value: object) -> Iterable[tuple[str, Held]]:
    """What an object holds, with the notation for each item."""
    if isinstance(value, dict | types.MappingProxyType):
        yield from ((f"[{key!r}]" if isinstance(key, _ATOMS) else "[...]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | deque | set | frozenset):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    if isinstance(value, types.FunctionType):
        yield from _closed_over(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    else:
        yield from ((f".{name}", item) for name, item in getattr(value, "__dict__", {}).items())
        for slot in getattr(type(value), "__slots__", ()):
            if isinstance(slot, str) and not slot.startswith("__"):
                yield f".{slot}", getattr(value, slot, None)


def _closed_over(function: types.FunctionType) -> Iterator[tuple[str, Held]]:
    """What a function brings with it; of a module, which is never the twin's, the tensors that its code names."""
    given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            given.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    named = set(function.__code__.co_names)
    for item in given:
        if isinstance(item, nn.Module):
            for name, tensor in (*item.named_parameters(), *item.named_buffers()):
                if set(name.split(".")) <= named | {part for part in name.split(".") if part.isdigit()}:
                    yield f" (a function that reads {name})", tensor
        else:
            yield " (a function)", item


def _followed(value: object) -> TypeGuard[Followed]:
    return type(value) in (*_DICTS, list, tuple, deque) or _named(value)


def _named(value: object) -> TypeGuard[NamedTuple]:
    return isinstance(value, tuple) and hasattr(type(value), "_make") and hasattr(type(value), "_fields")
