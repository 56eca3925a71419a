"""What a draw remembers, as plain data: its counters, its generators; and that of draws inside of it."""

from __future__ import annotations

import dis
import functools
import random
from collections import deque
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from surgery.errors import InputError
from surgery.plan.plan import Plan

PLAIN = (bool, int, float, complex, str, type(None))
KIND = "surgery"  # the key that says what an entry stands for
SERIES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
COUNTERS = ("forwards",)  # of draws of the library: everything else in them is how they were made

ADVICE = (
    "A draw may keep numbers, texts, tensors, generators, containers and draws in attributes, or in variables of the "
    "function around it; or have state_dict() and load_state_dict(state)"
)


def taken(value: Any, place: str = "draw") -> Any:
    """What a value remembers: numbers, texts and tensors as they are, all else as a dict that says what it was.

    Raises InputError for what is no plain data.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, bytes):  # as they are, torch.load refuses empty ones
        return {KIND: "bytes", "hex": value.hex()}
    if isinstance(value, functools.partial):
        given = taken([*value.args, value.keywords], f"{place}: arguments")
        return {KIND: "partial", "function": taken(value.func, place), "given": given}
    value, kind = _behind(value), type(value).__name__
    if SERIES.get(kind) is type(value):
        return {KIND: kind, "items": [taken(item, f"{place}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return {KIND: kind, "pairs": [[key, taken(item, f"{place}[{key!r}]")] for key, item in value.items()]}
    if isinstance(value, FunctionType):
        return {KIND: kind, "cells": _cells(value, place)}
    if isinstance(value, Plan | BuiltinFunctionType | type):
        return {KIND: kind}
    ways = _ways(value)
    if ways is not None:
        return {KIND: kind, "state": taken(ways[0](), place)}
    if not hasattr(value, "__dict__") or isinstance(value, torch.nn.Module):
        raise InputError(f"{place} is a {kind}, whose state cannot be saved. {ADVICE}")
    return {KIND: kind, "pairs": [[name, taken(item, f"{place}.{name}")] for name, item in vars(value).items()]}


def restored(value: Any, saved: Any, place: str = "draw") -> tuple[Any, list[Callable[[], None]]]:
    """What a place gets that holds `value` now, and what is to be done for that in the objects below it.

    Nothing has changed before that is done. Raises InputError where `saved` is of something else.
    """
    if not isinstance(saved, dict):
        return (saved.clone() if isinstance(saved, Tensor) else saved), []
    if saved.get(KIND) == "bytes":
        return bytes.fromhex(saved["hex"]), []
    if isinstance(value, functools.partial) and "given" in saved:
        _, function = restored(value.func, saved["function"], place)
        _, given = restored([*value.args, value.keywords], saved["given"], f"{place}: arguments")
        return value, [*function, *given]
    value, kind = _behind(value), type(value).__name__
    if saved.get(KIND) != kind:
        if value is None and saved.get(KIND) == "Plan":
            return None, []  # the draw will be given it again
        if saved.get(KIND) not in SERIES:
            raise _other(place, saved.get(KIND), kind)
        value = SERIES[saved[KIND]]()
    if "items" in saved:
        return _series(value, saved["items"], place)
    if "cells" in saved:
        return value, _filled(value, saved["cells"], place)
    if "state" in saved:
        ways = _ways(value)
        assert ways is not None
        state, below = restored(ways[0](), saved["state"], place)
        return value, [*below, lambda: ways[1](state)]
    return (value, _mapped(value, saved["pairs"], place)) if "pairs" in saved else (value, [])


def _cells(function: FunctionType, place: str) -> list[list[Any]]:
    """What a function keeps in variables of the functions around it, by name. Raises InputError for global ones.

    Models are left out: what they hold is saved with them.
    """
    for instruction in dis.get_instructions(function):
        if instruction.opname == "STORE_GLOBAL":
            raise InputError(f"{place} counts in a global variable, {instruction.argval}, which is not saved. {ADVICE}")
    pairs = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [
        [name, taken(cell.cell_contents, f"{place}: {name}")]
        for name, cell in pairs
        if not isinstance(cell.cell_contents, torch.nn.Module | ModuleType)
    ]


def _filled(function: FunctionType, saved: Sequence[Sequence[Any]], place: str) -> list[Callable[[], None]]:
    """What is to be done in the variables that a function keeps."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    done: list[Callable[[], None]] = []
    for name, item in saved:
        if name not in cells:
            raise InputError(f"{place} kept {name} when this state was saved, and does not: wrap with the draw it had")
        new, below = restored(cells[name].cell_contents, item, f"{place}: {name}")
        done += [*below, functools.partial(setattr, cells[name], "cell_contents", new)]
    return done


def _series(value: Any, saved: Sequence[Any], place: str) -> tuple[Any, list[Callable[[], None]]]:
    old = [*value, *[None] * max(0, len(saved) - len(value))]
    parts = [restored(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(old, saved, strict=False))]
    items, below = [part for part, _ in parts], [put for _, puts in parts for put in puts]
    if isinstance(value, tuple | frozenset):
        return type(value)(items), below

    def fill() -> None:
        value.clear()
        (value.update if isinstance(value, set) else value.extend)(items)

    return value, [*below, fill]


def _mapped(value: Any, saved: Sequence[Sequence[Any]], place: str) -> list[Callable[[], None]]:
    """What is to be done in a dict, or in the attributes of an object. Raises InputError for what has not changed."""
    table: dict[Any, Any] = value if isinstance(value, dict) else vars(value)
    done: list[Callable[[], None]] = []
    for key, item in saved:
        where = f"{place}[{key!r}]" if table is value else f"{place}.{key}"
        new, below = restored(table.get(key), item, where)
        if table is not value and _is_made_so(value, key):
            if not below and not _same(taken(table.get(key)), item):
                raise InputError(
                    f"{where} is {table.get(key)!r}, and was {new!r} when this state was saved: wrap with the draw "
                    "that the training had, so that it goes on as it was"
                )
        else:
            done.append(functools.partial(table.__setitem__, key, new))
        done += below
    return done


def _is_made_so(value: Any, name: str) -> bool:
    """Whether an attribute of a draw is how it was made, and no count of what it has done."""
    own = type(value).__module__.startswith("surgery.")
    kept = getattr(type(value), "__dataclass_params__", None)
    return bool(getattr(kept, "frozen", False)) or (own and name not in COUNTERS)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _behind(value: Any) -> Any:
    """What a partial function or a bound method belongs to: that has the state."""
    while isinstance(value, functools.partial | MethodType):
        value = value.func if isinstance(value, functools.partial) else value.__self__
    return value


def _ways(value: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """How the state of a generator, or of an object with ways of its own, is read and set; None for others."""
    if isinstance(value, torch.Generator):
        return value.get_state, value.set_state
    if isinstance(value, random.Random):
        return value.getstate, value.setstate
    numpy = getattr(value, "bit_generator", None)
    if numpy is not None:
        return lambda: numpy.state, lambda state: setattr(numpy, "state", state)
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        return value.state_dict, value.load_state_dict
    return None


def _other(place: str, saved: Any, here: str) -> InputError:
    return InputError(
        f"{place} is a {here} here, and was a {saved} when this state was saved: wrap with the draw that the training "
        "had, so that it goes on as it was"
    )
