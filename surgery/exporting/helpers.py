"""What the written module calls. Its functions are copied there, those that it needs: they must need no other names.

The sizes of a rewritten forward are numbers in it. `_sized` and its kin stand where the code computes a size: the
number that fits the small model takes the place of the one that the code computes for the example inputs, and of no
other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class _Member(NamedTuple):
    """What stands in one of a module's tables."""

    table: str
    value: Any
    saved: bool = True


def _parameter(*shape: Any) -> _Member:
    return _Member("_parameters", None if shape == (None,) else nn.Parameter(torch.empty(shape)))


def _buffer(*shape: Any, saved: bool = True) -> _Member:
    return _Member("_buffers", None if shape == (None,) else torch.empty(shape), saved)


def _child(module: nn.Module | None) -> _Member:
    return _Member("_modules", module)


def _module(what: Any, /, **members: Any) -> Any:
    """A module of a class, made without its constructor, or one that is there, with these attributes and children."""
    made: Any = what
    if isinstance(what, type):
        made = object.__new__(what)
        nn.Module.__init__(made)
    for name, member in members.items():
        if isinstance(member, nn.Module):
            member = _child(member)
        if not isinstance(member, _Member):
            vars(made)[name] = member
            continue
        vars(made)[member.table][name] = member.value
        if not member.saved:
            made._non_persistent_buffers_set.add(name)
    return made


def _object(cls: Any, /, **attributes: Any) -> Any:
    """An object of a class, made without its constructor."""
    made = object.__new__(cls)
    for name, value in attributes.items():
        if hasattr(made, "__dict__"):
            made.__dict__[name] = value
        else:
            object.__setattr__(made, name, value)
    return made


def _restored(made: Any, state: Any, items: Sequence[Any], entries: Iterable[tuple[Any, Any]]) -> Any:
    """An object with what it holds beside the arguments that made it."""
    for item in items:
        made.append(item)
    for key, value in entries:
        made[key] = value
    if state is not None and hasattr(made, "__setstate__"):
        made.__setstate__(state)
    elif state is not None:
        made.__dict__.update(state)
    return made


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], frozen: Sequence[str], tied: Mapping[str, str]) -> None:
    """Put the tensors of a file where they belong. What is `tied` is the parameter or buffer of another place."""
    for part in model.modules():
        part.training = False
    for place, name in {**{name: name for name in tensors}, **tied}.items():
        path, _, leaf = place.rpartition(".")
        try:
            owner = model.get_submodule(path)
        except AttributeError:
            continue  # it is in an attribute
        value: Any = tensors[name]
        if place != name:
            above, _, first = name.rpartition(".")
            held = model.get_submodule(above)
            value = held._parameters[first] if first in held._parameters else held._buffers[first]
        elif leaf in owner._parameters:
            value = nn.Parameter(value, requires_grad=name not in frozen)
        if leaf in owner._parameters or leaf in owner._buffers:
            setattr(owner, leaf, value)


def _other(value: object, seen: object) -> ValueError:
    return ValueError(
        f"the code computes the size {value}, and {seen} is what it computes for the inputs that this module was made "
        "with: make it again with inputs of this kind as well"
    )


def _sized(value: Any, seen: int, now: int) -> int:
    """`now`, where the code computes the `seen` size."""
    if value == seen:
        return now
    raise _other(value, seen)


def _scaled(value: Any, seen: int, now: int) -> Any:
    """`value` changed in proportion, as `now` is to `seen`."""
    if value == seen:
        return now
    if not seen or value * now % seen:
        raise _other(value, seen)
    return value * now // seen


def _inside(value: Any, keys: Sequence[Any], how: Callable[..., Any], seen: int, now: int) -> Any:
    """A tuple, list, dict or slice with the size in it that `keys` lead to replaced."""
    if not keys:
        return how(value, seen, now)
    if isinstance(value, slice):
        ends = {end: getattr(value, end) for end in ("start", "stop", "step")}
        return slice(*_inside(ends, keys, how, seen, now).values())
    if isinstance(value, dict):
        return {**value, keys[0]: _inside(value[keys[0]], keys[1:], how, seen, now)}
    items = list(value)
    items[keys[0]] = _inside(items[keys[0]], keys[1:], how, seen, now)
    return items if isinstance(value, list) else tuple(items)


def _two_sizes(left: object, right: object) -> None:
    if not isinstance(left, int) or not isinstance(right, int):
        raise ValueError(f"two sizes are compared here, and not {type(left).__name__} and {type(right).__name__}")


def _agree(left: Any, right: Any, left_seen: int, right_seen: int) -> bool:
    """Whether two sizes are equal, or are what two equal sizes of the full model are here."""
    _two_sizes(left, right)
    return left == right or (left, right) == (left_seen, right_seen) or (right, left) == (left_seen, right_seen)


def _meet(left: Any, right: Any, left_seen: int, right_seen: int) -> bool:
    """Whether two sizes are equal, and not what two different sizes of the full model are here."""
    _two_sizes(left, right)
    return left == right and (left, right) != (left_seen, right_seen)


def _closed(maker: Callable[..., Any], names: Sequence[str], plain: Any) -> Any:
    """The function that `maker` makes of what another one has closed over."""
    cells = dict(zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True))
    return maker(*(cells[name].cell_contents for name in names))


def _told(plain: Any) -> str:
    """A function's module and its name there; nothing for this module."""
    if not isinstance(plain, FunctionType):
        return repr(plain)
    module = "" if plain.__globals__ is globals() else plain.__globals__["__name__"]
    return f"{module}:{plain.__code__.co_qualname}"


def _overridden(function: Any) -> Any:
    """What a method of one of this module's classes stands for: its form with other sizes is in the class already."""
    cls, name = type(getattr(function, "__self__", None)), getattr(function, "__name__", "")
    if cls.__module__ != __name__ or vars(cls).get(name) is not getattr(function, "__func__", None):
        return None
    return next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), None)


def _changed(function: Any, known: Mapping[str, Any]) -> Any:
    """The form with other sizes of a function that is called, told by its module and its name."""
    if isinstance(function, functools.partial):
        return functools.partial(_changed(function.func, known), *function.args, **function.keywords)
    plain = getattr(function, "__func__", function)
    if isinstance(plain, functools._lru_cache_wrapper):  # what it has kept are other sizes
        return _changed(plain.__wrapped__, known)
    if not isinstance(plain, FunctionType) and isinstance(type(function).__call__, FunctionType):
        return _changed(MethodType(type(function).__call__, function), known)
    if plain in known.values() or _told(_overridden(function)) in known:
        return function
    name = _told(plain)
    if name not in known:
        raise ValueError(f"{name} is called where {', '.join(known)} was when this module was made")
    made = known[name]
    if isinstance(made, tuple):
        made = _closed(made[0], made[1], plain)
    return functools.partial(made, function.__self__) if isinstance(function, MethodType) else made
