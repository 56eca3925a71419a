"""Layers of torch as calls of their constructors: the call that makes such a layer, found by making it."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_SIMPLE = (bool, int, float, str, type(None))
_REQUIRED = inspect.Parameter.empty


def constructed(module: nn.Module) -> tuple[dict[str, Any], set[str]] | None:
    """The arguments by which the class of a layer makes one with its tensors, and the attributes that are then equal.

    The constructors of torch's layers have no effects, so they are tried; those of others are not. None where the layer
    is of another class, has children, or comes out otherwise.
    """
    cls = type(module)
    if not cls.__module__.startswith("torch.nn.") or module._modules:
        return None
    known = parameters(cls)
    kept = {name: _argument(module, one) for name, one in known.items()}
    every = {name: value for name, value in kept.items() if value is not _REQUIRED and value != known[name].default}
    # a constructor may give one argument itself, and hand on the others
    for arguments in (every, *(_without(every, name) for name in every)):
        equal = _equal(cls, arguments, module)
        if equal is not None:
            return _simplest(module, arguments, equal), equal
    return None


def parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The arguments that a constructor takes, with those that it hands on by `*args` or `**kwargs`."""
    found: dict[str, inspect.Parameter] = {}
    handed_on = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for base in cls.__mro__:
        own = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        found = {one.name: one for one in own if one.kind not in handed_on} | found
        if all(one.kind not in handed_on for one in own):
            break
    return found


def _without(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key != name}


def _simplest(module: nn.Module, arguments: dict[str, Any], equal: set[str]) -> dict[str, Any]:
    """The same call without the arguments that it does not need, and with one number for several that are the same."""
    known = parameters(type(module))
    for name, value in list(arguments.items()):
        options = [_without(arguments, name)] if known[name].default is not _REQUIRED else []
        if isinstance(value, tuple) and len(set(value)) == 1:
            options.append({**arguments, name: value[0]})
        fits = (option for option in options if _equal(type(module), option, module) == equal)
        arguments = next(fits, arguments)
    return arguments


def _argument(module: nn.Module, parameter: inspect.Parameter) -> Any:
    """What a layer keeps of an argument, under its name or as whether it has a parameter of that name."""
    name = parameter.name
    value = vars(module).get(name, _REQUIRED)
    if name in module._parameters:
        return module._parameters[name] is not None
    simple = isinstance(value, _SIMPLE) or (isinstance(value, tuple) and all(isinstance(v, _SIMPLE) for v in value))
    return value if simple else _REQUIRED


def _equal(cls: type[nn.Module], arguments: Mapping[str, Any], module: nn.Module) -> set[str] | None:
    """The attributes of a layer that one with these arguments has too; None where its tensors are others."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = cls(**arguments)
    except Exception:  # its own way to say that it cannot be made so
        return None
    tables = ("_parameters", "_buffers", "_non_persistent_buffers_set")
    if not all(_alike(vars(made)[name], vars(module)[name]) for name in tables):
        return None
    if made._modules or not vars(made).keys() <= vars(module).keys():
        return None
    return {name for name, value in vars(module).items() if name in vars(made) and _alike(vars(made)[name], value)}


def _alike(left: Any, right: Any) -> bool:
    """Whether two attributes are equal; tensors are, where their shapes are."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_alike, left, right))
    return isinstance(left, weakref.ref) or bool(left == right)
