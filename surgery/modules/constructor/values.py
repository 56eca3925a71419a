"""The values that the code of a constructor computes, as far as they are understood.

An integer is an `Origin` over `Given` leaves. What is not understood is None.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import nn

from surgery.axes.formulas import Constant, Field, Origin, Steps


@dataclass(frozen=True, slots=True)
class Given(Origin):
    """An argument of a constructor, or what lies in it at `steps`.

    What the code computes by a way that is not followed is one, too, under the text of that code.
    """

    name: str
    steps: Steps = ()
    of: tuple[Origin, ...] = ()  # what the text is about

    def __str__(self) -> str:
        return self.name + "".join(str(s) if isinstance(s, Field) else f"[{s!r}]" for s in self.steps)


@dataclass(frozen=True)
class Items:
    """A tuple or a list. Where their number is not known, `each` stands for all of them."""

    items: tuple[Value, ...] = ()
    each: Value = None
    open: bool = False  # whether there may be more of `each`


@dataclass(frozen=True)
class Built:
    """An object that a class was called for: its arguments by name, and by place as containers take them."""

    cls: type
    given: Mapping[str, Value] = field(hash=False)
    items: Items = Items()


@dataclass(frozen=True)
class Choice:
    """One of several objects, as a condition says."""

    values: tuple[Built, ...]


@dataclass(frozen=True)
class Other:
    """What is no integer, such as None, a name, a class."""


Value: TypeAlias = "Origin | Items | Built | Choice | Other | None"
OTHER = Other()


@dataclass(frozen=True)
class Constructed:
    """What a constructor gives each attribute, and what the code takes one of, by what stands for it."""

    attributes: Mapping[str, Value] = field(default_factory=dict)
    either: Mapping[Given, tuple[Origin, ...]] = field(default_factory=dict)
    lines: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # where attributes are set last
    elsewhere: frozenset[str] = frozenset()  # names of attributes that it sets on other objects

    def integers(self) -> Iterator[tuple[tuple[str, *Steps], Origin]]:
        """The integers in attributes, by the paths of these."""
        for name, value in self.attributes.items():
            yield from _integers(value, (name,))

    def modules(self) -> Iterator[tuple[str, Built]]:
        """The objects in attributes, by their paths; `*` stands for any item of a list."""
        for name, value in self.attributes.items():
            yield from _objects(value, name)


def _integers(value: Value, path: tuple[str, *Steps]) -> Iterator[tuple[tuple[str, *Steps], Origin]]:
    if isinstance(value, Origin):
        yield path, value
    elif isinstance(value, Items):
        for i, item in enumerate(value.items):
            yield from _integers(item, (*path, i))


def _objects(value: Value, path: str) -> Iterator[tuple[str, Built]]:
    if isinstance(value, Choice):
        for one in value.values:
            yield path, one
    if not isinstance(value, Built):
        return
    yield path, value
    items = listed(value)
    for i, item in enumerate(items.items):
        yield from _objects(item, f"{path}.{i}")
    if items.open:
        yield from _objects(items.each, f"{path}.*")


def listed(built: Built) -> Items:
    """The items of a container of modules."""
    if issubclass(built.cls, nn.ModuleList) and built.items.items and isinstance(built.items.items[0], Items):
        return built.items.items[0]
    return built.items if issubclass(built.cls, nn.Sequential) else Items()


def item(value: Value, key: Hashable) -> Value:
    """What a value holds under a key, an index, or as a field."""
    if isinstance(value, Given) and not isinstance(value, Constant):
        return Given(value.name, (*value.steps, key), value.of)
    if isinstance(value, Items) and isinstance(key, int):
        if -len(value.items) <= key < len(value.items) and not (value.open and key < 0):
            return value.items[key]
        return value.each
    return None


def joined(values: Sequence[Value]) -> Items:
    """Lists, one after another."""
    items: list[Value] = []
    for i, value in enumerate(values):
        known = value if isinstance(value, Items) else Items(open=True)
        items += known.items
        if known.open:
            last = i == len(values) - 1
            return Items(tuple(items), known.each if last else None, open=True)
    return Items(tuple(items))
