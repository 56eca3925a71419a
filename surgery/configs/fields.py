"""The integers of a configuration, which is a plain data object of any class: where they are, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from surgery.axes.formulas import Field, Steps
from surgery.modules.plain_data import ATOMS, LONGEST, at, is_plain_data
from surgery.nested import Nested

Config: TypeAlias = Nested  # an object, of the user's class, that holds integers, lists of such, and other objects


def fields(config: Config, path: Steps = ()) -> Iterator[tuple[Steps, int | None]]:
    """The integers and the absent values of a configuration: its own, in nested ones, and in lists."""
    if type(config) is int or config is None:
        yield path, config
    elif type(config) in (list, tuple) and len(config) <= LONGEST:
        for i, item in enumerate(config):
            if type(item) is int:
                yield (*path, i), item
    elif is_plain_data(config):
        for name, value in vars(config).items():
            if not name.startswith("_"):
                yield from fields(value, (*path, Field(name)))


def sequences(config: Config, path: Steps = ()) -> Iterator[tuple[Steps, Sequence[object]]]:
    """The lists of a configuration that hold plain values, such as a word for each layer, of any length."""
    if type(config) in (list, tuple):
        if config and all(isinstance(item, (*ATOMS, list, tuple)) for item in config):
            yield path, config
    elif is_plain_data(config):
        for name, value in vars(config).items():
            if not name.startswith("_"):
                yield from sequences(value, (*path, Field(name)))


def entries(config: Config) -> Iterator[tuple[Steps, object]]:
    """What a configuration holds under names and may say of sizes: integers, absent values, and lists as a whole."""
    yield from ((path, value) for path, value in fields(config) if not isinstance(path[-1], int))
    yield from sequences(config)


def differs(config: Config, path: Steps, value: object) -> bool:
    """Whether a configuration holds another value at a path, or none. Lists and tuples may be equal."""
    try:
        held = at(config, path)
    except (LookupError, TypeError):
        return True
    if isinstance(value, list | tuple) and isinstance(held, list | tuple):
        return list(held) != list(value)
    return bool(held != value)


def written_and_read(config: Config) -> Config:
    """What files keep of a configuration, where its class knows how to write and read it."""
    if hasattr(config, "to_dict") and hasattr(type(config), "from_dict"):
        return type(config).from_dict(config.to_dict())
    return config
