"""Attributes that could follow where modules are left out. Which of them do is found by experiment, not by values."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from surgery.axes.formulas import AttributePath, Field
from surgery.modules.code.bytecode import mentions
from surgery.modules.plain_data import is_plain_data
from surgery.modules.tensors import Parts
from surgery.planning.listed.calls import above
from surgery.planning.listed.candidates import Candidate
from surgery.planning.listed.found import Place

DEEPEST = 3  # steps into what an attribute holds


def counts(candidate: Candidate, parts: Parts) -> list[Place]:
    """Integers that code around the units reads, and that are their number: `for i in range(self.config.depth)`."""
    return [place for place, value in _around(candidate, parts) if type(value) is int and value == candidate.size]


def picks(candidate: Candidate, parts: Parts) -> list[Place]:
    """Sequences that code around the units reads, with as many items: `self.config.layer_types[i]`."""
    return [
        place
        for place, value in _around(candidate, parts)
        if type(value) in (list, tuple) and len(value) == candidate.size
    ]


def _around(candidate: Candidate, parts: Parts) -> Iterator[tuple[Place, Any]]:
    """What the modules around the units hold under names that their code mentions."""
    for path in dict.fromkeys(path for listed in candidate.lists for path in (*above(listed.path), listed.path)):
        module = parts.modules[path]
        for name, value in vars(module).items():
            if not name.startswith("_"):
                for inner, held in _held((name,), value):
                    leaf = next(s.name if isinstance(s, Field) else s for s in reversed(inner) if not _is_key(s))
                    if mentions(type(module), {str(leaf)}):
                        yield (path, inner), held


def _is_key(step: Hashable) -> bool:
    return isinstance(step, int)


def _held(path: AttributePath, value: Any) -> Iterator[tuple[AttributePath, Any]]:
    """An attribute, and what is in it if it is an object of plain data or a dict."""
    yield path, value
    if len(path) > DEEPEST or isinstance(value, bool | int | float | str):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _held((*path, key), item)
    elif is_plain_data(value):
        for key, item in vars(value).items():
            yield from _held((*path, Field(key)), item)


def indices(candidate: Candidate, parts: Parts) -> dict[str, tuple[tuple[Place, int, int], ...]]:
    """Integers at one place in all units that grow by one from unit to unit: `layer_idx`. By where they stand."""
    places: dict[str, dict[int, list[tuple[Place, int]]]] = {}
    for unit in range(candidate.size):
        for number, child in enumerate(candidate.children(unit)):
            for path, module in parts.modules.items():
                if path == child or path.startswith(f"{child}."):
                    for name, value in vars(module).items():
                        if type(value) is int and not name.startswith("_"):
                            key = f"{number}{path.removeprefix(child)}.{name}"
                            places.setdefault(key, {}).setdefault(unit, []).append(((path, (name,)), value - unit))
    found = {}
    for key, units in places.items():
        offsets = {offset for held in units.values() for _, offset in held}
        if len(units) == candidate.size and len(offsets) == 1:
            found[key] = tuple((place, unit, offset) for unit, held in units.items() for place, offset in held)
    return found
