"""What containers and objects hold at a moment, within each other too: has it changed, and how is it put back."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

_ATOMS = frozenset((bool, int, float, complex, str, bytes, type(None)))
_WHOLE = (Tensor, nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_LIBRARIES = frozenset(("torch", "surgery", "numpy"))  # objects of theirs are no notes that a forward takes


class Contents:
    """What some values hold now: lists, deques, sets, dicts, and with `objects` the attributes of objects.

    Items are known by identity. Tensors and modules are leaves.
    """

    def __init__(self, values: Iterable[object], objects: bool = False):
        self._before: dict[int, tuple[Any, list[Any]]] = {}
        todo = list(values)
        while todo:
            value = todo.pop()
            container = _container(value, objects)
            if container is not None and id(container) not in self._before:
                items = list(_items(container))
                self._before[id(container)] = container, items
                todo += (item[1] for item in items) if isinstance(container, dict) else items

    def changed(self) -> bool:
        """Whether some of them hold something else than at that moment."""
        return any(not _same(list(_items(container)), items) for container, items in self._before.values())

    def put_back(self) -> None:
        """Make them hold what they held."""
        for container, items in self._before.values():
            if isinstance(container, tuple) or _same(list(_items(container)), items):
                continue
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(items)


def _container(value: Any, objects: bool) -> Any:
    """What holds the items of a value; None for a leaf."""
    if type(value) in _ATOMS or isinstance(value, _WHOLE):
        return None
    if isinstance(value, list | deque | set | dict | tuple):
        return value
    known = type(value).__module__.partition(".")[0] in _LIBRARIES
    return getattr(value, "__dict__", None) if objects and not known else None


def _items(container: Any) -> Iterator[Any]:
    return iter(container.items() if isinstance(container, dict) else container)


def _same(now: list[Any], before: list[Any]) -> bool:
    if len(now) != len(before):
        return False
    pairs = zip(now, before, strict=True)
    return all(a is b or (type(a) is tuple and _one(a, b)) for a, b in pairs)


def _one(a: tuple[Any, ...], b: Any) -> bool:
    """Whether two items of a dict are one: `items()` makes a new pair each time."""
    return type(b) is tuple and len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
